//! Reading back after the load: watching convergence, and the final reads of every key.
//! Reads alone, each a recorded operation; judging what they saw is the checkers' business.

use std::collections::BTreeMap;

use quorate_check::history::{Nanos, Outcome, Phase, Seen};

use crate::drive::crew::{Ids, Later, Next, Order, Work};
use crate::drive::recorder::Completion;
use crate::plan::OpClass;

/// Attempts at the majority read of one key.
const MAJORITY_ATTEMPTS: u32 = 5;
/// Pause before the next one, through the next server.
const RETRY_NS: Nanos = 200_000_000;

/// One look at some keys on every server.
#[derive(Debug)]
pub(crate) struct Round {
    keys: Vec<u64>,
    nodes: u32,
    next: u64,
    deadline: Nanos,
    seen: BTreeMap<u64, Sight>,
}

/// What the servers showed of one key.
#[derive(Debug, Clone, Copy)]
struct Sight {
    first: Look,
    agreeing: u32,
}

/// What counts for agreement. Servers need not agree on which tombstone they remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Absent,
    Value(u64),
}

impl Round {
    /// A look at `keys`, cut short at `deadline`.
    pub(crate) fn new(keys: Vec<u64>, nodes: u32, deadline: Nanos) -> Self {
        Self { keys, nodes, next: 0, deadline, seen: BTreeMap::new() }
    }

    /// The keys that not every server showed alike, in order.
    pub(crate) fn divergent(self) -> Vec<u64> {
        let Self { mut keys, nodes, seen, .. } = self;
        keys.retain(|key| seen.get(key).is_none_or(|sight| sight.agreeing < nodes));
        keys
    }
}

impl Work for Round {
    fn next(&mut self, now: Nanos, _in_flight: usize, ids: &mut Ids) -> Next {
        let nodes = u64::from(self.nodes);
        let Some(key) = self.keys.get((self.next / nodes) as usize).copied() else {
            return Next::End;
        };
        if now >= self.deadline {
            return Next::End;
        }
        let node = (self.next % nodes) as u32;
        self.next += 1;
        let (id, class, phase) = (ids.fresh(), OpClass::ReadLocal, Phase::Settle);
        Next::Begin(Order { id, node, class, phase, key, intended: None })
    }

    fn done(&mut self, completion: &Completion) {
        let look = match (completion.answer.outcome, completion.answer.seen) {
            (Outcome::Ok, Some(Seen::Value(value))) => Look::Value(value),
            (Outcome::Ok, Some(Seen::Absent(_))) => Look::Absent,
            (Outcome::Ok | Outcome::Failed | Outcome::Unknown, _) => return,
        };
        let first = Sight { first: look, agreeing: 0 };
        let sight = self.seen.entry(completion.call.key).or_insert(first);
        if sight.first == look {
            sight.agreeing += 1;
        }
    }
}

/// The final reads: of every key one majority read, and one local read on every server.
#[derive(Debug)]
pub(crate) struct FinalReads {
    keys: Vec<u64>,
    /// Servers asked for majority reads, in turn.
    targets: Vec<u32>,
    nodes: u32,
    next: u64,
    open: u64,
    attempts: BTreeMap<u64, u32>,
    again: Later<u64>,
    /// Keys without a majority read after all attempts.
    pub(crate) unread: Vec<u64>,
}

impl FinalReads {
    /// Final reads of `keys`.
    pub(crate) fn new(keys: Vec<u64>, targets: Vec<u32>, nodes: u32) -> Self {
        Self {
            keys,
            targets,
            nodes,
            next: 0,
            open: 0,
            attempts: BTreeMap::new(),
            again: Later::new(RETRY_NS),
            unread: Vec::new(),
        }
    }

    fn majority(&mut self, key: u64, attempt: u32, id: u64) -> Next {
        self.open += 1;
        let turn = (key + u64::from(attempt)) % self.targets.len() as u64;
        let node = self.targets[turn as usize];
        let (class, phase) = (OpClass::ReadMajority, Phase::Final);
        Next::Begin(Order { id, node, class, phase, key, intended: None })
    }
}

impl Work for FinalReads {
    fn next(&mut self, now: Nanos, _in_flight: usize, ids: &mut Ids) -> Next {
        if let Some(key) = self.again.pop(now) {
            let attempt = self.attempts.get(&key).copied().unwrap_or(0);
            return self.majority(key, attempt, ids.fresh());
        }
        let reads = u64::from(self.nodes) + 1;
        if let Some(key) = self.keys.get((self.next / reads) as usize).copied() {
            let turn = self.next % reads;
            self.next += 1;
            if turn == 0 {
                return self.majority(key, 0, ids.fresh());
            }
            let (node, id) = ((turn - 1) as u32, ids.fresh());
            let (class, phase) = (OpClass::ReadLocal, Phase::Final);
            return Next::Begin(Order { id, node, class, phase, key, intended: None });
        }
        match self.again.first() {
            Some(at) => Next::Wait(at),
            None if self.open > 0 => Next::Wait(now + RETRY_NS),
            None => Next::End,
        }
    }

    fn done(&mut self, completion: &Completion) {
        if completion.call.class != OpClass::ReadMajority {
            return;
        }
        self.open -= 1;
        if completion.answer.outcome == Outcome::Ok {
            return;
        }
        let key = completion.call.key;
        let attempts = self.attempts.entry(key).or_insert(0);
        *attempts += 1;
        if *attempts < MAJORITY_ATTEMPTS {
            self.again.push(completion.done, key);
        } else {
            self.unread.push(key);
        }
    }
}
