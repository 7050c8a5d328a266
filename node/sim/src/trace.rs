//! The trace: a hash over everything that happened, and the lines themselves when asked for.

use std::fmt::{Arguments, Write as _};

use quorate_protocol::io::Tick;

/// See the module's doc.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
    scratch: String,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        // FNV-1a's offset basis.
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: keep.then(Vec::new), scratch: String::new() }
    }

    pub(crate) fn line(&mut self, now: Tick, what: Arguments<'_>) {
        self.scratch.clear();
        // Writing into a String cannot fail.
        if write!(self.scratch, "{now:>9} {what}").is_ok() {
            for byte in self.scratch.bytes() {
                self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        if let Some(lines) = &mut self.lines {
            lines.push(self.scratch.clone());
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
