//! What all phases of a run share: client, sessions, key table and recorder, kept in step.
//! Turns orders into calls and completions into knowledge; does not decide what to order.

use std::collections::VecDeque;

use quorate_check::history::{Nanos, Outcome, Phase};
use tokio_util::sync::CancellationToken;

use crate::drive::DriverError;
use crate::drive::recorder::{Completion, Recorder};
use crate::drive::reply::ClientFault;
use crate::drive::request::Call;
use crate::drive::sessions::Sessions;
use crate::drive::table::KeyTable;
use crate::drive::transport::Transport;
use crate::plan::OpClass;
use crate::run::parts::Clock;

/// First id of operations that are neither of the load's first attempts nor of the schedule.
/// Below 2^53, so that every JSON reader keeps all digits.
const EXTRA_IDS: u64 = 1 << 40;

/// An operation to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) node: u32,
    pub(crate) class: OpClass,
    pub(crate) phase: Phase,
    pub(crate) key: u64,
    /// Its time in an open-loop schedule.
    pub(crate) intended: Option<Nanos>,
}

/// What a source of work wants next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send this now.
    Begin(Order),
    /// Ask again at this time, or when something has finished.
    Wait(Nanos),
    /// There will be no more.
    End,
}

/// A source of closed-loop work.
pub(crate) trait Work {
    /// What to do at `now`, with `in_flight` operations under way.
    fn next(&mut self, now: Nanos, in_flight: usize, ids: &mut Ids) -> Next;
    /// Takes note of an operation that ended.
    fn done(&mut self, completion: &Completion);
}

/// Hands out ids outside the schedule.
#[derive(Debug)]
pub(crate) struct Ids(u64);

impl Default for Ids {
    fn default() -> Self {
        Self(EXTRA_IDS)
    }
}

impl Ids {
    /// An id that no other operation of the run has.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// The parts that every phase works with.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) clock: Clock,
    pub(crate) client: Transport,
    pub(crate) table: KeyTable,
    pub(crate) recorder: Recorder,
    pub(crate) ids: Ids,
    sessions: Sessions,
    /// What ended in the last turn.
    pub(crate) finished: Vec<Completion>,
}

impl Crew {
    /// A crew that knows nothing yet.
    pub(crate) fn new(clock: Clock, client: Transport, recorder: Recorder) -> Self {
        Self {
            clock,
            client,
            recorder,
            table: KeyTable::default(),
            ids: Ids::default(),
            sessions: Sessions::default(),
            finished: Vec::new(),
        }
    }

    /// Sends an operation.
    pub(crate) fn begin(&mut self, order: &Order, now: Nanos) -> Result<(), DriverError> {
        let call = self.call(order, now)?;
        if call.class == OpClass::Delete {
            self.table.deleting(call.key);
        }
        self.recorder.invoked(&call, now);
        self.client.begin(call, now);
        Ok(())
    }

    /// Records an operation of the schedule whose turn never came.
    pub(crate) fn never_sent(
        &mut self,
        order: &Order,
        now: Nanos,
    ) -> Result<Completion, DriverError> {
        let call = self.call(order, now)?;
        let answer = ClientFault::NeverSent.answer();
        self.sessions.release(call.session, answer.outcome);
        let completion = Completion { call, sent: now, done: now, open: false, answer };
        self.recorder.invoked(&call, now);
        self.recorder.completed(&completion);
        Ok(completion)
    }

    fn call(&mut self, order: &Order, now: Nanos) -> Result<Call, DriverError> {
        let (key, rid) = if order.class == OpClass::Create {
            (order.key, None)
        } else {
            let (key, rid) = self.table.nearest(order.key).ok_or(DriverError::NothingLoaded)?;
            (key, Some(rid))
        };
        let base = (order.class == OpClass::UpdateVersioned).then(|| self.table.version(key));
        let (session, process) = self.sessions.acquire();
        let Order { id, node, class, phase, intended, .. } = *order;
        Ok(Call {
            id,
            process,
            session,
            node,
            class,
            phase,
            key,
            rid,
            base,
            intended: intended.unwrap_or(now),
        })
    }

    /// Waits for news until `until`; what ended is in `finished` afterwards, already recorded.
    pub(crate) fn turn(&mut self, until: Nanos) -> Result<(), DriverError> {
        self.recorder.tick(self.clock.now())?;
        self.client.turn(until).map_err(DriverError::Poll)?;
        self.collect();
        Ok(())
    }

    /// Stops waiting for what is in flight; it is in `finished` afterwards.
    pub(crate) fn abandon(&mut self) {
        self.client.abandon();
        self.collect();
    }

    fn collect(&mut self) {
        self.client.take_finished(&mut self.finished);
        for completion in &self.finished {
            let Completion { call, answer, .. } = completion;
            self.sessions.release(call.session, answer.outcome);
            match (answer.outcome, answer.rid, answer.version) {
                (Outcome::Ok, Some(rid), Some(version)) if call.class == OpClass::Create => {
                    self.table.created(call.key, rid, version);
                }
                (Outcome::Ok, _, Some(version)) => self.table.saw(call.key, version),
                _ => {}
            }
            self.recorder.completed(completion);
        }
    }

    /// Works through `work` with at most `width` operations in flight, until it ends and all of
    /// them are over. Cancelling lets those in flight end and begins no more.
    pub(crate) fn work(
        &mut self,
        width: usize,
        work: &mut impl Work,
        cancel: &CancellationToken,
    ) -> Result<(), DriverError> {
        let mut ended = false;
        loop {
            let mut until = Nanos::MAX;
            ended |= cancel.is_cancelled();
            while !ended && self.client.in_flight() < width {
                let now = self.clock.now();
                match work.next(now, self.client.in_flight(), &mut self.ids) {
                    Next::Begin(order) => self.begin(&order, now)?,
                    Next::Wait(at) => {
                        until = at;
                        break;
                    }
                    Next::End => ended = true,
                }
            }
            if ended && self.client.in_flight() == 0 && !self.client.has_finished() {
                return Ok(());
            }
            self.turn(until)?;
            for completion in &self.finished {
                work.done(completion);
            }
        }
    }
}

/// Things that are due after a constant pause, so in the order in which they came.
#[derive(Debug)]
pub(crate) struct Later<T> {
    pause: Nanos,
    queue: VecDeque<(Nanos, T)>,
}

impl<T> Later<T> {
    /// Nothing is waiting; everything will wait for `pause`.
    pub(crate) fn new(pause: Nanos) -> Self {
        Self { pause, queue: VecDeque::new() }
    }

    /// Keeps `item` for the pause from `now`.
    pub(crate) fn push(&mut self, now: Nanos, item: T) {
        self.queue.push_back((now + self.pause, item));
    }

    /// The first item if it is due.
    pub(crate) fn pop(&mut self, now: Nanos) -> Option<T> {
        self.queue.pop_front_if(|(at, _)| *at <= now).map(|(_, item)| item)
    }

    /// When the first item is due.
    pub(crate) fn first(&self) -> Option<Nanos> {
        self.queue.front().map(|(at, _)| *at)
    }

    /// Items waiting.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}
