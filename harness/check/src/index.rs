//! Who wrote which value of which key: the look-ups that all checkers share.
//! No judging here; every order is a sorted one.

use std::collections::BTreeSet;

use crate::history::{Action, Content, History, OpKind, Operation, Outcome, Seen, Step};

/// One value or tombstone that some operation tried to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Write {
    /// Logical key.
    pub(crate) key: u64,
    /// Unique value or tombstone id.
    pub(crate) value: u64,
    /// True if it is a delete.
    pub(crate) tombstone: bool,
    /// Index into [`History::operations`].
    pub(crate) op: usize,
    /// False if the same operation later wrote the key again: then nobody may ever see this one.
    pub(crate) last: bool,
}

/// A completed read of an acknowledged operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read<'h> {
    /// Index into [`History::operations`].
    pub(crate) op: usize,
    /// The step, with version and rid.
    pub(crate) step: &'h Step,
    /// What it saw.
    pub(crate) seen: Seen,
}

/// Two operations claim to have written the same value of the same key, so that no read of it can
/// be traced back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValueNotUnique {
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) operations: (u64, u64),
}

/// A history with its writes sorted.
#[derive(Debug)]
pub(crate) struct Index<'h> {
    pub(crate) history: &'h History,
    /// Sorted by (key, value, tombstone).
    pub(crate) writes: Vec<Write>,
}

impl<'h> Index<'h> {
    /// Sorts the writes of `history`; refuses values that are not unique to one operation.
    pub(crate) fn new(history: &'h History) -> Result<Self, ValueNotUnique> {
        let mut writes: Vec<Write> = Vec::new();
        for (op, operation) in history.operations.iter().enumerate() {
            let mut rewritten = BTreeSet::new();
            for step in operation.steps.iter().rev() {
                let (value, tombstone) = match step.action {
                    Action::Read(_) => continue,
                    Action::Write(value) => (value, false),
                    Action::Delete(value) => (value, true),
                };
                // A single step, the usual case, must not pay for the set.
                let last = operation.steps.len() == 1 || rewritten.insert(step.key);
                writes.push(Write { key: step.key, value, tombstone, op, last });
            }
        }
        writes.sort();
        // The same operation may write one value twice; the one that lasts is kept.
        writes.dedup_by(|second, first| {
            let same = identity(first) == identity(second) && first.op == second.op;
            first.last |= same && second.last;
            same
        });
        let clash = writes.windows(2).find(|pair| identity(&pair[0]) == identity(&pair[1]));
        match clash {
            Some(pair) => Err(ValueNotUnique {
                key: pair[0].key,
                value: pair[0].value,
                operations: (history.operations[pair[0].op].id, history.operations[pair[1].op].id),
            }),
            None => Ok(Self { history, writes }),
        }
    }

    /// Position in [`Self::writes`] of the write that `seen` came from. `None` if nobody wrote it,
    /// and for an absence without tombstone id.
    pub(crate) fn source(&self, key: u64, seen: Seen) -> Option<usize> {
        let wanted = match seen {
            Seen::Value(value) => (key, value, false),
            Seen::Absent(Some(tombstone)) => (key, tombstone, true),
            Seen::Absent(None) => return None,
        };
        self.writes.binary_search_by_key(&wanted, identity).ok()
    }

    /// All writes of `key`, with the position of the first in [`Self::writes`].
    pub(crate) fn writes_of(&self, key: u64) -> (usize, &[Write]) {
        let from = self.writes.partition_point(|write| write.key < key);
        let len = self.writes[from..].partition_point(|write| write.key == key);
        (from, &self.writes[from..from + len])
    }

    /// True if more than one record may have lived under `key`, so that versions without rid prove
    /// nothing.
    pub(crate) fn may_be_recreated(&self, key: u64) -> bool {
        let happened = |write: &&Write| self.outcome(write) != Outcome::Failed;
        let mut creates = 0;
        for write in self.writes_of(key).1.iter().filter(happened) {
            if write.tombstone {
                return true;
            }
            creates += u32::from(self.operation(write.op).kind == OpKind::Create);
        }
        creates > 1
    }

    /// The operation at `op`.
    pub(crate) fn operation(&self, op: usize) -> &'h Operation {
        &self.history.operations[op]
    }

    /// True if the operation at `op` writes `key`.
    pub(crate) fn writes_key(&self, op: usize, key: u64) -> bool {
        self.operation(op).steps.iter().any(|step| step.key == key && step.is_write())
    }

    /// What the write that `seen` came from said the record means.
    pub(crate) fn content(&self, key: u64, seen: Seen) -> Option<&'h Content> {
        let write = &self.writes[self.source(key, seen)?];
        let mut steps = self.operation(write.op).steps.iter();
        steps.find(|step| step.key == key && step.written() == Some(seen))?.content.as_ref()
    }

    /// The outcome of the operation that made `write`.
    pub(crate) fn outcome(&self, write: &Write) -> Outcome {
        self.operation(write.op).outcome
    }

    /// Every completed read of every acknowledged operation, except reads of a key that the same
    /// operation had written before: those see the operation's own write and prove nothing.
    pub(crate) fn reads(&self) -> impl Iterator<Item = Read<'h>> {
        let operations = self.history.operations.iter().enumerate();
        operations.filter(|(_, operation)| operation.is_ok()).flat_map(|(op, operation)| {
            let mut written = BTreeSet::new();
            operation.steps.iter().filter_map(move |step| match step.action {
                Action::Read(Some(seen)) => {
                    (!written.contains(&step.key)).then_some(Read { op, step, seen })
                }
                Action::Read(None) => None,
                Action::Write(_) | Action::Delete(_) => {
                    written.insert(step.key);
                    None
                }
            })
        })
    }
}

fn identity(write: &Write) -> (u64, u64, bool) {
    (write.key, write.value, write.tombstone)
}
