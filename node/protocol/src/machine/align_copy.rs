//! The copy that comes before comparing (PROTOCOL.md 3.6.5): of clusters of which nothing is here,
//! a server that aligns takes everything, in key order, in chunks, from one MASTER at a time. It
//! brings bytes and decides nothing: all is compared afterwards, so `align` says alone why the
//! state is whole in the end.
//!
//! **No session.** A source keeps nothing between two chunks: it is asked for what is behind a key.
//! So a chunk may be lost, come twice or late, or come from another server than the one asked last;
//! it is taken if it is the next one, and another MASTER is asked when one does not answer. What
//! commits meanwhile, in front of the key or behind it, is found by comparing.
//!
//! **Progress** is written with the items: the key up to which the cluster is copied, until all of
//! it is. Whoever is killed goes on behind that key. Clusters are looked at once in each boot,
//! before anything is taken: what is empty or has such a mark is copied, and of what is neither
//! only the difference is fetched.
//!
//! **Why that adds nothing to what `align` has to argue.** Items come as committed at a MASTER,
//! only newer ones are taken, and their writers are remembered (`begun`) unless they are finished,
//! all like what is fetched from a source that is lost later. The marks that say what is finished
//! come with the chunk and are older than its items. Nothing of a copy is shown: this server has
//! left ONLINE, and comes back by comparing alone. A token of a session covers what sources
//! reached, not what was copied.
//!
//! **Deletes.** Comparing takes over what a source has, and leaves what only this server has: so
//! the tombstone of an item that is deleted after it was copied must be there when it is compared.
//! The source had not applied the delete then, and did not know of an older configuration than this
//! server (it drops such questions). As a MASTER of the item it is asked before everybody is said
//! to have the delete, and tells the decider of that configuration with its answer; from then on
//! the decider waits for this server, too, which acknowledges nothing before it is back. So no
//! tombstone of such a delete is dropped (`tombstones`).
//!
//! Copying does not hold up an alignment that could go on without: when no MASTER of a cluster
//! gives a copy although enough to compare with are there, its items are fetched one by one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, NodeId};

use super::align_compare::PATIENCE;
use super::align_state::Aligning;
use super::{Cx, Machine};
use crate::alignment::{Answer, Ask};
use crate::copying::{COPIES, Chunk, CopyNote, Part};
use crate::io::{Note, Tick, Write, bytes_of};
use crate::marks::Mark;
use crate::message::Message;

/// How long a chunk may take before another server is asked, in resend intervals.
const CHUNK_WAIT: Tick = 20;

/// The copies of an alignment.
#[derive(Debug, Default)]
pub(super) struct Copying {
    /// Clusters that were looked at.
    clusters: BTreeMap<ClusterKey, Progress>,
    asked: Option<Question>,
    /// Who answered last.
    source: Option<NodeId>,
    /// How long the last chunk took: chunks are large, and links may be slow.
    took: Tick,
    /// Questions in a row that servers did not answer.
    unanswered: BTreeMap<NodeId, u32>,
}

/// How far a cluster is copied.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// Up to this key.
    Upto(Option<ItemKey>),
    /// All of it; or what was there was enough to compare it.
    Done,
}

/// A question under way.
#[derive(Debug)]
struct Question {
    to: NodeId,
    cluster: ClusterKey,
    asked_at: Tick,
    /// When it is asked again: it may be lost.
    again_at: Tick,
    /// When another server is asked, if there is one.
    until: Tick,
}

impl Copying {
    /// Goes on after a restart.
    pub(super) fn going_on(copied: BTreeMap<ClusterKey, ItemKey>) -> Self {
        let clusters = copied.into_iter().map(|(c, upto)| (c, Progress::Upto(Some(upto))));
        Self { clusters: clusters.collect(), ..Self::default() }
    }

    /// It answers, whether that can be taken or not.
    pub(super) fn note_answer(&mut self, from: NodeId) {
        self.unanswered.remove(&from);
    }

    fn is_patient_with(&self, node: NodeId) -> bool {
        self.unanswered.get(&node).is_none_or(|count| *count < PATIENCE)
    }
}

impl Machine {
    /// Asks for the next chunk; false when nothing is left to copy.
    pub(super) fn copy(&mut self, cx: &mut Cx<'_>, aligning: &mut Aligning) -> bool {
        self.look_what_is_empty(cx, &mut aligning.copying);
        let copying = &mut aligning.copying;
        while let Some((cluster, from)) = self.next_to_copy(copying) {
            if let Some(asked) = &mut copying.asked {
                let is_up = self.peers.get(&asked.to).is_some_and(|peer| peer.up);
                if asked.cluster == cluster && self.now < asked.until && is_up {
                    if self.now >= asked.again_at {
                        // Ever more seldom: what is lost hardly ever is so again.
                        asked.again_at = self.now + 2 * (self.now - asked.asked_at);
                        ask(cx, asked.to, cluster, from);
                    }
                    return true;
                }
                *copying.unanswered.entry(asked.to).or_default() += 1;
            }
            copying.asked = None;
            if let Some(to) = self.copy_source(copying, cluster) {
                let (asked_at, resend) = (self.now, self.config.resend);
                let again_at = asked_at + resend.max(2 * copying.took);
                let until = asked_at + (CHUNK_WAIT * resend).max(4 * copying.took);
                copying.asked = Some(Question { to, cluster, asked_at, again_at, until });
                ask(cx, to, cluster, from);
                return true;
            }
            if !self.may_compare(cluster) {
                return true;
            }
            Mark::CopiedByNobody.hit();
            copying.unanswered.clear();
            copying.clusters.insert(cluster, Progress::Done);
        }
        false
    }

    fn look_what_is_empty(&self, cx: &Cx<'_>, copying: &mut Copying) {
        let is_known = |cluster: &ClusterKey| copying.clusters.contains_key(cluster);
        let new: Vec<ClusterKey> =
            self.held_clusters().into_iter().filter(|cluster| !is_known(cluster)).collect();
        for cluster in new {
            let is_empty = cx.items_after(cluster, None, 1).is_empty();
            let progress = if is_empty { Progress::Upto(None) } else { Progress::Done };
            copying.clusters.insert(cluster, progress);
        }
    }

    fn next_to_copy(&self, copying: &Copying) -> Option<(ClusterKey, Option<ItemKey>)> {
        let me = self.config.node;
        let mut clusters = copying.clusters.iter().filter(|(c, _)| self.is_kept_by(me, **c));
        clusters.find_map(|(cluster, progress)| match progress {
            Progress::Upto(from) => Some((*cluster, from.clone())),
            Progress::Done => None,
        })
    }

    /// The one that answered last, as long as it does.
    fn copy_source(&self, copying: &Copying, cluster: ClusterKey) -> Option<NodeId> {
        let sources = self.others().into_iter().filter(|node| {
            let gives = self.is_master(*node, cluster) && !self.is_witness_of(*node, cluster);
            self.is_up(*node) && gives && copying.is_patient_with(*node)
        });
        let failed = |node: &NodeId| copying.unanswered.get(node).copied().unwrap_or_default();
        sources.min_by_key(|node| (failed(node), Some(*node) != copying.source, *node))
    }

    /// Enough MASTERs can be asked to compare a cluster with, in whatever state they are.
    fn may_compare(&self, cluster: ClusterKey) -> bool {
        let is_there = |node: &NodeId| self.peers.get(node).is_some_and(|peer| peer.up);
        self.placements.get(&cluster).is_none_or(|placement| {
            let me = usize::from(placement.masters.contains(&self.config.node));
            let others = placement.masters.iter().filter(|node| is_there(node)).count();
            others + me >= placement.majority()
        })
    }

    /// A chunk came.
    pub(super) fn on_copied(
        &mut self,
        cx: &mut Cx<'_>,
        aligning: &mut Aligning,
        from: NodeId,
        chunk: Chunk,
    ) {
        let is_intact = chunk.is_intact();
        let lacks = |(key, committed): &(ItemKey, Committed)| {
            let item = ItemId { cluster: chunk.cluster, key: key.clone() };
            self.lacks_content(&item, committed)
        };
        let is_whole = !chunk.items.iter().any(lacks);
        let Chunk { cluster, from: after, items, next, low, there, .. } = chunk;
        let is_next = aligning.copying.clusters.get(&cluster) == Some(&Progress::Upto(after));
        if aligning.round > 0 || !is_next || !self.is_kept_by(self.config.node, cluster) {
            Mark::ChunkOutOfTurn.hit();
            return;
        }
        if !is_intact {
            cx.note(Note::Damaged(from));
            self.on_no_copy(aligning, from);
            return;
        }
        if !is_whole {
            // It became a witness while it read this.
            self.on_no_copy(aligning, from);
            return;
        }
        let bytes = items.iter().map(|(key, c)| bytes_of(key, c) as u64).sum();
        let note = CopyNote { cluster, from, items: items.len() as u64, bytes, there };
        aligning.raise_low(low);
        for (key, committed) in items {
            self.take_from_source(cx, aligning, &ItemId { cluster, key }, committed);
        }
        cx.write(Write::Copied(cluster, next.clone()));
        cx.note(Note::Copied { part: note, is_last: next.is_none() });
        let progress = next.map_or(Progress::Done, |next| Progress::Upto(Some(next)));
        aligning.copying.clusters.insert(cluster, progress);
        aligning.copying.note_answer(from);
        aligning.copying.source = Some(from);
        // Whoever was asked meanwhile may answer, too: that is out of turn then.
        if let Some(asked) = aligning.copying.asked.take() {
            aligning.copying.took = self.now - asked.asked_at;
        }
        if !self.copy(cx, aligning) {
            cx.note(Note::AllCopied);
        }
    }

    /// A server has no copy to give, or not now.
    pub(super) fn on_no_copy(&self, aligning: &mut Aligning, from: NodeId) {
        if let Some(asked) = aligning.copying.asked.as_mut().filter(|asked| asked.to == from) {
            asked.until = asked.until.min(self.now + self.config.resend);
        }
    }

    /// The other side.
    pub(super) fn on_ask_copy(
        &self,
        cx: &mut Cx<'_>,
        from: NodeId,
        cluster: ClusterKey,
        after: Option<ItemKey>,
    ) {
        let me = self.config.node;
        let gives = self.is_master(me, cluster) && !self.is_witness_of(me, cluster);
        if self.align.is_some() || !gives {
            let answer = Answer::Unknown;
            cx.send_now(from, Message::AlignReply { session: COPIES, answer });
            return;
        }
        let low = self.low.iter().map(|((node, boot), seq)| (*node, *boot, *seq)).collect();
        cx.copy(from, Part { cluster, from: after, low });
    }
}

fn ask(cx: &mut Cx<'_>, to: NodeId, cluster: ClusterKey, from: Option<ItemKey>) {
    let ask = Ask::Copy { cluster, from };
    cx.send_now(to, Message::Align { session: COPIES, ask });
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use quorate_api::Boot;

    use super::*;
    use crate::io::{Event, Recovered};
    use crate::machine::testing::{CLUSTER, NOTHING, configured_with, sent};

    /// The configuration comes late, and sources answer by it. A copy is not given up for that.
    #[test]
    fn an_answer_by_a_newer_configuration_is_no_silence() {
        for (cfg, progress) in [(Some(2), Progress::Upto(None)), (None, Progress::Done)] {
            let recovered = Recovered { aligning: true, ..Recovered::default() };
            let mut machine = configured_with(3, Boot(2), recovered);
            let mut asked = 0;
            for node in [NodeId(2), NodeId(3)] {
                let up = Event::Peer { node, boot: Boot(1), up: true };
                machine.step(0, up, &NOTHING, &mut Vec::new());
            }
            while let Some(at) = machine.next_deadline().filter(|at| *at < 60_000_000) {
                let mut out = Vec::new();
                machine.step(at, Event::Tick, &NOTHING, &mut out);
                for (from, message) in sent(out) {
                    let Message::Align { session: COPIES, .. } = message else { continue };
                    asked += 1;
                    let Some(cfg) = cfg else { continue };
                    let answer = Answer::Unknown;
                    let message = Message::AlignReply { session: COPIES, answer };
                    let event = Event::Message { from, cfg, message };
                    machine.step(at, event, &NOTHING, &mut Vec::new());
                }
            }
            let copying = &machine.align.as_ref().unwrap().copying;
            assert_eq!(copying.clusters[&CLUSTER], progress, "asked {asked} times");
        }
    }
}
