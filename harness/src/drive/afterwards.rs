//! Reading back after the load: watching convergence, and the final reads of every key.
//! Reads alone, each a recorded operation; judging what they saw is the checkers' business.

use std::collections::{BTreeMap, BTreeSet};

use quorate_check::history::{Nanos, Outcome, Phase, Seen};

use crate::drive::crew::{Ids, Later, Next, Order, Work};
use crate::drive::recorder::Completion;
use crate::plan::OpClass;

/// Attempts at one final read.
const ATTEMPTS: u32 = 5;
/// Pause before the next one; by majority, through the next server.
const RETRY_NS: Nanos = 200_000_000;

/// One look at some keys on every server.
#[derive(Debug)]
pub(crate) struct Round {
    keys: Vec<u64>,
    nodes: u32,
    next: u64,
    deadline: Nanos,
    seen: Sights,
}

/// What the servers showed of each key, asked once each.
#[derive(Debug, Default)]
struct Sights(BTreeMap<u64, Sight>);

#[derive(Debug, Clone, Copy)]
struct Sight {
    first: Look,
    agreeing: u32,
}

/// What counts for agreement. Servers need not agree on which tombstone they remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Absent,
    Value { value: u64, version: Option<u64> },
}

impl Sights {
    /// Takes note of what one server showed; nothing if it showed nothing.
    fn note(&mut self, completion: &Completion) {
        let answer = &completion.answer;
        let look = match (answer.outcome, answer.seen) {
            (Outcome::Ok, Some(Seen::Value(value))) => {
                Look::Value { value, version: answer.version }
            }
            (Outcome::Ok, Some(Seen::Absent(_))) => Look::Absent,
            (Outcome::Ok | Outcome::Failed | Outcome::Unknown, _) => return,
        };
        let first = Sight { first: look, agreeing: 0 };
        let sight = self.0.entry(completion.call.key).or_insert(first);
        if sight.first == look {
            sight.agreeing += 1;
        }
    }

    /// Whether all `nodes` servers showed `key` alike.
    fn are_alike(&self, key: u64, nodes: u32) -> bool {
        self.0.get(&key).is_some_and(|sight| sight.agreeing == nodes)
    }
}

impl Round {
    /// A look at `keys`, cut short at `deadline`.
    pub(crate) fn new(keys: Vec<u64>, nodes: u32, deadline: Nanos) -> Self {
        Self { keys, nodes, next: 0, deadline, seen: Sights::default() }
    }

    /// The keys that not every server showed alike, in order.
    pub(crate) fn divergent(self) -> Vec<u64> {
        let Self { mut keys, nodes, seen, .. } = self;
        keys.retain(|key| !seen.are_alike(*key, nodes));
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
        self.seen.note(completion);
    }
}

/// A final read of a key: by majority, or locally on one server.
type Read = (u64, Option<u32>);

/// The final reads: of every key one majority read, and one local read on every server. One that
/// fails is tried again: the faults are over, but a busy machine is late now and then.
#[derive(Debug)]
pub(crate) struct FinalReads {
    keys: Vec<u64>,
    /// Servers asked for majority reads, in turn.
    targets: Vec<u32>,
    nodes: u32,
    next: u64,
    open: u64,
    attempts: BTreeMap<Read, u32>,
    again: Later<Read>,
    /// Servers on which a local read has failed in all attempts. The others there get one each: a
    /// server that never answers would take the time of all attempts for every key.
    given_up: BTreeSet<u32>,
    /// What the local reads showed.
    seen: Sights,
    /// Keys without a majority read after all attempts.
    unread: Vec<u64>,
}

/// What the final reads came to.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// Keys without a majority read after all attempts.
    pub unread: Vec<u64>,
    /// Reads, by majority or on one server, that failed at least once.
    pub failed: usize,
    /// Keys that the servers' local reads did not show alike, in content and version.
    pub divergent: usize,
    /// How often everything was read. The last time counts.
    pub passes: u32,
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
            given_up: BTreeSet::new(),
            seen: Sights::default(),
            unread: Vec::new(),
        }
    }

    pub(crate) fn end(self) -> ReadBack {
        let alike = |key: &&u64| self.seen.are_alike(**key, self.nodes);
        let divergent = self.keys.len() - self.keys.iter().filter(alike).count();
        ReadBack { unread: self.unread, failed: self.attempts.len(), divergent, passes: 1 }
    }

    fn begin(&mut self, read: Read, id: u64) -> Next {
        self.open += 1;
        let (key, local) = read;
        let (class, node) = match local {
            Some(node) => (OpClass::ReadLocal, node),
            None => {
                let attempt = self.attempts.get(&read).copied().unwrap_or(0);
                let turn = (key + u64::from(attempt)) % self.targets.len() as u64;
                (OpClass::ReadMajority, self.targets[turn as usize])
            }
        };
        Next::Begin(Order { id, node, class, phase: Phase::Final, key, intended: None })
    }
}

impl Work for FinalReads {
    fn next(&mut self, now: Nanos, _in_flight: usize, ids: &mut Ids) -> Next {
        if let Some(read) = self.again.pop(now) {
            return self.begin(read, ids.fresh());
        }
        let reads = u64::from(self.nodes) + 1;
        if let Some(key) = self.keys.get((self.next / reads) as usize).copied() {
            let turn = self.next % reads;
            self.next += 1;
            return self.begin((key, turn.checked_sub(1).map(|node| node as u32)), ids.fresh());
        }
        match self.again.first() {
            Some(at) => Next::Wait(at),
            None if self.open > 0 => Next::Wait(now + RETRY_NS),
            None => Next::End,
        }
    }

    fn done(&mut self, completion: &Completion) {
        self.open -= 1;
        let (key, node) = (completion.call.key, completion.call.node);
        let local = (completion.call.class == OpClass::ReadLocal).then_some(node);
        if completion.answer.outcome == Outcome::Ok {
            if local.is_some() {
                self.seen.note(completion);
            }
            return;
        }
        let attempts = self.attempts.entry((key, local)).or_insert(0);
        *attempts += 1;
        let is_last = *attempts >= ATTEMPTS;
        match local {
            Some(node) if self.given_up.contains(&node) => {}
            _ if !is_last => self.again.push(completion.done, (key, local)),
            Some(node) => drop(self.given_up.insert(node)),
            None => self.unread.push(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::reply::Answer;
    use crate::drive::request::Call;

    const SERVERS: u32 = 2;

    /// Two servers, asked one read at a time; what they answer is for `outcome` to say. The reads
    /// in their order, each with its server, and what they came to.
    fn ask(
        keys: Vec<u64>,
        outcome: impl Fn(u64, OpClass, u32) -> Outcome,
    ) -> (Vec<(u64, OpClass, u32)>, ReadBack) {
        let mut reads = FinalReads::new(keys, (0..SERVERS).collect(), SERVERS);
        let (mut now, mut ids, mut asked) = (0, Ids::default(), Vec::new());
        loop {
            match reads.next(now, 0, &mut ids) {
                Next::Begin(order) => {
                    asked.push((order.key, order.class, order.node));
                    let outcome = outcome(order.key, order.class, order.node);
                    now += RETRY_NS / 10;
                    reads.done(&completion(order, now, outcome, Some(1)));
                }
                Next::Wait(at) => now = at,
                Next::End => return (asked, reads.end()),
            }
        }
    }

    fn completion(order: Order, now: Nanos, outcome: Outcome, version: Option<u64>) -> Completion {
        let Order { id, node, class, phase, key, .. } = order;
        let (rid, base, intended) = (None, None, now);
        let call =
            Call { id, process: 0, session: 0, node, class, phase, key, rid, base, intended };
        let seen = Some(Seen::Value(7));
        let answer = Answer { outcome, code: None, seen, rid: None, version };
        Completion { call, sent: now, done: now, open: false, answer }
    }

    fn back(unread: &[u64], failed: usize, divergent: usize) -> ReadBack {
        ReadBack { unread: unread.to_vec(), failed, divergent, passes: 1 }
    }

    #[test]
    fn what_is_read_at_once_is_read_once() {
        let (asked, read) = ask(vec![7, 8], |_, _, _| Outcome::Ok);
        let of = |key| {
            let local = |node| (key, OpClass::ReadLocal, node);
            [(key, OpClass::ReadMajority, (key % 2) as u32), local(0), local(1)]
        };
        assert_eq!(asked, [of(7), of(8)].concat());
        assert_eq!(read, back(&[], 0, 0));
    }

    /// A majority read goes to the next server, a local one to its own again.
    #[test]
    fn a_read_that_fails_is_tried_again() {
        let failures = std::cell::Cell::new(2);
        let (asked, read) = ask(vec![7], |_, class, node| match (class, node) {
            (OpClass::ReadMajority, 1) => Outcome::Failed,
            (OpClass::ReadLocal, 1) if failures.get() > 0 => {
                failures.set(failures.get() - 1);
                Outcome::Unknown
            }
            _ => Outcome::Ok,
        });
        let of =
            |class| asked.iter().filter(move |(_, c, _)| *c == class).map(|(_, _, node)| *node);
        assert_eq!(of(OpClass::ReadMajority).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(of(OpClass::ReadLocal).collect::<Vec<_>>(), [0, 1, 1, 1]);
        assert_eq!(read, back(&[], 2, 0));
    }

    #[test]
    fn a_server_that_never_answers_costs_all_attempts_only_at_first() {
        let keys: Vec<u64> = (0..100).collect();
        let (asked, read) = ask(keys, |_, class, node| match (class, node) {
            (OpClass::ReadLocal, 1) => Outcome::Unknown,
            _ => Outcome::Ok,
        });
        let silent =
            asked.iter().filter(|(_, class, node)| (*class, *node) == (OpClass::ReadLocal, 1));
        let attempts = ATTEMPTS as usize;
        assert!((100 + attempts..200).contains(&silent.count()), "{asked:?}");
        assert_eq!(read, back(&[], 100, 100));
        let (_, read) = ask(vec![7, 8], |key, class, _| match (class, key) {
            (OpClass::ReadMajority, 8) => Outcome::Failed,
            _ => Outcome::Ok,
        });
        assert_eq!(read, back(&[8], 1, 0));
    }

    /// A server that shows an older version, or nothing, is not like the others.
    #[test]
    fn servers_that_differ_are_told_from_those_alike() {
        for (outcome, version, differing) in
            [(Outcome::Ok, 2, 0), (Outcome::Ok, 1, 1), (Outcome::Failed, 2, 1)]
        {
            let mut reads = FinalReads::new(vec![7], vec![0], SERVERS);
            let mut ids = Ids::default();
            while let Next::Begin(order) = reads.next(0, 0, &mut ids) {
                let is_second = order.class == OpClass::ReadLocal && order.node == 1;
                let (outcome, version) =
                    if is_second { (outcome, version) } else { (Outcome::Ok, 2) };
                reads.done(&completion(order, 0, outcome, Some(version)));
            }
            assert_eq!(reads.end().divergent, differing);
        }
    }
}
