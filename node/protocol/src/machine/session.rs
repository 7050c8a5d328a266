//! Sessions (PROTOCOL.md 3.8): a server that a client has overtaken waits until it has caught up,
//! or fails definitely.
//!
//! A token maps (decider, boot) to an index of that decision log. `ok` carries the position of the
//! transaction's own decision, a read the positions that the answering server has received; the
//! client merges what it is given, the higher index of each entry. Read-your-writes and monotonic
//! reads follow, over all servers.
//!
//! A read's token must cover all that the read may have shown. Two kinds of commit are in the state
//! and not below the position up to which a log is applied without a gap: those behind one that is
//! parked, so the token tells what was received, not what was applied; and those taken from
//! elsewhere than a log (`apply.rs`), so the answer waits until logs have brought all of them that
//! were there when it could have been given.
//!
//! What a session has seen of single items may have been dropped here since, with a tombstone. It
//! is satisfied when what wrote it is finished, so marks bring sessions forward as logs do.
//!
//! A server that aligns answers no session; what it shows when it is back is in `align_return`.
//!
//! `ok` leaves before the coordinator's log entry is durable (`cx.rs`), so the position in it may
//! never exist: the coordinator died, another server found the same outcome and logged it in its
//! own log, and the ended boot's log stops short. Such an index is satisfied once the boot is
//! closed (`closing.rs`), which is when every server has applied whatever that boot left behind,
//! and not before. A later boot's entries alone prove nothing about it.
//!
//! What is serializable: a transaction whose reads are all `check` operations; without them no
//! update is lost, but two transactions may each write what the other one read (write skew). Each
//! item of a majority read is linearizable, together they are no snapshot; a read of fewer than a
//! majority promises no more than that its answer was committed. Predicates are not covered.

use alloc::collections::BTreeSet;

use quorate_api::{Boot, ErrorCode, NodeId, TxId};

use super::timers::Timer;
use super::{Cx, Machine};
use crate::io::{Failure, Reply, SessionRequest, SessionToken};

/// A session that this server is not ready for.
#[derive(Debug)]
pub(super) struct Waiting {
    request: SessionRequest,
    /// Commits that it may have read and that no log had told of when this server had caught up
    /// with it; `None` before that.
    uncovered: Option<BTreeSet<TxId>>,
}

impl Machine {
    pub(super) fn on_session(&mut self, cx: &mut Cx<'_>, request: SessionRequest) {
        if self.sessions.len() >= self.config.in_flight_max {
            let reply = Reply::Failed(Failure::of(ErrorCode::Overload));
            cx.reply_now(request.request, reply);
            return;
        }
        let (number, deadline) = (request.request, request.deadline);
        let mut waiting = Waiting { request, uncovered: None };
        if self.is_ready_for(cx, &mut waiting) {
            cx.reply_now(number, Reply::Session(self.session_token()));
            return;
        }
        self.timers.set(deadline.max(self.now + 1), Timer::Session(number));
        self.sessions.insert(number, waiting);
    }

    /// Something was applied, told by a log or finished in this step.
    pub(super) fn reconsider_sessions(&mut self, cx: &mut Cx<'_>) {
        if !core::mem::take(&mut self.session_progress) || self.sessions.is_empty() {
            return;
        }
        let mut sessions = core::mem::take(&mut self.sessions);
        sessions.retain(|number, waiting| {
            let ready = self.is_ready_for(cx, waiting);
            if ready {
                self.timers.clear(waiting.request.deadline, Timer::Session(*number));
                cx.reply_now(*number, Reply::Session(self.session_token()));
            }
            !ready
        });
        self.sessions = sessions;
    }

    pub(super) fn session_due(&mut self, cx: &mut Cx<'_>, number: u64) {
        if self.sessions.remove(&number).is_some() {
            cx.reply_now(number, Reply::Failed(Failure::of(ErrorCode::SessionBehind)));
        }
    }

    /// This server leaves ONLINE. What it will show when it is back, no session knows yet.
    pub(super) fn sessions_begin_again(&mut self) {
        for waiting in self.sessions.values_mut() {
            waiting.uncovered = None;
        }
    }

    /// This server has caught up with the session, and its token would cover what the session reads
    /// here.
    fn is_ready_for(&self, cx: &Cx<'_>, waiting: &mut Waiting) -> bool {
        if self.is_aligning() {
            // What it holds meanwhile is no snapshot.
            return false;
        }
        if waiting.uncovered.is_none() && self.is_caught_up(cx, &waiting.request) {
            let visible = self.unlogged.iter().filter(|tx| !self.parked.contains(**tx));
            waiting.uncovered = Some(visible.copied().collect());
        }
        let uncovered = waiting.uncovered.as_ref();
        uncovered.is_some_and(|txs| txs.is_disjoint(&self.unlogged))
    }

    fn is_caught_up(&self, cx: &Cx<'_>, request: &SessionRequest) -> bool {
        let (positions, me) = (&request.token, self.config.node);
        let held = |cluster| self.is_kept_by(me, cluster);
        positions.iter().all(|((node, boot), index)| self.has_applied(*node, *boot, *index))
            && request.seen.iter().all(|(item, stamp)| {
                // A tombstone that was seen may be dropped here since.
                !held(item.cluster)
                    || cx.stamp(item).version >= stamp.version
                    || self.is_finished(stamp.tx)
                    || self.everybody_applied(stamp.tx)
            })
    }

    pub(super) fn has_applied(&self, node: NodeId, boot: Boot, index: u64) -> bool {
        if self.is_boot_closed(node, boot) {
            return true;
        }
        self.incoming.get(&node).is_some_and(|log| log.has_applied(boot, index))
    }

    /// How far every decision log has told of what is here.
    pub(super) fn session_token(&self) -> SessionToken {
        let mut token = SessionToken::new();
        for (node, at) in self.told_positions().into_iter().filter(|(_, at)| at.index > 0) {
            let index = token.entry((node, at.boot)).or_default();
            *index = at.index.max(*index);
        }
        token
    }
}
