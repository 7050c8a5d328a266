//! Votes, rounds and recovery (PROTOCOL.md 3.4–3.7) as a state space: acceptors are the real
//! machine's table, coordinators and recoverers are whoever has seen enough of what was ever said.
//!
//! What was said stays said, so a message may come late, twice, out of order or never, and a
//! coordinator or recoverer that does nothing more has crashed. An outcome counts as told as soon
//! as messages exist from which somebody could conclude it. Servers that play the same part are
//! interchangeable: a state keeps them sorted.

use std::fmt;
use std::hash::{Hash, Hasher};

use quorate_protocol::message::{Decided, Value};
use stateright::{Model, Property};

use super::acceptor::{Acceptor, Answer, Facts, Input};
use super::case::{CLUSTERS, Case, ROUNDS, Rule, SERVERS, TXS};
use super::leaders::{NO, YES, accepted_bit, code};

/// A case with the tables of its servers.
#[derive(Debug)]
pub(crate) struct Rounds {
    pub(crate) case: Case,
    /// One table for all servers that play the same part, by server.
    tables: Vec<usize>,
    acceptors: Vec<Acceptor>,
    /// Keep interchangeable servers sorted. Off where a trace is to be read.
    sorted: bool,
    /// Check this alone.
    pub(crate) only: Option<&'static str>,
}

/// What one server holds, and what it ever said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Server {
    /// State of its table.
    local: u16,
    /// Votes said: 1 Yes, 2 No.
    pub(crate) votes: [u8; TXS],
    /// Values accepted, two bits a round.
    pub(crate) accepted: [[u8; CLUSTERS]; TXS],
    /// First promise in rounds 2 and 3: number + 1.
    pub(crate) promised: [[[u8; ROUNDS - 1]; CLUSTERS]; TXS],
    /// Transactions whose outcome it acknowledged.
    acked: u8,
}

/// Few large words instead of many bytes: most of the time goes into hashing.
impl Hash for Server {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let pack = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u128::from(*byte));
        let [low, high] = self.local.to_le_bytes();
        let [a, b, c] = self.votes;
        let votes = a | b << 2 | c << 4;
        let (accepted, promised) = (self.accepted.as_flattened(), self.promised.as_flattened());
        hasher.write_u128(pack(accepted) << 40 | pack(&[low, high, votes, self.acked]));
        hasher.write_u128(pack(promised.as_flattened()));
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) servers: [Server; SERVERS],
    /// The value proposed in each round: 1 prepared, 2 aborted; both only with a wrong rule.
    pub(crate) proposed: [[[u8; ROUNDS]; CLUSTERS]; TXS],
    /// Nothing is left to happen, and something should have.
    pub(crate) ended: Option<Ended>,
}

/// How far it did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ended {
    Undecided,
    Unapplied,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.servers.iter().for_each(|server| server.hash(hasher));
        let proposed = self.proposed.as_flattened().as_flattened();
        let proposed = proposed.iter().fold(0, |word, value| word << 2 | u64::from(*value));
        let ended = self.ended.map_or(0, |ended| 1 + ended as u64);
        hasher.write_u64(proposed << 2 | ended);
    }
}

/// A message, and its number among a table's inputs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    index: usize,
    input: Input,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.input.fmt(f)
    }
}

/// One step of anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A server handles a message.
    Handles(usize, Delivery),
    /// A leader proposes.
    Proposes { tx: usize, cluster: usize, round: usize, value: Value },
    /// Nothing is left to happen.
    Ends(Ended),
}

impl Rounds {
    pub(crate) fn new(case: Case) -> Self {
        let (mut acceptors, mut parts, mut tables) = (Vec::new(), Vec::new(), Vec::new());
        for server in 0..case.servers() {
            let part: Vec<bool> =
                case.clusters.iter().map(|c| c.masters.contains(&server)).collect();
            let known = parts.iter().position(|known| *known == part).unwrap_or_else(|| {
                parts.push(part);
                acceptors.push(Acceptor::explore(&case, server));
                parts.len() - 1
            });
            tables.push(known);
        }
        Self { case, tables, acceptors, sorted: true, only: None }
    }

    /// Checks one property only and leaves servers where they are.
    pub(crate) fn only(mut self, property: &'static str) -> Self {
        self.sorted = false;
        self.only = Some(property);
        self
    }

    pub(crate) fn table(&self, server: usize) -> &Acceptor {
        &self.acceptors[self.tables[server]]
    }

    pub(crate) fn facts(&self, state: &State, server: usize) -> Facts {
        self.table(server).facts[usize::from(state.servers[server].local)]
    }

    pub(crate) fn alive(&self) -> usize {
        self.tables.len() - self.case.dead
    }

    /// What reaches a server depends on what it holds: only with some wrong rules.
    fn by_server(&self) -> bool {
        self.case.rule == Rule::OneRoundCovered
    }

    fn was_sent(&self, state: &State, server: usize, input: Input) -> bool {
        match input {
            Input::Prepare { tx }
            | Input::PrepareUntilTired { tx }
            | Input::PrepareTooLate { tx } => self.base_is_known(state, tx),
            Input::Accept { tx, cluster, round, value } => {
                state.proposed[tx][cluster][round - 1] & code(value) != 0
                    && !self.is_covered(state, server, input)
                    && self.case.rule != Rule::FailOnTimeout
            }
            Input::Recover { tx, .. } => self.base_is_known(state, tx),
            Input::Outcome { tx, outcome } => {
                if matches!(self.case.rule, Rule::ApplyOwnValue | Rule::OneRoundOwnDecision) {
                    let value = match outcome {
                        Decided::Commit => Value::Prepared,
                        Decided::Abort => Value::Aborted,
                    };
                    let mut mine = self.case.txs[tx]
                        .touches
                        .iter()
                        .filter(|c| self.case.clusters[**c].masters.contains(&server));
                    return mine.any(|c| self.is_final(state, tx, *c, value));
                }
                self.is_decided(state, tx, outcome)
            }
            Input::Low { tx } => self.is_below_low(state, tx),
            Input::Lose { .. } | Input::Wipe => true,
            Input::CopyVote { tx } => {
                self.case.txs[tx].touches.iter().any(|c| self.votes(state, tx, *c, YES) > 0)
            }
            Input::CopyItem { tx, .. } => self.is_decided(state, tx, Decided::Commit),
        }
    }

    /// O2: an acceptor does not accept what an undecided Yes of its own stands against.
    fn is_covered(&self, state: &State, server: usize, input: Input) -> bool {
        let Input::Accept { tx, value: Value::Prepared, .. } = input else { return false };
        let others = self.facts(state, server).open_yes & !(1 << tx);
        self.case.rule == Rule::OneRoundCovered && others != 0
    }

    /// The mark rises past a transaction once every MASTER has acknowledged its outcome, and that
    /// of every earlier one of the same boot (3.9 Forgetting).
    fn is_below_low(&self, state: &State, tx: usize) -> bool {
        let id = self.case.id(tx);
        (0..self.case.txs.len())
            .filter(|other| {
                let other = self.case.id(*other);
                other.node == id.node && other.seq <= id.seq
            })
            .all(|other| {
                self.case.txs[other].touches.iter().all(|c| {
                    let cluster = &self.case.clusters[*c];
                    let acked = |s: &&usize| state.servers[**s].acked & (1 << other) != 0;
                    let acked = cluster.masters.iter().filter(acked).count();
                    match self.case.rule {
                        Rule::LowOnMajority => acked >= cluster.majority(),
                        _ => acked == cluster.masters.len(),
                    }
                })
            })
    }

    /// Whatever has a recoverer is decided at the end, and everybody alive has heard of it.
    fn missing_at_the_end(&self, state: &State) -> Option<Ended> {
        let txs = || 0..self.case.txs.len();
        let decided = |tx| {
            [Decided::Commit, Decided::Abort].into_iter().any(|o| self.is_decided(state, tx, o))
        };
        let recovered = |tx: &usize| self.case.txs[*tx].recoverers > 0;
        let heard = |tx: usize| {
            let touched = || self.case.txs[tx].touches.iter();
            let masters =
                |server| touched().any(|c| self.case.clusters[*c].masters.contains(&server));
            let mut alive = (0..self.alive()).filter(|server| masters(*server));
            alive.all(|server| self.facts(state, server).settled & (1 << tx) != 0)
        };
        if !txs().filter(recovered).filter(|tx| self.base_is_known(state, *tx)).all(decided) {
            Some(Ended::Undecided)
        } else if !txs().filter(|tx| decided(*tx)).all(heard) {
            Some(Ended::Unapplied)
        } else {
            None
        }
    }

    /// What one server becomes by handling a message; `None` if nothing changes.
    fn handle(&self, state: &State, server: usize, index: usize) -> Option<Server> {
        let table = self.table(server);
        let before = state.servers[server];
        let step = table.steps[usize::from(before.local)][index];
        if step.is_none() && self.case.rule == Rule::RoundOneAgain {
            return None;
        }
        let step = step.expect("a leader sent two values in one ballot");
        let mut after = Server { local: step.to, ..before };
        match (table.inputs[index], step.answer) {
            (
                Input::Prepare { tx }
                | Input::PrepareUntilTired { tx }
                | Input::PrepareTooLate { tx },
                answer @ (Answer::Yes | Answer::No),
            ) => after.votes[tx] |= if answer == Answer::Yes { YES } else { NO },
            (Input::Accept { tx, cluster, round, value }, Answer::Accepted) => {
                after.accepted[tx][cluster] |= accepted_bit(round, value);
            }
            (Input::Recover { tx, cluster, round }, Answer::Promise(number)) => {
                let first = &mut after.promised[tx][cluster][round - 2];
                if *first == 0 {
                    *first = number + 1;
                }
            }
            _ => {}
        }
        after.acked |= table.facts[usize::from(after.local)].settled;
        (after != before).then_some(after)
    }

    /// Sorts servers that play the same part.
    fn sort(&self, state: &mut State) {
        if !self.sorted {
            return;
        }
        let alive = self.alive();
        let mut first = 0;
        while first < alive {
            let same = self.tables[first..alive].iter().take_while(|t| **t == self.tables[first]);
            let end = first + same.count();
            state.servers[first..end].sort_unstable();
            first = end;
        }
    }
}

impl Model for Rounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // Which of a table's messages exist, one bit each.
        let mut sent = 0_u64;
        for server in 0..self.alive() {
            let same = server > 0
                && self.tables[server] == self.tables[server - 1]
                && state.servers[server] == state.servers[server - 1];
            if self.sorted && same {
                continue;
            }
            let inputs = self.table(server).inputs.iter().enumerate();
            if server == 0 || self.by_server() || self.tables[server] != self.tables[server - 1] {
                sent = inputs.clone().fold(0, |sent, (index, input)| {
                    sent | u64::from(self.was_sent(state, server, *input)) << index
                });
            }
            for (index, input) in inputs {
                if sent & (1 << index) != 0 && self.handle(state, server, index).is_some() {
                    actions.push(Action::Handles(server, Delivery { index, input: *input }));
                }
            }
        }
        for (tx, spec) in self.case.txs.iter().enumerate() {
            for cluster in spec.touches.iter().copied() {
                for round in 1..=self.case.rounds(tx) {
                    let proposed = state.proposed[tx][cluster][round - 1];
                    if proposed != 0 && self.case.rule != Rule::RoundOneAgain {
                        continue;
                    }
                    let [prepared, aborted] = self.proposals(state, tx, cluster, round);
                    let values = [(prepared, Value::Prepared), (aborted, Value::Aborted)];
                    for (possible, value) in values {
                        if possible && proposed & code(value) == 0 {
                            actions.push(Action::Proposes { tx, cluster, round, value });
                        }
                    }
                }
            }
        }
        if actions.is_empty() && state.ended.is_none() {
            actions.extend(self.missing_at_the_end(state).map(Action::Ends));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Handles(server, Delivery { index, .. }) => {
                next.servers[server] = self.handle(state, server, index)?;
                self.sort(&mut next);
            }
            Action::Proposes { tx, cluster, round, value } => {
                next.proposed[tx][cluster][round - 1] |= code(value);
            }
            Action::Ends(ended) => next.ended = Some(ended),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.all_properties()
    }
}
