//! Carrying out changes of many links in one step: everything that can fail first, then one
//! store, then the clean-up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::link::{Link, LinkState};
use super::{Control, Registry};
use crate::model::Refusal;
use crate::path::{Acceptor, Ending, LinkPath, Port, World};

/// How long a step waits for connections that must end. They end at once unless the machine is
/// overloaded; the answer says when they did not.
const SETTLE: Duration = Duration::from_secs(1);

/// What becomes of one link.
#[derive(Debug)]
pub(super) struct Change {
    name: String,
    /// `None` removes the link.
    next: Option<LinkState>,
    /// A port to listen on from now on; a new link must have one.
    port: Option<Port>,
}

impl Change {
    /// A new link, or one that moves to another port.
    pub(super) fn place(name: &str, state: LinkState, port: Port) -> Self {
        Self { name: name.to_owned(), next: Some(state), port: Some(port) }
    }

    /// A link that stays where it is.
    pub(super) fn update(name: &str, state: LinkState) -> Self {
        Self { name: name.to_owned(), next: Some(state), port: None }
    }

    /// A link that goes.
    pub(super) fn remove(name: &str) -> Self {
        Self { name: name.to_owned(), next: None, port: None }
    }
}

/// When a step took effect: the instant after the one store that changed all links.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Effect {
    /// Number of the step in this process.
    pub(crate) epoch: u64,
    /// Wall clock, microseconds since 1970.
    pub(crate) unix_us: u64,
    /// `CLOCK_MONOTONIC`, microseconds; comparable over the processes of one machine.
    pub(crate) monotonic_us: u64,
    /// Whether every connection that had to end had ended when the answer was written.
    pub(crate) settled: bool,
}

impl Effect {
    fn now(epoch: u64) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The monotonic clock is always there on Linux; a zero would show that it was not.
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Into::into);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (unix_us, monotonic_us) = (micros(unix), micros(monotonic));
        Self { epoch, unix_us, monotonic_us, settled: true }
    }
}

impl Control {
    /// Carries out changes of different links in one step.
    ///
    /// # Errors
    /// `Listen` when a link cannot listen, `ProxyNotFound` for a change of no link; nothing has
    /// changed then.
    pub(super) async fn commit(
        &self,
        registry: &mut Registry,
        changes: Vec<Change>,
    ) -> Result<Effect, Refusal> {
        let mut listeners = open_listeners(registry, &changes)?;
        let mut touched = Vec::new();
        let mut stopped = Vec::new();
        for change in changes {
            let Change { name, next, port } = change;
            let Some(state) = next else {
                if let Some(mut link) = registry.links.remove(&name) {
                    stopped.extend(link.acceptor.take());
                    touched.push((link.path, true));
                }
                continue;
            };
            if let Some(link) = registry.links.get_mut(&name) {
                let ends = link.apply(state, port);
                let closes = !link.state.listens();
                if closes || listeners.contains_key(&name) {
                    stopped.extend(link.acceptor.take());
                }
                touched.push((Arc::clone(&link.path), ends && closes));
            } else if let Some(port) = port {
                let path = LinkPath::new(registry.next_id(), name.clone(), self.shared.clone());
                let path = Arc::new(path);
                touched.push((Arc::clone(&path), false));
                let (generation, ending) = (0, Ending::Close);
                let link = Link { path, port, acceptor: None, state, generation, ending };
                registry.links.insert(name, link);
            }
        }
        let paths: Vec<_> = touched.iter().map(|(path, _)| Arc::clone(path)).collect();
        let effect = self.publish(registry, &paths);
        for acceptor in stopped {
            acceptor.stop().await;
        }
        for (name, listener) in listeners.drain() {
            if let Some(link) = registry.links.get_mut(&name) {
                let path = Arc::clone(&link.path);
                link.acceptor = Some(Acceptor::start(path, listener));
            }
        }
        let emptied = touched.into_iter().filter(|(_, empties)| *empties).map(|(path, _)| path);
        let settled = settle(emptied.collect()).await;
        Ok(Effect { settled, ..effect })
    }

    /// Puts the links' rules in force with one store and wakes the tasks of `touched`.
    pub(super) fn publish(&self, registry: &Registry, touched: &[Arc<LinkPath>]) -> Effect {
        let old = self.shared.world.load_full();
        let epoch = old.epoch + 1;
        let mut links = old.links.clone();
        for path in touched {
            match registry.links.get(&path.name).filter(|link| link.path.id == path.id) {
                Some(link) => links.insert(path.id, Arc::new(link.rules())),
                None => links.remove(&path.id),
            };
        }
        self.shared.world.store(Arc::new(World { epoch, seed: registry.seed, links }));
        let effect = Effect::now(epoch);
        for path in touched {
            path.changes.send_replace(epoch);
        }
        effect
    }
}

impl Link {
    /// Takes a new state over; says whether the connections there are must end.
    fn apply(&mut self, state: LinkState, port: Option<Port>) -> bool {
        let stops = |before: bool, after: bool| before && !after;
        let (kept, keeps) = (self.state.keeps(), state.keeps());
        let ends = stops(self.state.listens(), state.listens())
            || stops(self.state.enabled, state.enabled)
            || port.is_some()
            || self.state.upstream != state.upstream
            || kept != keeps;
        if ends {
            self.generation += 1;
            self.ending = match keeps {
                Some(stream) if state.enabled => Ending::HalfOpen(stream),
                // The other end of what a half-open cut kept is long gone.
                Some(_) | None if state.is_closed() || kept.is_some() => Ending::Reset,
                Some(_) | None => Ending::Close,
            };
        }
        if let Some(port) = port {
            self.port = port;
        }
        self.state = state;
        ends
    }
}

/// Opens what must listen after the step and does not yet.
fn open_listeners(
    registry: &Registry,
    changes: &[Change],
) -> Result<HashMap<String, TcpListener>, Refusal> {
    let mut listeners = HashMap::new();
    for Change { name, next, port } in changes {
        let Some(state) = next.as_ref().filter(|state| state.listens()) else {
            continue;
        };
        let link = registry.links.get(name);
        let port = match (port, link) {
            (Some(port), _) => port,
            (None, Some(link)) if link.acceptor.is_none() => &link.port,
            (None, Some(_)) => continue,
            (None, None) => return Err(Refusal::ProxyNotFound),
        };
        let listener = port.listen().map_err(|source| {
            let address = port.address().to_string();
            Refusal::Listen { address, source }
        })?;
        listeners.insert(name.clone(), listener);
        tracing::debug!(link = %name, upstream = %state.upstream, "listening");
    }
    Ok(listeners)
}

/// Waits until links that listen no more have no connection; says whether that came true.
async fn settle(paths: Vec<Arc<LinkPath>>) -> bool {
    let deadline = Instant::now() + SETTLE;
    for path in paths {
        let mut open = path.open.subscribe();
        let empty = open.wait_for(|open| *open == 0);
        if tokio::time::timeout_at(deadline, empty).await.is_err() {
            tracing::warn!(link = %path.name, "connections outlived the step that ends them");
            return false;
        }
    }
    true
}
