//! Questions how far the log is committed: of this server's clients, who are answered once it has
//! applied as much, and of servers that have no part in the log, who are told the index. May not
//! know how the answer is found.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_api::{Boot, NodeId};

use super::observer::HOPS_MAX;
use super::wire::Wire;
use super::{Answer, ELECTION, Effect, Plane, StateMachine};

/// Ticks after which a server that asked is forgotten: it asks again, under the same number.
const FORGOTTEN: usize = 2 * ELECTION;

/// Who wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client, with the shell's number for its request.
    Client(u64),
    /// Another server, with that one's number, for somebody so many servers away.
    Server(NodeId, u64, u8),
}

/// How far somebody has to catch up.
#[derive(Debug)]
struct Question {
    asker: Asker,
    /// Ticks since it was put.
    ticks: usize,
    /// The leader's answer.
    index: Option<u64>,
}

/// Open questions, by a number of this server's own.
#[derive(Debug)]
pub(super) struct Questions {
    last: u64,
    open: BTreeMap<u64, Question>,
}

impl Questions {
    /// Numbers begin with the boot: what is told to the one before answers no question of this one.
    pub(super) fn new(boot: Boot) -> Self {
        Self { last: u64::from(boot.0) << 32, open: BTreeMap::new() }
    }

    /// A question, unless it is open already; gives its number.
    pub(super) fn add(&mut self, asker: Asker) -> u64 {
        let open = self.open.iter().find(|(_, question)| question.asker == asker);
        if let Some((number, _)) = open {
            return *number;
        }
        self.last += 1;
        let question = Question { asker, ticks: 0, index: None };
        self.open.insert(self.last, question);
        self.last
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// From which server a question came, and how many it has passed.
    fn way_of(&self, number: u64) -> (Option<NodeId>, u8) {
        match self.open.get(&number).map(|question| question.asker) {
            Some(Asker::Server(from, _, hops)) => (Some(from), hops),
            Some(Asker::Client(_)) | None => (None, 0),
        }
    }

    /// The leader has answered.
    pub(super) fn settle(&mut self, number: u64, index: u64) {
        if let Some(question) = self.open.get_mut(&number) {
            question.index = Some(index);
        }
    }

    /// A client does not wait any more; false when it did not ask.
    pub(super) fn withdraw(&mut self, request: u64) -> bool {
        let before = self.open.len();
        self.open.retain(|_, question| question.asker != Asker::Client(request));
        self.open.len() < before
    }

    /// A tick later: those that are to be asked again.
    fn tick(&mut self) -> Vec<u64> {
        self.open.retain(|_, question| {
            question.ticks += 1;
            matches!(question.asker, Asker::Client(_)) || question.ticks < FORGOTTEN
        });
        let waits = |question: &Question| {
            question.index.is_none() && question.ticks.is_multiple_of(ELECTION)
        };
        self.open.iter().filter(|(_, q)| waits(q)).map(|(number, _)| *number).collect()
    }

    /// Those that can be answered by who has applied so much.
    fn answered(&mut self, applied: u64) -> Vec<(Asker, u64)> {
        let known = |question: &Question| match question.asker {
            Asker::Client(_) => question.index.filter(|index| *index <= applied),
            Asker::Server(..) => question.index,
        };
        let found: Vec<(u64, Asker, u64)> = self
            .open
            .iter()
            .filter_map(|(number, question)| Some((*number, question.asker, known(question)?)))
            .collect();
        self.open.retain(|number, _| found.iter().all(|(answered, ..)| answered != number));
        found.into_iter().map(|(_, asker, index)| (asker, index)).collect()
    }
}

impl<A: StateMachine> Plane<A> {
    /// Asks how far the log is committed. Lost without a leader, so it is repeated.
    pub(super) fn ask(&mut self, number: u64, out: &mut Vec<Effect>) {
        if self.follows() {
            let (from, hops) = self.questions.way_of(number);
            let source = self.fed_by().filter(|source| Some(*source) != from && hops < HOPS_MAX);
            let asked = Wire::Ask { question: number, hops: hops + 1 };
            out.extend(source.map(|to| asked.to(to, 0)));
            return;
        }
        let context = [&self.asker()[..], &number.to_be_bytes()].concat();
        self.raft.read_index(context);
    }

    /// Makes questions different from those of other servers, and of other boots.
    fn asker(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.config.node.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.config.boot.0.to_be_bytes());
        bytes
    }

    /// The number of an own question that the library has an answer to.
    pub(super) fn number_in(&self, context: &[u8]) -> Option<u64> {
        let number = context.strip_prefix(&self.asker())?;
        number.try_into().ok().map(u64::from_be_bytes)
    }

    pub(super) fn ask_again(&mut self, out: &mut Vec<Effect>) {
        for number in self.questions.tick() {
            self.ask(number, out);
        }
    }

    /// Answers whom it can.
    pub(super) fn answer(&mut self, out: &mut Vec<Effect>) {
        for (asker, index) in self.questions.answered(self.applied) {
            out.push(match asker {
                Asker::Client(request) => Effect::Answer { request, answer: Answer::CaughtUp },
                Asker::Server(to, question, _) => Wire::Answered { question, index }.to(to, 0),
            });
        }
    }
}
