//! Delays of links read back, and measured through an entry of our own under the same rule.
//! Setting and lifting the rules of the cluster's links lives in `network.rs`.

use std::net::SocketAddr;
use std::time::Instant;

use super::canary::Echo;
use super::extension::{Delay, RuleChange};
use super::network::Network;
use super::proxy_client::Entry;
use super::round_trips::{self, Trips};
use super::toxics::{self, Milliseconds};
use super::{Link, StageError, host};

/// An entry of our own with an echo behind it.
#[derive(Debug)]
pub(crate) struct Canary {
    pub(crate) link: Link,
    pub(crate) address: SocketAddr,
    _echo: Echo,
}

impl Network {
    /// Makes sure that every link shows the delay; gives the evidence.
    pub(crate) async fn delays_of(
        &self,
        links: &[Link],
        delay: Delay,
    ) -> Result<String, StageError> {
        // Toxics are read back where they are set.
        if Milliseconds::of(delay).is_none() {
            let states = self.states().await?;
            for link in links {
                let delays = states.get(link).map(|state| state.delays);
                let both = delays.map(|both| [both.upstream, both.downstream]);
                if both != Some([Some(delay); 2]) {
                    return Err(not_as_told(link, &format!("{delay:?}, read back {both:?}")));
                }
            }
        }
        Ok(format!("read back on {} links", links.len()))
    }

    /// Makes sure that no link shows a delay; gives the evidence.
    pub(crate) async fn no_delay_on(&self, links: &[Link]) -> Result<String, StageError> {
        for link in links {
            let toxics = self.proxy.toxics(&link.to_string()).await?;
            if toxics.iter().any(|toxic| toxic.r#type == "latency") {
                return Err(not_as_told(link, &format!("no latency, read back {toxics:?}")));
            }
        }
        if self.is_own() {
            let states = self.states().await?;
            let delayed = |link: &&Link| {
                let delays = states.get(link).map(|state| state.delays);
                delays.is_none_or(|both| both.upstream.or(both.downstream).is_some())
            };
            if let Some(link) = links.iter().find(delayed) {
                return Err(not_as_told(link, "no delay"));
            }
        }
        Ok(format!("no delay read back on {} links", links.len()))
    }

    /// How round trips to an echo through an entry of our own under the delay went; `None` if too
    /// few of them ended in time to say so.
    pub(crate) async fn through_delay(
        &self,
        delay: Delay,
        deadline: Instant,
    ) -> Result<Option<Trips>, StageError> {
        let canary = self.open_canary("canary").await?;
        let measured = self.measure(&canary, delay, deadline).await;
        self.close_canary(canary).await?;
        measured
    }

    /// An entry of our own, by the name of who dials, that leads to an echo.
    pub(crate) async fn open_canary(&self, dialler: &str) -> Result<Canary, StageError> {
        let echo = Echo::start(self.home()).await.map_err(echo_failed)?;
        let link = Link::new(dialler, "echo");
        let name = link.to_string();
        // A run cancelled half-way may have left it.
        if self.proxy.entries().await?.contains_key(&name) {
            self.proxy.delete(&name).await?;
        }
        let port = if self.is_own() { 0 } else { host::free_ports(1)?[0] };
        let entry = Entry {
            name: name.clone(),
            listen: SocketAddr::from((self.near(), port)).to_string(),
            upstream: echo.address.to_string(),
            enabled: true,
            toxics: Vec::new(),
        };
        let created = self.proxy.create(&entry).await?;
        let address = created.listen.parse().map_err(|_| not_as_told(&link, "an address"))?;
        Ok(Canary { link, address, _echo: echo })
    }

    /// Takes it off again.
    pub(crate) async fn close_canary(&self, canary: Canary) -> Result<(), StageError> {
        self.proxy.delete(&canary.link.to_string()).await
    }

    async fn measure(
        &self,
        canary: &Canary,
        delay: Delay,
        deadline: Instant,
    ) -> Result<Option<Trips>, StageError> {
        match Milliseconds::of(delay) {
            Some(delay) => {
                toxics::delay(&self.proxy, std::slice::from_ref(&canary.link), delay).await?
            }
            None => {
                let links = vec![canary.link.to_string()];
                let change = RuleChange { links, cut: None, delay: Some(Some(delay)) };
                self.proxy.step(&[change], self.lease()).await?;
            }
        }
        round_trips::of_delay(canary.address, delay, deadline).await.map_err(echo_failed)
    }
}

fn not_as_told(link: &Link, told: &str) -> StageError {
    StageError::ProxyUnexpected {
        request: format!("delay of {link}"),
        reason: format!("told {told}"),
    }
}

fn echo_failed(source: std::io::Error) -> StageError {
    StageError::Start { process: "echo of the canary".to_string(), source }
}
