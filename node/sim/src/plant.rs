//! What a run may be told to do wrong: settings of the machine, and bugs of the shell round it. The
//! simulator's own tests plant them to see that its invariants can fail.

use quorate_protocol::io::Config;
use serde::{Deserialize, Serialize};

/// A bug of the shell, which the real one must not have either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShellBug {
    /// Messages leave before what they wait for is durable (PROTOCOL.md 3.2, trap A11).
    SendBeforeDurable,
    /// A sync returns before the disk has anything.
    SyncLies,
    /// A torn batch counts as far as it can be read: no checksum is looked at.
    TornBatchCounts,
    /// The boot counter stands still over a restart (trap A6).
    SameBoot,
    /// A damaged disk is served from as if it were a new one (trap A3).
    DamageForgotten,
    /// Messages of the control plane leave before what they wait for is durable.
    ControlBeforeDurable,
    /// The control plane is told that its batches are durable as soon as they are written.
    ControlSyncLies,
    /// Term, vote and how far the log is committed are forgotten over a restart.
    ControlForgets,
    /// A server whose disk is lost comes back with nothing under its identity (trap A3).
    WipedComesBack,
    /// A block of positions is used on by the boot after the one that it was granted to.
    BlockContinued,
    /// A server that was removed is linked with and listened to as before.
    RemovedIsHeard,
    /// A server that joins serves and votes at once, with nothing.
    JoinsWithoutAligning,
}

/// A bug of what is agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlBug {
    /// Which blocks of positions were granted is forgotten when owners move (trap A20).
    GrantsForgotten,
    /// MASTERs unite once a majority of them has sealed, merged and compared.
    UnitedByMajority,
    /// Once a MASTER is given up the others go on at once, each with what it has.
    GivenUpUnasked,
}

/// What differs from a correct run.
#[derive(Debug, Clone, Copy)]
pub struct Plant {
    /// Changes the machine's settings.
    pub machine: fn(&mut Config),
    /// A bug of the shell.
    pub shell: Option<ShellBug>,
    /// A bug of what is agreed on.
    pub control: Option<ControlBug>,
}

impl Plant {
    /// Nothing.
    pub const NONE: Self = Self { machine: |_| {}, shell: None, control: None };

    pub(crate) fn has(&self, bug: ShellBug) -> bool {
        self.shell == Some(bug)
    }
}
