//! What follows from who is up and who hears whom: whether an operation at a server must be
//! served, must not be acknowledged, or may do either. Arithmetic over the plan alone, made anew
//! here, as the judge may not use that of the accused.
//! May not look at what happened.

use serde::{Deserialize, Serialize};

/// What is known of a server or of a way between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It works.
    Works,
    /// It does not: dead, frozen, cut.
    Broken,
    /// Nothing certain: it changes just now, or a fault slows it down.
    Unsure,
}

/// What can be expected of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// Enough servers are in reach: it must be served.
    Served,
    /// Too few are in reach, and the server lives: it cannot be acknowledged, and the client must
    /// be told so instead of waiting.
    Refused,
    /// It cannot be acknowledged, but nobody may be there to say so.
    Impossible,
    /// Either is right.
    Either,
}

impl Expectation {
    /// True if an acknowledgement is wrong.
    #[must_use]
    pub fn forbids(self) -> bool {
        match self {
            Self::Refused | Self::Impossible => true,
            Self::Served | Self::Either => false,
        }
    }
}

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// The server asked alone.
    Itself,
    /// A majority of the MASTERs.
    Majority,
    /// As many MASTERs as the write quorum.
    WriteQuorum,
}

/// The cluster at one time. Servers are numbered as histories do, MASTERs first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// How many of the servers are MASTERs.
    pub(super) masters: usize,
    /// Each server.
    pub(super) servers: Vec<Known>,
    /// By sender and receiver: whether what is sent arrives.
    pub(super) ways: Vec<Vec<Known>>,
    /// Every write quorum that may be in force, in MASTERs.
    pub(super) quorums: Vec<usize>,
    /// True while something has just changed and servers may still be finding out.
    pub(super) unsettled: bool,
}

impl State {
    /// Everybody up, everybody heard.
    pub(super) fn healthy(masters: usize, replicas: usize, quorum: usize) -> Self {
        let servers = masters + replicas;
        Self {
            masters,
            servers: vec![Known::Works; servers],
            ways: vec![vec![Known::Works; servers]; servers],
            quorums: vec![quorum],
            unsettled: false,
        }
    }

    /// What can be expected of an operation with that need at `server`.
    pub(super) fn expects(&self, server: usize, need: Need) -> Expectation {
        let Some(known) = self.servers.get(server).copied() else {
            return Expectation::Either;
        };
        if known == Known::Broken {
            return Expectation::Impossible;
        }
        let majority = self.masters / 2 + 1;
        let (fewest, most) = match need {
            Need::Itself => return self.when_served(known == Known::Works),
            Need::Majority => (majority, majority),
            Need::WriteQuorum => (
                self.quorums.iter().copied().min().unwrap_or(majority),
                self.quorums.iter().copied().max().unwrap_or(majority),
            ),
        };
        if self.perhaps(server) < fewest {
            let told = known == Known::Works && !self.unsettled;
            return if told { Expectation::Refused } else { Expectation::Impossible };
        }
        // A REPLICA passes on what it is asked; which way that takes is not told here.
        let coordinates = server < self.masters && known == Known::Works;
        // While the quorum changes, clients may have to wait.
        let changing = self.quorums.len() > 1;
        self.when_served(coordinates && !changing && self.surely(server) >= most)
    }

    fn when_served(&self, served: bool) -> Expectation {
        if served && !self.unsettled { Expectation::Served } else { Expectation::Either }
    }

    /// MASTERs that certainly answer this one, itself included.
    fn surely(&self, server: usize) -> usize {
        let answers = |other: &usize| {
            let both = [self.ways[server][*other], self.ways[*other][server]];
            *other == server
                || self.servers[*other] == Known::Works && both == [Known::Works, Known::Works]
        };
        (0..self.masters).filter(answers).count()
    }

    /// MASTERs that may have a part in what this server does, itself included: those that its
    /// messages may reach and whose messages may reach it, by way of others if need be.
    fn perhaps(&self, server: usize) -> usize {
        let there = self.reached(server, |from, to| self.ways[from][to]);
        let back = self.reached(server, |from, to| self.ways[to][from]);
        (0..self.masters).filter(|other| there[*other] && back[*other]).count()
    }

    fn reached(&self, server: usize, way: impl Fn(usize, usize) -> Known) -> Vec<bool> {
        let mut reached = vec![false; self.servers.len()];
        let mut next = vec![server];
        while let Some(from) = next.pop() {
            if std::mem::replace(&mut reached[from], true) {
                continue;
            }
            let open =
                |to: &usize| self.servers[*to] != Known::Broken && way(from, *to) != Known::Broken;
            next.extend((0..self.servers.len()).filter(open).filter(|to| !reached[*to]));
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::Expectation::{Either, Impossible, Refused, Served};
    use super::*;

    fn cut(state: &mut State, from: usize, to: usize) {
        state.ways[from][to] = Known::Broken;
    }

    fn apart(state: &mut State, one: &[usize], other: &[usize]) {
        for a in one {
            for b in other {
                cut(state, *a, *b);
                cut(state, *b, *a);
            }
        }
    }

    fn all(state: &State, need: Need) -> Vec<Expectation> {
        (0..state.servers.len()).map(|server| state.expects(server, need)).collect()
    }

    /// FEATURES: H6
    #[test]
    fn of_a_partition_the_majority_serves_and_the_minority_refuses() {
        let mut state = State::healthy(3, 0, 2);
        assert_eq!(all(&state, Need::WriteQuorum), [Served; 3]);
        apart(&mut state, &[2], &[0, 1]);
        assert_eq!(all(&state, Need::WriteQuorum), [Served, Served, Refused]);
        assert_eq!(all(&state, Need::Majority), [Served, Served, Refused]);
        assert_eq!(all(&state, Need::Itself), [Served; 3]);
        // All three for a write: nobody can, while majority reads go on.
        state.quorums = vec![3];
        assert_eq!(all(&state, Need::WriteQuorum), [Refused; 3]);
        assert_eq!(all(&state, Need::Majority), [Served, Served, Refused]);
        // One is enough for a write, not for a majority read.
        state.quorums = vec![1];
        assert_eq!(all(&state, Need::WriteQuorum), [Served; 3]);
        assert_eq!(all(&state, Need::Majority), [Served, Served, Refused]);
    }

    #[test]
    fn the_dead_answer_nobody_and_are_not_counted() {
        let mut state = State::healthy(5, 0, 3);
        state.servers[3] = Known::Broken;
        state.servers[4] = Known::Broken;
        let expected = [Served, Served, Served, Impossible, Impossible];
        assert_eq!(all(&state, Need::WriteQuorum), expected);
        state.servers[2] = Known::Unsure;
        assert_eq!(all(&state, Need::WriteQuorum)[..3], [Either; 3]);
        assert_eq!(all(&state, Need::Itself)[..3], [Served, Served, Either]);
        state.servers[2] = Known::Broken;
        assert_eq!(all(&state, Need::WriteQuorum)[..2], [Refused, Refused]);
    }

    #[test]
    fn who_is_heard_one_way_alone_has_no_quorum() {
        let mut state = State::healthy(3, 0, 2);
        cut(&mut state, 0, 1);
        cut(&mut state, 0, 2);
        assert_eq!(all(&state, Need::WriteQuorum), [Refused, Served, Served]);
    }

    #[test]
    fn over_a_bridge_nothing_is_certain_where_the_direct_ways_do_not_suffice() {
        // Of six, two and three on both sides of the first: that side's three are no majority.
        let mut state = State::healthy(6, 0, 4);
        apart(&mut state, &[1, 2], &[3, 4, 5]);
        let expected = [Served, Either, Either, Served, Served, Served];
        assert_eq!(all(&state, Need::WriteQuorum), expected);
    }

    #[test]
    fn replicas_serve_themselves_and_promise_no_more() {
        let mut state = State::healthy(3, 2, 2);
        assert_eq!(all(&state, Need::WriteQuorum)[3..], [Either, Either]);
        assert_eq!(all(&state, Need::Itself), [Served; 5]);
        apart(&mut state, &[3], &[0, 1, 2]);
        // By way of the other REPLICA, for all that is known here.
        assert_eq!(state.expects(3, Need::WriteQuorum), Either);
        apart(&mut state, &[3], &[4]);
        assert_eq!(state.expects(3, Need::WriteQuorum), Refused);
        assert_eq!(state.expects(3, Need::Itself), Served);
    }

    #[test]
    fn who_has_just_seen_a_change_may_do_either_and_still_not_acknowledge() {
        let mut state = State::healthy(3, 0, 2);
        apart(&mut state, &[2], &[0, 1]);
        state.unsettled = true;
        assert_eq!(all(&state, Need::WriteQuorum), [Either, Either, Impossible]);
        assert_eq!(all(&state, Need::Itself), [Either; 3]);
    }

    #[test]
    fn while_the_quorum_changes_the_least_of_both_forbids() {
        let mut state = State::healthy(3, 0, 2);
        state.quorums = vec![2, 3];
        apart(&mut state, &[2], &[0, 1]);
        assert_eq!(all(&state, Need::WriteQuorum), [Either, Either, Refused]);
    }
}
