//! Invariants of PROTOCOL.md 3.11, checked as writes and answers happen.
//!
//! | file | invariant |
//! |---|---|
//! | `all_or_nothing` | nothing of an aborted transaction, all of a committed one |
//! | `one_outcome` | one outcome per transaction, on every disk, for ever |
//! | `one_commit_per_base` | two transactions on one base never both commit |
//! | `votes_stand` | no vote changes, no Yes after a promise without a vote |
//! | `durable_before_ok` | no `ok` before W durable Yes votes, or a majority of durable accepts |
//! | `tombstone_kept` | a tombstone goes only when every MASTER has it |
//! | `acknowledged_stays` | what was acknowledged is in the final state's line of history |
//!
//! What clients see (linearizability, failed writes, session of values) is judged by
//! `quorate-check` on the history.

mod acknowledged_stays;
mod all_or_nothing;
mod durable_before_ok;
mod one_commit_per_base;
mod one_outcome;
mod tombstone_kept;
mod votes_stand;

use std::collections::BTreeMap;

use quorate_api::{Boot, Committed, ItemId, NodeId, TxId};
use quorate_protocol::io::Write;

use crate::disk::Contents;
use crate::options::Options;

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

/// All invariants with what they remember.
#[derive(Debug, Default)]
pub struct Invariants {
    violations: Vec<Violation>,
    outcomes: one_outcome::OneOutcome,
    commits: one_commit_per_base::OneCommitPerBase,
    votes: votes_stand::VotesStand,
    whole: all_or_nothing::AllOrNothing,
    acknowledged: acknowledged_stays::AcknowledgedStays,
    tombstones: tombstone_kept::TombstoneKept,
}

impl Invariants {
    /// Looks at a batch of writes of one server.
    pub fn writes(&mut self, by: (NodeId, Boot), writes: &[Write], options: &Options) {
        let safe = options.clusters().iter().all(|s| s.write_quorum >= s.majority());
        for write in writes {
            let found = [
                ("one-outcome", self.outcomes.see(write)),
                ("one-commit-per-base", if safe { self.commits.see(write) } else { None }),
                ("votes-stand", self.votes.see(by, write)),
            ];
            for (invariant, detail) in found {
                if let Some(detail) = detail {
                    self.report(invariant, format!("{}: {detail}", by.0));
                }
            }
        }
    }

    /// Looks at what a server holds after a batch was written.
    pub fn wrote(&mut self, by: usize, writes: &[Write], holds: &Contents, options: &Options) {
        if let Some(detail) = self.whole.see(by, writes, holds, options) {
            self.report("all-or-nothing", format!("server {by}: {detail}"));
        }
    }

    /// Looks at a batch of one server, with what every disk durably held before it.
    pub fn dropped(&mut self, by: usize, writes: &[Write], disks: &[&Contents], options: &Options) {
        for write in writes {
            if let Some(detail) = self.tombstones.see(by, write, disks, options) {
                self.report("tombstone-kept", format!("server {by}: {detail}"));
            }
        }
    }

    /// What was deleted, its tombstone dropped or not.
    #[must_use]
    pub fn tombstones(&self) -> &BTreeMap<ItemId, Committed> {
        self.tombstones.tombstones()
    }

    /// A server starts in a new boot, from what its disk kept.
    pub fn restarted(&mut self, by: (NodeId, Boot), kept: &Contents) {
        self.votes.restarted(by, kept);
    }

    /// Looks at an `ok`, with what every disk durably holds at that time.
    pub fn acknowledged(&mut self, tx: TxId, disks: &[&Contents], options: &Options) {
        self.acknowledged.see(tx);
        if let Some(detail) = durable_before_ok::check(tx, disks, options) {
            self.report("durable-before-ok", detail);
        }
    }

    /// Looks at the state every server ended in.
    pub fn final_state(&mut self, items: &BTreeMap<ItemId, Committed>) {
        if let Some(detail) = self.acknowledged.check(items, &self.commits) {
            self.report("acknowledged-stays", detail);
        }
    }

    /// Takes note of a violation found elsewhere.
    pub fn report(&mut self, invariant: &'static str, detail: String) {
        self.violations.push(Violation { invariant, detail });
    }

    /// What was found so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// What was found.
    #[must_use]
    pub fn take(self) -> Vec<Violation> {
        self.violations
    }
}
