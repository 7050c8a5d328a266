//! One direction of one connection: reads, lets the toxics work, writes.
//! The only place where payload bytes meet sockets; obeys the rules and never changes them.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::alarm::Alarm;
use super::counters::StreamCounters;
use super::{Ending, LinkPath, Rules};
use crate::model::Stream;
use crate::stages::{Item, Pipeline};

/// Buffer of one direction: what one read may bring. Large enough that bulk data costs few
/// system calls.
const BUFFER_BYTES: usize = 128 * 1024;

/// Most bytes a silent direction takes from the sender; beyond it the proxy stops reading, the
/// kernel's buffers fill, and the sender is held back. Enough to show in the counters that the
/// cut bites.
pub(super) const SILENT_BYTES_MAX: usize = 64 * 1024;

/// Why a direction is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The sender's end of stream was delivered; the other direction goes on.
    Fin,
    /// The receiver cannot be written to any more.
    Broken,
    /// The whole connection is to be closed, in this way.
    Closed(Ending),
}

/// One direction at work.
pub(super) struct Pump<'a> {
    link: &'a LinkPath,
    stream: Stream,
    generation: u64,
    source: ReadHalf<'a>,
    target: WriteHalf<'a>,
    changes: watch::Receiver<u64>,
    /// Set when writing to `source`'s socket failed: its end of stream is then a reset.
    source_broken: &'a AtomicBool,
    source_ended: bool,
    pipeline: Pipeline,
    alarm: Alarm,
    buffer: Vec<u8>,
    /// Epoch of the world last looked at.
    epoch: Option<u64>,
    rules: Option<Arc<Rules>>,
    silent: bool,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        link: &'a LinkPath,
        stream: Stream,
        generation: u64,
        (source, target): (ReadHalf<'a>, WriteHalf<'a>),
        pipeline: Pipeline,
        source_broken: &'a AtomicBool,
    ) -> Self {
        Self {
            link,
            stream,
            generation,
            source,
            target,
            changes: link.changes.subscribe(),
            source_broken,
            source_ended: false,
            pipeline,
            alarm: Alarm::default(),
            buffer: vec![0; BUFFER_BYTES],
            epoch: None,
            rules: None,
            silent: false,
        }
    }

    /// Moves bytes until this direction is over.
    pub(super) async fn run(&mut self) -> End {
        loop {
            if let Some(end) = self.obey() {
                return end;
            }
            let end = if self.pipeline.is_direct() && !self.silent {
                self.copy().await
            } else {
                self.step().await
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Counts what is still inside as thrown away, after the connection's end.
    pub(super) fn discard_rest(&mut self) {
        StreamCounters::add(&self.counters().discarded, self.pipeline.payload());
    }

    fn counters(&self) -> &'a StreamCounters {
        &self.link.counters.streams[self.stream.index()]
    }

    /// Whether rules may have changed since `obey`.
    fn is_stale(&self) -> bool {
        self.epoch != Some(self.link.shared.world.load().epoch)
    }

    /// Takes the rules in force over; says so when they end this connection.
    fn obey(&mut self) -> Option<End> {
        let world = self.link.shared.world.load();
        if self.epoch == Some(world.epoch) {
            return None;
        }
        self.epoch = Some(world.epoch);
        let Some(rules) = world.links.get(&self.link.id) else {
            return Some(End::Closed(Ending::Close));
        };
        if rules.generation != self.generation {
            return Some(End::Closed(rules.ending));
        }
        if !self.rules.as_ref().is_some_and(|known| Arc::ptr_eq(known, rules)) {
            let index = self.stream.index();
            self.silent = rules.silent[index];
            self.pipeline.reconcile(Instant::now(), world.seed, &rules.stages[index]);
            self.rules = Some(Arc::clone(rules));
        }
        None
    }

    /// The cheap way, while no rule bites: one buffer, no clock, no allocation.
    async fn copy(&mut self) -> Option<End> {
        loop {
            let read = tokio::select! {
                biased;
                _ = self.changes.changed() => return None,
                read = self.source.read(&mut self.buffer) => read,
            };
            let count = self.received(read)?;
            let mut sent = 0;
            while sent < count {
                if self.is_stale() {
                    let end = self.obey();
                    self.keep(sent, count);
                    return end;
                }
                match self.target.try_write(&self.buffer[sent..count]) {
                    Ok(written) => {
                        sent += written;
                        StreamCounters::add(&self.counters().delivered, written);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::select! {
                        biased;
                        _ = self.changes.changed() => {}
                        // An error shows at the next write.
                        _ = self.target.writable() => {}
                    },
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => {
                        self.keep(sent, count);
                        return Some(End::Broken);
                    }
                }
            }
        }
    }

    /// Puts bytes of the buffer into the chain.
    fn keep(&mut self, from: usize, to: usize) {
        let data = Bytes::copy_from_slice(&self.buffer[from..to]);
        self.pipeline.push(Instant::now(), Item::Data(data));
    }

    /// Counts what a read brought; an end of stream goes into the chain.
    fn received(&mut self, read: std::io::Result<usize>) -> Option<usize> {
        let item = match read {
            Ok(0) if !self.source_broken.load(Relaxed) => Item::Fin,
            Ok(0) => Item::Reset,
            Ok(count) => {
                StreamCounters::add(&self.counters().received, count);
                return Some(count);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Some(0),
            Err(_) => Item::Reset,
        };
        self.source_ended = true;
        self.pipeline.push(Instant::now(), item);
        None
    }

    /// The careful way: everything goes through the chain, every wait can be interrupted.
    async fn step(&mut self) -> Option<End> {
        let (wake, blocked) = loop {
            let step = self.pipeline.advance(Instant::now());
            let discarded = usize::try_from(step.discarded).unwrap_or(usize::MAX);
            StreamCounters::add(&self.counters().discarded, discarded);
            match self.write_ready().await {
                Written::Some => {}
                Written::Nothing => break (step.wake, false),
                Written::Blocked => break (step.wake, true),
                Written::Stale => return None,
                Written::Over(end) => return Some(end),
            }
        };
        let hold = self.silent && self.pipeline.payload() >= SILENT_BYTES_MAX;
        let may_read = !self.source_ended && !hold && self.pipeline.has_room();
        tokio::select! {
            biased;
            _ = self.changes.changed() => {}
            read = self.source.read(&mut self.buffer), if may_read => {
                if let Some(count) = self.received(read) {
                    // Rules that came during the read are obeyed before its bytes enter.
                    let end = self.obey();
                    self.keep(0, count);
                    return end;
                }
            }
            _ = self.target.writable(), if blocked => {}
            () = self.alarm.wait(wake) => {}
        }
        None
    }

    /// Writes what is ready, each piece in a write of its own.
    async fn write_ready(&mut self) -> Written {
        let mut written = Written::Nothing;
        loop {
            if self.is_stale() {
                return Written::Stale;
            }
            if self.silent {
                return written;
            }
            let Some(chunk) = self.pipeline.ready().front() else {
                return written;
            };
            match &chunk.item {
                Item::Data(data) => match self.target.try_write(data) {
                    Ok(count) => {
                        self.pipeline.ready().consume(count);
                        StreamCounters::add(&self.counters().delivered, count);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        return Written::Blocked;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Written::Over(End::Broken),
                },
                Item::Fin => {
                    let end = match self.target.shutdown().await {
                        Ok(()) => End::Fin,
                        Err(_) => End::Broken,
                    };
                    return Written::Over(end);
                }
                Item::Close => return Written::Over(End::Closed(Ending::Close)),
                Item::Reset => return Written::Over(End::Closed(Ending::Reset)),
            }
            written = Written::Some;
        }
    }
}

/// How writing what is ready went.
enum Written {
    /// There was nothing, or the direction is silent.
    Nothing,
    /// Pieces left; the chain may have room for more.
    Some,
    /// The receiver takes no more now.
    Blocked,
    /// The rules changed.
    Stale,
    /// The direction is over.
    Over(End),
}
