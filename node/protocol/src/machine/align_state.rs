//! What a server that aligns knows: how far it is with each of its sources, and what these have
//! told. May not ask anybody, nor write items.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{Boot, ClusterKey, ItemId, ItemKey, NodeId, Stamp, TxId};

use super::Cx;
use super::align_compare::Work;
use super::align_copy::Copying;
use crate::alignment::{Known, Reached};
use crate::io::{AlignmentWork, Tick, Write};
use crate::message::{Decided, Finished, Participant};
use crate::survey::Leaves;

/// An alignment in progress.
#[derive(Debug, Default)]
pub(super) struct Aligning {
    pub(super) copying: Copying,
    /// Own digests of clusters, once they are there.
    pub(super) leaves: BTreeMap<ClusterKey, Option<Leaves>>,
    pub(super) sources: BTreeMap<NodeId, Source>,
    /// Number of the round of final questions; 0 while comparing.
    pub(super) round: u64,
    /// Rounds begun. A number is not used again: an answer to an earlier round proves nothing.
    pub(super) rounds: u64,
    /// When the next round may begin, if something is missing after this one.
    pub(super) next_round_at: Tick,
    /// Marks of the sources, as of when they listed their outcomes.
    pub(super) low: BTreeMap<(NodeId, Boot), u64>,
    /// Commits of which something is here, and perhaps not all: this server is not back before
    /// they are in.
    pub(super) begun: BTreeSet<TxId>,
    /// Since the last note.
    pub(super) work: AlignmentWork,
}

/// A server compared with.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) session: u64,
    /// Where the source keeps what it settles, once it has said so.
    pub(super) journal: Option<u64>,
    /// What is left to compare, last first.
    pub(super) stack: Vec<Work>,
    /// Items that are newer there than here, and whose content this witness has dropped.
    pub(super) lacking: BTreeMap<ItemId, Stamp>,
    /// When the question on top of the stack was asked.
    pub(super) sent_at: Option<Tick>,
    /// Questions in a row without an answer.
    pub(super) unanswered: u32,
    /// Next decision to be followed.
    pub(super) followed: u64,
    /// When the next question about decisions is due.
    pub(super) follow_at: Tick,
    /// Since when they are not answered.
    pub(super) following: Option<Tick>,
    /// Last round that was answered with nothing left.
    pub(super) closed: u64,
    /// How far it was then.
    pub(super) reached: Reached,
    /// What it has settled and not forgotten.
    pub(super) known: BTreeMap<TxId, Claim>,
    /// Those of them that touch own clusters which it does not master.
    pub(super) partial: BTreeSet<TxId>,
    /// Commits it told whole while it was followed, and had not finished.
    pub(super) told: BTreeSet<TxId>,
}

/// A source has this outcome.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) outcome: Decided,
    pub(super) participants: Vec<Participant>,
    /// Clusters it does not master, and whose operations it sent.
    pub(super) parts: BTreeSet<ClusterKey>,
}

impl Aligning {
    /// Begins again after a restart.
    pub(super) fn starting_with(
        begun: BTreeSet<TxId>,
        copied: BTreeMap<ClusterKey, ItemKey>,
    ) -> Self {
        Self { begun, copying: Copying::going_on(copied), ..Self::default() }
    }

    /// The sources that were asked to the end in this round.
    pub(super) fn closed(&self) -> impl Iterator<Item = (&NodeId, &Source)> {
        self.sources.iter().filter(|(_, source)| source.is_closed(self.round))
    }

    /// Something of a commit is here, and perhaps not all.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        if self.begun.insert(tx) {
            cx.write(Write::Begun(tx));
        }
    }

    /// What a witness could not give came from elsewhere.
    pub(super) fn forget_what_came(&mut self, cx: &Cx<'_>) {
        for source in self.sources.values_mut() {
            while let Some(first) = source.lacking.first_entry()
                && cx.stamp(first.key()).version >= first.get().version
            {
                first.remove();
            }
        }
    }

    /// Takes the marks that came with a list of outcomes.
    pub(super) fn raise_low(&mut self, low: Vec<(NodeId, Boot, u64)>) {
        for (node, boot, seq) in low {
            let mark = self.low.entry((node, boot)).or_insert(Finished::FIRST);
            *mark = seq.max(*mark);
        }
    }
}

impl Source {
    /// For the clusters it masters, the effects are in what is compared.
    pub(super) fn claim(&mut self, known: Known, partial: bool, parts: BTreeSet<ClusterKey>) {
        let Known { tx, outcome, participants } = known;
        if partial {
            self.partial.insert(tx);
        }
        let claim = Claim { outcome, participants, parts: BTreeSet::new() };
        self.known.entry(tx).or_insert(claim).parts.extend(parts);
    }

    pub(super) fn is_compared(&self) -> bool {
        !self.has_work() && self.lacking.is_empty()
    }

    /// Something is left to ask.
    pub(super) fn has_work(&self) -> bool {
        self.journal.is_none() || !self.stack.is_empty()
    }

    /// Some log told it of this commit.
    pub(super) fn was_told(&self, tx: TxId) -> bool {
        let Reached { low, out_of_log, .. } = &self.reached;
        let below = |(node, boot, seq): &(NodeId, Boot, u64)| {
            (*node, *boot) == (tx.node, tx.boot) && tx.seq < *seq
        };
        let settled = self.told.contains(&tx) || self.known.contains_key(&tx);
        low.iter().any(below) || (settled && !out_of_log.contains(&tx))
    }

    /// How far it is, with nothing left to tell in a round.
    pub(super) fn close(&mut self, round: u64, reached: Reached) {
        self.closed = round;
        for (node, boot, seq) in &reached.low {
            let first = TxId { node: *node, boot: *boot, seq: 0 };
            let end = TxId { seq: *seq, ..first };
            let finished: Vec<TxId> = self.told.range(first..end).copied().collect();
            for tx in finished {
                self.told.remove(&tx);
            }
        }
        self.reached = reached;
    }

    /// It was compared, and asked after that, in this round.
    pub(super) fn is_closed(&self, round: u64) -> bool {
        self.is_compared() && self.closed == round
    }
}
