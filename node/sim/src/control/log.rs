//! What a disk keeps of the control plane's log, as the server's storage does (`storage/writer`).
//! May not know what it means.

use quorate_control::plane::{LogWrite, RecoveredLog};

use crate::disk::Beside;

/// The log, and from which index on its entries are.
#[derive(Debug, Clone, Default)]
pub(crate) struct ControlLog {
    log: RecoveredLog,
    first: u64,
}

impl ControlLog {
    /// What a starting control plane finds.
    #[must_use]
    pub(crate) const fn recovered(&self) -> &RecoveredLog {
        &self.log
    }

    fn entries_before(&self, index: u64) -> usize {
        usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX)
    }
}

impl Beside for ControlLog {
    type Write = LogWrite;

    fn apply(&mut self, write: &LogWrite) {
        match write {
            LogWrite::HardState(bytes) => self.log.hard_state = Some(bytes.clone()),
            LogWrite::Cut(from) => {
                let kept = self.entries_before(*from);
                self.log.entries.truncate(kept);
            }
            LogWrite::Entry(index, bytes) => {
                if self.log.entries.is_empty() {
                    self.first = *index;
                }
                self.log.entries.push(bytes.clone());
            }
            LogWrite::Snapshot(index, bytes) => {
                let gone = self.entries_before(index + 1).min(self.log.entries.len());
                self.log.entries.drain(..gone);
                self.first = index + 1;
                self.log.snapshot = Some(bytes.clone());
            }
        }
    }
}
