//! Following the sources of an alignment: what they settle meanwhile, and the rounds of final
//! questions (PROTOCOL.md 3.6.5; why, in `align`).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, Committed, ItemId, NodeId, Operation, TxId};

use super::align_compare::PATIENCE;
use super::align_state::{Aligning, Source};
use super::apply::{self, Decision};
use super::{Cx, Machine};
use crate::alignment::{Ask, Followed, Known, Reached};
use crate::io::Tick;
use crate::marks::Mark;
use crate::message::{Decided, Message};
use crate::planted::Bug;

/// Pauses between two questions about what was settled meanwhile: most of them find nothing, so
/// they are a small part of what an alignment sends.
const FOLLOW: Tick = 10;

/// A source that was compared and is reachable is given up when it is silent for so long: its disk
/// may be slow, and comparing it again costs more.
const SILENCE: Tick = 5_000_000;

/// The rest of a `Followed` answer.
pub(super) struct Told {
    pub(super) first: u64,
    pub(super) round: u64,
    pub(super) end: Option<Reached>,
}

impl Machine {
    /// Asks every source for what it settled meanwhile, and begins a final round when enough are
    /// compared.
    pub(super) fn follow(&mut self, cx: &mut Cx<'_>, aligning: &mut Aligning) {
        let closed = self.suffices(aligning, Source::is_closed);
        let again = closed && self.now >= aligning.next_round_at;
        if !self.suffices(aligning, |source, _| source.is_compared()) {
            aligning.round = 0;
        } else if aligning.round == 0 || again {
            aligning.next_round_at = self.now + FOLLOW * self.config.align.pause;
            aligning.rounds += 1;
            aligning.round = aligning.rounds;
            for source in aligning.sources.values_mut() {
                source.follow_at = 0;
            }
        }
        let (now, resend, round) = (self.now, self.config.resend, aligning.round);
        let mut silent = Vec::new();
        for (node, source) in &mut aligning.sources {
            if let Some(journal) = source.journal
                && now >= source.follow_at
            {
                source.follow_at = now + resend;
                let since = *source.following.get_or_insert(now);
                let up = self.peers.get(node).is_some_and(|peer| peer.up);
                let patience = if up { SILENCE } else { Tick::from(PATIENCE) * resend };
                if source.is_compared() && now >= since + patience {
                    silent.push(*node);
                }
                let round = if source.is_compared() { round } else { 0 };
                let ask = Ask::Follow { journal, from: source.followed, round };
                cx.send_now(*node, Message::Align { session: source.session, ask });
            }
        }
        for node in silent {
            // Another one is compared in its place, or this one anew.
            Mark::SourceSilent.hit();
            aligning.sources.remove(&node);
            aligning.round = 0;
        }
    }

    pub(super) fn on_followed(
        &mut self,
        cx: &mut Cx<'_>,
        aligning: &mut Aligning,
        from: NodeId,
        told: Told,
        decided: Vec<Followed>,
    ) {
        let Some(source) = aligning.sources.get_mut(&from) else { return };
        source.unanswered = 0;
        source.following = None;
        if told.first != source.followed {
            return;
        }
        source.followed += decided.len() as u64;
        source.follow_at =
            if told.end.is_some() { self.now + FOLLOW * self.config.align.pause } else { 0 };
        let low = told.end.as_ref().map(|reached| reached.low.clone()).unwrap_or_default();
        if let Some(reached) = told.end {
            source.close(told.round, reached);
        }
        if aligning.round == 0 {
            // Told to a majority before the final round, so to a source that it is asked of.
            for (node, boot, seq) in low {
                self.told_below(cx, TxId { node, boot, seq });
            }
        }
        if self.config.has(Bug::BackBeforeMeanwhile) {
            return;
        }
        for Followed { known, ops } in decided {
            aligning.work.followed += 1;
            if known.outcome == Decided::Abort || self.is_whole(&known.participants, &ops) {
                let Known { tx, outcome, participants } = known;
                if outcome == Decided::Commit
                    && let Some(source) = aligning.sources.get_mut(&from)
                {
                    source.told.insert(tx);
                }
                // Whether a log told it, is seen in the end: it may be lost before.
                let decision = Decision { tx, outcome, participants, ops };
                self.learn(cx, decision, apply::Source::Elsewhere);
            } else {
                Mark::PartFollowed.hit();
                let parts: BTreeSet<ClusterKey> = ops.iter().map(|op| op.item.cluster).collect();
                self.write_part(cx, aligning, known.tx, &ops);
                let partial = self.is_partial(from, &known);
                if let Some(source) = aligning.sources.get_mut(&from) {
                    source.claim(known, partial, parts);
                }
            }
        }
    }

    /// It touches clusters kept here that the source does not master.
    pub(super) fn is_partial(&self, source: NodeId, known: &Known) -> bool {
        let me = self.config.node;
        let mut mine = known.participants.iter().filter(|p| self.is_kept_by(me, p.cluster));
        mine.any(|p| !self.is_master(source, p.cluster))
    }

    /// The operations of some clusters of a commit; the others follow before this server is back.
    fn write_part(
        &mut self,
        cx: &mut Cx<'_>,
        aligning: &mut Aligning,
        tx: TxId,
        ops: &[Operation],
    ) {
        if self.is_finished(tx) {
            return;
        }
        for op in ops.iter().filter(|op| op.writes()) {
            self.take_from_source(cx, aligning, &op.item, op.committed(tx));
        }
    }

    /// A state of an item from a source, which may be lost before it has told the rest of what
    /// wrote it.
    pub(super) fn take_from_source(
        &mut self,
        cx: &mut Cx<'_>,
        aligning: &mut Aligning,
        item: &ItemId,
        theirs: Committed,
    ) {
        let tx = theirs.stamp.tx;
        let is_surveyed = matches!(aligning.leaves.get(&item.cluster), Some(Some(_)));
        let both = is_surveyed.then(|| (cx.item(item), theirs.clone()));
        if !self.take_newer(cx, item, theirs) {
            return;
        }
        if let Some((before, after)) = both {
            self.note_replaced(aligning, item, before.as_ref(), &after);
        }
        if !self.is_in(cx, aligning, tx) {
            aligning.begin(cx, tx);
        }
    }
}
