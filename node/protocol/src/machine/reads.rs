//! Majority reads (PROTOCOL.md 3.8): the highest stamp of a majority, with every undecided vote
//! that could be above it resolved, never guessed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, Committed, ErrorCode, ItemId, NodeId, OpKind, TxId};

use super::request::Retry;
use super::timers::Timer;
use super::{Cx, Machine};
use crate::io::{Failure, Placement, ReadQuorum, ReadRequest, Reply, Tick};
use crate::marks::Mark;
use crate::message::{Decided, Knowledge, Message, Participant, PendingVote, ReadAnswer};
use crate::planted::Bug;

/// One read in flight.
#[derive(Debug)]
pub(super) struct ReadState {
    purpose: Purpose,
    items: Vec<ItemId>,
    quorum: ReadQuorum,
    deadline: Tick,
    answers: BTreeMap<NodeId, Vec<ReadAnswer>>,
    /// Outcomes heard for votes met.
    outcomes: BTreeMap<TxId, Decided>,
    /// What is known of votes met and not resolved.
    doubts: BTreeMap<TxId, Doubt>,
    asked: BTreeSet<TxId>,
    /// A vote that stood in the way last time it was looked at.
    blocked_by: Option<TxId>,
    armed: Tick,
}

/// An undecided vote in a read's way.
#[derive(Debug, Default)]
struct Doubt {
    /// Who said Yes; votes never change.
    yes: BTreeSet<NodeId>,
    participants: Vec<Participant>,
}

/// What a read is for.
#[derive(Debug)]
enum Purpose {
    Client {
        request: u64,
    },
    /// To find the bases of a transaction whose client knows more than this server.
    Bases(Retry),
}

/// How far one item is.
enum Progress {
    Waiting,
    Unresolved(BTreeSet<TxId>),
    Known(Option<Committed>),
}

impl Machine {
    pub(super) fn on_read_request(&mut self, cx: &mut Cx<'_>, request: ReadRequest) {
        if self.is_aligning() {
            let reply = Reply::Failed(Failure::of(ErrorCode::NotReady));
            cx.reply_now(request.request, reply);
            return;
        }
        if self.reads.len() >= self.config.in_flight_max {
            let reply = Reply::Failed(Failure::of(ErrorCode::Overload));
            cx.reply_now(request.request, reply);
            return;
        }
        let purpose = Purpose::Client { request: request.request };
        self.begin_read(cx, purpose, request.items, request.quorum, request.deadline);
    }

    pub(super) fn read_bases(&mut self, cx: &mut Cx<'_>, retry: Retry) {
        let items = retry.submit.ops.iter().map(|p| p.item.clone()).collect();
        let deadline = retry.submit.deadline;
        // Of everybody who votes: with a safe cluster among them, these are all MASTERs.
        let safely = self.is_submitted_safely(&retry.submit);
        let quorum = if safely { ReadQuorum::Majority } else { ReadQuorum::Bases };
        self.begin_read(cx, Purpose::Bases(retry), items, quorum, deadline);
    }

    fn begin_read(
        &mut self,
        cx: &mut Cx<'_>,
        purpose: Purpose,
        items: Vec<ItemId>,
        quorum: ReadQuorum,
        deadline: Tick,
    ) {
        let number = self.next_read;
        self.next_read += 1;
        let read = ReadState {
            purpose,
            items,
            quorum,
            deadline,
            answers: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            doubts: BTreeMap::new(),
            asked: BTreeSet::new(),
            blocked_by: None,
            armed: 0,
        };
        self.reads.insert(number, read);
        if let Some(failure) = self.unreadable(number) {
            self.fail_read(cx, number, failure);
            return;
        }
        self.send_reads(cx, number);
    }

    /// Refusal before anything is sent: an unknown or dropped cluster, one in which nobody answers
    /// for now, or no majority believed reachable.
    fn unreadable(&self, number: u64) -> Option<Failure> {
        let read = self.reads.get(&number)?;
        for item in &read.items {
            let placement = self.placements.get(&item.cluster);
            let Some(placement) = placement.filter(|p| !p.is_closed()) else {
                return Some(Failure::on(ErrorCode::UnknownCluster, item));
            };
            if self.is_stuck(item.cluster) {
                return Some(Failure::on(ErrorCode::GenerationChanged, item));
            }
            let (asked, needed) = read.quorum.of(placement, self.config.node);
            if asked.iter().filter(|n| self.is_up(**n)).count() < needed {
                return Some(Failure::on(ErrorCode::NoQuorum, item));
            }
        }
        None
    }

    /// Asks everybody who has not answered; arms the timer for the next time.
    fn send_reads(&mut self, cx: &mut Cx<'_>, number: u64) {
        let Some(read) = self.reads.get_mut(&number) else { return };
        let nodes: BTreeSet<NodeId> = read
            .items
            .iter()
            .filter_map(|item| self.placements.get(&item.cluster))
            .flat_map(|p| read.quorum.of(p, self.config.node).0.into_owned())
            .filter(|node| !read.answers.contains_key(node))
            .collect();
        for node in nodes {
            cx.send_now(node, Message::Read { read: number, items: read.items.clone() });
        }
        let at = (self.now + self.config.resend).min(read.deadline).max(self.now + 1);
        self.timers.clear(read.armed, Timer::Read(number));
        read.armed = at;
        self.timers.set(at, Timer::Read(number));
    }

    pub(super) fn read_due(&mut self, cx: &mut Cx<'_>, number: u64) {
        let Some(read) = self.reads.get_mut(&number) else { return };
        if self.now >= read.deadline {
            let failure = match read.blocked_by {
                Some(tx) => {
                    Failure { holder: Some(tx), ..Failure::of(ErrorCode::UnresolvedIntent) }
                }
                None => Failure::of(ErrorCode::ReadTimeout),
            };
            self.fail_read(cx, number, failure);
            return;
        }
        read.asked.clear();
        // Whoever answered in another generation has caught up meanwhile, or this server has.
        let placements = &self.placements;
        read.answers.retain(|_, answers| {
            answers.iter().all(|answer| {
                let placement = placements.get(&answer.item.cluster);
                placement.is_some_and(|p| p.generation == answer.generation)
            })
        });
        self.send_reads(cx, number);
        self.advance_read(cx, number);
    }

    /// The acceptor's side: committed state and undecided Yes votes.
    pub(super) fn on_read(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        cfg: u64,
        read: u64,
        items: &[ItemId],
    ) {
        let mut answers = Vec::with_capacity(items.len());
        for item in items {
            let Some(placement) = self.placements.get(&item.cluster) else {
                // Behind the asker's configuration: it asks again.
                debug_assert!(cfg >= self.cfg || !items.is_empty());
                return;
            };
            if !self.may_read_in(item.cluster, placement) {
                // It is asked again, until the change is done or this server has what it lacks.
                Mark::ReadUnanswered.hit();
                return;
            }
            answers.push(ReadAnswer {
                item: item.clone(),
                generation: placement.generation,
                committed: cx.item(item),
                pending: self.pending_on(item),
            });
        }
        cx.send_durable(from, Message::ReadReply { read, answers });
    }

    fn pending_on(&self, item: &ItemId) -> Vec<PendingVote> {
        let vote_of = |tx: TxId| {
            let op = self.txs.get(&tx)?.ops.iter().find(|op| op.item == *item)?;
            let image = op.image.clone();
            Some(PendingVote { tx, kind: op.kind.clone(), base: op.base, image })
        };
        self.locks.holders(item).filter_map(vote_of).collect()
    }

    pub(super) fn on_read_reply(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        number: u64,
        answers: Vec<ReadAnswer>,
    ) {
        self.repair_from(cx, number, &answers);
        let Some(read) = self.reads.get_mut(&number) else { return };
        let matches = answers.len() == read.items.len()
            && answers.iter().zip(&read.items).all(|(answer, item)| answer.item == *item);
        if matches {
            read.answers.insert(from, answers);
            self.advance_read(cx, number);
        }
    }

    pub(super) fn advance_read(&mut self, cx: &mut Cx<'_>, number: u64) {
        let Some(read) = self.reads.get(&number) else { return };
        let mut found = Vec::with_capacity(read.items.len());
        let mut unresolved = BTreeSet::new();
        for (index, item) in read.items.iter().enumerate() {
            match self.progress_of(cx, read, index, item) {
                Progress::Waiting => return,
                Progress::Unresolved(votes) => unresolved.extend(votes),
                Progress::Known(committed) => found.push((item.clone(), committed)),
            }
        }
        if unresolved.is_empty() {
            self.finish_read(cx, number, found);
        } else {
            self.resolve_votes(cx, number, unresolved);
        }
    }

    fn progress_of(&self, cx: &Cx<'_>, read: &ReadState, index: usize, item: &ItemId) -> Progress {
        let Some(placement) = self.placements.get(&item.cluster) else { return Progress::Waiting };
        let (asked, needed) = read.quorum.of(placement, self.config.node);
        let answers: Vec<(NodeId, &ReadAnswer)> = read
            .answers
            .iter()
            .filter(|(node, _)| asked.contains(node))
            .map(|(node, answers)| (*node, &answers[index]))
            .filter(|(_, answer)| answer.generation == placement.generation)
            .collect();
        let from_one = self.config.has(Bug::ReadOneServer);
        let needed = if from_one { 1 } else { needed };
        if answers.len() < needed {
            return Progress::Waiting;
        }
        let mut best = answers
            .iter()
            .filter_map(|(_, answer)| answer.committed.clone())
            // Of one stamp, what has the content.
            .max_by_key(|committed| (committed.stamp, committed.elsewhere.is_none()));
        let floor = best.as_ref().map_or(0, |c| c.stamp.version);
        let mut unresolved = BTreeSet::new();
        for vote in answers.iter().flat_map(|(_, answer)| &answer.pending) {
            let ignored = self.config.has(Bug::ReadIgnoresVotes) || needed < placement.majority();
            if ignored || vote.kind == OpKind::Check || vote.base.version < floor {
                continue;
            }
            match read.outcomes.get(&vote.tx).copied().or_else(|| self.known_outcome(cx, vote.tx)) {
                Some(Decided::Abort) => {}
                Some(Decided::Commit) => best = best.max_by_stamp(committed_by(vote)),
                None => {
                    unresolved.insert(vote.tx);
                }
            }
        }
        if !unresolved.is_empty() {
            return Progress::Unresolved(unresolved);
        }
        if best.as_ref().is_some_and(Committed::lacks_content) {
            // Fewer than a majority were asked, a witness among them. Others have it.
            Mark::ReadAwaitsContent.hit();
            return Progress::Waiting;
        }
        Progress::Known(best)
    }

    /// Asks the coordinator and all MASTERs. Whoever holds the vote says with whom it was cast;
    /// what becomes of it is seen in [`Self::status_for_reads`].
    fn resolve_votes(&mut self, cx: &mut Cx<'_>, number: u64, unresolved: BTreeSet<TxId>) {
        let masters: BTreeSet<NodeId> = self.topology.roots().iter().copied().collect();
        let up: BTreeSet<NodeId> =
            self.members.iter().copied().filter(|node| self.is_up(*node)).collect();
        let Some(read) = self.reads.get_mut(&number) else { return };
        read.blocked_by = unresolved.first().copied();
        for tx in unresolved.into_iter().filter(|tx| read.asked.insert(*tx)) {
            let doubt = read.doubts.entry(tx).or_default();
            if let Some(record) = self.txs.get(&tx)
                && doubt.participants.is_empty()
            {
                doubt.participants.clone_from(&record.participants);
            }
            let mut knowing = masters.clone();
            knowing.insert(tx.node);
            for node in knowing.into_iter().filter(|node| up.contains(node)) {
                let participants = doubt.participants.clone();
                cx.send_now(node, Message::Status { tx, participants });
            }
        }
    }

    /// An answer to a question of a read.
    pub(super) fn status_for_reads(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        tx: TxId,
        knowledge: Knowledge,
    ) {
        for number in self.reads_blocked_by(tx) {
            let Some(read) = self.reads.get_mut(&number) else { continue };
            match &knowledge {
                Knowledge::Decided(outcome) => {
                    read.outcomes.insert(tx, *outcome);
                }
                Knowledge::Working => {}
                // Finished: decided and forgotten while this read was under way; fresh answers show
                // the result.
                Knowledge::Finished => {
                    Mark::ReadBegunAgain.hit();
                    read.answers.clear();
                    self.send_reads(cx, number);
                    continue;
                }
                Knowledge::Undecided { yes, participants } => {
                    let doubt = read.doubts.entry(tx).or_default();
                    if doubt.participants.len() < participants.len() {
                        doubt.participants.clone_from(participants);
                    }
                    if *yes {
                        doubt.yes.insert(from);
                    }
                    if is_prepared_by_all(&self.placements, doubt) {
                        Mark::ReadProvesCommit.hit();
                        read.outcomes.insert(tx, Decided::Commit);
                    } else {
                        // Nobody may be working on it: it is looked after here as if the vote were
                        // here.
                        let patience =
                            if self.is_up(tx.node) { self.config.orphan_after } else { 0 };
                        self.watch(tx, participants, patience);
                    }
                }
                Knowledge::Nothing => {}
            }
            self.advance_read(cx, number);
        }
    }

    /// An outcome became known here.
    pub(super) fn decided_for_reads(&mut self, cx: &mut Cx<'_>, tx: TxId, outcome: Decided) {
        for number in self.reads_blocked_by(tx) {
            if let Some(read) = self.reads.get_mut(&number) {
                read.outcomes.insert(tx, outcome);
            }
            self.advance_read(cx, number);
        }
    }

    pub(super) fn is_read_blocked_by(&self, tx: TxId) -> bool {
        self.reads.values().any(|read| read.doubts.contains_key(&tx))
    }

    fn reads_blocked_by(&self, tx: TxId) -> Vec<u64> {
        let asked = self.reads.iter().filter(|(_, read)| read.doubts.contains_key(&tx));
        asked.map(|(number, _)| *number).collect()
    }

    fn finish_read(
        &mut self,
        cx: &mut Cx<'_>,
        number: u64,
        found: Vec<(ItemId, Option<Committed>)>,
    ) {
        let Some(read) = self.reads.remove(&number) else { return };
        self.timers.clear(read.armed, Timer::Read(number));
        match read.purpose {
            Purpose::Client { request } => cx.reply_now(request, Reply::Read(found)),
            Purpose::Bases(retry) => {
                // This server may have caught up beyond the answers meanwhile.
                let newest = |(item, found): (ItemId, Option<Committed>)| {
                    let newest = found.max_by_stamp_opt(cx.item(&item));
                    (item, newest)
                };
                let bases = found.into_iter().map(newest).collect();
                self.attempt_on(cx, retry, &bases);
            }
        }
    }

    fn fail_read(&mut self, cx: &mut Cx<'_>, number: u64, failure: Failure) {
        let Some(read) = self.reads.remove(&number) else { return };
        self.timers.clear(read.armed, Timer::Read(number));
        let request = match &read.purpose {
            Purpose::Client { request } => *request,
            Purpose::Bases(retry) => retry.submit.request,
        };
        cx.reply_now(request, Reply::Failed(failure));
    }
}

/// Every MASTER of every touched cluster said Yes: whatever recovery asks finds nothing but Yes,
/// and round 1 is opened for `aborted` on a No only, so the transaction is committed (3.8).
fn is_prepared_by_all(placements: &BTreeMap<ClusterKey, Placement>, doubt: &Doubt) -> bool {
    let all_yes = |participant: &Participant| {
        placements.get(&participant.cluster).is_some_and(|placement| {
            let same = placement.generation == participant.generation && placement.is_safe();
            same && placement.masters.iter().all(|node| doubt.yes.contains(node))
        })
    };
    !doubt.participants.is_empty() && doubt.participants.iter().all(all_yes)
}

/// The committed state that a vote becomes when its transaction commits.
fn committed_by(vote: &PendingVote) -> Committed {
    let stamp = quorate_api::Stamp { version: vote.base.version + 1, tx: vote.tx };
    Committed { stamp, live: vote.kind.leaves_live(), image: vote.image.clone(), elsewhere: None }
}

/// The newer of two committed states.
trait Newest {
    fn max_by_stamp(self, other: Committed) -> Self;
    fn max_by_stamp_opt(self, other: Option<Committed>) -> Self;
}

impl Newest for Option<Committed> {
    fn max_by_stamp(self, other: Committed) -> Self {
        match self {
            Some(mine) if mine.stamp >= other.stamp => Some(mine),
            Some(_) | None => Some(other),
        }
    }

    fn max_by_stamp_opt(self, other: Self) -> Self {
        match other {
            Some(other) => self.max_by_stamp(other),
            None => self,
        }
    }
}
