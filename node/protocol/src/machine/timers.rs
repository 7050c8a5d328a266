//! Timers as an ordered set. They decide only *when* to act; a timer that fires for nothing is
//! harmless.

use alloc::collections::BTreeSet;

use quorate_api::TxId;

use super::{Cx, Machine};
use crate::io::Tick;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A held Prepare has waited long enough.
    Held(TxId),
    /// A coordination has something to resend, to give up or to recover.
    Coordination(TxId),
    /// A retry is due.
    Retry(u64),
    /// The oldest undecided record is old enough to be looked after.
    Young,
    /// The next step for a transaction whose outcome does not come is due.
    Orphan(TxId),
    /// A recovery is to be resent or begun again.
    Recovery(TxId),
    /// A read is to be resent or given up.
    Read(u64),
    /// A session has waited long enough.
    Session(u64),
    /// Decisions without acknowledgement, fetches without answer.
    Stream,
    /// What is finished: marks, tombstones, ended boots.
    Housekeeping,
    /// Alignment work, at either end.
    Alignment,
    /// There is more to be compared before MASTERs are united.
    Comparison,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Tick, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Tick, timer: Timer) {
        self.due.insert((at, timer));
    }

    pub(super) fn clear(&mut self, at: Tick, timer: Timer) {
        self.due.remove(&(at, timer));
    }

    pub(super) fn next(&self) -> Option<Tick> {
        self.due.first().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: Tick) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.due.pop_first().map(|(_, timer)| timer)
    }
}

impl Machine {
    pub(super) fn arm_housekeeping(&mut self) {
        self.timers.set(self.now + self.config.housekeeping, Timer::Housekeeping);
        self.timers.set(self.now + self.config.resend, Timer::Stream);
        if self.is_aligning() {
            self.arm_alignment();
        }
    }

    pub(super) fn run_timers(&mut self, cx: &mut Cx<'_>) {
        while let Some(timer) = self.timers.pop_due(self.now) {
            match timer {
                Timer::Held(tx) => self.held_expired(cx, tx),
                Timer::Coordination(tx) => self.coordination_due(cx, tx),
                Timer::Retry(number) => self.retry_due(cx, number),
                Timer::Young => self.look_at_young(),
                Timer::Orphan(tx) => self.orphan_due(cx, tx),
                Timer::Recovery(tx) => self.recovery_due(cx, tx),
                Timer::Read(read) => self.read_due(cx, read),
                Timer::Session(number) => self.session_due(cx, number),
                Timer::Stream => {
                    self.rewind_stalled_streams(cx);
                    self.feeding_due(cx);
                    self.fetch_missing_bases(cx);
                    self.ask_what_logs_told(cx);
                    self.timers.set(self.now + self.config.resend, Timer::Stream);
                }
                Timer::Alignment => self.alignment_due(cx),
                // At the end of the step, as any news of a change.
                Timer::Comparison => self.generations.progress = true,
                Timer::Housekeeping => {
                    self.raise_own_low(cx);
                    self.tell_own_marks(cx);
                    self.tell_of_those_below(cx);
                    self.sweep_tombstones(cx);
                    self.drop_contents(cx);
                    self.merge_due(cx);
                    self.bound_lost(cx, 0);
                    self.close_own_boots(cx);
                    self.log_what_was_proven(cx);
                    self.report_changes(cx);
                    let at = self.now + self.config.housekeeping;
                    self.timers.set(at, Timer::Housekeeping);
                }
            }
        }
    }

    /// How long the last votes are waited for: twice their usual spread, within bounds.
    pub(super) fn fast_wait(&self) -> Tick {
        let (low, high) = self.config.fast_wait;
        (2 * self.vote_spread).clamp(low, high)
    }
}
