//! The recorder: takes events from the driver's hot thread and turns them into files on its own.
//! Writes `history.jsonl` and `intervals.hlog`; decides nothing, and never talks to the network.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

use quorate_check::history::{Action, Header, Nanos, Operation, Outcome, Step};

use crate::drive::recorder_thread;
use crate::drive::reply::Answer;
use crate::drive::request::Call;

/// Events that go to the recorder in one piece at most.
const BATCH: usize = 512;
/// Batches between the hot thread and the recorder. When all are full the hot thread waits, which
/// shows as start delay: nothing is lost, and nothing is hidden.
const BATCHES: usize = 256;

/// Events are handed over this often. Waking another thread for each one would cost more than
/// the operation itself; a crash that loses a batch loses the thread's buffers as well.
const HAND_OVER_NS: Nanos = 2_000_000;

/// Something that happened to an operation.
#[derive(Debug)]
pub(crate) enum Event {
    /// It is about to be sent, not before this time.
    Invoked(Call, Nanos),
    /// It is over.
    Completed(Completion),
}

/// An operation that is over, as far as its client is concerned.
#[derive(Debug, Clone)]
pub(crate) struct Completion {
    pub(crate) call: Call,
    /// Just before the first byte was written; when the attempt began, if none ever was.
    pub(crate) sent: Nanos,
    /// Just after the last byte was read, or when the client gave up.
    pub(crate) done: Nanos,
    /// True if it was still open when the driver stopped waiting: pending for ever.
    pub(crate) open: bool,
    pub(crate) answer: Answer,
}

impl Completion {
    /// What a user waited: from when it was due to when it was over.
    pub(crate) fn response(&self) -> Nanos {
        self.done.saturating_sub(self.call.intended)
    }

    /// The line of the history it makes.
    pub(crate) fn operation(&self) -> Operation {
        let mut operation = invocation(&self.call, self.sent);
        let step = &mut operation.steps[0];
        step.version = self.answer.version;
        if let Some(rid) = self.answer.rid {
            step.rid = Some(rid.to_string());
        }
        if let Action::Read(seen) = &mut step.action {
            *seen = self.answer.seen;
        }
        operation.done = Some(self.done);
        operation.outcome = self.answer.outcome;
        operation.code = self.answer.code.as_ref().map(ToString::to_string);
        operation
    }
}

/// What is known of a call before it is sent.
pub(crate) fn invocation(call: &Call, sent: Nanos) -> Operation {
    Operation {
        id: call.id,
        process: call.process,
        session: call.session,
        kind: call.kind(),
        phase: call.phase,
        node: call.node,
        level: call.level(),
        steps: vec![Step {
            rid: call.rid.map(|rid| rid.to_string()),
            ..Step::new(call.key, call.action())
        }],
        intended: call.intended,
        sent,
        done: None,
        outcome: Outcome::Unknown,
        code: None,
    }
}

/// Where the recorder writes, and what its files begin with.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) history: PathBuf,
    pub(crate) intervals: PathBuf,
    pub(crate) header: Header,
    /// Wall-clock time at which the run's clock showed 0.
    pub(crate) started: SystemTime,
}

/// Why recording failed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file of the run folder cannot be written.
    #[error("cannot write {file}: {source}")]
    Write {
        /// Name of the file.
        file: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The recorder's thread panicked.
    #[error("the recorder's thread died")]
    Died,
}

/// The hot thread's end of the recorder.
#[derive(Debug)]
pub(crate) struct Recorder {
    batch: Vec<Event>,
    handed_over: Nanos,
    /// Dropped first when finishing, which tells the thread that nothing more will come.
    full: Option<SyncSender<Vec<Event>>>,
    /// Batches that come back to be filled again.
    empty: Receiver<Vec<Event>>,
    thread: Option<JoinHandle<Result<(), RecordError>>>,
    cpu_ns: Arc<AtomicU64>,
}

impl Recorder {
    /// Creates the files and starts the thread.
    pub(crate) fn start(output: &Output) -> Result<Self, RecordError> {
        let (full, events) = sync_channel::<Vec<Event>>(BATCHES);
        let (give_back, empty) = sync_channel(BATCHES);
        let cpu_ns = Arc::new(AtomicU64::new(0));
        let files = recorder_thread::Files::create(output)?;
        let thread_cpu = Arc::clone(&cpu_ns);
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || files.record(&events, &give_back, &thread_cpu))
            .map_err(|source| RecordError::Write { file: "the history", source })?;
        let batch = Vec::with_capacity(BATCH);
        Ok(Self { batch, handed_over: 0, full: Some(full), empty, thread: Some(thread), cpu_ns })
    }

    /// Notes that `call` is about to be sent.
    pub(crate) fn invoked(&mut self, call: &Call, now: Nanos) {
        self.push(Event::Invoked(*call, now));
    }

    /// Notes that an operation is over.
    pub(crate) fn completed(&mut self, completion: &Completion) {
        self.push(Event::Completed(completion.clone()));
    }

    fn push(&mut self, event: Event) {
        self.batch.push(event);
        if self.batch.len() >= BATCH {
            self.hand_over();
        }
    }

    /// Hands over what was noted, if that was long enough ago; called once a turn of the loop.
    ///
    /// # Errors
    /// When the thread has given up, with its reason.
    pub(crate) fn tick(&mut self, now: Nanos) -> Result<(), RecordError> {
        if self.batch.is_empty() || now < self.handed_over + HAND_OVER_NS {
            return Ok(());
        }
        self.handed_over = now;
        self.hand_over();
        match &self.thread {
            Some(thread) if !thread.is_finished() => Ok(()),
            Some(_) | None => self.join(),
        }
    }

    /// CPU time that the thread has used, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }

    /// Writes what is left and closes the files.
    pub(crate) fn finish(mut self) -> Result<(), RecordError> {
        self.hand_over();
        self.join()
    }

    fn hand_over(&mut self) {
        let next = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
        let batch = std::mem::replace(&mut self.batch, next);
        // A closed channel means that the thread has failed; the next flush says why.
        let closed = self.full.as_ref().is_none_or(|full| full.send(batch).is_err());
        if closed {
            self.full = None;
        }
    }

    fn join(&mut self) -> Result<(), RecordError> {
        self.full = None;
        let Some(thread) = self.thread.take() else {
            return Err(RecordError::Died);
        };
        thread.join().unwrap_or(Err(RecordError::Died))
    }
}

impl Drop for Recorder {
    /// On the way out of a panic or an early return the noted events still reach the disk.
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.hand_over();
            if let Err(error) = self.join() {
                tracing::warn!(%error, "the history is incomplete");
            }
        }
    }
}
