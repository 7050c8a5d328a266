//! Clients of a simulated cluster: operations go to the simulator, and time is what it says it is.
//! Counts and times out as the HTTP client does. Decides nothing about when operations are due.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::io;

use quorate_check::history::Nanos;

use crate::drive::recorder::Completion;
use crate::drive::reply::{Answer, ClientFault};
use crate::drive::request::{Call, Rid};
use crate::run::parts::Clock;
use crate::sim::{Ask, SimError, Simulator};

/// All clients.
#[derive(Debug)]
pub(crate) struct Simulated {
    clock: Clock,
    simulator: Simulator,
    timeout: Nanos,
    in_flight: BTreeMap<u64, (Call, Nanos)>,
    /// When clients give up, in order; operations may be over before.
    deadlines: VecDeque<(Nanos, u64)>,
    finished: Vec<Completion>,
    /// An order that could not be given; told at the next turn.
    broken: Option<SimError>,
}

impl Simulated {
    /// Clients that have not asked for anything.
    pub(crate) fn new(clock: Clock, simulator: Simulator, timeout: Nanos) -> Self {
        Self {
            clock,
            simulator,
            timeout,
            in_flight: BTreeMap::new(),
            deadlines: VecDeque::new(),
            finished: Vec::new(),
            broken: None,
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    pub(crate) fn begin(&mut self, call: Call, now: Nanos) {
        let deadline = now + self.timeout;
        let rid = call.rid.map(|rid| (rid.cluster, rid.position));
        let Call { id, node, class, base, .. } = call;
        let asked = self.simulator.ask(&Ask { id, at: now, node, class, rid, base, deadline });
        self.broken = self.broken.take().or(asked.err());
        self.deadlines.push_back((deadline, id));
        self.in_flight.insert(id, (call, now));
    }

    /// Lets time go on until the clock shows `until`, or something has ended.
    pub(crate) fn turn(&mut self, until: Nanos) -> io::Result<()> {
        if let Some(broken) = self.broken.take() {
            return Err(io::Error::other(broken));
        }
        let until = self.deadlines.front().map_or(until, |(first, _)| until.min(*first));
        let now = self.clock.now();
        if self.has_finished() || until == Nanos::MAX || until < now {
            return Ok(());
        }
        let told = self.simulator.advance(until).map_err(io::Error::other)?;
        self.clock.set(told.now.max(now));
        for answered in told.answers {
            let answer = Answer {
                outcome: answered.outcome,
                code: answered.code.map(Cow::Owned),
                seen: answered.seen,
                rid: answered.rid.map(|(cluster, position)| Rid { cluster, position }),
                version: answered.version,
            };
            // Who has given up hears no answer any more.
            self.finish(answered.id, answer, false);
        }
        self.expire();
        Ok(())
    }

    pub(crate) fn take_finished(&mut self, into: &mut Vec<Completion>) {
        into.clear();
        std::mem::swap(into, &mut self.finished);
    }

    pub(crate) fn abandon(&mut self) {
        for id in self.in_flight.keys().copied().collect::<Vec<_>>() {
            self.finish(id, ClientFault::ClientTimeout.answer(), true);
        }
    }

    fn expire(&mut self) {
        let now = self.clock.now();
        while let Some((at, id)) = self.deadlines.front().copied() {
            if self.in_flight.contains_key(&id) {
                if now < at {
                    return;
                }
                self.finish(id, ClientFault::ClientTimeout.answer(), false);
            }
            self.deadlines.pop_front();
        }
    }

    fn finish(&mut self, id: u64, answer: Answer, open: bool) {
        if let Some((call, sent)) = self.in_flight.remove(&id) {
            let done = self.clock.now();
            self.finished.push(Completion { call, sent, done, open, answer });
        }
    }
}
