//! The chain of toxics on one direction of one connection, and its change while bytes are in it.
//! No bytes are lost, doubled or reordered by adding, updating or removing a toxic.

use std::sync::Arc;
use std::time::Instant;

use super::{Chunk, Draws, Item, Queue, STAGE_BYTES_MAX, Stage, Step, build};
use crate::model::Attributes;

/// One toxic as the data path sees it.
#[derive(Clone, Debug)]
pub(crate) struct StageSpec {
    /// Unique in the process: a toxic removed and added again is another one.
    pub(crate) uid: u64,
    /// Counts the updates of this toxic.
    pub(crate) revision: u64,
    /// Names the stream of its random draws.
    pub(crate) name: String,
    /// Share of connections it bites.
    pub(crate) toxicity: f32,
    /// What it does.
    pub(crate) attributes: Attributes,
}

/// A toxic on this connection: lucky connections have no stage, only the draw that spared them.
struct Slot {
    uid: u64,
    revision: u64,
    /// Drawn once when the toxic met this connection, compared with every later toxicity, so
    /// that no change draws it again.
    luck: f64,
    draws: Draws,
    input: Queue,
    stage: Option<Box<dyn Stage>>,
}

/// Names the streams of random draws of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Naming {
    /// Name of the link.
    pub(crate) link: String,
    /// Index of the connection on its link, from 0.
    pub(crate) connection: u64,
}

/// The chain with the pieces inside it, first toxic first, and what is ready to be written.
pub(crate) struct Pipeline {
    slots: Vec<Slot>,
    ready: Queue,
    naming: Naming,
    delay_line_bytes: usize,
}

impl Pipeline {
    /// An empty chain. `delay_line_bytes` bounds what each delay holds.
    pub(crate) fn new(naming: Naming, delay_line_bytes: usize) -> Self {
        Self { slots: Vec::new(), ready: Queue::new(STAGE_BYTES_MAX), naming, delay_line_bytes }
    }

    /// Makes the chain that of `specs`. What a removed toxic held goes on to the next one.
    pub(crate) fn reconcile(&mut self, now: Instant, seed: u64, specs: &[Arc<StageSpec>]) {
        for index in (0..self.slots.len()).rev() {
            let uid = self.slots[index].uid;
            if !specs.iter().any(|spec| spec.uid == uid) {
                self.retire(now, index);
                self.slots.remove(index);
            }
        }
        for (index, spec) in specs.iter().enumerate() {
            match self.slots.iter().position(|slot| slot.uid == spec.uid) {
                Some(at) => {
                    // Toxics keep their order, so a known one is only ever found further back.
                    let slot = self.slots.remove(at);
                    self.slots.insert(index, slot);
                    if self.slots[index].revision != spec.revision {
                        self.update(now, index, spec);
                    }
                }
                None => self.slots.insert(index, self.meet(now, seed, spec)),
            }
        }
    }

    /// A toxic meets this connection: draws whether it bites.
    fn meet(&self, now: Instant, seed: u64, spec: &StageSpec) -> Slot {
        let Naming { link, connection } = &self.naming;
        let mut draws = Draws::new(seed, link, &spec.name, *connection);
        let luck = draws.unit();
        let (stage, capacity) = build(now, &spec.attributes, self.delay_line_bytes);
        let stage = (luck < f64::from(spec.toxicity)).then_some(stage);
        let StageSpec { uid, revision, .. } = *spec;
        Slot { uid, revision, luck, draws, input: Queue::new(capacity), stage }
    }

    fn update(&mut self, now: Instant, index: usize, spec: &StageSpec) {
        let bites = self.slots[index].luck < f64::from(spec.toxicity);
        if !bites {
            self.retire(now, index);
        }
        let slot = &mut self.slots[index];
        slot.revision = spec.revision;
        match &mut slot.stage {
            Some(stage) => stage.update(now, &spec.attributes),
            None if bites => {
                let (stage, _) = build(now, &spec.attributes, self.delay_line_bytes);
                slot.stage = Some(stage);
            }
            None => {}
        }
    }

    /// Stops the stage of a slot and passes on what it held.
    fn retire(&mut self, now: Instant, index: usize) {
        let (slot, out) = self.slot_and_output(index);
        let Some(stage) = slot.stage.take() else {
            return;
        };
        while let Some(chunk) = slot.input.pop() {
            out.push(Chunk { item: chunk.item, at: now });
        }
        if stage.leaves_hole() {
            out.push(Chunk { item: Item::Close, at: now });
        }
    }

    /// A slot and the queue its stage writes to: the next biting slot's input, or `ready`.
    fn slot_and_output(&mut self, index: usize) -> (&mut Slot, &mut Queue) {
        let (head, tail) = self.slots.split_at_mut(index + 1);
        let next = tail.iter_mut().find(|slot| slot.stage.is_some());
        let out = next.map_or(&mut self.ready, |slot| &mut slot.input);
        (&mut head[index], out)
    }

    /// Adds a piece that arrived now at the front of the chain.
    pub(crate) fn push(&mut self, now: Instant, item: Item) {
        let first = self.slots.iter_mut().find(|slot| slot.stage.is_some());
        let queue = first.map_or(&mut self.ready, |slot| &mut slot.input);
        queue.push(Chunk { item, at: now });
    }

    /// Moves everything that is due, in as many rounds as it takes.
    pub(crate) fn advance(&mut self, now: Instant) -> Step {
        let mut total = Step::default();
        loop {
            let mut round = Step::default();
            for index in 0..self.slots.len() {
                let (Slot { stage, draws, input, .. }, out) = self.slot_and_output(index);
                if let Some(stage) = stage {
                    round.merge(&stage.advance(now, draws, input, out));
                }
            }
            total.discarded += round.discarded;
            total.moved |= round.moved;
            if !round.moved {
                // Only the last round's wake-ups are of pieces that are still waiting.
                total.wake = round.wake;
                return total;
            }
        }
    }

    /// What is ready to be written.
    pub(crate) fn ready(&mut self) -> &mut Queue {
        &mut self.ready
    }

    /// Whether another piece may be read from the sender.
    pub(crate) fn has_room(&self) -> bool {
        let first = self.slots.iter().find(|slot| slot.stage.is_some());
        first.map_or(&self.ready, |slot| &slot.input).has_room()
    }

    /// Whether bytes may go straight through: no toxic bites and nothing waits.
    pub(crate) fn is_direct(&self) -> bool {
        self.ready.is_empty() && self.slots.iter().all(|slot| slot.stage.is_none())
    }

    /// Payload bytes inside.
    pub(crate) fn payload(&self) -> usize {
        self.slots.iter().map(|slot| slot.input.payload()).sum::<usize>() + self.ready.payload()
    }
}
