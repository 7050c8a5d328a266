//! The end of a server in order (FEATURES S11, A7), so that nobody waits for what it has left open.
//! First it leaves: others hear of it, and its clusters go to them by one command, while what its
//! clients have begun goes on. Then it stops: what it coordinates is decided and told, another
//! server leads the control plane, and its last word is that it is gone. Each step is bounded, and
//! none is waited for that needs a majority which is not there. May not decide who gets what.

use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_control::plane::Event as ControlEvent;
use quorate_protocol::io::Tick;
use tokio::sync::oneshot;

use super::control::Control;
use super::handle::NodeState;
use super::node_loop::NodeLoop;
use super::owners::Step;
use super::protocol::Protocol;

/// Longest wait for the disk at the very end.
const LAST_SYNC: Duration = Duration::from_secs(1);

/// How far a server is on its way out.
#[derive(Debug)]
pub(super) enum Leaving {
    /// It gives its clusters away, and then says so.
    Giving {
        /// Until when it waits for running requests before it does; `None`: no more.
        patience: Option<Tick>,
        /// Told then.
        left: oneshot::Sender<()>,
    },
    /// It ends once nothing is left to do, or at the deadline.
    Ending(Tick),
}

impl<P: Protocol> NodeLoop<P> {
    /// It is to stop soon: no new requests.
    pub(super) fn leave(&mut self, patience: Tick, left: oneshot::Sender<()>) {
        if self.leaving.is_none() {
            self.shared.set_leaving();
            self.leaving = Some(Leaving::Giving { patience: Some(patience), left });
        }
    }

    /// It is to stop now.
    pub(super) fn end(&mut self, deadline: Tick) {
        self.shared.set_leaving();
        self.shared.set_finishing(false);
        self.leaving = Some(Leaving::Ending(deadline));
        self.resign();
    }

    /// When it ends, whatever is left.
    pub(super) const fn end_by(&self) -> Option<Tick> {
        match &self.leaving {
            Some(Leaving::Ending(deadline)) => Some(*deadline),
            Some(Leaving::Giving { .. }) | None => None,
        }
    }

    /// Until when it waits for running requests, while it does.
    pub(super) const fn patience(&self) -> Option<Tick> {
        match &self.leaving {
            Some(Leaving::Giving { patience, .. }) => *patience,
            Some(Leaving::Ending(_)) | None => None,
        }
    }

    /// Goes on with giving clusters away. Requests that run here may still create records in them,
    /// and have a moment for it; those that have not by then are refused, definitely, by owner.
    pub(super) fn turn_leaving(&mut self) {
        let Some(Leaving::Giving { patience, .. }) = &mut self.leaving else { return };
        if let Some(until) = *patience {
            let running = self.shared.running.load(Ordering::Acquire);
            if running > 0 && self.shared.clock.now() < until {
                return;
            }
            if running > 0 {
                tracing::info!(running, "giving clusters away before these requests have ended");
            }
            // Whatever else runs is looked at no more: new requests are refused.
            *patience = None;
        }
        let step = self.control.as_ref().map_or(Step::Done, Control::give_owners);
        match step {
            Step::Wait => {}
            Step::Ask(command) => self.move_owners(command),
            Step::Done => {
                if let Some(Leaving::Giving { left, .. }) = self.leaving.take() {
                    // Whoever asked may have lost patience.
                    left.send(()).ok();
                }
            }
        }
    }

    /// Has another server lead the control plane.
    pub(super) fn resign(&mut self) {
        if self.end_by().is_some() && self.control.as_ref().is_some_and(Control::can_resign) {
            self.step_control(ControlEvent::Resign);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        let Some(deadline) = self.end_by() else { return false };
        let leads = self.control.as_ref().is_some_and(Control::can_resign);
        let is_finished = self.unanswered() == 0 && self.protocol.unfinished() == 0 && !leads;
        is_finished || self.shared.clock.now() >= deadline
    }

    /// What it has promised leaves once it is durable; then it says that it is gone.
    pub(super) fn say_goodbye(&mut self) {
        self.shared.inbox.close();
        let (unanswered, unfinished) = (self.unanswered(), self.protocol.unfinished());
        if unanswered > 0 || unfinished > 0 {
            tracing::warn!(
                unanswered,
                unfinished,
                "stopping with requests whose outcome is not known yet, or with decisions that \
                 others have to ask for"
            );
        }
        self.let_everything_out(LAST_SYNC);
        self.shared.set_state(NodeState::Offline);
        if let Some(links) = &self.shared.links {
            links.tell();
        }
    }
}
