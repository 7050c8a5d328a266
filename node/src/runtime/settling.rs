//! From the start of a server until it serves: it waits for what its earlier boots left undecided,
//! and for somebody who leads, but not for ever. May not decide what becomes of any of that.

use std::collections::BTreeSet;

use quorate_api::TxId;
use quorate_protocol::io::Tick;

use super::control::Control;
use super::handle::NodeState;
use super::node_loop::NodeLoop;
use super::protocol::Protocol;

/// How long a server that has met everybody waits, before it serves, for what its earlier boots
/// left undecided and for a leader of the control plane. Longer only without a majority, and then
/// local reads shall not wait for one.
pub(super) const SETTLE_MAX: Tick = 2_000_000;

/// Own transactions of earlier boots that were undecided at the start. Their `ok` may have gone
/// out: it waits for votes, not for the decision to be durable here. A local read before they are
/// decided would not find what this server had acknowledged.
pub(super) struct Settling {
    pub(super) left: BTreeSet<TxId>,
    pub(super) deadline: Tick,
}

impl<P: Protocol> NodeLoop<P> {
    /// Once this server knows itself to be in the cluster, it can serve.
    pub(super) fn settle(&mut self) {
        if self.shared.state() == NodeState::Starting && self.settling.is_none() {
            let node = self.shared.node;
            let left = self.protocol.undecided().into_iter().filter(|tx| tx.node == node);
            let deadline = self.shared.clock.now() + SETTLE_MAX;
            self.settling = Some(Settling { left: left.collect(), deadline });
            self.serve_when_settled();
        }
    }

    pub(super) fn serve_when_settled(&mut self) {
        let Some(settling) = &mut self.settling else { return };
        let open: BTreeSet<TxId> = self.protocol.undecided().into_iter().collect();
        settling.left.retain(|tx| open.contains(tx));
        let undecided = settling.left.len();
        // A server that aligns serves nobody yet: it says so, and need not wait for a leader.
        let is_led = self.control.as_ref().is_some_and(Control::is_led);
        let is_early = undecided > 0 || !(is_led || self.shared.is_aligning());
        if is_early && self.shared.clock.now() < settling.deadline {
            return;
        }
        self.settling = None;
        if undecided > 0 {
            tracing::warn!(undecided, "serving with transactions of earlier boots undecided");
        }
        // It may have been told to stop meanwhile.
        if self.shared.state() == NodeState::Starting {
            self.shared.started();
        }
    }
}
