//! Changes of M(c) and W(c) under two rival transactions (PROTOCOL.md 3.9): seal, drain, transfer,
//! activate, carry-over. Here acceptors are modelled too, for the machine does not change
//! generations yet. What was said stays said, as in `rounds.rs`. The state and what is concluded
//! from it live here; the steps are in `changes.rs`.
//!
//! The first transaction may also touch a cluster elsewhere, which takes its one value at any time
//! or never: that is what makes a prepared transaction wait over a change.

use quorate_protocol::message::{Decided, Value};

/// Bounds of the arrays that make up a state.
pub(crate) const SERVERS: usize = 4;
pub(crate) const GENERATIONS: usize = 4;
pub(crate) const TXS: usize = 2;
pub(crate) const ROUNDS: usize = 3;

/// Which rule is followed. All but the first are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// PROTOCOL.md 3.9.
    Sound,
    /// E1: members change when the entry is applied; nobody seals, nothing is moved.
    NoSeal,
    /// E3: members enter without the transfer.
    NoTransfer,
    /// E4: the drain asks a majority that goes on voting.
    DrainUnsealed,
    /// What is prepared and waits for another cluster is not carried over.
    NotCarried,
    /// It is carried over, and its lock is not.
    CarriedUnlocked,
    /// A member that has not synced answers for a closed generation.
    UnsyncedAnswers,
    /// What a member takes in the transfer replaces what it promised and accepted, before it
    /// enters.
    SyncForgets,
    /// A19: one member's seal is enough to go on.
    SealMinority,
    /// A10: a sealed member goes on answering reads.
    SealedAnswersReads,
    /// The drain waits for no final value: what one Yes stands for is taken for prepared.
    DrainByVotes,
}

/// One thing to explore.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    /// MASTERs of every generation, one bit each, and W.
    pub(crate) generations: Vec<(u8, usize)>,
    /// Generations that each transaction may be prepared in.
    pub(crate) prepared_in: [Vec<usize>; TXS],
    /// The first transaction touches another cluster as well.
    pub(crate) elsewhere: bool,
    /// Recoverers per transaction.
    pub(crate) recoverers: [usize; TXS],
    pub(crate) rule: Rule,
    /// Check this alone, and leave servers where they are.
    pub(crate) only: Option<&'static str>,
}

/// What a server knows and holds, and what it ever said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Server {
    /// Generation that it knows to be activated. When it hears of a proposal makes no difference
    /// until it seals.
    pub(crate) view: u8,
    /// Generation whose content it has, + 1; 0: none.
    pub(crate) entered: u8,
    /// Sealed generations, one bit each.
    pub(crate) sealed: u8,
    pub(crate) txs: [Held; TXS],
    /// What it listed as undecided when it sealed each generation: 1 + one bit a transaction.
    pub(crate) listed: [u8; GENERATIONS],
    /// Changes for which it has the transferred content, and those whose entry names it.
    pub(crate) synced: u8,
    pub(crate) named: u8,
}

/// One transaction at one server; the second half is what it ever said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Held {
    /// True for Yes.
    pub(crate) vote: Option<bool>,
    pub(crate) promised: u8,
    pub(crate) accepted: Option<(u8, Value)>,
    pub(crate) outcome: Option<Decided>,
    /// Prepared in a closed generation, and waiting.
    pub(crate) carried: bool,
    pub(crate) voted: Option<bool>,
    /// Rounds accepted, one bit each.
    pub(crate) has_accepted: u8,
    /// First promise in rounds 2 and 3.
    pub(crate) promises: [Option<Promise>; ROUNDS - 1],
}

impl Held {
    /// Votes and acceptor state without outcome, and not carried.
    pub(crate) fn is_open(&self) -> bool {
        let touched = self.vote.is_some() || self.promised > 0;
        touched && self.outcome.is_none() && !self.carried
    }

    /// Forgets votes and acceptor state; what was said stays said.
    pub(crate) fn drop_vote(&mut self) {
        self.vote = None;
        self.promised = 0;
        self.accepted = None;
    }

    pub(crate) fn blocks(&self) -> bool {
        (self.vote == Some(true) || self.carried) && self.outcome.is_none()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Promise {
    pub(crate) vote: Option<bool>,
    pub(crate) accepted: Option<(u8, Value)>,
}

/// What is moved of one transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Moved {
    /// Nobody knew it.
    #[default]
    Nothing,
    Outcome(Decided),
    /// Prepared here, undecided as a whole.
    Carried,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) servers: [Server; SERVERS],
    /// The generation that each transaction names.
    pub(crate) prepared_in: [usize; TXS],
    /// The one value proposed in each round.
    pub(crate) proposed: [[Option<Value>; ROUNDS]; TXS],
    /// Values that members of a later generation gave with authority: 1 prepared, 2 aborted.
    pub(crate) authority: [u8; TXS],
    /// The other cluster's value for the first transaction.
    pub(crate) elsewhere: Option<Value>,
    /// Entries in the control log: propose and activate in turn.
    pub(crate) entries: u8,
    /// What the leader moves in the current change.
    pub(crate) moved: Option<[Moved; TXS]>,
}

/// One step of anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A server handles a Prepare.
    Votes {
        server: usize,
        tx: usize,
    },
    /// A leader of a round proposes.
    Proposes {
        tx: usize,
        round: usize,
        value: Value,
    },
    Accepts {
        server: usize,
        tx: usize,
        round: usize,
    },
    Promises {
        server: usize,
        tx: usize,
        round: usize,
    },
    /// A member of a later generation answers a recoverer.
    Answers {
        server: usize,
        tx: usize,
    },
    Learns {
        server: usize,
        tx: usize,
        outcome: Decided,
    },
    /// The other cluster takes its value for the first transaction.
    Elsewhere(Value),
    /// The next control entry is logged: propose, or activate.
    Logs,
    /// A server applies its next control entry.
    Applies {
        server: usize,
    },
    Seals {
        server: usize,
    },
    /// The leader has drained what these servers listed; true: it takes the outcomes that the
    /// other cluster gives.
    Transfers {
        sealed: u8,
        asks_elsewhere: bool,
    },
    /// A member of the next generation takes what is moved.
    Syncs {
        server: usize,
    },
    /// A member that the entry does not name takes it from one that has entered.
    SyncsFrom {
        server: usize,
        from: usize,
    },
}

impl Changes {
    /// The standard change: two transactions prepared in any of these generations.
    pub(crate) fn new(generations: &[(u8, usize)], recoverers: [usize; TXS]) -> Self {
        let any: Vec<usize> = (0..generations.len()).collect();
        Self {
            generations: generations.to_vec(),
            prepared_in: [any.clone(), any],
            elsewhere: false,
            recoverers,
            rule: Rule::Sound,
            only: None,
        }
    }

    pub(crate) const fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    pub(crate) fn prepared_in(mut self, first: &[usize], second: &[usize]) -> Self {
        self.prepared_in = [first.to_vec(), second.to_vec()];
        self
    }

    pub(crate) const fn wrong(mut self, rule: Rule, property: &'static str) -> Self {
        self.rule = rule;
        self.only = Some(property);
        self
    }

    pub(crate) fn servers(&self) -> usize {
        let all = self.generations.iter().fold(0, |all, (members, _)| all | members);
        (u8::BITS - all.leading_zeros()) as usize
    }

    pub(crate) fn is_member(&self, server: usize, generation: usize) -> bool {
        self.generations[generation].0 & (1 << server) != 0
    }

    pub(crate) fn members(&self, generation: usize) -> impl Iterator<Item = usize> {
        let members = self.generations[generation].0;
        (0..SERVERS).filter(move |server| members & (1 << server) != 0)
    }

    pub(crate) fn n(&self, generation: usize) -> usize {
        self.generations[generation].0.count_ones() as usize
    }

    pub(crate) fn majority(&self, generation: usize) -> usize {
        self.n(generation) / 2 + 1
    }

    pub(crate) fn votes(&self, state: &State, tx: usize, yes: bool) -> usize {
        let members = self.members(state.prepared_in[tx]);
        members.filter(|s| state.servers[*s].txs[tx].voted == Some(yes)).count()
    }

    /// True once somebody can conclude that (tx, c) has this value.
    pub(crate) fn is_final(&self, state: &State, tx: usize, value: Value) -> bool {
        let generation = state.prepared_in[tx];
        let (n, majority) = (self.n(generation), self.majority(generation));
        let (by_votes, bit) = match value {
            Value::Prepared => {
                // E1 is about the simpler rule: one round with quorum W.
                let quick = self.rule == Rule::NoSeal;
                let needed = if quick { self.generations[generation].1 } else { n };
                (self.votes(state, tx, true) >= needed, 1)
            }
            Value::Aborted => (self.votes(state, tx, false) > n - majority, 2),
        };
        by_votes
            || state.authority[tx] & bit != 0
            || (0..ROUNDS).any(|round| {
                let accepted =
                    |s: &usize| state.servers[*s].txs[tx].has_accepted & (1 << round) != 0;
                state.proposed[tx][round] == Some(value)
                    && self.members(generation).filter(accepted).count() >= majority
            })
    }

    /// True once somebody can conclude the whole transaction's outcome.
    pub(crate) fn is_decided(&self, state: &State, tx: usize, outcome: Decided) -> bool {
        let two = tx == 0 && self.elsewhere;
        match outcome {
            Decided::Commit => {
                self.is_final(state, tx, Value::Prepared)
                    && (!two || state.elsewhere == Some(Value::Prepared))
            }
            Decided::Abort => {
                self.is_final(state, tx, Value::Aborted)
                    || (two && state.elsewhere == Some(Value::Aborted))
            }
        }
    }

    pub(crate) fn outcome(&self, state: &State, tx: usize) -> Option<Decided> {
        [Decided::Commit, Decided::Abort].into_iter().find(|o| self.is_decided(state, tx, *o))
    }

    /// Votes on and answers reads of a generation (3.9.5).
    pub(crate) fn is_active(&self, server: usize, state: &Server, generation: usize) -> bool {
        self.is_member(server, generation)
            && usize::from(state.view) == generation
            && usize::from(state.entered) == generation + 1
            && state.sealed & (1 << generation) == 0
    }

    fn answers_reads(&self, server: usize, state: &Server, generation: usize) -> bool {
        let unsealed = Server { sealed: 0, ..*state };
        let sealed_too = self.rule == Rule::SealedAnswersReads;
        self.is_active(server, if sealed_too { &unsealed } else { state }, generation)
    }

    /// No majority of answers from one active generation is blind to a commit.
    pub(crate) fn reads_see_commits(&self, state: &State) -> bool {
        let committed = |tx: &usize| self.is_decided(state, *tx, Decided::Commit);
        (0..TXS).filter(committed).all(|tx| {
            (0..self.generations.len()).all(|generation| {
                let blind = self.members(generation).filter(|server| {
                    let held = &state.servers[*server].txs[tx];
                    self.answers_reads(*server, &state.servers[*server], generation)
                        && !held.blocks()
                        && held.outcome != Some(Decided::Commit)
                });
                blind.count() < self.majority(generation)
            })
        })
    }

    /// Sorts servers that are members of the same generations.
    pub(crate) fn sort(&self, state: &mut State) {
        if self.only.is_some() {
            return;
        }
        let part = |server: usize| -> Vec<bool> {
            (0..self.generations.len()).map(|g| self.is_member(server, g)).collect()
        };
        let mut first = 0;
        while first < self.servers() {
            let mut end = first + 1;
            while end < self.servers() && part(end) == part(first) {
                end += 1;
            }
            state.servers[first..end].sort_unstable();
            first = end;
        }
    }
}
