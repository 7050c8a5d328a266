//! The HTTP client: keep-alive connections to every server, operations in flight, timeouts.
//! One thread, no hidden retry: every operation handed in ends in exactly one completion. Decides
//! nothing about when operations are due or which ones there are.
//!
//! Each server has a stack of idle connections; an operation takes the one that became idle last,
//! and a further one is opened when there is none, so that an arrival never waits for a reply.
//! Connections found closed are dropped and opened anew when needed.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use mio::{Events, Token};
use quorate_check::history::Nanos;

use crate::drive::connection::{Connection, Pending, Progress, Stage};
use crate::drive::recorder::Completion;
use crate::drive::reply::{Answer, ClientFault};
use crate::drive::request::{Call, Encoder};
use crate::drive::wake::{Waiter, is_socket};
use crate::run::parts::Clock;

/// Events taken from the kernel at once.
const EVENTS: usize = 512;
/// Bytes read at once; larger than any reply of a benchmark record.
const READ_BYTES: usize = 64 * 1024;

/// When the client gives up on the operation that connection `index` had as number `serial`.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Nanos,
    index: usize,
    serial: u64,
}

#[derive(Debug)]
struct Slot {
    connection: Option<Connection>,
    /// Counts operations, so that a deadline of an earlier one is told apart.
    serial: u64,
}

/// The client. `turn` is its heart.
#[derive(Debug)]
pub(crate) struct Client {
    clock: Clock,
    waiter: Waiter,
    events: Events,
    addrs: Vec<SocketAddr>,
    encoder: Encoder,
    timeout: Nanos,
    slots: Vec<Slot>,
    /// Slots without a connection, and those freed during this turn, which must not be used
    /// before its remaining events are looked at.
    vacant: Vec<usize>,
    freed: Vec<usize>,
    idle: Vec<Vec<usize>>,
    deadlines: VecDeque<Deadline>,
    in_flight: usize,
    finished: Vec<Completion>,
    buffer: Vec<u8>,
}

impl Client {
    /// A client of the servers at `addrs`, without any connection yet.
    pub(crate) fn new(
        clock: Clock,
        addrs: Vec<SocketAddr>,
        encoder: Encoder,
        timeout: Nanos,
    ) -> io::Result<Self> {
        Ok(Self {
            clock,
            waiter: Waiter::new(clock)?,
            events: Events::with_capacity(EVENTS),
            idle: vec![Vec::new(); addrs.len()],
            addrs,
            encoder,
            timeout,
            slots: Vec::new(),
            vacant: Vec::new(),
            freed: Vec::new(),
            deadlines: VecDeque::new(),
            in_flight: 0,
            finished: Vec::new(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Operations begun and not finished.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// True if operations ended that nobody has taken note of yet.
    pub(crate) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// Opens a connection ahead of need. A refusal is left for the operation that meets it.
    pub(crate) fn warm(&mut self, node: u32) {
        let index = self.vacant_slot();
        match self.connect(node, index) {
            Ok(()) => {}
            Err(_) => self.vacant.push(index),
        }
    }

    /// Begins an operation. Whatever happens to it comes out of [`Self::take_finished`].
    pub(crate) fn begin(&mut self, call: Call, now: Nanos) {
        self.in_flight += 1;
        let idle = self.idle[call.node as usize].pop();
        let index = match idle {
            Some(index) => index,
            None => {
                let index = self.vacant_slot();
                if self.connect(call.node, index).is_err() {
                    self.vacant.push(index);
                    let pending = Pending { call, begun: now, sent: None };
                    self.finish(pending, ClientFault::ConnectRefused.answer(), self.clock.now());
                    return;
                }
                index
            }
        };
        let slot = &mut self.slots[index];
        slot.serial += 1;
        let at = now + self.timeout;
        self.deadlines.push_back(Deadline { at, index, serial: slot.serial });
        let Some(connection) = &mut slot.connection else {
            return;
        };
        self.encoder.encode(&call, &mut connection.request);
        let progress = connection.start(call, now, self.clock);
        self.apply(index, progress);
    }

    /// Waits for news until the clock shows `until`, and takes in what there is.
    pub(crate) fn turn(&mut self, until: Nanos) -> io::Result<()> {
        let mut until = self.deadlines.front().map_or(until, |first| until.min(first.at));
        if self.has_finished() {
            // What ended at once, a refused connection for one, must not wait for other news.
            until = 0;
        }
        self.waiter.wait(until, &mut self.events)?;
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in events.iter().filter(|event| is_socket(event.token())) {
            let closed = event.is_read_closed() || event.is_error();
            self.on_event(event.token().0, event.is_readable() || closed, closed);
        }
        self.events = events;
        self.vacant.append(&mut self.freed);
        self.expire();
        Ok(())
    }

    /// The operations that ended since the last call, in order; `into` is emptied first.
    pub(crate) fn take_finished(&mut self, into: &mut Vec<Completion>) {
        into.clear();
        std::mem::swap(into, &mut self.finished);
    }

    /// Stops waiting for whatever is still in flight: sent operations are open for ever, the
    /// others never happened.
    pub(crate) fn abandon(&mut self) {
        let now = self.clock.now();
        for index in 0..self.slots.len() {
            let connection = self.slots[index].connection.as_mut();
            let Some(pending) = connection.and_then(|connection| connection.pending.take()) else {
                continue;
            };
            self.close(index);
            let fault = match pending.sent {
                Some(_) => ClientFault::ClientTimeout,
                None => ClientFault::NeverSent,
            };
            self.finish(pending, fault.answer(), now);
            if let Some(last) = self.finished.last_mut() {
                last.open = pending.sent.is_some();
            }
        }
        self.vacant.append(&mut self.freed);
    }

    fn on_event(&mut self, index: usize, readable: bool, closed: bool) {
        let Some(connection) = self.slots.get_mut(index).and_then(|slot| slot.connection.as_mut())
        else {
            return;
        };
        let before = connection.stage();
        // Edge-triggered, so a writable edge may come with any event; it costs nothing to look.
        let progress = connection.on_writable(self.clock);
        let opened = before == Stage::Connecting && connection.stage() == Stage::Open;
        if opened && connection.pending.is_none() {
            self.idle[connection.node as usize].push(index);
        }
        let go_on = matches!(progress, Progress::None);
        self.apply(index, progress);
        if !go_on || !readable {
            return;
        }
        let Some(connection) = self.slots[index].connection.as_mut() else {
            return;
        };
        let progress = connection.on_readable(&mut self.buffer, closed, self.clock);
        self.apply(index, progress);
    }

    /// Carries out what a connection found.
    fn apply(&mut self, index: usize, progress: Progress) {
        let Some(connection) = &mut self.slots[index].connection else {
            return;
        };
        let (keep, ended) = match progress {
            Progress::None => return,
            Progress::Done(answer, at) => (true, Some((answer, at))),
            Progress::Closed(ended) => (false, ended),
        };
        let pending = connection.pending.take();
        if keep {
            self.idle[connection.node as usize].push(index);
        } else {
            self.close(index);
        }
        if let (Some(pending), Some((answer, at))) = (pending, ended) {
            self.finish(pending, answer, at);
        }
    }

    fn finish(&mut self, pending: Pending, answer: Answer, done: Nanos) {
        self.in_flight -= 1;
        let sent = pending.sent.unwrap_or(pending.begun);
        self.finished.push(Completion { call: pending.call, sent, done, open: false, answer });
    }

    /// Ends the operations whose time is over and drops their connections: a late reply must
    /// never be taken for that of the next request.
    fn expire(&mut self) {
        let now = self.clock.now();
        while let Some(first) = self.deadlines.front().copied() {
            let slot = &self.slots[first.index];
            let pending = slot.connection.as_ref().and_then(|connection| connection.pending);
            let live = pending.filter(|_| slot.serial == first.serial);
            if let Some(pending) = live {
                if now < first.at {
                    return;
                }
                let fault = match pending.sent {
                    Some(_) => ClientFault::ClientTimeout,
                    None => ClientFault::ConnectTimeout,
                };
                self.close(first.index);
                self.vacant.append(&mut self.freed);
                self.finish(pending, fault.answer(), now);
            }
            self.deadlines.pop_front();
        }
    }

    fn vacant_slot(&mut self) -> usize {
        self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot { connection: None, serial: 0 });
            self.slots.len() - 1
        })
    }

    fn connect(&mut self, node: u32, index: usize) -> io::Result<()> {
        let addr = self.addrs[node as usize];
        let connection = Connection::open(addr, node, Token(index), self.waiter.registry())?;
        self.slots[index].connection = Some(connection);
        Ok(())
    }

    /// Drops a connection; closing its socket takes it out of the poll set.
    fn close(&mut self, index: usize) {
        if let Some(connection) = self.slots[index].connection.take() {
            self.idle[connection.node as usize].retain(|idle| *idle != index);
            self.freed.push(index);
        }
    }
}
