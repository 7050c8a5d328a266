//! How a stage does what faults ask of the traffic of links: standard toxics, on any proxy, each
//! read back; and how they are seen to bite. Cuts and delays are in `levers.rs`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::cluster::Cluster;
use super::network::Network;
use super::proxy_client::Toxic;
use super::{Link, StageError};
use crate::fault::{Effect, Until};
use crate::plan::Traffic;

/// How long a transfer of our own takes at the rate that it is to show.
const TRANSFER: Duration = Duration::from_millis(200);

impl Cluster {
    pub(super) async fn hurt_traffic(
        &self,
        until: &Until<'_>,
        traffic: Traffic,
    ) -> Result<Effect, StageError> {
        let network = self.network(until)?;
        let links = Link::touching(&self.names, until.servers);
        if matches!(traffic, Traffic::Reset { .. }) {
            network.disturb(&links);
        }
        for link in &links {
            put(network, link, &toxics(traffic, &until.fault.name)).await?;
        }
        let acknowledged = self.clock.now();
        let deadline = until.deadline();
        let (proven, seen) = match traffic {
            Traffic::Reset { .. } => resets(network, &links, deadline).await?,
            Traffic::Bandwidth { .. } | Traffic::Slice { .. } => {
                slow(network, traffic, &until.fault.name, deadline).await?
            }
        };
        let evidence = format!("read back on {} links; {seen}", links.len());
        Ok(Effect { acknowledged, proven: proven.then(|| self.clock.now()), evidence })
    }

    pub(super) async fn heal_traffic(
        &self,
        until: &Until<'_>,
        traffic: Traffic,
    ) -> Result<Effect, StageError> {
        let network = self.network(until)?;
        let links = Link::touching(&self.names, until.servers);
        let ours = toxics(traffic, &until.fault.name);
        let is_ours = |toxic: &Toxic| ours.iter().any(|our| our.name == toxic.name);
        // An inject that ended half-way has put them on some links alone.
        for link in &links {
            let name = link.to_string();
            for toxic in network.proxy.toxics(&name).await?.into_iter().filter(is_ours) {
                network.proxy.remove_toxic(&name, &toxic.name).await?;
            }
        }
        let acknowledged = self.clock.now();
        for link in &links {
            let left = network.proxy.toxics(&link.to_string()).await?;
            if let Some(toxic) = left.iter().find(|toxic| is_ours(toxic)) {
                return Err(not_as_told(link, &format!("still has {toxic:?}")));
            }
        }
        let evidence = format!("gone, read back on {} links", links.len());
        Ok(Effect { acknowledged, proven: Some(self.clock.now()), evidence })
    }
}

/// One a direction.
fn toxics(traffic: Traffic, fault: &str) -> [Toxic; 2] {
    let (kind, attributes) = match traffic {
        Traffic::Reset { after_ms } => ("reset_peer", vec![("timeout", after_ms)]),
        Traffic::Bandwidth { kilobytes } => ("bandwidth", vec![("rate", kilobytes)]),
        Traffic::Slice { bytes, pause_us } => {
            let sizes = [("average_size", bytes), ("size_variation", bytes / 2)];
            ("slicer", [&sizes[..], &[("delay", pause_us)]].concat())
        }
    };
    let attributes: BTreeMap<String, Value> =
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    ["upstream", "downstream"].map(|stream| Toxic {
        name: format!("fault-{fault}-{stream}"),
        r#type: kind.to_owned(),
        stream: stream.to_owned(),
        toxicity: 1.0,
        attributes: attributes.clone(),
    })
}

async fn put(network: &Network, link: &Link, toxics: &[Toxic]) -> Result<(), StageError> {
    for toxic in toxics {
        let made = network.proxy.add_toxic(&link.to_string(), toxic).await?;
        if made != *toxic {
            return Err(not_as_told(link, &format!("told {toxic:?}, read back {made:?}")));
        }
    }
    Ok(())
}

/// Opens a connection of our own on every link, which must be reset at its first byte; the byte
/// never gets to the server.
async fn resets(
    network: &Network,
    links: &[Link],
    deadline: Instant,
) -> Result<(bool, String), StageError> {
    let before = reset_so_far(network, links).await?;
    let mut tries = JoinSet::new();
    for link in links {
        let (name, address) = (link.to_string(), network.address(link));
        tries.spawn(async move {
            match address {
                Some(address) if is_reset(address, deadline).await => None,
                Some(_) | None => Some(name),
            }
        });
    }
    let whole: Vec<String> = tries.join_all().await.into_iter().flatten().collect();
    let others = match (before, reset_so_far(network, links).await?) {
        (Some(before), Some(now)) => {
            format!(", {} connections in all since", now.saturating_sub(before))
        }
        (None, _) | (_, None) => String::new(),
    };
    if whole.is_empty() {
        return Ok((true, format!("a new connection on each was reset{others}")));
    }
    Ok((false, format!("not reset: {}{others}", whole.join(", "))))
}

/// Connections of the links that ended by a reset; `None` where the proxy does not count.
async fn reset_so_far(network: &Network, links: &[Link]) -> Result<Option<u64>, StageError> {
    if !network.is_own() {
        return Ok(None);
    }
    let states = network.states().await?;
    let of_links = links.iter().filter_map(|link| states.get(link));
    Ok(Some(of_links.map(|state| state.connections.reset).sum()))
}

async fn is_reset(address: SocketAddr, deadline: Instant) -> bool {
    let one = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"?").await?;
        stream.read(&mut [0]).await
    };
    match timeout_at(deadline.into(), one).await {
        Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionReset,
        Ok(Ok(_)) | Err(_) => false,
    }
}

/// Sends bytes through an entry of our own under the same toxics and has them sent back.
async fn slow(
    network: &Network,
    traffic: Traffic,
    fault: &str,
    deadline: Instant,
) -> Result<(bool, String), StageError> {
    let (bytes, least) = shown_by(traffic);
    let canary = network.open_canary(&format!("canary-{fault}")).await?;
    let link = canary.link.clone();
    let transferred = async {
        put(network, &link, &toxics(traffic, fault)).await?;
        let address = canary.address;
        transfer(address, bytes, deadline).await.map_err(|source| StageError::Start {
            process: "transfer of the canary".to_string(),
            source,
        })
    };
    let transferred = transferred.await;
    network.close_canary(canary).await?;
    let (back, took) = transferred?;
    let text = format!("{back} of {bytes} bytes came back in {took:?}, asked {least:?} at least");
    Ok((back > 0 && took >= least, text))
}

/// How many bytes show it, and how long they take at least.
fn shown_by(traffic: Traffic) -> (usize, Duration) {
    let (bytes, least) = match traffic {
        // Bytes a millisecond. A line that fell behind its own clock may catch up a little.
        Traffic::Bandwidth { kilobytes } => (kilobytes * 200, TRANSFER * 4 / 5),
        Traffic::Slice { bytes, pause_us } => {
            let pause = Duration::from_micros(pause_us);
            let pauses = (TRANSFER.as_micros() / pause.as_micros().max(1)).clamp(2, 50);
            let pauses = u32::try_from(pauses).unwrap_or(2);
            // The largest pieces need the fewest pauses.
            ((bytes + bytes / 2) * u64::from(pauses + 1), pause * pauses * 4 / 5)
        }
        Traffic::Reset { .. } => (1, Duration::ZERO),
    };
    (usize::try_from(bytes).unwrap_or(usize::MAX), least)
}

/// How many of so many bytes came back until the deadline, and how long that took.
async fn transfer(
    address: SocketAddr,
    bytes: usize,
    deadline: Instant,
) -> io::Result<(usize, Duration)> {
    let mut stream = TcpStream::connect(address).await?;
    let (mut from, mut to) = stream.split();
    let begun = Instant::now();
    let mut back = 0;
    let sending = async {
        to.write_all(&vec![b'?'; bytes]).await?;
        // Not over before everything is back.
        std::future::pending::<io::Result<()>>().await
    };
    let reading = async {
        let mut buffer = vec![0; 64 * 1024];
        while back < bytes {
            match from.read(&mut buffer).await? {
                0 => break,
                count => back += count,
            }
        }
        Ok(())
    };
    let both = async {
        tokio::select! {
            failed = sending => failed,
            ended = reading => ended,
        }
    };
    // Late is slow, too.
    match timeout_at(deadline.into(), both).await {
        Ok(result) => result?,
        Err(_) => tracing::debug!(%address, "a transfer was not through in time"),
    }
    Ok((back, begun.elapsed()))
}

fn not_as_told(link: &Link, what: &str) -> StageError {
    StageError::ProxyUnexpected { request: format!("toxics of {link}"), reason: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_a_slow_link_takes_about_as_long_as_it_may() {
        let (bytes, least) = shown_by(Traffic::Bandwidth { kilobytes: 50 });
        assert_eq!((bytes, least), (10_000, Duration::from_millis(160)));
        // 50 pauses of 2 ms at most are 100 ms.
        let (bytes, least) = shown_by(Traffic::Slice { bytes: 100, pause_us: 2_000 });
        assert_eq!((bytes, least), (150 * 51, Duration::from_millis(80)));
        let (_, least) = shown_by(Traffic::Slice { bytes: 1, pause_us: 100_000 });
        assert_eq!(least, Duration::from_millis(160));
    }

    #[test]
    fn toxics_are_named_after_their_fault_and_direction() {
        let [up, down] = toxics(Traffic::Slice { bytes: 9, pause_us: 1_000 }, "f");
        assert_eq!((&*up.name, &*down.name), ("fault-f-upstream", "fault-f-downstream"));
        assert_eq!(up.attributes["size_variation"], 4);
        assert_eq!((&*up.r#type, &*down.stream), ("slicer", "downstream"));
    }
}
