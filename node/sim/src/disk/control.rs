//! What a disk keeps of the control plane's log, as the server's storage does (`storage/writer`).
//! May not know what it means.

use quorate_control::plane::{LogWrite, RecoveredLog};

/// The log, and from which index on its entries are.
#[derive(Debug, Clone, Default)]
pub struct ControlLog {
    log: RecoveredLog,
    first: u64,
}

impl ControlLog {
    /// What a starting control plane finds.
    #[must_use]
    pub const fn recovered(&self) -> &RecoveredLog {
        &self.log
    }

    pub(super) fn apply(&mut self, write: &LogWrite) {
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

    fn entries_before(&self, index: u64) -> usize {
        usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX)
    }
}
