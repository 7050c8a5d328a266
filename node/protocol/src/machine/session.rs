//! Sessions (PROTOCOL.md 3.8): a server that a client has overtaken waits until it has caught up,
//! or fails definitely.
//!
//! A token maps (decider, boot) to an index of that decision log. `ok` carries the position of the
//! transaction's own decision, a read the positions that the answering server has applied; the
//! client merges what it is given, the higher index of each entry. Read-your-writes and monotonic
//! reads follow, over all servers.
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

use quorate_api::{Boot, ErrorCode, NodeId};

use super::timers::Timer;
use super::{Cx, Machine};
use crate::io::{Failure, Reply, SessionRequest, SessionToken};

impl Machine {
    pub(super) fn on_session(&mut self, cx: &mut Cx<'_>, request: SessionRequest) {
        if self.sessions.len() >= self.config.in_flight_max {
            let reply = Reply::Failed(Failure::of(ErrorCode::Overload));
            cx.reply_now(request.request, reply);
            return;
        }
        if self.is_caught_up(cx, &request) {
            cx.reply_now(request.request, Reply::Session(self.session_token()));
            return;
        }
        let number = request.request;
        self.timers.set(request.deadline.max(self.now + 1), Timer::Session(number));
        self.sessions.insert(number, request);
    }

    /// Something was applied in this step.
    pub(super) fn reconsider_sessions(&mut self, cx: &mut Cx<'_>) {
        if !core::mem::take(&mut self.session_progress) || self.sessions.is_empty() {
            return;
        }
        let ready = self.sessions.iter().filter(|(_, request)| self.is_caught_up(cx, request));
        let ready: alloc::vec::Vec<u64> = ready.map(|(number, _)| *number).collect();
        for number in ready {
            if let Some(request) = self.sessions.remove(&number) {
                self.timers.clear(request.deadline, Timer::Session(number));
                cx.reply_now(number, Reply::Session(self.session_token()));
            }
        }
    }

    pub(super) fn session_due(&mut self, cx: &mut Cx<'_>, number: u64) {
        if self.sessions.remove(&number).is_some() {
            cx.reply_now(number, Reply::Failed(Failure::of(ErrorCode::SessionBehind)));
        }
    }

    fn is_caught_up(&self, cx: &Cx<'_>, request: &SessionRequest) -> bool {
        let positions = &request.token;
        let holds = |cluster| self.is_master(self.config.node, cluster);
        // What it holds while it aligns is no snapshot.
        !self.is_aligning()
            && positions.iter().all(|((node, boot), index)| self.has_applied(*node, *boot, *index))
            && request.seen.iter().all(|(item, stamp)| {
                !holds(item.cluster) || cx.stamp(item).version >= stamp.version
            })
    }

    fn has_applied(&self, node: NodeId, boot: Boot, index: u64) -> bool {
        if self.is_boot_closed(node, boot) {
            return true;
        }
        self.incoming.get(&node).is_some_and(|log| log.has_applied(boot, index))
    }

    /// How far every decision log is applied here.
    fn session_token(&self) -> SessionToken {
        let reached = self.incoming.iter().map(|(node, log)| (*node, log.applied()));
        let reached = reached.filter(|(_, at)| at.index > 0);
        reached.map(|(node, at)| ((node, at.boot), at.index)).collect()
    }
}
