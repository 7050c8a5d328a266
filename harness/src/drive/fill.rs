//! The load phase: every key is created, spread over the servers, and again if that failed.
//! A further attempt is a further operation with an id of its own; nothing is retried unseen.

use quorate_check::history::{Nanos, Outcome, Phase};

use crate::drive::crew::{Ids, Later, Next, Order, Work};
use crate::drive::recorder::Completion;
use crate::plan::OpClass;

/// Pause before a failed creation is tried again, through the next server.
const RETRY_NS: Nanos = 50_000_000;
/// The load phase gives up when nothing was created for so long.
const STALLED_NS: Nanos = 30_000_000_000;

/// Creating keys `0..records`.
#[derive(Debug)]
pub(crate) struct Fill {
    nodes: u32,
    next_key: u64,
    records: u64,
    again: Later<u64>,
    attempts: u64,
    pub(crate) created: u64,
    progress_at: Option<Nanos>,
}

impl Fill {
    /// Nothing created yet.
    pub(crate) fn new(records: u64, nodes: u32) -> Self {
        Self {
            nodes,
            next_key: 0,
            records,
            again: Later::new(RETRY_NS),
            attempts: 0,
            created: 0,
            progress_at: None,
        }
    }

    fn order(&mut self, key: u64, id: u64) -> Next {
        let node = (self.attempts % u64::from(self.nodes)) as u32;
        self.attempts += 1;
        let class = OpClass::Create;
        Next::Begin(Order { id, node, class, phase: Phase::Load, key, intended: None })
    }
}

impl Work for Fill {
    fn next(&mut self, now: Nanos, _in_flight: usize, ids: &mut Ids) -> Next {
        let since = *self.progress_at.get_or_insert(now);
        if self.created == self.records || now > since + STALLED_NS {
            return Next::End;
        }
        if let Some(key) = self.again.pop(now) {
            return self.order(key, ids.fresh());
        }
        if self.next_key < self.records {
            self.next_key += 1;
            return self.order(self.next_key - 1, self.next_key);
        }
        Next::Wait(self.again.first().unwrap_or(now + RETRY_NS))
    }

    fn done(&mut self, completion: &Completion) {
        if completion.answer.outcome == Outcome::Ok {
            self.created += 1;
            self.progress_at = Some(completion.done);
        } else {
            // Also after an unknown outcome: a record made by the first attempt has another
            // record id, which nobody will ever ask for.
            self.again.push(completion.done, completion.call.key);
        }
    }
}
