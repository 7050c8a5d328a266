//! The recorder's own thread: history lines, and one HDR histogram per class, outcome and second.
//! Sees events in the order they happened and knows nothing of connections or schedules.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder, Tag};
use quorate_check::format::Writer;
use quorate_check::history::{Nanos, Outcome, Phase};

use crate::drive::cpu;
use crate::drive::recorder::{Completion, Event, Output, RecordError, invocation};
use crate::plan::OpClass;

/// Length of an interval of the log.
const INTERVAL_NS: Nanos = 1_000_000_000;
/// Largest response time a histogram holds, in microseconds: an hour. Longer ones count as that.
const RESPONSE_US_MAX: u64 = 3_600_000_000;
/// What a crash of the harness may cost of the history.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// The open files.
#[derive(Debug)]
pub(crate) struct Files {
    history: Writer<BufWriter<File>>,
    intervals: File,
    started: SystemTime,
}

impl Files {
    /// Creates both files and writes the history's first line.
    pub(crate) fn create(output: &Output) -> Result<Self, RecordError> {
        let history = File::create(&output.history)
            .and_then(|file| Writer::new(BufWriter::with_capacity(1 << 18, file), &output.header))
            .map_err(history_error)?;
        let intervals = File::create(&output.intervals).map_err(intervals_error)?;
        Ok(Self { history, intervals, started: output.started })
    }

    /// Writes events until the sender is gone.
    pub(crate) fn record(
        self,
        events: &Receiver<Vec<Event>>,
        give_back: &SyncSender<Vec<Event>>,
        cpu_ns: &AtomicU64,
    ) -> Result<(), RecordError> {
        let Self { mut history, mut intervals, started } = self;
        let mut serializer = V2DeflateSerializer::new();
        let log = IntervalLogWriterBuilder::new()
            .add_comment("response times in microseconds, done - intended, measure phase only")
            .add_comment("tags are class.outcome; an interval holds what completed in it")
            .with_start_time(started)
            .with_base_time(started)
            .with_max_value_divisor(1.0)
            .begin_log_with(&mut intervals, &mut serializer)
            .map_err(intervals_error)?;
        let mut log = IntervalLog { log, current: BTreeMap::new(), from: 0 };
        let mut flushed = Instant::now();
        loop {
            match events.recv_timeout(FLUSH_EVERY) {
                Ok(mut batch) => {
                    for event in batch.drain(..) {
                        note(&event, &mut history, &mut log)?;
                    }
                    // A full channel of spare batches means enough are about: let this one go.
                    drop(give_back.try_send(batch));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if flushed.elapsed() >= FLUSH_EVERY {
                history.flush().map_err(history_error)?;
                cpu_ns.store(cpu::thread_ns(), Ordering::Relaxed);
                flushed = Instant::now();
            }
        }
        log.rotate().map_err(intervals_error)?;
        history.flush().map_err(history_error)
    }
}

fn note(
    event: &Event,
    history: &mut Writer<BufWriter<File>>,
    log: &mut IntervalLog<'_, '_>,
) -> Result<(), RecordError> {
    match event {
        Event::Invoked(call, now) => history.invoke(&invocation(call, *now)).map_err(history_error),
        Event::Completed(completion) => {
            if completion.call.phase == Phase::Measure {
                log.record(completion).map_err(intervals_error)?;
            }
            // An operation that is open for ever has no completion in the history.
            if completion.open {
                return Ok(());
            }
            history.complete(&completion.operation()).map_err(history_error)
        }
    }
}

/// The interval log with the interval that is being filled.
struct IntervalLog<'a, 'b> {
    log: IntervalLogWriter<'a, 'b, File, V2DeflateSerializer>,
    current: BTreeMap<(OpClass, Outcome), Histogram<u64>>,
    /// Start of the current interval.
    from: Nanos,
}

impl IntervalLog<'_, '_> {
    fn record(&mut self, completion: &Completion) -> io::Result<()> {
        let from = completion.done - completion.done % INTERVAL_NS;
        if from > self.from {
            self.rotate()?;
            self.from = from;
        }
        let response_us = completion.response().div_ceil(1000);
        let slot = (completion.call.class, completion.answer.outcome);
        let histogram = match self.current.entry(slot) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                let empty = Histogram::new_with_bounds(1, RESPONSE_US_MAX, 3);
                vacant.insert(empty.map_err(io::Error::other)?)
            }
        };
        histogram.saturating_record(response_us.max(1));
        Ok(())
    }

    /// Writes the current interval's histograms and empties them.
    fn rotate(&mut self) -> io::Result<()> {
        let start = Duration::from_nanos(self.from);
        let length = Duration::from_nanos(INTERVAL_NS);
        for ((class, outcome), histogram) in &mut self.current {
            if histogram.is_empty() {
                continue;
            }
            let tag = tag(*class, *outcome);
            let written = self.log.write_histogram(histogram, start, length, Tag::new(&tag));
            written.map_err(|error| io::Error::other(format!("{error:?}")))?;
            histogram.reset();
        }
        Ok(())
    }
}

/// Tag of a histogram: `read_majority.ok`, `update.unknown`, ….
fn tag(class: OpClass, outcome: Outcome) -> String {
    let outcome = match outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::Unknown => "unknown",
    };
    format!("{}.{outcome}", class_name(class))
}

/// Name of a class as plans spell it.
pub(crate) fn class_name(class: OpClass) -> &'static str {
    match class {
        OpClass::ReadMajority => "read_majority",
        OpClass::ReadLocal => "read_local",
        OpClass::Update => "update",
        OpClass::UpdateVersioned => "update_versioned",
        OpClass::Create => "create",
        OpClass::Delete => "delete",
    }
}

fn history_error(source: io::Error) -> RecordError {
    RecordError::Write { file: "history.jsonl", source }
}

fn intervals_error(source: io::Error) -> RecordError {
    RecordError::Write { file: "intervals.hlog", source }
}
