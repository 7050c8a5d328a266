//! What a coordinator tells its client once the outcome is known (PROTOCOL.md 3.5.5): ok with the
//! stamps, a reason, or another attempt. May not decide anything.

use quorate_api::{ErrorCode, ItemId, Stamp, TxId};

use super::coordinator::{Coordination, Stage};
use super::request::{Retry, reason_of, refuse};
use super::timers::Timer;
use super::{Cx, Machine};
use crate::io::{Note, Reply};
use crate::message::LogPosition;

impl Machine {
    pub(super) fn answer_commit(
        &mut self,
        cx: &mut Cx<'_>,
        tx: TxId,
        c: Coordination,
        at: LogPosition,
    ) {
        let one_round = c.clusters.values().all(|r| matches!(r.stage, Stage::Final(_, true)));
        if one_round && !c.recovering {
            let quorum_at = c.clusters.values().filter_map(|r| r.quorum_at).min();
            let spread = quorum_at.map_or(0, |t| self.now - t);
            // Exponential average over about eight transactions.
            self.vote_spread = (7 * self.vote_spread + spread) / 8;
        } else {
            self.vote_spread += (self.config.fast_wait.1 / 2).saturating_sub(self.vote_spread) / 64;
        }
        cx.note(Note::Committed { one_round });
        if !c.waiting {
            return;
        }
        let stamp_of = |item: &ItemId| {
            c.ops.iter().find(|op| op.item == *item).map_or(Stamp::ABSENT, |op| op.stamp_after(tx))
        };
        let stamps = c.submit.ops.iter().map(|p| stamp_of(&p.item)).collect();
        cx.reply_now(c.submit.request, Reply::Committed { tx, stamps, decision: at });
    }

    /// Reason busy or generation: again, as a new transaction of the same age. Reason version: the
    /// client's turn.
    pub(super) fn answer_abort(&mut self, cx: &mut Cx<'_>, c: Coordination) {
        let (failure, reason) = reason_of(&c.noes);
        cx.note(Note::Aborted(reason));
        if !c.waiting {
            return;
        }
        let retryable = matches!(failure.code, ErrorCode::Busy | ErrorCode::GenerationChanged);
        // Which of them it is, only the end of the change shows: it may take as long as the client
        // has time.
        let is_change = failure.code == ErrorCode::GenerationChanged;
        if retryable && (c.attempt < self.config.retries || is_change) {
            let delay = self.config.retry_delay << c.attempt.min(5);
            let chance = delay * u64::from(self.config.retry_jitter) / 100;
            let at = self.now + delay - chance / 2 + self.draw(chance);
            if at < c.submit.deadline {
                let number = self.next_retry;
                self.next_retry += 1;
                let retry = Retry { submit: c.submit, age: c.age, attempt: c.attempt + 1 };
                self.retries.insert(number, retry);
                self.timers.set(at, Timer::Retry(number));
                cx.note(Note::Retried);
                return;
            }
        }
        refuse(cx, c.submit.request, failure);
    }
}
