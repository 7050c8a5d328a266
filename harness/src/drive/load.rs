//! The measured load itself: the open loop on its schedule, and the closed loop for throughput.
//! Neither retries, skips or re-bases anything; setting up and reading back live elsewhere.

use std::collections::VecDeque;

use quorate_check::history::{Nanos, Phase};
use tokio_util::sync::CancellationToken;

use crate::drive::DriverError;
use crate::drive::crew::{Crew, Ids, Later, Next, Order, Work};
use crate::drive::meter::{Meter, Window};
use crate::drive::recorder::Completion;
use crate::drive::schedule::{ArrivalTimes, Operations};

/// Arrivals sent between two looks at the sockets, when the driver is late.
const BURST: usize = 16;
/// How long a closed-loop client rests after a connection was refused: a server that is down
/// answers at once, and its clients would do nothing but ask.
const REFUSED_REST_NS: Nanos = 10_000_000;

/// What both loops need to make orders of planned operations.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) operations: Operations,
    pub(crate) window: Window,
    /// Servers asked in turn, as indices.
    pub(crate) targets: Vec<u32>,
    /// Servers that reads ask in turn.
    pub(crate) readers: Vec<u32>,
    /// Id of operation 0.
    pub(crate) first_id: u64,
}

impl Source {
    fn take(&mut self, due: Nanos, intended: Option<Nanos>) -> Order {
        let planned = self.operations.take();
        let asked = if planned.class.is_read() { &self.readers } else { &self.targets };
        let turn = planned.k % asked.len() as u64;
        Order {
            id: self.first_id + planned.k,
            node: asked[turn as usize],
            class: planned.class,
            phase: self.window.phase(due),
            key: planned.key,
            intended,
        }
    }
}

/// The open loop: arrivals come when the schedule says so, whatever the servers do.
pub(crate) struct OpenLoop<'a> {
    pub(crate) crew: &'a mut Crew,
    pub(crate) meter: &'a mut Meter,
    pub(crate) source: Source,
    pub(crate) arrivals: ArrivalTimes,
    /// Operations in flight at most.
    pub(crate) cap: usize,
    /// How long to wait, after the last arrival, for what is still open.
    pub(crate) drain: Nanos,
    /// Arrivals that found no free slot, in order. Unbounded by design: a bound would drop them.
    backlog: VecDeque<Order>,
}

impl<'a> OpenLoop<'a> {
    /// A loop that has not begun.
    pub(crate) fn new(
        crew: &'a mut Crew,
        meter: &'a mut Meter,
        source: Source,
        arrivals: ArrivalTimes,
        cap: usize,
        drain: Nanos,
    ) -> Self {
        Self { crew, meter, source, arrivals, cap, drain, backlog: VecDeque::new() }
    }

    /// Runs the load to the end of its drain.
    pub(crate) fn run(&mut self, cancel: &CancellationToken) -> Result<(), DriverError> {
        let Window { start, mut end, .. } = self.source.window;
        let mut next = start + self.arrivals.take();
        loop {
            let mut now = self.crew.clock.now();
            for _ in 0..BURST {
                if next > now || next >= end {
                    break;
                }
                self.arrive(next, now)?;
                next = start + self.arrivals.take();
                now = self.crew.clock.now();
            }
            let wake = if next < end { next } else { end + self.drain };
            self.crew.turn(wake)?;
            self.take_finished();
            self.catch_up()?;
            let now = self.crew.clock.now();
            self.meter.tick(now, self.crew.client.in_flight(), self.backlog.len());
            if next < end && cancel.is_cancelled() {
                end = now.min(next);
                self.meter.cut_short(end);
            }
            let open = self.crew.client.in_flight() + self.backlog.len();
            if next >= end
                && (open == 0 && !self.crew.client.has_finished() || now >= end + self.drain)
            {
                return self.stop();
            }
        }
    }

    fn arrive(&mut self, due: Nanos, now: Nanos) -> Result<(), DriverError> {
        let order = self.source.take(due, Some(due));
        if order.phase == Phase::Measure {
            self.meter.scheduled += 1;
        }
        if self.backlog.is_empty() && self.crew.client.in_flight() < self.cap {
            self.meter.begun(order.phase, Some(due), now);
            self.crew.begin(&order, now)
        } else {
            self.backlog.push_back(order);
            Ok(())
        }
    }

    /// Sends what waited for a free slot, before any new arrival gets one.
    fn catch_up(&mut self) -> Result<(), DriverError> {
        while self.crew.client.in_flight() < self.cap {
            let Some(order) = self.backlog.pop_front() else {
                break;
            };
            let now = self.crew.clock.now();
            self.meter.begun(order.phase, None, now);
            self.crew.begin(&order, now)?;
        }
        Ok(())
    }

    fn take_finished(&mut self) {
        for completion in &self.crew.finished {
            self.meter.ended(completion);
        }
    }

    /// The drain is over: what is open stays open for ever, what waited was never sent.
    fn stop(&mut self) -> Result<(), DriverError> {
        self.crew.abandon();
        self.take_finished();
        let now = self.crew.clock.now();
        self.meter.tick(now, 0, self.backlog.len());
        for order in std::mem::take(&mut self.backlog) {
            let completion = self.crew.never_sent(&order, now)?;
            self.meter.ended(&completion);
        }
        Ok(())
    }
}

/// The closed loop: every client sends its next operation when the last one is over.
pub(crate) struct ClosedLoop<'a> {
    pub(crate) meter: &'a mut Meter,
    source: Source,
    clients: usize,
    resting: Later<()>,
    in_flight: usize,
}

impl<'a> ClosedLoop<'a> {
    /// A loop of `clients` clients.
    pub(crate) fn new(meter: &'a mut Meter, source: Source, clients: usize) -> Self {
        let resting = Later::new(REFUSED_REST_NS);
        Self { meter, source, clients, resting, in_flight: 0 }
    }
}

impl Work for ClosedLoop<'_> {
    fn next(&mut self, now: Nanos, in_flight: usize, _ids: &mut Ids) -> Next {
        self.in_flight = in_flight;
        self.meter.tick(now, in_flight, 0);
        if now >= self.source.window.end {
            return Next::End;
        }
        if now < self.source.window.start {
            return Next::Wait(self.source.window.start);
        }
        while self.resting.pop(now).is_some() {}
        if in_flight + self.resting.len() >= self.clients {
            return Next::Wait(self.resting.first().unwrap_or(self.source.window.end));
        }
        let order = self.source.take(now, None);
        if order.phase == Phase::Measure {
            self.meter.scheduled += 1;
        }
        self.meter.begun(order.phase, None, now);
        Next::Begin(order)
    }

    fn done(&mut self, completion: &Completion) {
        self.meter.ended(completion);
        let code = completion.answer.code.as_deref();
        if code == Some("connect_refused") || code == Some("not_sent") {
            self.resting.push(completion.done, ());
        }
    }
}
