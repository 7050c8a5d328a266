//! Coordinators and recoverers (PROTOCOL.md 3.5, 3.7): what somebody who has seen enough of what
//! was ever said concludes and proposes. `conformance.rs` holds these rules against the machine's.

use quorate_protocol::message::{Decided, Promise, Value, Vote};

use super::case::{Builds, ROUNDS, Rule};
use super::rounds::{Rounds, State};

pub(crate) const YES: u8 = 1;
pub(crate) const NO: u8 = 2;

/// How a proposed value is kept: one bit each.
pub(crate) const fn code(value: Value) -> u8 {
    match value {
        Value::Prepared => 1,
        Value::Aborted => 2,
    }
}

/// The bit of an accepted value among those of a server.
pub(crate) const fn accepted_bit(round: usize, value: Value) -> u8 {
    code(value) << (2 * (round - 1))
}

impl Rounds {
    pub(crate) fn one_round(&self) -> bool {
        matches!(self.case.rule, Rule::OneRound | Rule::OneRoundCovered | Rule::OneRoundOwnDecision)
    }

    pub(crate) fn votes(&self, state: &State, tx: usize, cluster: usize, vote: u8) -> usize {
        let masters = self.case.clusters[cluster].masters.iter();
        masters.filter(|s| state.servers[**s].votes[tx] & vote != 0).count()
    }

    /// True once somebody can conclude that (tx, cluster) has this value (3.5.3, 3.7.4).
    pub(crate) fn is_final(&self, state: &State, tx: usize, cluster: usize, value: Value) -> bool {
        let c = &self.case.clusters[cluster];
        let (n, w, majority) = (c.masters.len(), c.write_quorum, c.majority());
        let by_votes = match value {
            Value::Prepared => {
                let quick = self.one_round() || self.case.rule == Rule::CommitOnQuorum;
                self.votes(state, tx, cluster, YES) >= if quick { w } else { n }
            }
            Value::Aborted => {
                let enough = if self.one_round() { n - w } else { n - majority };
                self.votes(state, tx, cluster, NO) > enough
            }
        };
        let by_clock = self.case.rule == Rule::FailOnTimeout
            && value == Value::Aborted
            && state.proposed[tx][cluster][0] & code(Value::Aborted) != 0;
        by_votes
            || by_clock
            || (0..ROUNDS).any(|round| {
                let bit = accepted_bit(round + 1, value);
                let accepted = |s: &&usize| state.servers[**s].accepted[tx][cluster] & bit != 0;
                c.masters.iter().filter(accepted).count() >= majority
            })
    }

    /// True once somebody can conclude the whole transaction's outcome (3.5.4).
    pub(crate) fn is_decided(&self, state: &State, tx: usize, outcome: Decided) -> bool {
        let mut touched = self.case.txs[tx].touches.iter();
        match outcome {
            Decided::Commit => touched.all(|c| self.is_final(state, tx, *c, Value::Prepared)),
            Decided::Abort => touched.any(|c| self.is_final(state, tx, *c, Value::Aborted)),
        }
    }

    /// What the transaction builds on has committed, as far as its coordinator is concerned.
    pub(crate) fn base_is_known(&self, state: &State, tx: usize) -> bool {
        match self.case.txs[tx].builds {
            Builds::OnNothing | Builds::OnGhost => true,
            Builds::On(other) => self.is_decided(state, other, Decided::Commit),
        }
    }

    /// Values that a leader may propose in a round, given all that was said.
    pub(crate) fn proposals(
        &self,
        state: &State,
        tx: usize,
        cluster: usize,
        round: usize,
    ) -> [bool; 2] {
        if round > 1 {
            return self.recovered_values(state, tx, cluster, round);
        }
        if self.one_round() || !self.base_is_known(state, tx) {
            return [false; 2];
        }
        let c = &self.case.clusters[cluster];
        let (yes, no) = (self.votes(state, tx, cluster, YES), self.votes(state, tx, cluster, NO));
        let impatient = match self.case.rule {
            Rule::AbortOnSilence | Rule::FailOnTimeout => yes < c.write_quorum,
            // What the boot before it proposed, the next one does not know.
            Rule::RoundOneAgain => state.proposed[tx][cluster][0] == code(Value::Prepared),
            _ => false,
        };
        [yes >= c.write_quorum, no > c.masters.len() - c.write_quorum || impatient]
    }

    /// 3.7.3, for every set of promises that is large enough.
    fn recovered_values(
        &self,
        state: &State,
        tx: usize,
        cluster: usize,
        round: usize,
    ) -> [bool; 2] {
        let c = &self.case.clusters[cluster];
        let promises: Vec<&Promise> = c
            .masters
            .iter()
            .filter_map(|server| {
                let number = state.servers[*server].promised[tx][cluster][round - 2];
                let promises = &self.table(*server).promises;
                number.checked_sub(1).map(|number| &promises[usize::from(number)])
            })
            .collect();
        let needed = if self.one_round() {
            c.majority().max(c.masters.len() - c.write_quorum + 1)
        } else {
            c.majority()
        };
        let mut values = [false; 2];
        for chosen in 0..1_usize << promises.len() {
            if chosen.count_ones() as usize >= needed {
                let promises = promises.iter().enumerate().filter(|(i, _)| chosen & (1 << i) != 0);
                match self.value_of(cluster, promises.map(|(_, promise)| *promise)) {
                    Value::Prepared => values[0] = true,
                    Value::Aborted => values[1] = true,
                }
            }
        }
        values
    }

    pub(crate) fn value_of<'a>(
        &self,
        cluster: usize,
        promises: impl Iterator<Item = &'a Promise> + Clone,
    ) -> Value {
        if let Some((_, value)) = promises.clone().filter_map(|p| p.accepted).max()
            && self.case.rule != Rule::IgnoreAccepted
        {
            return value;
        }
        let c = &self.case.clusters[cluster];
        let answers = promises.clone().count();
        let yes = promises.clone().filter(|p| p.vote == Some(Vote::Yes)).count();
        let no = promises.filter(|p| matches!(p.vote, Some(Vote::No(_)))).count();
        let prepared = if self.one_round() {
            yes + (c.masters.len() - answers) >= c.write_quorum
        } else if self.case.rule == Rule::SilentPromise {
            answers - no >= c.write_quorum
        } else {
            yes == answers || yes >= c.write_quorum
        };
        if prepared { Value::Prepared } else { Value::Aborted }
    }

    /// What a coordinator concludes for a cluster from votes alone, by server, and what it may
    /// propose.
    pub(crate) fn after_votes(
        &self,
        cluster: usize,
        votes: &[Option<Vote>],
    ) -> (Option<Value>, Vec<Value>) {
        let mut state = State::default();
        for (server, vote) in state.servers.iter_mut().zip(votes) {
            server.votes[0] = match vote {
                None => 0,
                Some(Vote::Yes) => YES,
                Some(Vote::No(_)) => NO,
            };
        }
        let values = [Value::Prepared, Value::Aborted];
        let known = values.into_iter().find(|value| self.is_final(&state, 0, cluster, *value));
        let possible = values.into_iter().zip(self.proposals(&state, 0, cluster, 1));
        (known, possible.filter(|(_, possible)| *possible).map(|(value, _)| value).collect())
    }
}
