//! Writes a history event by event. Knows nothing of other events: what makes a history consistent
//! is checked when it is read.

use std::io::{self, Write};

use serde::{Serialize, Serializer};

use super::{AnsweredStep, AskedStep, Complete, Event, Invoke};
use crate::history::{Action, Header, Operation, Step};

/// Appends events to `W`, one line and one `write_all` each, through one reused buffer.
///
/// Give it a [`std::io::BufWriter`] for speed and flush as often as a crash may cost; give it the
/// bare file to lose nothing to a crash of the process.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes the header line.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn new(out: W, header: &Header) -> io::Result<Self> {
        let mut writer = Self { out, line: Vec::with_capacity(512) };
        writer.write_line(header)?;
        Ok(writer)
    }

    /// Writes what is known before sending; results that `operation` may already hold are left
    /// out. Call it before the first byte of the request goes out: `sent` need only be a lower
    /// bound then.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn invoke(&mut self, operation: &Operation) -> io::Result<()> {
        let event: Event<&str, _, Never> = Event::Invoke(Invoke {
            id: operation.id,
            process: operation.process,
            session: operation.session,
            kind: operation.kind,
            phase: operation.phase,
            node: operation.node,
            level: operation.level,
            steps: Asked(&operation.steps),
            intended: operation.intended,
            sent: operation.sent,
        });
        self.write_line(&event)
    }

    /// Writes what the reply, or its absence, added. The steps must be those of the invocation.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn complete(&mut self, operation: &Operation) -> io::Result<()> {
        let event: Event<&str, Never, _> = Event::Complete(Complete {
            id: operation.id,
            sent: operation.sent,
            done: operation.done,
            outcome: operation.outcome,
            code: operation.code.as_deref(),
            steps: Answered(&operation.steps),
        });
        self.write_line(&event)
    }

    /// Flushes `out`.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Flushes and gives `out` back.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn write_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value)?;
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }
}

/// In place of the kind of step that an event does not have.
#[derive(Debug, Serialize)]
enum Never {}

/// Steps as an invocation shows them.
#[derive(Debug)]
struct Asked<'s>(&'s [Step]);

impl Serialize for Asked<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|step| AskedStep {
            key: step.key,
            action: (&step.action).into(),
            rid: step.rid.as_deref(),
            content: step.content.clone().filter(|_| step.is_write()),
        }))
    }
}

/// Steps as a completion shows them.
#[derive(Debug)]
struct Answered<'s>(&'s [Step]);

impl Serialize for Answered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|step| AnsweredStep {
            rid: step.rid.as_deref(),
            version: step.version,
            seen: match step.action {
                Action::Read(seen) => seen,
                Action::Write(_) | Action::Delete(_) => None,
            },
            content: step.content.clone().filter(|_| !step.is_write()),
            evidence: step.evidence.clone(),
        }))
    }
}
