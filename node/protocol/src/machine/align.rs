//! Alignment (PROTOCOL.md 3.6.5, trap A18): a server that some decision log can no longer serve
//! leaves ONLINE, compares with a majority, applies what was decided meanwhile, and comes back.
//! Here: leaving, and the sources. What is empty is copied first (`align_copy`). Comparing is in
//! `align_compare`, following what sources settle meanwhile in `align_follow`, coming back in
//! `align_return`, the other side in `align_source`, what is known meanwhile in `align_state`.
//!
//! **Cutting the log past a server, before there is a control plane.** A18 wants a mark in the
//! configuration before anybody forgets past a server, so that no quorum mixes a server that forgot
//! with one that was left behind. Until marks exist, less is forgotten instead, and no agreement is
//! needed:
//! - A log is cut past servers only up to a position that a majority of M(c), of every c, has
//!   acknowledged, this server included and none of those passed over. So whatever is gone from the
//!   log is applied, durably, at some member of every majority: any read, promise or vote that
//!   counts the server left behind counts one that has it, too, and answers with the newer stamp,
//!   the outcome, or `finished`.
//! - Tombstones are dropped only when *every* MASTER has them (`tombstones`). They are the only
//!   thing whose loss could make the state of the one left behind look newer than the others'.
//! - The server left behind does not count from the moment it knows: it drops Prepare, Accept,
//!   Recover and Read unanswered, which stand for "not counted in any vote, promise, accept or
//!   read", and refuses clients. Until it knows, counting it does no harm (above); afterwards its
//!   silence keeps the mix of old and new items, which it is while it aligns, from being seen. That
//!   it aligns is written before the first item is, so a crash does not end it.
//!
//! **Why the state is whole when it comes back.** A source keeps every decision it settles from
//! `Begin` on. Trees are read after that, so an item is either in the tree with what `Begin` found,
//! or in what is followed. When enough sources are compared, one more round of questions is asked,
//! and answered with nothing left: now this server's items are at or above each source's at that
//! moment, and nothing of a source's later state was taken: in a round, nothing is compared. A
//! source that has lost the session meanwhile is compared from the beginning, and a new round
//! asked. That a source dropped the session is seen by the number of its journal: a `Begin` that
//! comes late, or twice, opens the session again, with another journal, in which what was settled
//! in between is missing. A commit over clusters that one source does not hold all of counts only
//! once sources of every cluster of it that this server keeps have reported it.
//!
//! What else is here must not stick out of that. A source that is lost before the end leaves items
//! whose commits it has not told whole, and the commits that this server had parked stand on bases
//! that nobody may have told. So the writers of both are remembered (`begun`, over a restart, too),
//! and this server is not back before each of them is applied whole, finished, or told by a source
//! that is asked to the end. They are committed, and this server says so whoever recovers them, so
//! the sources come to know them in time. For the same reason what a source says it has settled
//! counts only if it is asked to the end.
//!
//! *Enough* is a majority of M(c) of each own cluster, counting this server, if it is a MASTER,
//! whose disk has lost nothing: with at least maj−1 others compared, and maj that had acknowledged
//! what was cut, both without this one, at least one is in both (2·maj−1 > N−1). A REPLICA compares
//! with maj MASTERs (2·maj > N).
//!
//! **A source that aligns itself counts, too.** Servers that left each other behind would otherwise
//! wait for ever when a third one is gone, although they are a majority. Such a source is a mix,
//! but its items have only ever risen: what it had applied whole is in it, or something newer. Of
//! the commits that the compared ones hold a part of,
//! - what some log was cut behind was applied whole by one of them (above). The same holds for what
//!   is finished.
//! - what another commit was built upon was applied whole by a majority of M(c) of the item, before
//!   they voted Yes on that base (3.4.3), and `Prepared` is final only behind a majority of Yes, in
//!   a recovery, too (3.7.3). Whoever aligns now casts no vote, so it had it before it began. So
//!   this server has it, or one that it compares with. That one names the commit (`Known`), with
//!   its clusters, and where it does not master all of those kept here, this server waits for
//!   sources of the others. So nothing is torn underneath a newer state.
//! - what is left is the last writer of an item. Its stamp comes with the part, wherever that is
//!   taken from, and so it is remembered like that of a source that was lost (`begun`). A majority
//!   voted Yes for it: one that is compared, or this server, has applied it, or still has the vote
//!   with its operations. Undecided, it recovers it, hears here or there that it has committed,
//!   and applies it; servers that align do that, too. So two that align do not wait for each other.
//!
//! What such a source takes from its own sources it tells nobody. It counts as having applied that,
//! for a log that is cut or a vote on that base, only once it is back; then its sessions end, and
//! whoever aligns with it begins again. So in all of this, what it had applied before it answered a
//! final question is what was compared or followed.
//!
//! What has committed and shows nowhere among them is cut from no log and finished nowhere; it
//! comes by a log, or out of votes, which a server that aligns keeps, once enough answer again. W
//! below majority promises nothing of this (3.10).
//!
//! **A configuration that comes meanwhile.** Whether another state of an item is newer or another
//! line depends on the generation that it was written in, so nothing is taken of one that is not
//! known here. What a source says by a newer configuration is dropped, and asked for again; a
//! commit that comes in another way waits, as at any server (`Fit::Ahead`). So whatever is taken is
//! of generations known here, as no source applies what it does not know either. A cluster's next
//! generation begins all comparisons anew. A commit that still waits when this server is back is no
//! part of what its logs are skipped over: some source has applied that, and said so by a
//! configuration that this server has. Nothing waits longer than before: no server comes back that
//! has heard of a newer configuration than its own (`align_return`).
//!
//! **A server that joins** aligns from its first start on, with nothing, in a configuration that
//! names it a REPLICA. Who has not heard of that does not count it. So a source drops questions of
//! a newer configuration than its own, and who has heard of one forgets nothing (cuts no log,
//! raises no mark, closes no boot). What is not here when this server is back was applied at its
//! sources after their last answers: their acknowledgements tell the decider of it in time.
//!
//! **What comes with it.** A decision log of another server counts as applied as far as the sources
//! of each cluster had applied it. Outcomes not forgotten are noted, so that no commit is applied
//! again later, and no vote waits for a decision that was skipped. Low-water marks are taken as
//! they were when those were listed, not as of `Begin`: what is forgotten in between would be in
//! neither. Whatever was finished then had been acknowledged by a majority of each of its clusters,
//! so by a source, before the final round: its effects are in, and votes on it are dropped.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, NodeId, Operation, TxId};

use super::align_compare::Work;
use super::align_follow::Told;
use super::align_state::{Aligning, Source};
use super::timers::Timer;
use super::{Cx, Machine};
use crate::alignment::{Answer, Reached};
use crate::copying::COPIES;
use crate::io::{AlignmentWork, Note, Write};
use crate::marks::Mark;
use crate::message::{LogPosition, Message};
use crate::planted::Bug;

impl Machine {
    /// True while this server aligns.
    #[must_use]
    pub const fn is_aligning(&self) -> bool {
        self.align.is_some()
    }

    /// True for what a server that aligns leaves unanswered.
    pub(super) fn is_silent_on(&self, message: &Message) -> bool {
        let Some(aligning) = &self.align else { return false };
        if let Message::Recover { tx, .. } = message
            && aligning.begun.contains(tx)
        {
            // Nobody else may know the outcome, and without this server there may be no majority.
            return false;
        }
        matches!(
            message,
            Message::Prepare { .. }
                | Message::Accept { .. }
                | Message::Recover { .. }
                | Message::Read { .. }
                | Message::Decide(_)
                | Message::Relay(_)
                | Message::Low { .. }
                | Message::AskLogged { .. }
                | Message::Logged { .. }
                | Message::Merging(_)
        )
    }

    pub(super) fn on_truncated(&mut self, cx: &mut Cx<'_>, from: NodeId, start: LogPosition) {
        if self.received_from(from) < start {
            Mark::LeftByTruncation.hit();
            self.leave_online(cx);
        } else if self.align.is_none() && self.applied_from(from) >= start {
            // It does not know yet how far this server got meanwhile. With a part of it parked, it
            // asks again later.
            self.acks_due.insert(from);
        }
    }

    /// From here on until it is back, this server answers for no quorum.
    pub(super) fn leave_online(&mut self, cx: &mut Cx<'_>) {
        if self.align.is_some() {
            return;
        }
        cx.write(Write::Aligning(true));
        cx.note_first(Note::LeftOnline);
        self.align = Some(Aligning::default());
        self.aligners.clear();
        self.held.clear();
        self.acks_due.clear();
        self.stop_feeding();
        self.sessions_begin_again();
        for node in self.others() {
            cx.send_durable(node, Message::Left);
        }
        self.arm_alignment();
    }

    pub(super) fn on_left(&mut self, cx: &mut Cx<'_>, from: NodeId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.leave();
        }
        self.asked.remove(&from);
        self.feeding_ends(from);
        self.seek_parent(cx);
    }

    pub(super) fn arm_alignment(&mut self) {
        let at = self.now + self.config.align.pause;
        if self.align_at.is_none_or(|armed| armed <= self.now) {
            self.align_at = Some(at);
            self.timers.set(at, Timer::Alignment);
        }
    }

    /// One piece of work.
    pub(super) fn alignment_due(&mut self, cx: &mut Cx<'_>) {
        self.align_at = None;
        if self.align.is_some() {
            // Whole commits, and nothing needs to be whole now.
            for tx in self.parked.all() {
                self.unpark(cx, tx);
            }
        }
        if let Some(mut aligning) = self.align.take() {
            aligning.forget_what_came(cx);
            self.compare(cx, &mut aligning);
            self.follow(cx, &mut aligning);
            let work = core::mem::take(&mut aligning.work);
            if work != AlignmentWork::default() {
                cx.note(Note::Alignment(work));
            }
            self.align = Some(aligning);
            self.come_back_if_done(cx);
        }
        if self.align.is_some() {
            self.arm_alignment();
        }
    }

    /// The clusters this server keeps, as MASTER or REPLICA.
    pub(super) fn held_clusters(&self) -> Vec<ClusterKey> {
        let me = self.config.node;
        let mine = self.placements.iter().filter(|(_, p)| p.is_held_by(me));
        mine.map(|(cluster, _)| *cluster).collect()
    }

    /// The clusters kept here that a server masters.
    fn clusters_from(&self, node: NodeId) -> Vec<ClusterKey> {
        let mut clusters = self.held_clusters();
        clusters.retain(|cluster| self.is_master(node, *cluster));
        clusters
    }

    /// Servers that could be compared with now.
    pub(super) fn possible_sources(&self) -> Vec<NodeId> {
        let up = |node: &NodeId| self.peers.get(node).is_some_and(|peer| peer.up);
        let mut sources = self.others();
        sources.retain(|node| up(node) && !self.clusters_from(*node).is_empty());
        sources
    }

    /// Begins a session with a server.
    pub(super) fn open_source(&mut self, aligning: &mut Aligning, node: NodeId) {
        self.last_source += 1;
        let source = Source {
            session: self.last_source,
            journal: None,
            stack: Vec::new(),
            lacking: BTreeMap::new(),
            sent_at: None,
            unanswered: 0,
            followed: 0,
            follow_at: 0,
            following: None,
            closed: 0,
            reached: Reached::default(),
            known: BTreeMap::new(),
            partial: BTreeSet::new(),
            told: BTreeSet::new(),
        };
        aligning.sources.insert(node, source);
        // What it settles before it is compared again is in nobody's journal: no round holds.
        aligning.round = 0;
    }

    /// True when the sources that pass are enough for every own cluster (see the module's doc).
    pub(super) fn suffices(&self, aligning: &Aligning, passes: fn(&Source, u64) -> bool) -> bool {
        let me = self.config.node;
        let passed = |node: &NodeId| {
            aligning.sources.get(node).is_some_and(|source| passes(source, aligning.round))
        };
        self.placements.values().filter(|p| p.is_held_by(me)).all(|placement| {
            let others = placement.masters.iter().filter(|node| **node != me && passed(node));
            let itself = usize::from(placement.masters.contains(&me));
            let one = self.config.has(Bug::AlignWithOne);
            others.count() + itself >= if one { 1 } else { placement.majority() }
        })
    }

    pub(super) fn on_answer(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        session: u64,
        answer: Answer,
    ) {
        let Some(mut aligning) = self.align.take() else { return };
        let current = aligning.sources.get(&from).map(|source| source.session) == Some(session);
        // Applying looks at whether this server aligns; the followed commits are handled below.
        self.align = Some(Aligning::default());
        match answer {
            Answer::Copied(chunk) => self.on_copied(cx, &mut aligning, from, chunk),
            Answer::Unknown if session == COPIES => self.on_no_copy(&mut aligning, from),
            answer if current => self.on_answer_of_source(cx, &mut aligning, from, answer),
            Answer::Begun { .. }
            | Answer::Known { .. }
            | Answer::Children { .. }
            | Answer::Listed { .. }
            | Answer::Got { .. }
            | Answer::Followed { .. }
            | Answer::Unknown => {}
        }
        // What was begun with meanwhile.
        if let Some(meanwhile) = self.align.take() {
            aligning.begun.extend(meanwhile.begun);
        }
        self.align = Some(aligning);
        self.come_back_if_done(cx);
    }

    /// It answers by a newer configuration: nothing of that is taken, but it is no silence.
    pub(super) fn on_answer_ahead(&mut self, from: NodeId) {
        Mark::SourceAhead.hit();
        let Some(aligning) = &mut self.align else { return };
        aligning.copying.note_answer(from);
        if let Some(source) = aligning.sources.get_mut(&from) {
            source.unanswered = 0;
            source.following = None;
        }
    }

    fn on_answer_of_source(
        &mut self,
        cx: &mut Cx<'_>,
        aligning: &mut Aligning,
        from: NodeId,
        answer: Answer,
    ) {
        match answer {
            Answer::Begun { journal } => self.on_begun(aligning, from, journal),
            // It knows that this server keeps a cluster no more. It is asked again until that is
            // known here, too: half of what it settles is not taken.
            Answer::Followed { elsewhere, .. } if self.keeps_any(&elsewhere) => {
                Mark::SourceKeepsAlone.hit();
            }
            Answer::Followed { from: first, round, decided, end, .. } => {
                self.on_followed(cx, aligning, from, Told { first, round, end }, decided);
            }
            // The source restarted, aligned itself, or had to give up.
            Answer::Unknown => {
                Mark::SourceBegunAgain.hit();
                self.open_source(aligning, from);
            }
            Answer::Known { .. }
            | Answer::Children { .. }
            | Answer::Listed { .. }
            | Answer::Copied(_)
            | Answer::Got { .. } => self.on_compared(cx, aligning, from, answer),
        }
    }

    fn on_begun(&self, aligning: &mut Aligning, from: NodeId, journal: u64) {
        // Whether it is believed reachable at this moment does not matter: it answered.
        let shared = self.clusters_from(from);
        let Some(source) = aligning.sources.get_mut(&from) else { return };
        source.unanswered = 0;
        if source.journal.is_none() {
            source.journal = Some(journal);
            source.sent_at = None;
            source.stack = shared.into_iter().rev().map(Work::whole).collect();
            source.stack.push(Work::Known { after: TxId::NONE });
        }
    }

    /// Something of it is here, so it has committed.
    pub(super) fn is_begun(&self, tx: TxId) -> bool {
        self.align.as_ref().is_some_and(|aligning| aligning.begun.contains(&tx))
    }

    /// Whatever a transaction wrote here is here, whole.
    pub(super) fn is_in(&self, cx: &Cx<'_>, aligning: &Aligning, tx: TxId) -> bool {
        // What was finished when a source listed its outcomes is in (see the module's doc).
        let finished = aligning.low.get(&(tx.node, tx.boot)).is_some_and(|low| tx.seq < *low);
        finished || self.is_finished(tx) || cx.outcome(tx).is_some()
    }

    /// A commit is to be written, perhaps over older states than its bases: then what wrote those
    /// is missing.
    pub(super) fn note_gaps(&mut self, cx: &mut Cx<'_>, writes: &[Operation]) {
        let Some(aligning) = &mut self.align else { return };
        for op in writes {
            if cx.stamp(&op.item).version < op.base.version {
                aligning.begin(cx, op.base.tx);
            }
        }
    }
}
