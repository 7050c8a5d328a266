//! The trace: a hash over everything that happened, and the lines themselves when asked for.

use std::fmt::{Arguments, Write as _};

use quorate_protocol::io::Tick;

/// See the module's doc.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        // FNV-1a's offset basis.
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: keep.then(Vec::new) }
    }

    /// Mixes a word into the hash: when, what, to whom. Cheap enough for every event.
    pub(crate) const fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    /// Adds a line, if lines are kept: formatting costs more than the rest of the run.
    pub(crate) fn line(&mut self, now: Tick, what: Arguments<'_>) {
        let Some(lines) = &mut self.lines else { return };
        let mut line = String::new();
        // Writing into a String cannot fail.
        if write!(line, "{now:>9} {what}").is_ok() {
            lines.push(line);
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
