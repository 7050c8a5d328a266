//! Looks at both ends of connections of our own under a half-open cut: one must hear nothing, the
//! other must be reset. What the servers' links show is `canary.rs`'s.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{timeout, timeout_at};

use super::extension::{Cut, CutKind, RuleChange, Streams};
use super::network::Network;
use super::{Link, StageError};

/// An end that hears nothing for so long is not told.
const STILL: Duration = Duration::from_millis(100);

/// Whether it was so both for an end that dialled and for one that was dialled, and what was seen.
pub(crate) async fn one_end_stays(
    network: &Network,
    fault: &str,
    deadline: Instant,
) -> Result<(bool, String), StageError> {
    let of = |stream| on_one(network, fault, stream, deadline);
    let (dialler, dialled) = tokio::join!(of(Streams::Upstream), of(Streams::Downstream));
    let wrong = [("the dialler", dialler?), ("the dialled", dialled?)].map(|(who, wrong)| {
        wrong.map(|wrong| format!("on a connection of our own that {who} keeps {wrong}"))
    });
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    if wrong.is_empty() {
        let told = format!(
            "of connections of our own the kept ends heard nothing for {STILL:?}, the others were \
             reset"
        );
        return Ok((true, told));
    }
    Ok((false, wrong.join("; ")))
}

/// What is wrong with a connection of which the sender in this direction keeps its end.
async fn on_one(
    network: &Network,
    fault: &str,
    stream: Streams,
    deadline: Instant,
) -> Result<Option<String>, StageError> {
    let failed = |source| StageError::Start { process: "a canary".to_string(), source };
    let listener = TcpListener::bind((network.home(), 0)).await.map_err(failed)?;
    let far = listener.local_addr().map_err(failed)?;
    let dialler = format!("canary-{fault}-{}", stream.word());
    let (link, address) = network.open_entry(&dialler, far).await?;
    let seen = async {
        let Some(ends) = connect(address, &listener, deadline).await.map_err(failed)? else {
            return Ok(Some("nothing came through in time".to_string()));
        };
        cut(network, &link, stream).await?;
        Ok(look(ends, stream, deadline).await)
    };
    let seen = seen.await;
    network.proxy.delete(&link.to_string()).await?;
    seen
}

async fn cut(network: &Network, link: &Link, stream: Streams) -> Result<(), StageError> {
    let cut = Some(Some(Cut { kind: CutKind::HalfOpen, stream }));
    let change = RuleChange { links: vec![link.to_string()], cut, delay: None };
    network.proxy.step(&[change], network.lease()).await.map(drop)
}

/// Both ends of a connection through the entry; `None` if there is none in time.
async fn connect(
    address: SocketAddr,
    listener: &TcpListener,
    deadline: Instant,
) -> io::Result<Option<[TcpStream; 2]>> {
    let both = async {
        let near = TcpStream::connect(address).await?;
        let (far, _) = listener.accept().await?;
        Ok([near, far])
    };
    timeout_at(deadline.into(), both).await.ok().transpose()
}

async fn look(ends: [TcpStream; 2], stream: Streams, deadline: Instant) -> Option<String> {
    let [near, far] = ends;
    let (mut kept, mut gone) = match stream {
        Streams::Upstream => (near, far),
        Streams::Downstream | Streams::Both => (far, near),
    };
    match timeout_at(deadline.into(), gone.read(&mut [0])).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => return Some(format!("the other end saw {other:?} and no reset")),
    }
    if let Err(error) = kept.write_all(b"?").await {
        return Some(format!("nothing can be sent: {error}"));
    }
    match timeout(STILL, kept.read(&mut [0])).await {
        Err(_) => None,
        Ok(heard) => Some(format!("that end heard {heard:?}")),
    }
}
