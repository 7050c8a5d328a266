//! What the extension can ask: cuts, delays and toxics on many links in one step, and the state
//! and counters of links.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::commit::{Change, Effect};
use super::lease::LeaseRequest;
use super::link::{Link, LinkState, PlacedDelay};
use super::{Control, Registry};
use crate::model::{Cut, Delay, Refusal, Stream, Toxic};
use crate::path::{ConnectionCounts, StreamCounts};

/// One step: changes carried out together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// Carried out in this order; of two changes of a link the later wins.
    changes: Vec<RuleChange>,
    /// Takes or renews the lease in the same step.
    lease: Option<LeaseRequest>,
}

/// A change of some links' rules.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleChange {
    /// Names; `*` is every link.
    links: Vec<String>,
    /// Takes every extension rule off before the rest of this change.
    #[serde(default)]
    heal: bool,
    /// Absent leaves the cut as it is, null takes it off.
    #[serde(default, deserialize_with = "present")]
    cut: Option<Option<Cut>>,
    /// Absent leaves the delay as it is, null takes it off both directions.
    #[serde(default, deserialize_with = "present")]
    delay: Option<Option<Delay>>,
    /// Names of toxics to take off.
    #[serde(default)]
    remove_toxics: Vec<String>,
    /// Toxics in the standard API's shape.
    #[serde(default)]
    add_toxics: Vec<Value>,
}

/// Tells null from absent.
fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// A link with its rules and counters.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LinkView {
    pub(crate) listen: String,
    pub(crate) upstream: String,
    pub(crate) enabled: bool,
    /// Whether the kernel accepts connections now.
    pub(crate) listening: bool,
    pub(crate) cut: Option<Cut>,
    pub(crate) delays: PerStream<Option<Delay>>,
    pub(crate) toxics: Vec<Toxic>,
    pub(crate) connections: ConnectionCounts,
    pub(crate) bytes: PerStream<StreamCounts>,
}

/// One thing for each direction.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PerStream<T> {
    pub(crate) upstream: T,
    pub(crate) downstream: T,
}

impl<T> PerStream<T> {
    fn of(make: impl Fn(Stream) -> T) -> Self {
        Self { upstream: make(Stream::Upstream), downstream: make(Stream::Downstream) }
    }
}

fn view(link: &Link) -> LinkView {
    let Link { path, state, .. } = link;
    LinkView {
        listen: link.port.address().to_string(),
        upstream: state.upstream.clone(),
        enabled: state.enabled,
        listening: link.acceptor.is_some(),
        cut: state.cut,
        delays: PerStream::of(|s| state.delays[s.index()].map(|placed| placed.delay)),
        toxics: state.listed_toxics(),
        connections: path.counters.connections(*path.open.borrow()),
        bytes: PerStream::of(|s| path.counters.streams[s.index()].read()),
    }
}

impl Control {
    /// Every link by name.
    pub(crate) async fn links(&self) -> BTreeMap<String, LinkView> {
        let registry = self.registry.lock().await;
        registry.links.iter().map(|(name, link)| (name.clone(), view(link))).collect()
    }

    /// One link.
    pub(crate) async fn link(&self, name: &str) -> Result<LinkView, Refusal> {
        Ok(view(self.registry.lock().await.link(name)?))
    }

    /// Carries a step out; gives the time it took effect and the links it touched.
    pub(crate) async fn step(&self, step: Step) -> Result<(Effect, Vec<String>), Refusal> {
        let mut registry = self.registry.lock().await;
        let mut states = BTreeMap::new();
        for change in &step.changes {
            for name in named(&registry, &change.links)? {
                let state = match states.remove(&name) {
                    Some(state) => state,
                    None => registry.link(&name)?.state.clone(),
                };
                let state = change.applied(state, &mut registry)?;
                states.insert(name, state);
            }
        }
        if let Some(lease) = &step.lease {
            registry.check_lease(lease)?;
        }
        let names = states.keys().cloned().collect();
        let changes = states.into_iter().map(|(name, state)| Change::update(&name, state));
        let effect = self.commit(&mut registry, changes.collect()).await?;
        if let Some(lease) = step.lease {
            self.take_lease(&mut registry, lease);
        }
        Ok((effect, names))
    }

    /// Takes the extension's rules off every link; with `all`, toxics and disabling as well.
    pub(crate) async fn heal(&self, all: bool) -> Result<(Effect, Vec<String>), Refusal> {
        let mut registry = self.registry.lock().await;
        let effect = self.heal_all(&mut registry, all).await?;
        Ok((effect, registry.links.keys().cloned().collect()))
    }

    /// Heals every link in one step.
    pub(super) async fn heal_all(
        &self,
        registry: &mut Registry,
        all: bool,
    ) -> Result<Effect, Refusal> {
        let healed = registry.links.iter().map(|(name, link)| {
            let mut state = link.state.clone();
            state.heal(all);
            Change::update(name, state)
        });
        let changes = healed.collect();
        self.commit(registry, changes).await
    }
}

/// The links meant by a list of names.
fn named(registry: &Registry, links: &[String]) -> Result<Vec<String>, Refusal> {
    if links.iter().any(|name| name == "*") {
        return Ok(registry.links.keys().cloned().collect());
    }
    let unknown = links.iter().find(|name| !registry.links.contains_key(*name));
    match unknown {
        Some(name) => Err(Refusal::LinkNotFound(name.clone())),
        None => Ok(links.to_vec()),
    }
}

impl RuleChange {
    /// A link's state after this change.
    fn applied(&self, mut state: LinkState, registry: &mut Registry) -> Result<LinkState, Refusal> {
        if self.heal {
            state.heal(false);
        }
        if let Some(cut) = self.cut {
            cut.map_or(Ok(()), Cut::check)?;
            state.cut = cut;
        }
        match self.delay {
            None => {}
            Some(None) => state.delays = [None; 2],
            Some(Some(delay)) => {
                delay.check()?;
                for stream in Stream::BOTH.into_iter().filter(|s| delay.stream.covers(*s)) {
                    let slot = &mut state.delays[stream.index()];
                    // The same identity re-times what the delay holds instead of letting it go.
                    let (uid, revision) = match slot {
                        Some(placed) => (placed.uid, placed.revision + 1),
                        None => (registry.next_id(), 0),
                    };
                    // A delay of nothing is no delay, so one direction can be taken off alone.
                    let delays = delay.latency_us.max(delay.jitter_us) > 0;
                    *slot = delays.then_some(PlacedDelay { delay, uid, revision });
                }
            }
        }
        for name in &self.remove_toxics {
            state.remove_toxic(name)?;
        }
        for value in &self.add_toxics {
            state.add_toxic(Toxic::parse(value.clone())?, registry.next_id(), true)?;
        }
        Ok(state)
    }
}
