//! Changes of a cluster's MASTERs and W (PROTOCOL.md 3.9): seal, drain, transfer, activate. What a
//! server does when a configuration shows one; who goes on to the next step is the control plane's
//! to say, and all it needs are reports.
//!
//! **Seal.** A MASTER of generation g writes `sealed(g)` before anything else it does about the
//! change. From then on it votes No on Prepares of (c, g) and leaves reads unanswered; Recover,
//! Accept and Decide go on. What is sealed stays so over a restart, whatever configuration the
//! server starts with.
//!
//! **Drain.** It looks after every transaction it has voted Yes for in (c, ≤g) until it knows the
//! outcome, and until decision logs have told of its commits there. Then it reports itself sealed,
//! with a session's token: all it has is below that in some log. Prepared is final only behind Yes
//! votes of a majority of M_g, and a majority of M_g has reported. So whatever of (c, ≤g) commits,
//! ever, is known to have committed to one of those, and below the merged maximum of their tokens.
//! A prepared transaction is not carried over: while another one of its clusters has no majority,
//! the drain waits, and with it the change.
//!
//! **Transfer.** A MASTER of g+1 whose logs are applied up to the merged token has all that, and
//! reports itself synced. Normally streams bring it there. A decider that is gone for good streams
//! nothing; who lacks a part of its log reports itself behind, and aligns once it has the turn.
//! What it is back with has all of (c, ≤g), too, if it was asked to the end of
//! - members of M_g that are sealed and drained, and with itself (if it is such a one) a majority
//!   of them: every commit there has a Yes vote among them, and is applied where it was cast; or
//! - one server that has entered g+1.
//!
//! **Enter.** A MASTER of g+1 holds Prepares and leaves reads unanswered until it has all of
//! (c, ≤g), never votes No for the lack of it, and writes that it has, once it does. A vote of
//! (c, ≤g) that is undecided here then can never commit: it is aborted. The same goes for whatever
//! others ask about a transaction of those generations of which nothing is known here, and is what
//! becomes of the transactions whose coordinators still collected votes.
//!
//! Not so with W below a majority before and after (3.10), as where a change to a majority is taken
//! back: there one Yes may have been enough, of a MASTER that nobody waited for. Such a vote stays,
//! and recovery decides by what votes it finds, as if the generation were not over.
//!
//! A server that is in no placement any more keeps what it has voted; it is asked by nobody, and
//! waits for nobody's answers but its own.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, NodeId, Stamp, TxId};

use super::align_state::Aligning;
use super::apply::{Decision, Source};
use super::unite::{Scan, Waits};
use super::{Cx, Machine};
use crate::alignment::Generation;
use crate::io::{Change, Placement, Report, SessionToken, Stage, Write};
use crate::marks::Mark;
use crate::message::{Decided, No, NoReason, Participant, Vote};
use crate::planted::Bug;

/// What this server has done about changes of generations.
#[derive(Debug, Default)]
pub(super) struct Generations {
    /// Up to which generation it votes no more.
    sealed: BTreeMap<ClusterKey, u32>,
    /// For which generation it has all that came before; the first one needs nothing.
    entered: BTreeMap<ClusterKey, u32>,
    /// Clusters with something left to do here.
    open: BTreeSet<ClusterKey>,
    /// By generation: how many others that were sealed and drained the last alignment was asked
    /// to the end of.
    aligned: BTreeMap<ClusterKey, (u32, usize)>,
    /// What was reported last; again at housekeeping.
    reported: BTreeMap<ClusterKey, Report>,
    /// What is compared where MASTERs unite.
    pub(super) scans: BTreeMap<ClusterKey, Scan>,
    /// Where clients wait for that, and since when.
    pub(super) waits: Waits,
    /// Something happened that may let a cluster go on.
    pub(super) progress: bool,
}

impl Generations {
    pub(super) fn recovered(
        sealed: BTreeMap<ClusterKey, u32>,
        entered: BTreeMap<ClusterKey, u32>,
    ) -> Self {
        Self { sealed, entered, ..Self::default() }
    }

    pub(super) fn is_sealed(&self, cluster: ClusterKey, generation: u32) -> bool {
        self.sealed.get(&cluster).is_some_and(|sealed| *sealed >= generation)
    }

    pub(super) fn has_entered(&self, cluster: ClusterKey, generation: u32) -> bool {
        generation <= self.entered.get(&cluster).copied().unwrap_or(1)
    }
}

impl Machine {
    /// The placement in which a transaction was prepared, if that is the one known here.
    pub(super) fn placement_of(&self, participant: &Participant) -> Option<&Placement> {
        let placement = self.placements.get(&participant.cluster)?;
        (placement.generation == participant.generation).then_some(placement)
    }

    /// A later generation of the cluster is active.
    pub(super) fn is_over(&self, participant: &Participant) -> bool {
        let placement = self.placements.get(&participant.cluster);
        placement.is_some_and(|placement| placement.generation > participant.generation)
    }

    /// This server votes in this generation no more.
    pub(super) fn is_sealed(&self, cluster: ClusterKey, generation: u32) -> bool {
        self.generations.is_sealed(cluster, generation) && !self.config.has(Bug::OldSetNotSealed)
    }

    /// This server has all that came before the cluster's generation. Of one whose MASTER it is
    /// not, nothing is asked.
    pub(super) fn may_vote_in(&self, cluster: ClusterKey, placement: &Placement) -> bool {
        self.generations.has_entered(cluster, placement.generation)
            || !placement.masters.contains(&self.config.node)
            || self.config.has(Bug::VoterBeforeSynced)
    }

    /// It answers majority reads of the cluster.
    pub(super) fn may_read_in(&self, cluster: ClusterKey, placement: &Placement) -> bool {
        !self.is_sealed(cluster, placement.generation) && self.may_vote_in(cluster, placement)
    }

    /// Nothing of it is known here, and this server has all that some generation of its has
    /// committed: it never will.
    pub(super) fn is_void(&self, participants: &[Participant]) -> bool {
        let is_void =
            |p: &Participant| self.generations.has_entered(p.cluster, p.generation.max(1) + 1);
        participants.iter().any(is_void) && !self.outlives_its_generation(participants)
    }

    /// A configuration came.
    pub(super) fn look_at_changes(&mut self, cx: &mut Cx<'_>) {
        let me = self.config.node;
        let mut to_seal = Vec::new();
        self.generations.open.clear();
        for (cluster, placement) in &self.placements {
            let (cluster, generation) = (*cluster, placement.generation);
            self.generations.waits.note(cluster, placement, self.now);
            let is_master = placement.masters.contains(&me);
            if is_master
                && placement.is_ending()
                && !self.generations.is_sealed(cluster, generation)
            {
                to_seal.push((cluster, generation));
            }
            let enters = placement.to_enter(me);
            let waits =
                enters.is_some_and(|(next, _)| !self.generations.has_entered(cluster, next));
            if waits || (placement.change.is_some() && (is_master || enters.is_some())) {
                self.generations.open.insert(cluster);
            }
            if !waits && placement.change.is_none() {
                self.generations.aligned.remove(&cluster);
                self.generations.reported.remove(&cluster);
                self.generations.scans.remove(&cluster);
            }
        }
        for (cluster, generation) in to_seal {
            Mark::Sealed.hit();
            self.generations.sealed.insert(cluster, generation);
            cx.write(Write::Sealed(cluster, generation));
            self.drain(cluster);
        }
        self.end_what_is_over(cx);
        self.generations.progress = true;
    }

    /// Looks at once after whatever this server voted for.
    fn drain(&mut self, cluster: ClusterKey) {
        let touches = |participants: &[Participant]| {
            participants.iter().any(|participant| participant.cluster == cluster)
        };
        let voted = self.txs.iter().filter(|(_, record)| touches(&record.participants));
        for tx in voted.map(|(tx, _)| *tx).collect::<Vec<_>>() {
            if !self.is_own_open(tx) && !self.parked.contains(tx) {
                self.end_watch(tx);
                self.watch(tx, &[], 0);
            }
        }
    }

    /// Own transactions of a generation that is over collect no votes any more, and recoveries ask
    /// the later generation.
    fn end_what_is_over(&mut self, cx: &mut Cx<'_>) {
        let over: Vec<TxId> = self
            .coordinations
            .iter()
            .filter(|(_, c)| c.participants.iter().any(|p| self.is_over(p)))
            .map(|(tx, _)| *tx)
            .collect();
        for tx in over {
            let no = No {
                reason: NoReason::Generation,
                item: None,
                current: Stamp::ABSENT,
                holder: None,
            };
            if let Some(c) = self.coordinations.get_mut(&tx).filter(|c| !c.recovering) {
                Mark::GenerationEnded.hit();
                c.noes.push(no);
            }
            self.take_to_recovery(cx, tx);
        }
        self.ask_later_generations();
    }

    /// Called at the end of every step.
    pub(super) fn reconsider_changes(&mut self, cx: &mut Cx<'_>) {
        let is_news = core::mem::take(&mut self.generations.progress);
        if !is_news || self.generations.open.is_empty() || self.align.is_some() {
            return;
        }
        for cluster in self.generations.open.clone() {
            self.go_on(cx, cluster, false);
        }
    }

    /// At housekeeping: what was reported may be lost.
    pub(super) fn report_changes(&mut self, cx: &mut Cx<'_>) {
        if self.align.is_some() {
            return;
        }
        self.close_lines_due(cx);
        for cluster in self.generations.open.clone() {
            self.go_on(cx, cluster, true);
        }
    }

    fn go_on(&mut self, cx: &mut Cx<'_>, cluster: ClusterKey, again: bool) {
        let me = self.config.node;
        let Some(placement) = self.placements.get(&cluster) else { return };
        let generation = placement.generation;
        let Some((next, token)) = placement.to_enter(me) else {
            self.report_sealed(cx, cluster, again);
            return;
        };
        if !self.generations.has_entered(cluster, next) {
            if !self.has_all_before(cluster, placement, next, token) {
                self.ask_for_the_turn(cx, cluster, next, again);
                return;
            }
            self.enter(cx, cluster, next);
        }
        let Some(placement) = self.placements.get(&cluster) else { return };
        let arrived = match &placement.change {
            Some(change) if next > generation => match &change.stage {
                Stage::Transferring { synced, .. } if change.unites => {
                    if !synced.contains(&me) {
                        self.report_compared(cx, cluster, next, again);
                    }
                    return;
                }
                Stage::Transferring { synced, .. } => synced.contains(&me),
                Stage::Sealing { .. } | Stage::Merging { .. } => true,
            },
            // All are waited for, so also whoever needs the turn next.
            Some(Change { stage: Stage::Merging { .. }, .. }) if placement.turn == Some(me) => {
                false
            }
            Some(Change { stage: Stage::Merging { merged, .. }, .. }) => {
                if !merged.contains(&me) {
                    self.report_merged(cx, cluster, generation, again);
                }
                return;
            }
            Some(_) => return self.report_sealed(cx, cluster, again),
            // Whoever had the turn gives it back.
            None => placement.turn != Some(me),
        };
        if !arrived {
            self.report(cx, Report::Synced { cluster, generation: next }, again);
        }
    }

    /// Once an event, and again at housekeeping.
    pub(super) fn report(&mut self, cx: &mut Cx<'_>, report: Report, again: bool) {
        let cluster = report.cluster();
        let is_news = self.generations.reported.get(&cluster) != Some(&report);
        if is_news || again {
            cx.report(report.clone());
            self.generations.reported.insert(cluster, report);
        }
    }

    fn report_sealed(&mut self, cx: &mut Cx<'_>, cluster: ClusterKey, again: bool) {
        let me = self.config.node;
        let Some(placement) = self.placements.get(&cluster) else { return };
        let Some(Stage::Sealing { sealed }) = placement.change.as_ref().map(|c| &c.stage) else {
            return;
        };
        let generation = placement.generation;
        if sealed.contains(&me) || !placement.masters.contains(&me) {
            return;
        }
        // One report is as good as another: a later token covers more than is needed.
        let told = matches!(self.generations.reported.get(&cluster),
            Some(Report::Sealed { generation: told, .. }) if *told == generation);
        if (again || !told) && self.is_drained(cx, cluster, generation) {
            let token = self.session_token();
            self.report(cx, Report::Sealed { cluster, generation, token }, true);
        }
    }

    /// Nothing that this server voted for is undecided, and some log has told of all it has.
    fn is_drained(&self, cx: &Cx<'_>, cluster: ClusterKey, generation: u32) -> bool {
        if self.config.has(Bug::DrainSkipped) {
            return true;
        }
        let touches = |tx: &TxId| {
            let participants = cx.tx(*tx).unwrap_or_default().participants;
            // One that came in by alignment has no record.
            participants.is_empty() || participants.iter().any(|p| p.cluster == cluster)
        };
        self.is_settled(cluster, generation)
            && !self.unlogged.iter().any(touches)
            && !self.may_yet_commit(cluster, generation)
    }

    /// It is sealed, and nothing that this server voted for is undecided.
    fn is_settled(&self, cluster: ClusterKey, generation: u32) -> bool {
        let is_of = |p: &Participant| p.cluster == cluster && p.generation <= generation;
        self.generations.is_sealed(cluster, generation)
            && self.generations.has_entered(cluster, generation)
            && !self.txs.values().any(|record| {
                record.vote == Some(Vote::Yes) && record.participants.iter().any(is_of)
            })
    }

    /// See the module's doc for what is enough.
    fn has_all_before(
        &self,
        cluster: ClusterKey,
        placement: &Placement,
        next: u32,
        token: &SessionToken,
    ) -> bool {
        if self.config.has(Bug::EnterWithoutTransfer) {
            return true;
        }
        if token.iter().all(|((node, boot), index)| self.has_applied(*node, *boot, *index)) {
            return true;
        }
        let generation = placement.generation;
        let Some((of, others)) = self.generations.aligned.get(&cluster) else { return false };
        let mine =
            placement.masters.contains(&self.config.node) && self.is_settled(cluster, generation);
        next > generation && *of == generation && others + usize::from(mine) >= placement.majority()
    }

    /// Streams bring most of it. What they will not is the turn's business.
    fn ask_for_the_turn(&mut self, cx: &mut Cx<'_>, cluster: ClusterKey, next: u32, again: bool) {
        let me = self.config.node;
        let Some(placement) = self.placements.get(&cluster) else { return };
        let Some((_, token)) = placement.to_enter(me) else { return };
        let (turn, is_up) = (placement.turn, |node| self.is_connected(node));
        let mut lacking =
            token.iter().filter(|((node, boot), index)| !self.has_applied(*node, *boot, **index));
        if !again || lacking.all(|((node, _), _)| is_up(*node)) {
            return;
        }
        if turn == Some(me) {
            Mark::LeftForGeneration.hit();
            self.leave_online(cx);
            return;
        }
        let instead_of = turn.filter(|node| !is_up(*node));
        self.report(cx, Report::Behind { cluster, generation: next, instead_of }, true);
    }

    fn is_connected(&self, node: NodeId) -> bool {
        node == self.config.node || self.peers.get(&node).is_some_and(|peer| peer.up)
    }

    /// What generations before this one committed is here; whatever else they began never will.
    fn enter(&mut self, cx: &mut Cx<'_>, cluster: ClusterKey, generation: u32) {
        Mark::GenerationEntered.hit();
        self.close_lines(cx, cluster);
        self.generations.entered.insert(cluster, generation);
        cx.write(Write::Entered(cluster, generation));
        let is_of = |p: &Participant| p.cluster == cluster && p.generation < generation;
        let void: Vec<TxId> = self
            .txs
            .iter()
            .filter(|(tx, record)| {
                record.participants.iter().any(is_of)
                    && !self.outlives_its_generation(&record.participants)
                    && !self.parked.contains(**tx)
                    && !self.is_finished(**tx)
            })
            .map(|(tx, _)| *tx)
            .collect();
        for tx in void {
            Mark::VoteVoid.hit();
            let participants = self.txs.get(&tx).map(|record| record.participants.clone());
            let (participants, ops) = (participants.unwrap_or_default(), Vec::new());
            let decision = Decision { tx, outcome: Decided::Abort, participants, ops };
            self.learn(cx, decision, Source::Elsewhere);
        }
        self.reconsider_configuration(cx);
    }

    /// A finished transaction whose clusters are all kept elsewhere by now: what became of it, this
    /// server was not told, and has no use for.
    pub(super) fn drop_if_elsewhere(&mut self, tx: TxId) {
        let me = self.config.node;
        let is_elsewhere = |participants: &[Participant]| {
            !participants.is_empty() && !participants.iter().any(|p| self.is_kept_by(me, p.cluster))
        };
        if self.txs.get(&tx).is_some_and(|record| is_elsewhere(&record.participants)) {
            Mark::VoteElsewhere.hit();
            self.drop_vote(tx);
        }
    }

    /// It is finished: the vote is void, whatever it was.
    pub(super) fn drop_vote(&mut self, tx: TxId) {
        if let Some(record) = self.txs.remove(&tx) {
            self.locks.release(tx, &record.ops);
            self.changed.extend(record.ops.into_iter().map(|op| op.item));
        }
        self.end_recovery(tx);
        self.end_watch(tx);
    }

    /// Which generations this server has sealed and settled, and which it has entered; for a
    /// server that aligns with it.
    pub(super) fn reached_generations(&self) -> Vec<Generation> {
        let known = self
            .placements
            .iter()
            .filter(|(_, placement)| placement.generation > 1 || placement.change.is_some());
        let of = |(cluster, placement): (&ClusterKey, &Placement)| {
            let (cluster, generation) = (*cluster, placement.generation);
            let is_master = placement.masters.contains(&self.config.node);
            // What one that aligns itself has of it is not whole.
            let settled = is_master && self.align.is_none() && self.is_settled(cluster, generation);
            let entered = self.generations.entered.get(&cluster).copied().unwrap_or(1);
            Generation { cluster, generation, settled, entered }
        };
        known.map(of).collect()
    }

    /// This server is back: what its sources said of generations holds for it, too.
    pub(super) fn take_generations(&mut self, cx: &mut Cx<'_>, aligning: &Aligning) {
        self.generations.progress = true;
        for cluster in self.generations.open.clone() {
            let Some(placement) = self.placements.get(&cluster) else { continue };
            let generation = placement.generation;
            let Some((next, _)) = placement.to_enter(self.config.node) else { continue };
            let said = aligning
                .closed()
                .filter(|(node, _)| placement.masters.contains(node))
                .filter_map(|(_, source)| {
                    source.reached.generations.iter().find(|said| said.cluster == cluster)
                });
            let said: Vec<&Generation> = said.collect();
            let settled = said.iter().filter(|s| s.generation == generation && s.settled).count();
            let has_entered = said.iter().any(|s| s.entered >= next);
            self.generations.aligned.insert(cluster, (generation, settled));
            if has_entered && !self.generations.has_entered(cluster, next) {
                Mark::EnteredByAlignment.hit();
                self.enter(cx, cluster, next);
            }
        }
    }
}
