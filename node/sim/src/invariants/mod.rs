//! Invariants of PROTOCOL.md 3.11, checked as writes and answers happen.
//!
//! | file | invariant |
//! |---|---|
//! | `all_or_nothing` | nothing of an aborted transaction, all of a committed one |
//! | `one_outcome` | one outcome per transaction, on every disk, for ever |
//! | `one_value` | one value per transaction, cluster and ballot |
//! | `one_content` | one content per transaction id |
//! | `one_commit_per_base` | two transactions on one base never both commit |
//! | `one_generation` | a generation's commits are final, and at its voters, before the next one |
//! | `configuration_kept` | no server goes back to an older configuration, also over a crash |
//! | `one_agreement` | servers that have applied the same entries agree |
//! | `command_kept` | what was answered as carried out is never gone, and happened once |
//! | `one_name` | one id, one name, for ever |
//! | `one_owner` | nobody votes for a create of anybody but the owner that it knows of |
//! | `position_once` | a position is used once |
//! | `one_leader` | a term of the control plane has at most one leader |
//! | `exact_bases` | commits are applied on exact bases, never twice, never backwards |
//! | `tombstone_kept` | a tombstone goes only when every MASTER and REPLICA has it |
//! | `content_kept` | a witness drops a content only when every other server has it |
//! | `votes_stand` | no vote changes, no Yes after a promise without a vote |
//! | `durable_before_ok` | no `ok` before W durable Yes votes, or a majority of durable accepts |
//! | `acknowledged_stays` | what was acknowledged is in the final state's line of history |
//! | `bank_total` | money is neither made nor lost, in any server's snapshot |
//! | `unique_key` | a key and the record that claims it name each other, in any snapshot |
//! | `edges_symmetric` | an edge stands at both of its ends, in any snapshot |
//!
//! Where W is below a majority only these hold of them: `votes_stand`, `one_content`,
//! `durable_before_ok`, those of the control plane, `one_value` and `one_outcome` of what touches a
//! safe cluster, and instead of the others
//!
//! | file | invariant |
//! |---|---|
//! | `below_majority` | nothing uncommitted, no copy goes back, all acknowledged leaves a trace, no
//! lag loses, one outcome where a safe cluster is touched |
//!
//! Reported by the world: `no-corruption` (a machine says so), `no-panic` (a machine stops because
//! its state is impossible), `nothing-in-doubt` two seconds after the heal, `serves-after-heal`,
//! `converges-after-heal`. What clients see is judged by `quorate-check` on the history, under the
//! names of its checkers.

mod acknowledged_stays;
mod all_or_nothing;
mod bank_total;
mod below_majority;
mod command_kept;
mod configuration_kept;
mod content_kept;
mod durable_before_ok;
mod edges_symmetric;
mod exact_bases;
mod one_agreement;
mod one_commit_per_base;
mod one_content;
mod one_generation;
mod one_leader;
mod one_name;
mod one_outcome;
mod one_owner;
mod one_value;
mod position_once;
mod tombstone_kept;
mod unique_key;
mod votes_stand;

use std::collections::BTreeMap;

use quorate_api::{Boot, ClusterKey, Committed, ItemId, NodeId, TxId};
use quorate_control::agreement::Agreement;
use quorate_control::command::Command;
use quorate_control::plane::{Plane, State};
use quorate_protocol::io::{Placement, Write};
use quorate_protocol::message::Participant;

use crate::control::Agreed;
use crate::disk::Contents;
use crate::options::Options;
use crate::workload::Kind;

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
    values: one_value::OneValue,
    contents: one_content::OneContent,
    commits: one_commit_per_base::OneCommitPerBase,
    votes: votes_stand::VotesStand,
    whole: all_or_nothing::AllOrNothing,
    tombstones: tombstone_kept::TombstoneKept,
    acknowledged: acknowledged_stays::AcknowledgedStays,
    generations: one_generation::OneGeneration,
    configurations: configuration_kept::ConfigurationKept,
    agreements: one_agreement::OneAgreement,
    leaders: one_leader::OneLeader,
    commands: command_kept::CommandKept,
    names: one_name::OneName,
    owners: one_owner::OneOwner,
    positions: position_once::PositionOnce,
    /// Instead of most of them, where W is below a majority.
    below_majority: Option<below_majority::BelowMajority>,
}

impl Invariants {
    /// Nothing happened yet.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let generations = one_generation::OneGeneration::first(options);
        let below_majority =
            options.low_quorums.then(|| below_majority::BelowMajority::first(options));
        Self { generations, below_majority, ..Self::default() }
    }

    /// A cluster's next generation is active, with what every disk durably holds at that time.
    pub fn activated(
        &mut self,
        cluster: ClusterKey,
        placement: &Placement,
        masters: Vec<usize>,
        disks: &[&Contents],
    ) {
        let generation = placement.generation;
        if let Some(below) = &mut self.below_majority {
            let masters: Vec<_> = masters.iter().map(|server| (*server, disks[*server])).collect();
            let of = Participant { cluster, generation };
            let dropped = &self.tombstones;
            let has_dropped = |server, item: &ItemId| dropped.has_dropped(server, item);
            let quorum = (placement.write_quorum, placement.majority());
            if let Some(detail) = below.activated(of, quorum, &masters, has_dropped) {
                self.report("united", detail);
            }
        }
        let dropped = &self.tombstones;
        let has_dropped = |server, item: &ItemId| dropped.has_dropped(server, item);
        let of = (cluster, generation);
        if let Some(detail) = self.generations.activated(of, masters, disks, has_dropped) {
            self.report("one-generation", detail);
        }
    }

    /// A server leads the control plane.
    pub(crate) fn leads(&mut self, index: usize, term: u64) {
        if let Some(detail) = self.leaders.see(index, term) {
            self.report("one-leader", format!("server {index} {detail}"));
        }
    }

    /// A server's control plane has begun, or has applied more.
    pub(crate) fn plane(&mut self, index: usize, plane: &Plane<Agreed>) {
        let (applied, cfg) = (plane.applied(), plane.state().cfg);
        let found = [
            ("configuration-kept", self.configurations.see(index, applied, cfg)),
            ("one-agreement", self.agreements.see(index, applied, digest(plane.state()))),
        ];
        for (invariant, detail) in found {
            if let Some(detail) = detail {
                self.report(invariant, format!("server {index} {detail}"));
            }
        }
    }

    /// Somebody asks for a command.
    pub(crate) fn asked(&mut self, command: &Command) {
        self.commands.asked(command);
    }

    /// Somebody was told that a command was carried out.
    pub(crate) fn carried_out(&mut self, command: &Command) {
        if let Some(detail) = self.commands.carried_out(command) {
            self.report("command-kept", detail);
        }
    }

    /// Servers agree on something new.
    pub(crate) fn agreed(&mut self, agreement: &Agreement) {
        let schema = &agreement.schema;
        let found =
            [("command-kept", self.commands.agreed(schema)), ("one-name", self.names.see(schema))];
        for (invariant, detail) in found {
            if let Some(detail) = detail {
                self.report(invariant, detail);
            }
        }
    }

    /// A server's machine is told of a configuration.
    pub(crate) fn configured(
        &mut self,
        index: usize,
        placements: &BTreeMap<ClusterKey, Placement>,
    ) {
        self.owners.configured(index, placements);
    }

    /// A cluster was made, with these MASTERs.
    pub(crate) fn cluster_made(&mut self, cluster: ClusterKey, masters: Vec<usize>) {
        self.generations.made(cluster, masters);
    }

    /// A server uses a position.
    pub(crate) fn position_taken(&mut self, index: usize, record: &ItemId) {
        if let Some(detail) = self.positions.see(index, record) {
            self.report("position-once", format!("server {index} {detail}"));
        }
    }

    /// Terms of the control plane that had a leader.
    #[must_use]
    pub fn leaders(&self) -> u64 {
        self.leaders.count() as u64
    }

    /// An item that was there before the run.
    pub fn loaded(&mut self, item: &ItemId, committed: &Committed) {
        if let Some(below) = &mut self.below_majority {
            below.loaded(item, committed);
        }
        let found = self.commits.see(item, committed);
        debug_assert_eq!(found, None, "loaded twice");
    }

    /// Looks at a batch of writes of one server, whose disk holds `before`.
    pub fn writes(
        &mut self,
        by: (NodeId, Boot),
        index: usize,
        writes: &[Write],
        before: &Contents,
    ) {
        if let Some(below) = &mut self.below_majority {
            let mut found = below.see(writes, before);
            for write in writes {
                found.push(("votes-stand", self.votes.see(by, write)));
                if below.is_of_decided_safely(write) {
                    found.push(("one-outcome", self.outcomes.see(write)));
                }
                if let Write::Tx(tx, record) = write {
                    found.push(("one-content", self.contents.see(*tx, record)));
                    if below.is_decided_safely(*tx) {
                        found.push(("one-value", self.values.see(*tx, record)));
                    }
                }
                if let Write::Item(item, committed) = write {
                    if below.is_written_safely(item.cluster, committed.stamp.tx) {
                        let found_of_item = if below.crosses() {
                            below.see_safe(item, committed)
                        } else {
                            self.commits.see(item, committed)
                        };
                        found.push(("one-commit-per-base", found_of_item));
                    }
                    self.tombstones.see(item, committed);
                }
            }
            self.report_found(by, index, found);
            return;
        }
        let writes = content_kept::without_drops(writes, before);
        let mut found = vec![("exact-bases", exact_bases::check(&writes, before))];
        for write in &writes {
            found.push(("one-outcome", self.outcomes.see(write)));
            found.push(("votes-stand", self.votes.see(by, write)));
            found.push(("one-owner", self.owners.see(index, write)));
            if let Write::Item(item, committed) = write {
                found.push(("one-commit-per-base", self.commits.see(item, committed)));
                self.tombstones.see(item, committed);
            }
            if let Write::Tx(tx, record) = write {
                found.push(("one-value", self.values.see(*tx, record)));
                found.push(("one-content", self.contents.see(*tx, record)));
            }
        }
        self.report_found(by, index, found);
    }

    fn report_found(
        &mut self,
        by: (NodeId, Boot),
        index: usize,
        found: Vec<(&'static str, Option<String>)>,
    ) {
        for (invariant, detail) in found {
            if let Some(detail) = detail {
                self.report(invariant, format!("server {index} {}: {detail}", by.0));
            }
        }
    }

    /// Looks at what a server holds after a batch was written.
    pub fn wrote(&mut self, by: usize, writes: &[Write], holds: &Contents, options: &Options) {
        if self.below_majority.is_some() {
            return;
        }
        let joins = self.tombstones.is_joining(by, options);
        if joins && writes.contains(&Write::Aligning(false)) {
            self.whole.joined(by, self.tombstones.joined(by, holds));
        }
        let dropped = &self.tombstones;
        let has_dropped = |item: &ItemId| dropped.has_dropped(by, item);
        if let Some(detail) = self.generations.see(by, writes, holds, has_dropped) {
            self.report("one-generation", format!("server {by}: {detail}"));
        }
        if let Some(detail) = self.whole.see(by, writes, holds, options) {
            self.report("all-or-nothing", format!("server {by}: {detail}"));
        }
        let shows = |write: &Write| {
            matches!(write, Write::Item(..) | Write::Purge(_) | Write::Aligning(false))
        };
        let changes = !holds.aligning && writes.iter().any(shows);
        if !changes || !options.shows_all(by) {
            return;
        }
        let (invariant, detail) = snapshot(&holds.items, options);
        if let Some(detail) = detail {
            self.report(invariant, format!("server {by}: {detail}"));
        }
    }

    /// Looks at a batch of one server that drops tombstones or contents, with what its own disk
    /// holds before it, and every other one durably.
    pub fn purged(&mut self, by: usize, writes: &[Write], disks: &[&Contents], options: &Options) {
        let tombstones = &self.tombstones;
        let has_dropped = |server, item: &ItemId| tombstones.has_dropped(server, item);
        if let Some(detail) = content_kept::check(writes, disks, options, has_dropped) {
            self.report("content-kept", format!("server {by}: {detail}"));
        }
        let found = self.tombstones.purged(by, writes, disks, options);
        if let Some(detail) = found.filter(|_| self.below_majority.is_none()) {
            self.report("tombstone-kept", format!("server {by}: {detail}"));
        }
    }

    /// The tombstones that some server has dropped.
    pub fn purged_items(&self) -> impl Iterator<Item = (&ItemId, &Committed)> {
        self.tombstones.dropped()
    }

    /// True when a server has dropped the tombstone of an item.
    #[must_use]
    pub fn has_purged(&self, server: usize, item: &ItemId) -> bool {
        self.tombstones.has_dropped(server, item)
    }

    /// A server starts in a new boot, from what its disk kept.
    pub fn restarted(
        &mut self,
        by: (NodeId, Boot),
        index: usize,
        kept: &Contents,
        options: &Options,
    ) {
        self.votes.restarted(by, kept);
        self.generations.restarted(index, kept);
        if options.shows_all(index) && !kept.aligning {
            let (invariant, detail) = snapshot(&kept.items, options);
            if let Some(detail) = detail {
                self.report(invariant, format!("server {index} starts: {detail}"));
            }
        }
    }

    /// Looks at an `ok`, with what every disk durably holds at that time.
    pub fn acknowledged(&mut self, tx: TxId, disks: &[&Contents], options: &Options) {
        let record = disks.iter().find_map(|disk| disk.txs.get(&tx));
        if record.is_none_or(|record| record.ops.iter().any(quorate_api::Operation::writes)) {
            self.acknowledged.see(tx);
            if let Some(below) = &mut self.below_majority {
                below.acknowledged(tx);
            }
        }
        let below = self.below_majority.as_ref();
        let is_low = below.is_some_and(|below| !below.is_decided_safely(tx));
        let voters = |p: &Participant| {
            let (voters, _) = is_low.then(|| options.voters(options.shape(p.cluster), tx.node))?;
            below.and_then(|below| below.quorum(p)).map(|quorum| (voters, quorum))
        };
        if let Some(detail) = durable_before_ok::check(tx, disks, &self.generations, &voters) {
            self.report("durable-before-ok", detail);
        }
    }

    /// Looks at the state every server ended in.
    pub fn final_state(&mut self, items: &BTreeMap<ItemId, Committed>, options: &Options) {
        let acknowledged = self.acknowledged.check(items, &self.commits);
        let found = [("acknowledged-stays", acknowledged), snapshot(items, options)];
        for (invariant, detail) in found {
            if let Some(detail) = detail {
                self.report(invariant, format!("at the end: {detail}"));
            }
        }
    }

    /// Looks at the state every server ended in, where W is below a majority.
    pub fn final_below_majority(
        &mut self,
        items: &BTreeMap<ItemId, Committed>,
        disks: &[&Contents],
    ) {
        let found = self.below_majority.as_ref().map(|below| below.check(items, disks));
        for (invariant, detail) in found.into_iter().flatten() {
            if let Some(detail) = detail {
                self.report(invariant, format!("at the end: {detail}"));
            }
        }
    }

    /// A MASTER is given up; what the others durably hold stays.
    pub fn given_up(&mut self, left: &[&Contents]) {
        self.below_majority.iter_mut().for_each(|below| below.given_up(left));
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

/// FNV-1a over the state's bytes.
fn digest(state: &State<Agreed>) -> u64 {
    let bytes = postcard::to_allocvec(state).expect("the state is plain data");
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// What the workload promises of a whole snapshot.
fn snapshot(
    items: &BTreeMap<ItemId, Committed>,
    options: &Options,
) -> (&'static str, Option<String>) {
    match options.workload {
        Kind::Registers | Kind::Records => ("", None),
        Kind::Bank => ("bank-total", bank_total::check(items, options)),
        Kind::Unique => ("unique-key", unique_key::check(items, options)),
        Kind::Graph => ("edges-symmetric", edges_symmetric::check(items, options)),
    }
}

#[cfg(test)]
mod tests {
    use quorate_api::{OpKind, Operation, Stamp};
    use quorate_protocol::message::{Decided, TxRecord, Vote};

    use super::*;
    use crate::options::Shape;

    /// One Yes of three is enough where W is 1 in all clusters, and not with a safe one among them,
    /// which has one outcome, too.
    #[test]
    fn a_safe_cluster_is_judged_by_majorities_among_low_ones() {
        let clusters = vec![Shape::new(0, vec![0, 1, 2], 1), Shape::new(1, vec![0, 1, 2], 2)];
        let options = Options { servers: 3, clusters, low_quorums: true, ..Options::of_seed(1) };
        for (touched, expected) in [(0..1, &[][..]), (0..2, &["durable-before-ok", "one-outcome"])]
        {
            let mut invariants = Invariants::new(&options);
            let shapes = &options.clusters[touched];
            let of = |shape: &Shape| Participant { cluster: shape.cluster, generation: 1 };
            let item = ItemId::record(shapes[0].cluster, 0);
            let (kind, base) = (OpKind::Create, Stamp::ABSENT);
            let record = TxRecord {
                ops: vec![Operation { item, kind, base, image: None }],
                participants: shapes.iter().map(of).collect(),
                vote: Some(Vote::Yes),
                ..TxRecord::default()
            };
            let (mut voted, empty) = (Contents::default(), Contents::default());
            let by = (NodeId(1), Boot(1));
            invariants.writes(by, 0, &[Write::Tx(TxId::NONE, record.clone())], &empty);
            voted.txs.insert(TxId::NONE, record);
            invariants.acknowledged(TxId::NONE, &[&voted, &empty, &empty], &options);
            for outcome in [Decided::Commit, Decided::Abort] {
                invariants.writes(by, 0, &[Write::Outcome(TxId::NONE, outcome)], &empty);
            }
            let found: Vec<_> = invariants.violations.iter().map(|v| v.invariant).collect();
            assert_eq!(found, expected);
        }
    }
}
