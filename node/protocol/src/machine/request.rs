//! What a client asks for, before and after an attempt: bases, refusals, retries, reasons.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_api::{Committed, ErrorCode, ItemId, ItemKey, OpKind, Operation, Stamp, TxId};

use super::timers::Timer;
use super::{Cx, Machine};
use crate::io::{Base, Failure, NoReasonNote, Proposal, Reply, Submit, Tick};
use crate::marks::Mark;
use crate::message::{Age, No, NoReason};
use crate::planted::Bug;

/// How many times a change of a cluster is looked at while a message would be sent again once.
const POSTPONED: Tick = 8;

/// A transaction to be tried (again): nothing of an earlier attempt is open.
#[derive(Debug)]
pub(super) struct Retry {
    pub(super) submit: Submit,
    pub(super) age: Age,
    pub(super) attempt: u32,
}

impl Machine {
    pub(super) fn on_submit(&mut self, cx: &mut Cx<'_>, submit: Submit) {
        if self.is_aligning() {
            refuse(cx, submit.request, Failure::of(ErrorCode::NotReady));
            return;
        }
        if self.coordinations.len() + self.retries.len() >= self.config.in_flight_max {
            refuse(cx, submit.request, Failure::of(ErrorCode::Overload));
            return;
        }
        let mut items: Vec<&ItemId> = submit.ops.iter().map(|p| &p.item).collect();
        items.sort();
        items.dedup();
        if items.is_empty() || items.len() != submit.ops.len() {
            refuse(cx, submit.request, Failure::of(ErrorCode::BadRequest));
            return;
        }
        let age = Age { wall_us: submit.wall_us, first: TxId::NONE };
        self.attempt(cx, Retry { submit, age, attempt: 0 });
    }

    /// Resolves bases from committed state. A client that knows a newer version than this server,
    /// or a cluster of which this server holds no state (3.5.1), makes it read by majority first.
    fn attempt(&mut self, cx: &mut Cx<'_>, retry: Retry) {
        let waits = |proposal: &Proposal| match proposal.kind {
            OpKind::Merge(_) => self.merges_no_more(proposal.item.cluster),
            OpKind::Create | OpKind::Update | OpKind::Delete | OpKind::Check => {
                self.is_changing(proposal.item.cluster)
            }
        };
        if let Some(waiting) = retry.submit.ops.iter().find(|proposal| waits(proposal)) {
            let item = waiting.item.clone();
            self.postpone(cx, retry, &item);
            return;
        }
        if retry.submit.ops.iter().any(|proposal| matches!(proposal.kind, OpKind::Merge(_))) {
            self.merge_again(cx, retry);
            return;
        }
        let bases = retry.submit.ops.iter().map(|proposal| {
            let committed = cx.item(&proposal.item);
            (proposal.item.clone(), committed)
        });
        let bases: BTreeMap<ItemId, Option<Committed>> = bases.collect();
        let believed = self.config.has(Bug::BaseByVersion);
        let behind = !believed
            && retry.submit.ops.iter().any(|proposal| {
                let version = bases[&proposal.item].as_ref().map_or(0, |c| c.stamp.version);
                let foreign = !self.is_master(self.config.node, proposal.item.cluster);
                match proposal.base {
                    Base::Current | Base::Version(_) if foreign => true,
                    Base::Exact(wanted) if foreign => wanted != Stamp::ABSENT,
                    Base::Current => false,
                    Base::Version(wanted) => wanted > version,
                    Base::Exact(wanted) => wanted.version > version,
                }
            });
        if behind {
            self.read_bases(cx, retry);
        } else {
            self.attempt_on(cx, retry, &bases);
        }
    }

    /// A safe cluster is among those that are written: majorities decide in all of them.
    pub(super) fn is_submitted_safely(&self, submit: &Submit) -> bool {
        submit.ops.iter().any(|proposal| self.is_safe(proposal.item.cluster))
    }

    /// Refusal before anything is sent: this server is a witness of some c, or fewer MASTERs of it
    /// are believed reachable than Yes votes are needed there (3.5.1).
    pub(super) fn check_quorums(&self, submit: &Submit) -> Result<(), Failure> {
        let safely = self.is_submitted_safely(submit);
        for proposal in &submit.ops {
            let Some(placement) = self.placements.get(&proposal.item.cluster) else {
                return Err(Failure::on(ErrorCode::UnknownCluster, &proposal.item));
            };
            if placement.witnesses.contains(&self.config.node) {
                return Err(Failure::on(ErrorCode::NotMaster, &proposal.item));
            }
            if submit.schema < placement.schema_min {
                return Err(Failure::on(ErrorCode::SchemaChanged, &proposal.item));
            }
            let deciders = placement.deciders(self.config.node, safely);
            let reachable = deciders.masters.iter().filter(|node| self.is_up(**node)).count();
            if reachable < deciders.write_quorum {
                return Err(Failure::on(ErrorCode::NoQuorum, &proposal.item));
            }
        }
        Ok(())
    }

    /// Its MASTERs would vote it down: it waits for the change to be done, as long as that is to be
    /// expected.
    fn postpone(&mut self, cx: &mut Cx<'_>, retry: Retry, item: &ItemId) {
        Mark::Postponed.hit();
        // A retry's delay may be set to nothing.
        let at = self.now + self.config.resend / POSTPONED;
        if at >= retry.submit.deadline || self.is_stuck(item.cluster) {
            refuse(cx, retry.submit.request, Failure::on(ErrorCode::GenerationChanged, item));
            return;
        }
        let number = self.next_retry;
        self.next_retry += 1;
        self.retries.insert(number, retry);
        self.timers.set(at, Timer::Retry(number));
    }

    pub(super) fn retry_due(&mut self, cx: &mut Cx<'_>, number: u64) {
        if let Some(retry) = self.retries.remove(&number) {
            self.attempt(cx, retry);
        }
    }
}

impl Failure {
    pub(super) const fn of(code: ErrorCode) -> Self {
        Self { code, item: None, current: None, holder: None }
    }

    pub(super) fn on(code: ErrorCode, item: &ItemId) -> Self {
        Self { item: Some(item.clone()), ..Self::of(code) }
    }
}

pub(super) fn refuse(cx: &mut Cx<'_>, request: u64, failure: Failure) {
    cx.reply_now(request, Reply::Failed(failure));
}

/// Builds the operation on the committed state, if that is the one the client means.
pub(super) fn resolve(
    committed: Option<&Committed>,
    proposal: &Proposal,
) -> Result<Operation, Failure> {
    let Proposal { item, kind, base, image } = proposal;
    let stamp = committed.map_or(Stamp::ABSENT, |c| c.stamp);
    let fails = |code| Failure { current: Some(stamp), ..Failure::on(code, item) };
    let meant = match base {
        Base::Current => true,
        Base::Version(version) => *version == stamp.version,
        Base::Exact(exact) => *exact == stamp,
    };
    if !meant {
        return Err(fails(ErrorCode::VersionConflict));
    }
    match kind {
        // A key that was released is claimed again on its tombstone; a record's position and a
        // retry token are used once.
        OpKind::Create
            if stamp != Stamp::ABSENT
                && (committed.is_some_and(|c| c.live) || !matches!(item.key, ItemKey::Key(_))) =>
        {
            return Err(fails(ErrorCode::VersionConflict));
        }
        OpKind::Update | OpKind::Delete if !committed.is_some_and(|c| c.live) => {
            return Err(fails(ErrorCode::NotFound));
        }
        OpKind::Create | OpKind::Update | OpKind::Delete | OpKind::Check | OpKind::Merge(_) => {}
    }
    Ok(Operation { item: item.clone(), kind: kind.clone(), base: stamp, image: image.clone() })
}

/// The reason told to the client: a conflict that will not go away beats one that may.
pub(super) fn reason_of(noes: &[No]) -> (Failure, NoReasonNote) {
    let with = |reason| noes.iter().find(|no| no.reason == reason);
    let failure = |code, no: &No| Failure {
        code,
        item: no.item.clone(),
        current: (no.current != Stamp::ABSENT).then_some(no.current),
        holder: no.holder,
    };
    if let Some(no) = with(NoReason::Version) {
        return (failure(ErrorCode::VersionConflict, no), NoReasonNote::Version);
    }
    if let Some(no) = with(NoReason::Position) {
        return (failure(ErrorCode::NotOwner, no), NoReasonNote::Other);
    }
    if let Some(no) = with(NoReason::Schema) {
        return (failure(ErrorCode::SchemaChanged, no), NoReasonNote::Other);
    }
    if let Some(no) = with(NoReason::Busy) {
        return (failure(ErrorCode::Busy, no), NoReasonNote::Busy);
    }
    if let Some(no) = with(NoReason::Generation) {
        return (failure(ErrorCode::GenerationChanged, no), NoReasonNote::Other);
    }
    (Failure::of(ErrorCode::QuorumFailed), NoReasonNote::Other)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec;

    use quorate_api::{Boot, ClusterKey, NodeId};

    use super::*;
    use crate::io::{Config, Event, LocalQuorum, Recovered};
    use crate::machine::testing::{CLUSTER, NOTHING, placement, sent};
    use crate::message::Message;

    fn create(key: ItemKey, stamp: Stamp) -> Proposal {
        let item = ItemId { cluster: ClusterKey { database: 1, cluster: 20 }, key };
        Proposal { item, kind: OpKind::Create, base: Base::Exact(stamp), image: None }
    }

    /// A released key is free; a record's position and a retry token are used once.
    #[test]
    fn only_keys_are_made_again_on_their_tombstones() {
        let stamp = Stamp { version: 2, tx: TxId { seq: 7, ..TxId::NONE } };
        let gone = Committed { stamp, live: false, image: None, elsewhere: None };
        let key = create(ItemKey::Key(alloc::vec![1]), stamp);
        assert_eq!(resolve(Some(&gone), &key).map(|op| op.base), Ok(stamp));
        let held = Committed { live: true, ..gone.clone() };
        let refused = |found: &Committed, proposal: &Proposal| {
            resolve(Some(found), proposal).map(|_| ()).map_err(|failure| failure.code)
        };
        assert_eq!(refused(&held, &key), Err(ErrorCode::VersionConflict));
        for used in [ItemKey::Record(1), ItemKey::Token(alloc::vec![1])] {
            let again = create(used, stamp);
            assert_eq!(refused(&gone, &again), Err(ErrorCode::VersionConflict));
        }
    }

    /// Where a data center decides by itself its MASTERs are asked for bases; all of them, once a
    /// safe cluster has a part in it.
    ///
    /// FEATURES: A17
    #[test]
    fn bases_are_read_from_whoever_votes() {
        let tokens = ClusterKey { cluster: 0, ..CLUSTER };
        let all: Vec<NodeId> = (1..=4).map(NodeId).collect();
        let mut local = placement(all.clone(), 1);
        local.local_quorums = vec![
            LocalQuorum { masters: all[..2].to_vec(), write_quorum: 1 },
            LocalQuorum { masters: all[2..].to_vec(), write_quorum: 1 },
        ];
        let placements: BTreeMap<_, _> = [(CLUSTER, local), (tokens, placement(all, 3))].into();
        let proposal = |cluster, base| {
            let (item, image) = (ItemId::record(cluster, 0), None);
            Proposal { item, kind: OpKind::Update, base, image }
        };
        let newer = proposal(CLUSTER, Base::Version(7));
        let check = Proposal { kind: OpKind::Check, ..proposal(tokens, Base::Current) };
        for (ops, asked) in [(vec![newer.clone()], 1..=2), (vec![newer, check], 1..=4)] {
            let config = Config::new(NodeId(1), Boot(1), 0);
            let mut machine = Machine::new(config, Recovered::default());
            let placements = placements.clone();
            machine.step(0, Event::Configure { cfg: 1, placements }, &NOTHING, &mut Vec::new());
            for node in (2..=4).map(NodeId) {
                let up = Event::Peer { node, boot: Boot(1), up: true };
                machine.step(0, up, &NOTHING, &mut Vec::new());
            }
            let mut out = Vec::new();
            let submit = Submit { request: 1, ops, schema: 0, wall_us: 0, deadline: 1_000_000 };
            machine.step(1, Event::Submit(submit), &NOTHING, &mut out);
            let reads = sent(out).into_iter();
            let reads = reads.filter(|(_, message)| matches!(message, Message::Read { .. }));
            let found: BTreeSet<u64> = reads.map(|(node, _)| node.0).collect();
            assert_eq!(found, asked.collect());
        }
    }
}
