//! One link as the control plane keeps it: what is asked of it, and the means to do it.

use std::sync::Arc;

use crate::model::{Attributes, Cut, CutKind, Delay, Refusal, Stream, Toxic};
use crate::path::{Acceptor, Ending, LinkPath, Port, Rules};
use crate::stages::StageSpec;

/// A toxic with its identity.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) toxic: Toxic,
    pub(super) uid: u64,
    pub(super) revision: u64,
    /// Set through the extension, so a lease on rules covers it.
    pub(super) by_rule: bool,
}

/// A delay rule with its identity.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlacedDelay {
    pub(super) delay: Delay,
    pub(super) uid: u64,
    pub(super) revision: u64,
}

/// What is asked of a link. A change is made on a copy and committed whole.
#[derive(Clone, Debug)]
pub(super) struct LinkState {
    pub(super) upstream: String,
    pub(super) enabled: bool,
    /// In the order of creation.
    pub(super) toxics: Vec<Placed>,
    pub(super) cut: Option<Cut>,
    /// By `Stream::index`.
    pub(super) delays: [Option<PlacedDelay>; 2],
}

impl LinkState {
    /// A link without faults.
    pub(super) fn new(upstream: String, enabled: bool) -> Self {
        Self { upstream, enabled, toxics: Vec::new(), cut: None, delays: [None; 2] }
    }

    /// Whether it should listen.
    pub(super) fn listens(&self) -> bool {
        self.enabled && !self.cut.is_some_and(Cut::refuses)
    }

    /// Whether a closed cut is in force.
    pub(super) fn is_closed(&self) -> bool {
        self.cut.is_some_and(|cut| cut.kind == CutKind::Closed)
    }

    /// The direction whose sender keeps its end, while a half-open cut is in force.
    pub(super) fn keeps(&self) -> Option<Stream> {
        self.cut.and_then(Cut::keeps)
    }

    /// Takes off what the extension put on; with `all`, also what the standard API did.
    pub(super) fn heal(&mut self, all: bool) {
        self.cut = None;
        self.delays = [None; 2];
        self.toxics.retain(|placed| !(all || placed.by_rule));
        self.enabled |= all;
    }

    /// Adds a toxic under a new identity.
    ///
    /// # Errors
    /// `ToxicAlreadyExists`; names are unique over both directions.
    pub(super) fn add_toxic(
        &mut self,
        toxic: Toxic,
        uid: u64,
        by_rule: bool,
    ) -> Result<(), Refusal> {
        if self.toxics.iter().any(|placed| placed.toxic.name == toxic.name) {
            return Err(Refusal::ToxicAlreadyExists);
        }
        self.toxics.push(Placed { toxic, uid, revision: 0, by_rule });
        Ok(())
    }

    /// Finds a toxic by name.
    ///
    /// # Errors
    /// `ToxicNotFound`.
    pub(super) fn toxic_mut(&mut self, name: &str) -> Result<&mut Placed, Refusal> {
        let mut placed = self.toxics.iter_mut();
        placed.find(|placed| placed.toxic.name == name).ok_or(Refusal::ToxicNotFound)
    }

    /// Removes a toxic by name.
    ///
    /// # Errors
    /// `ToxicNotFound`.
    pub(super) fn remove_toxic(&mut self, name: &str) -> Result<(), Refusal> {
        let before = self.toxics.len();
        self.toxics.retain(|placed| placed.toxic.name != name);
        if self.toxics.len() == before {
            return Err(Refusal::ToxicNotFound);
        }
        Ok(())
    }

    /// Toxics as the original lists them: upstream ones first, each in order of creation.
    pub(super) fn listed_toxics(&self) -> Vec<Toxic> {
        let of = |stream| self.toxics.iter().filter(move |p| p.toxic.stream == stream);
        Stream::BOTH.into_iter().flat_map(of).map(|placed| placed.toxic.clone()).collect()
    }

    /// The chain of one direction: the delay rule, then the toxics.
    fn stages(&self, stream: Stream) -> Vec<Arc<StageSpec>> {
        let delay = self.delays[stream.index()].map(|placed| StageSpec {
            uid: placed.uid,
            revision: placed.revision,
            // Toxics cannot take this name: it holds a control character.
            name: format!("\u{1}delay {}", stream.name()),
            toxicity: 1.0,
            attributes: Attributes::Delay(placed.delay),
        });
        let toxics = self.toxics.iter().filter(|placed| placed.toxic.stream == stream);
        let toxics = toxics.map(|placed| StageSpec {
            uid: placed.uid,
            revision: placed.revision,
            name: placed.toxic.name.clone(),
            toxicity: placed.toxic.toxicity,
            attributes: placed.toxic.attributes,
        });
        delay.into_iter().chain(toxics).map(Arc::new).collect()
    }
}

/// A link with its sockets.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) path: Arc<LinkPath>,
    pub(super) port: Port,
    /// Present exactly while the link listens.
    pub(super) acceptor: Option<Acceptor>,
    pub(super) state: LinkState,
    /// Counts the times that all connections had to end.
    pub(super) generation: u64,
    /// How they had to end the last time.
    pub(super) ending: Ending,
}

impl Link {
    /// The rules for the data path.
    pub(super) fn rules(&self) -> Rules {
        let silences = |stream| self.state.cut.is_some_and(|cut| cut.silences(stream));
        Rules {
            generation: self.generation,
            ending: self.ending,
            listening: self.state.listens(),
            silent: Stream::BOTH.map(silences),
            stages: Stream::BOTH.map(|stream| self.state.stages(stream)),
            upstream: self.state.upstream.clone(),
        }
    }
}
