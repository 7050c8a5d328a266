//! Who votes on a transaction, and what the votes allow (PROTOCOL.md 3.5.3; 3.10 for W below
//! majority). May not send anything: `coordinator` does.
//!
//! A split vote is given up early. With MASTERs down, W Yes may be out of reach although fewer than
//! N − W + 1 said No: then nothing but recovery can abort (3.5.3), and waiting for half of the
//! deadline (3.5.6) would keep the Yes votes' locks all that while. So once everybody who is
//! believed reachable has answered, somebody with No, and the votes decide nothing, the
//! coordinator runs recovery itself. Recovery is safe at any time; this says only when.
//!
//! An Accept before its receiver has voted forbids the vote, for all clusters of the transaction at
//! once. So the second round of one cluster waits while another one needs a vote that may still
//! come from one of its receivers; or the transaction would be aborted for nothing but the order of
//! messages. This, too, says only when.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, NodeId, OpKind, Operation, TxId};

use super::Machine;
use super::coordinator::{Coordination, Round, Stage};
use crate::io::{Electorate, Placement, Tick};
use crate::message::{Participant, Value};
use crate::planted::Bug;

/// What the votes of one cluster allow.
pub(super) enum Votes {
    Open,
    Final(Value),
    SecondRound(Value),
}

impl Machine {
    /// M(c) of every participant, each server once.
    pub(super) fn masters_of(&self, participants: &[Participant]) -> BTreeSet<NodeId> {
        participants
            .iter()
            .filter_map(|p| self.placements.get(&p.cluster))
            .flat_map(|p| p.masters.iter().copied())
            .collect()
    }

    /// Where the votes of one cluster count, if that is known here: the placement that it was
    /// prepared in, or the one now, as long as the transaction can be decided by 3.10 all the same.
    pub(super) fn electing(
        &self,
        participants: &[Participant],
        of: &Participant,
    ) -> Option<&Placement> {
        let now = self.placements.get(&of.cluster);
        let ends = self.config.has(Bug::VotesEndWithGeneration);
        let later = || now.filter(|_| !ends && self.outlives_its_generation(participants));
        self.placement_of(of).or_else(later)
    }

    /// W is below a majority in all clusters, and has been ever since it was prepared, and nothing
    /// unites them. A change that was taken back leads to such a generation, with the MASTERs and
    /// the W of before. It waited for a majority alone; so what it did not drain may have been
    /// acknowledged, by the one Yes of a MASTER that was away, and nobody but the votes can tell.
    pub(super) fn outlives_its_generation(&self, participants: &[Participant]) -> bool {
        participants.iter().all(|p| {
            let placement = self.placements.get(&p.cluster);
            placement.is_some_and(|placement| {
                let mut since = p.generation..=placement.generation;
                !since.is_empty() && since.all(|generation| !placement.was_safe(generation))
            }) && !self.is_late(participants, p.cluster)
        })
    }

    /// A transaction is as safe as the safest cluster that it touches: with a safe one among them,
    /// all are decided by majorities, two rounds and promises (3.5, 3.7). Otherwise its coordinator
    /// could commit with W Yes where that is below a majority, a recovery that does not find those
    /// abort the whole, and the safe cluster be written by somebody else on the same base.
    /// Recoverers know all participants, so everybody comes to the same rule. A generation that is
    /// not known here counts as safe: that asks for more votes, never for fewer.
    pub(super) fn is_decided_safely(&self, participants: &[Participant]) -> bool {
        participants.iter().any(|p| self.electing(participants, p).is_none_or(Placement::is_safe))
    }

    /// Who is asked for a vote on a transaction of this server: the MASTERs whose votes count; of
    /// what is merged all MASTERs, so that none of them goes on alone meanwhile.
    pub(super) fn voters_of(
        &self,
        participants: &[Participant],
        ops: &[Operation],
    ) -> BTreeSet<NodeId> {
        if ops.iter().any(|op| matches!(op.kind, OpKind::Merge(_))) {
            return self.masters_of(participants);
        }
        let safely = self.is_decided_safely(participants);
        participants
            .iter()
            .filter_map(|p| self.placements.get(&p.cluster))
            .flat_map(|p| p.deciders(self.config.node, safely).masters.iter().copied())
            .collect()
    }

    /// True when some cluster's votes decide nothing unless a MASTER comes back that is down now.
    pub(super) fn is_out_of_reach(&self, tx: TxId) -> bool {
        let Some(c) = self.coordinations.get(&tx) else { return false };
        if !self.is_decided_safely(&c.participants) {
            return false;
        }
        let is_split = |(cluster, round): (&ClusterKey, &Round)| {
            let Some(placement) = self.placements.get(cluster) else { return false };
            let voting = round.stage == Stage::Voting;
            let may_vote = placement.masters.iter().any(|node| self.may_still_vote(round, *node));
            voting && !round.no.is_empty() && !may_vote
        };
        !c.recovering && c.clusters.iter().any(is_split)
    }

    /// It has not voted, and is believed reachable.
    fn may_still_vote(&self, round: &Round, node: NodeId) -> bool {
        !round.yes.contains(&node) && !round.no.contains(&node) && self.is_up(node)
    }

    /// An Accept for this cluster now would forbid a vote that another cluster needs.
    pub(super) fn would_forbid_a_vote(&self, c: &Coordination, cluster: ClusterKey) -> bool {
        let Some(accepting) = self.placements.get(&cluster) else { return false };
        let safely = self.is_decided_safely(&c.participants);
        c.clusters.iter().filter(|(other, _)| **other != cluster).any(|(other, round)| {
            let Some(placement) = self.placements.get(other) else { return false };
            let deciders = placement.deciders(self.config.node, safely);
            let masters = deciders.masters.iter();
            let missing: Vec<&NodeId> =
                masters.filter(|node| self.may_still_vote(round, **node)).collect();
            let (yes, quorum) = (deciders.count(&round.yes), deciders.write_quorum);
            round.stage == Stage::Voting
                && yes < quorum
                && yes + missing.len() >= quorum
                && missing.into_iter().any(|node| accepting.masters.contains(node))
        })
    }

    /// What the votes of one cluster allow (3.5.3; 3.10 for W below majority).
    pub(super) fn judge_votes(
        &self,
        placement: &Placement,
        round: &mut Round,
        started: Tick,
        safely: bool,
    ) -> Votes {
        let n = placement.masters.len();
        let w = placement.deciders(self.config.node, safely).write_quorum;
        let majority = placement.majority();
        let (yes, no) = (round.yes.len(), round.no.len());
        if !safely {
            return judge_below_majority(placement.electorate(self.config.node), round);
        }
        let early = (yes >= w && self.config.has(Bug::CommitOnQuorum))
            || (yes > 0 && self.config.has(Bug::AckBeforeQuorum));
        if yes == n || early {
            return Votes::Final(Value::Prepared);
        }
        if no > n - majority {
            return Votes::Final(Value::Aborted);
        }
        if no > n - w {
            return Votes::SecondRound(Value::Aborted);
        }
        if yes < w {
            let silent = no == 0 && self.config.has(Bug::AbortOnSilence);
            return if silent && self.now >= started + self.config.fast_wait.1 {
                Votes::SecondRound(Value::Aborted)
            } else {
                Votes::Open
            };
        }
        let quorum_at = *round.quorum_at.get_or_insert(self.now);
        let missing_may_come =
            placement.masters.iter().any(|node| self.may_still_vote(round, *node));
        if missing_may_come && self.now < quorum_at + self.fast_wait() {
            return Votes::Open;
        }
        Votes::SecondRound(Value::Prepared)
    }
}

/// W Yes are enough, and nobody has to accept them (3.10).
fn judge_below_majority(electorate: Electorate<'_>, round: &Round) -> Votes {
    let Electorate { masters, write_quorum } = electorate;
    if electorate.count(&round.yes) >= write_quorum {
        Votes::Final(Value::Prepared)
    } else if electorate.count(&round.no) > masters.len() - write_quorum {
        Votes::Final(Value::Aborted)
    } else {
        Votes::Open
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use quorate_api::Boot;

    use super::*;
    use crate::io::{Change, Config, Event, Recovered, SessionToken, Stage};
    use crate::machine::testing::{CLUSTER, NOTHING, PEER, placement};

    /// A MASTER of three that has entered a generation, and cannot enter the next one.
    fn machine(placement: Placement, entered: u32) -> Machine {
        let entered = [(CLUSTER, entered)].into();
        let recovered = Recovered { entered, ..Recovered::default() };
        let mut machine = Machine::new(Config::new(NodeId(1), Boot(1), 0), recovered);
        let placements = [(CLUSTER, placement)].into();
        machine.step(0, Event::Configure { cfg: 1, placements }, &NOTHING, &mut Vec::new());
        machine
    }

    /// Prepared in; now in, with W of; below a majority in; uniting; entered; open and late.
    type Case = (u32, (u32, usize), &'static [(u32, u32)], bool, u32, (bool, bool));

    /// What was prepared with W below a majority can be decided by 3.10 until MASTERs have united;
    /// from then on, it is late.
    ///
    /// FEATURES: A13, L7
    #[test]
    fn a_loose_transaction_may_commit_until_masters_unite() {
        let masters: Vec<NodeId> = (1..=3).map(NodeId).collect();
        let token: SessionToken = [((PEER, Boot(1)), 9)].into();
        let cases: [Case; 11] = [
            (1, (1, 1), &[], false, 1, (true, false)),
            (1, (1, 1), &[(1, 1)], true, 1, (true, false)),
            (1, (1, 1), &[(1, 1)], true, 2, (false, true)),
            // A change was taken back.
            (1, (2, 1), &[(1, 2)], false, 2, (true, false)),
            // And begun again.
            (1, (2, 1), &[(1, 2)], true, 2, (true, false)),
            (1, (2, 1), &[(1, 2)], true, 3, (false, true)),
            // They are united, and not here.
            (1, (2, 2), &[(1, 1)], false, 1, (false, false)),
            (1, (2, 2), &[(1, 1)], false, 2, (false, true)),
            (1, (3, 1), &[(1, 1), (3, 3)], false, 3, (false, true)),
            // Of a majority, and not known yet.
            (1, (2, 1), &[(2, 2)], false, 2, (false, false)),
            (2, (1, 1), &[], false, 1, (false, false)),
        ];
        for (generation, (now, write_quorum), loose, unites, entered, expected) in cases {
            let stage = Stage::Transferring { token: token.clone(), synced: BTreeSet::new() };
            let change = Change { masters: masters.clone(), unites, stage };
            let placement = Placement {
                generation: now,
                loose: loose.to_vec(),
                entry: token.clone(),
                change: unites.then_some(change),
                ..placement(masters.clone(), write_quorum)
            };
            let machine = machine(placement, entered);
            let prepared = vec![Participant { cluster: CLUSTER, generation }];
            let found =
                (machine.outlives_its_generation(&prepared), machine.is_late(&prepared, CLUSTER));
            assert_eq!(found, expected, "{generation} in {now}, {loose:?}, entered {entered}");
            let is_over = generation != now && !expected.0;
            assert_eq!(machine.is_decided_safely(&prepared), is_over, "{generation} in {now}");
        }
    }
}
