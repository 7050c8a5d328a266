//! The real machine as an acceptor: every durable state it can be in and what every message does
//! there, as a table. Rules are not written here: each entry is one run of `Machine::step`
//! (`disk.rs`).
//!
//! A machine is built from its durable state for every single message. That is a restart before
//! each of them; what a running machine only holds (a Prepare that waits, a commit that waits for
//! its base) is a message that was not delivered yet. `conformance.rs` shows that this is so.

use std::collections::BTreeMap;

use quorate_api::{Stamp, TxId};
use quorate_protocol::message::{Decided, Message, No, NoReason, Promise, Value, Vote, VoteReply};

use super::case::{Case, Rule};
use super::disk::Disk;

/// A message as an acceptor gets it, with what the world adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Prepare {
        tx: usize,
    },
    /// A Prepare that waits for a lock until its time is up.
    PrepareUntilTired {
        tx: usize,
    },
    /// A Prepare that finds the cluster's generation gone: a No without any conflict.
    PrepareTooLate {
        tx: usize,
    },
    Accept {
        tx: usize,
        cluster: usize,
        round: usize,
        value: Value,
    },
    Recover {
        tx: usize,
        cluster: usize,
        round: usize,
    },
    Outcome {
        tx: usize,
        outcome: Decided,
    },
    /// The coordinator's mark is above this transaction.
    Low {
        tx: usize,
    },
    /// With some wrong rules: a restart that loses what was said of a transaction.
    Lose {
        tx: usize,
    },
    /// A3: a restart with an empty disk.
    Wipe,
    /// A3: another's Yes becomes this server's.
    CopyVote {
        tx: usize,
    },
    /// A12: one item of a commit is taken over by itself.
    CopyItem {
        tx: usize,
        cluster: usize,
    },
}

impl Input {
    /// The transaction that it is about.
    pub(crate) const fn tx(self) -> Option<usize> {
        match self {
            Self::Prepare { tx }
            | Self::PrepareUntilTired { tx }
            | Self::PrepareTooLate { tx }
            | Self::Accept { tx, .. }
            | Self::Recover { tx, .. }
            | Self::Outcome { tx, .. }
            | Self::Low { tx }
            | Self::Lose { tx }
            | Self::CopyVote { tx }
            | Self::CopyItem { tx, .. } => Some(tx),
            Self::Wipe => None,
        }
    }

    pub(crate) fn is_about(self, case: &Case, id: TxId) -> bool {
        self.tx().is_some_and(|tx| case.id(tx) == id)
    }
}

/// What a message is answered with, as far as anybody acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    Yes,
    No,
    Accepted,
    /// Number of a promise in [`Acceptor::promises`].
    Promise(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) to: u16,
    pub(crate) answer: Answer,
}

/// What a state means, one bit a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Undecided Yes votes.
    pub(crate) open_yes: u8,
    /// Committed state includes it.
    pub(crate) applied: u8,
    /// Its outcome is known, or it is finished.
    pub(crate) settled: u8,
    /// Committed state includes a part of it and lacks another.
    pub(crate) torn: u8,
    /// The machine found two things that cannot both be true.
    pub(crate) corrupt: bool,
}

/// One server's acceptor, closed under all messages of a case. State 0 is an empty disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Acceptor {
    pub(crate) inputs: Vec<Input>,
    /// By state, then by input; `None` where the message cannot be: two values in one ballot.
    pub(crate) steps: Vec<Vec<Option<Step>>>,
    pub(crate) facts: Vec<Facts>,
    /// Every promise that was answered, without operations and participants.
    pub(crate) promises: Vec<Promise>,
    /// What the states are.
    pub(crate) states: Vec<Disk>,
}

impl Acceptor {
    pub(crate) fn explore(case: &Case, server: usize) -> Self {
        let inputs = inputs(case, server);
        let mut states = vec![Disk::default()];
        let mut known = BTreeMap::from([(format!("{:?}", states[0]), 0)]);
        let (mut steps, mut promises) = (Vec::new(), Vec::new());
        while let Some(disk) = states.get(steps.len()).cloned() {
            let mut row = Vec::with_capacity(inputs.len());
            for input in &inputs {
                let Some((next, answer)) = disk.handle(case, server, *input, &mut promises) else {
                    row.push(None);
                    continue;
                };
                let fresh = states.len();
                let to = *known.entry(format!("{next:?}")).or_insert(fresh);
                if to == fresh {
                    states.push(next);
                }
                let to = u16::try_from(to).expect("more states than the table can number");
                row.push(Some(Step { to, answer }));
            }
            steps.push(row);
        }
        let facts = states.iter().map(|disk| disk.facts(case, server)).collect();
        Self { inputs, steps, facts, promises, states }
    }
}

/// Every message that can ever reach a server.
fn inputs(case: &Case, server: usize) -> Vec<Input> {
    let mut inputs = Vec::new();
    for tx in 0..case.txs.len() {
        inputs.push(Input::Prepare { tx });
        inputs.push(Input::PrepareUntilTired { tx });
        if case.spurious_no {
            inputs.push(Input::PrepareTooLate { tx });
        }
        for cluster in case.txs[tx].touches.iter().copied() {
            if !case.clusters[cluster].masters.contains(&server) {
                continue;
            }
            for round in 1..=case.rounds(tx) {
                if round > 1 {
                    inputs.push(Input::Recover { tx, cluster, round });
                }
                for value in [Value::Prepared, Value::Aborted] {
                    inputs.push(Input::Accept { tx, cluster, round, value });
                }
            }
        }
        for outcome in [Decided::Commit, Decided::Abort] {
            inputs.push(Input::Outcome { tx, outcome });
        }
        if case.forgetting {
            inputs.push(Input::Low { tx });
        }
        match case.rule {
            Rule::ForgetNo | Rule::YesBeforeDurable | Rule::AcceptBeforeDurable => {
                inputs.push(Input::Lose { tx });
            }
            Rule::CopiedVotes => inputs.push(Input::CopyVote { tx }),
            Rule::RepairByItem => {
                let touched = case.txs[tx].touches.iter().copied();
                inputs.extend(touched.map(|cluster| Input::CopyItem { tx, cluster }));
            }
            _ => {}
        }
    }
    if case.rule == Rule::Wiped {
        inputs.push(Input::Wipe);
    }
    inputs
}

pub(crate) fn answer(message: Message, promises: &mut Vec<Promise>) -> Answer {
    match message {
        Message::Vote { reply: VoteReply::Vote(Vote::Yes), .. } => Answer::Yes,
        Message::Vote { reply: VoteReply::Vote(Vote::No(_)), .. } => Answer::No,
        Message::Accepted { .. } => Answer::Accepted,
        Message::Promise { promise, .. } => {
            let Promise { vote, accepted, .. } = promise;
            let vote = vote.map(|vote| match vote {
                Vote::Yes => Vote::Yes,
                Vote::No(_) => Vote::No(plain_no()),
            });
            let promise = Promise { vote, accepted, ops: Vec::new(), participants: Vec::new() };
            let number = promises.iter().position(|known| *known == promise);
            let number = number.unwrap_or_else(|| {
                promises.push(promise);
                promises.len() - 1
            });
            Answer::Promise(u8::try_from(number).expect("more promises than can be numbered"))
        }
        _ => Answer::Nothing,
    }
}

/// Any No: its reason is for the client.
pub(crate) const fn plain_no() -> No {
    No { reason: NoReason::Busy, item: None, current: Stamp::ABSENT, holder: None }
}
