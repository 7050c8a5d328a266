//! Whether a link with a peer is needed: always, for a while because something was to be sent, or
//! because the peer needs it. May not know why.
//!
//! A link is needed by one side, and kept by both as long as that one says so with its signs of
//! life: what is asked over it comes back over the link that the other one dials.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quorate_protocol::io::Tick;
use tokio::sync::watch;

/// How long a link that was needed is kept without being needed again.
pub(super) const KEEP: Tick = 5_000_000;

/// How a link is used whose both ends are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use {
    /// It is needed always.
    pub(crate) always: bool,
    /// A REPLICA is at one of its ends: nobody waits for what it says, and there are many.
    pub(crate) calm: bool,
}

impl Use {
    /// Between MASTERs, and between servers that do not know yet what they are.
    pub(crate) const MASTERS: Self = Self { always: true, calm: false };
}

/// Whether a link is needed.
#[derive(Debug)]
pub(super) struct Need {
    always: AtomicBool,
    calm: AtomicBool,
    /// By this server, until then.
    until: AtomicU64,
    /// By the peer, which has linked itself with this server.
    theirs: AtomicBool,
    wanted: watch::Sender<bool>,
}

impl Need {
    pub(super) fn new() -> Self {
        let Use { always, calm } = Use::MASTERS;
        Self {
            always: always.into(),
            calm: calm.into(),
            until: AtomicU64::new(0),
            theirs: false.into(),
            wanted: watch::Sender::new(always),
        }
    }

    pub(super) fn set_use(&self, usage: Use) {
        self.always.store(usage.always, Ordering::Release);
        self.calm.store(usage.calm, Ordering::Release);
    }

    pub(super) fn is_always(&self) -> bool {
        self.always.load(Ordering::Acquire)
    }

    /// Silence after which the peer is taken for gone, and time between two signs of life.
    pub(super) fn patience(&self, suspect_after: Tick) -> (Tick, Duration) {
        if self.calm.load(Ordering::Acquire) {
            (suspect_after.max(CALM_SUSPECT), CALM_HEARTBEAT)
        } else {
            (suspect_after, super::HEARTBEAT)
        }
    }

    /// This server needs it, for a while.
    pub(super) fn demand(&self, now: Tick) {
        self.until.fetch_max(now + KEEP, Ordering::AcqRel);
        self.look(now);
    }

    /// What the peer says; nothing once it has no link any more.
    pub(super) fn set_theirs(&self, needs: bool, now: Tick) {
        self.theirs.store(needs, Ordering::Release);
        self.look(now);
    }

    /// Whether this server needs it, whatever the peer does.
    pub(super) fn is_own(&self, now: Tick) -> bool {
        self.is_always() || self.until.load(Ordering::Acquire) > now
    }

    /// Time has passed.
    pub(super) fn look(&self, now: Tick) {
        let needed = self.is_own(now) || self.theirs.load(Ordering::Acquire);
        self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, needed) != needed);
    }

    pub(super) fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }
}

/// Between two signs of life on a link with a REPLICA, and the silence that such a link may keep.
const CALM_HEARTBEAT: Duration = Duration::from_millis(250);
const CALM_SUSPECT: Tick = 1_500_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_kept_while_one_of_both_needs_it() {
        let need = Need::new();
        let wanted = need.wanted();
        assert!(*wanted.borrow(), "until more is known");
        need.set_use(Use { always: false, calm: true });
        need.look(1);
        assert!(!*wanted.borrow());
        need.demand(10);
        assert!(*wanted.borrow() && need.is_own(10));
        need.set_theirs(true, 20);
        need.look(10 + KEEP);
        assert!(*wanted.borrow() && !need.is_own(10 + KEEP), "the peer needs it");
        need.set_theirs(false, 10 + KEEP);
        assert!(!*wanted.borrow());
    }
}
