//! Standard latency toxics, set through the public Toxiproxy client for Rust, so that every run
//! also shows that the proxy is what such clients expect. That client blocks, ignores HTTP
//! status and panics on errors of the network: it is kept on a thread of its own, and every toxic
//! is read back by ours.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;
use toxiproxy_rust::client::Client;

use super::extension::Delay;
use super::proxy_client::{ProxyClient, Toxic};
use super::{Link, StageError};

/// Longest wait for the thread; the client has a timeout of 30 s for each request of its own.
const LIMIT: Duration = Duration::from_secs(10);

/// A delay in whole milliseconds, all that a latency toxic can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Milliseconds {
    delay: u32,
    jitter: u32,
}

impl Milliseconds {
    /// The delay, if it varies uniformly and whole milliseconds can express it.
    pub(crate) fn of(delay: Delay) -> Option<Self> {
        let whole = |micros: u64| {
            micros.is_multiple_of(1_000).then(|| u32::try_from(micros / 1_000).ok()).flatten()
        };
        if !delay.distribution.is_uniform() {
            return None;
        }
        Some(Self { delay: whole(delay.latency_us)?, jitter: whole(delay.jitter_us)? })
    }

    /// Whether the toxic is this delay.
    fn is_said_by(self, toxic: &Toxic) -> bool {
        let says = |name: &str, value: u32| {
            toxic.attributes.get(name).and_then(serde_json::Value::as_u64) == Some(value.into())
        };
        toxic.r#type == "latency" && says("latency", self.delay) && says("jitter", self.jitter)
    }
}

/// Delays both directions of the links, and reads every toxic back.
pub(crate) async fn delay(
    proxy: &ProxyClient,
    links: &[Link],
    delay: Milliseconds,
) -> Result<(), StageError> {
    let names: Vec<String> = links.iter().map(ToString::to_string).collect();
    on_a_thread(proxy.api(), names, delay).await?;
    for link in links {
        let name = link.to_string();
        let toxics = proxy.toxics(&name).await?;
        for stream in ["upstream", "downstream"] {
            let mut of_stream = toxics.iter().filter(|toxic| toxic.stream == stream);
            if !of_stream.any(|toxic| delay.is_said_by(toxic)) {
                return Err(StageError::ProxyUnexpected {
                    request: format!("latency toxic {stream} on {name}"),
                    reason: format!("read back: {toxics:?}"),
                });
            }
        }
    }
    Ok(())
}

/// Takes the latency toxics off again, with our own client: a heal must know whether it worked.
pub(crate) async fn undelay(proxy: &ProxyClient, links: &[Link]) -> Result<(), StageError> {
    for link in links {
        let name = link.to_string();
        for toxic in proxy.toxics(&name).await? {
            if toxic.r#type == "latency" {
                proxy.remove_toxic(&name, &toxic.name).await?;
            }
        }
    }
    Ok(())
}

async fn on_a_thread(
    api: SocketAddr,
    names: Vec<String>,
    delay: Milliseconds,
) -> Result<(), StageError> {
    let failed = |reason: String| StageError::ProxyUnexpected {
        request: "setting latency toxics".to_string(),
        reason,
    };
    let (done, result) = oneshot::channel();
    // A panic drops the sender, which is how it is noticed; nobody joins the thread.
    std::thread::Builder::new()
        .name("toxics".into())
        .spawn(move || drop(done.send(set(api, &names, delay))))
        .map_err(|error| failed(error.to_string()))?;
    match tokio::time::timeout(LIMIT, result).await {
        Ok(Ok(result)) => result.map_err(failed),
        Ok(Err(_)) => Err(failed("the client panicked".to_string())),
        Err(_) => Err(failed(format!("no end after {LIMIT:?}"))),
    }
}

fn set(api: SocketAddr, names: &[String], delay: Milliseconds) -> Result<(), String> {
    // A new client each time: a panic would poison the lock of a shared one.
    let client = Client::new(api);
    for name in names {
        let proxy = client.find_proxy(name)?;
        proxy.with_latency("upstream".to_string(), delay.delay, delay.jitter, 1.0).with_latency(
            "downstream".to_string(),
            delay.delay,
            delay.jitter,
            1.0,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::DelayDistribution;

    fn said(
        latency_us: u64,
        jitter_us: u64,
        distribution: DelayDistribution,
    ) -> Option<Milliseconds> {
        Milliseconds::of(Delay { latency_us, jitter_us, distribution })
    }

    #[test]
    fn only_whole_milliseconds_that_vary_uniformly_can_be_said() {
        let uniform = DelayDistribution::Uniform;
        assert_eq!(said(3_000, 1_000, uniform), Some(Milliseconds { delay: 3, jitter: 1 }));
        assert_eq!(said(500, 0, uniform), None);
        assert_eq!(said(2_000, 1, uniform), None);
        assert_eq!(said(3_000, 1_000, DelayDistribution::Normal), None);
    }

    #[tokio::test]
    async fn a_client_without_a_proxy_is_an_error_and_no_panic() {
        let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let delay = said(1_000, 0, DelayDistribution::Uniform).unwrap();
        let result = on_a_thread(nobody, vec!["n1->n2".to_string()], delay).await;
        assert!(matches!(result, Err(StageError::ProxyUnexpected { .. })), "{result:?}");
    }
}
