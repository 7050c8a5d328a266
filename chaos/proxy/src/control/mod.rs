//! The control plane: which links exist, what each is told to do, and changing that in one step.
//! Writes the rules that the data path obeys; knows nothing of HTTP.

mod commit;
mod extension;
mod lease;
mod link;
mod standard;

pub(crate) use commit::Effect;
pub(crate) use extension::{LinkView, PerStream};
pub(crate) use lease::LeaseView;
pub(crate) use standard::{ProxyRequest, ProxyView};

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Notify};

use self::commit::Change;
use self::lease::Lease;
use self::link::Link;
use crate::model::Refusal;
use crate::path::{LinkId, Shared, World};

/// Everything the API can reach.
#[derive(Debug)]
pub(crate) struct Control {
    shared: Arc<Shared>,
    registry: Mutex<Registry>,
    /// Wakes the lease's keeper when the lease changes.
    lease_changed: Notify,
}

/// The links and the lease. One lock over all: changes are rare, and one at a time is what makes
/// a step atomic.
#[derive(Debug)]
struct Registry {
    links: BTreeMap<String, Link>,
    /// Last number given to a link or toxic.
    last_id: u64,
    seed: u64,
    lease: Option<Lease>,
    leases_expired: u64,
}

impl Registry {
    fn link(&self, name: &str) -> Result<&Link, Refusal> {
        self.links.get(name).ok_or(Refusal::ProxyNotFound)
    }

    fn next_id(&mut self) -> LinkId {
        self.last_id += 1;
        self.last_id
    }
}

impl Control {
    /// No links yet. `delay_line_bytes` bounds each delay.
    pub(crate) fn new(seed: u64, delay_line_bytes: usize) -> Self {
        let world = ArcSwap::from_pointee(World { seed, ..World::default() });
        Self {
            shared: Arc::new(Shared { world, delay_line_bytes }),
            registry: Mutex::new(Registry {
                links: BTreeMap::new(),
                last_id: 0,
                seed,
                lease: None,
                leases_expired: 0,
            }),
            lease_changed: Notify::new(),
        }
    }

    /// Seed of random streams that start from now on.
    pub(crate) async fn seed(&self) -> u64 {
        self.registry.lock().await.seed
    }

    /// Changes the seed; toxics that already met a connection keep their streams on it.
    pub(crate) async fn set_seed(&self, seed: u64) -> Effect {
        let mut registry = self.registry.lock().await;
        registry.seed = seed;
        self.publish(&registry, &[])
    }

    /// Takes every link away and waits until their connections are gone, up to a second.
    pub(crate) async fn shut_down(&self) {
        let mut registry = self.registry.lock().await;
        let changes = registry.links.keys().map(|name| Change::remove(name)).collect();
        if let Err(refusal) = self.commit(&mut registry, changes).await {
            // Removal listens nowhere, which is all that can be refused.
            tracing::error!(%refusal, "links could not be removed");
        }
    }
}
