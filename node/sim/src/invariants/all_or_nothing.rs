//! Nothing of an aborted transaction is ever written, and whoever notes a commit holds all of its
//! operations (PROTOCOL.md 3.6.2 and 3.6.3, traps A8 and A12; Adya, "Weak Consistency", 1999: G1a).
//! A server that is ONLINE never shows a part of a commit, not for a moment; one that comes back
//! from aligning shows every commit it has anything of, or knows to be one, as a whole (3.6.5).

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{Committed, ItemId, TxId};
use quorate_protocol::io::Write;
use quorate_protocol::message::Decided;

use crate::disk::Contents;
use crate::options::Options;

#[derive(Debug, Default)]
pub(super) struct AllOrNothing {
    /// Versions after each transaction, from the records of all servers.
    ops: BTreeMap<TxId, BTreeMap<ItemId, u64>>,
    aborted: BTreeSet<TxId>,
    wrote: BTreeSet<TxId>,
    committed: BTreeSet<TxId>,
    /// Versions of tombstones dropped, by server: what they held counts as held.
    purged: BTreeMap<(usize, ItemId), u64>,
}

impl AllOrNothing {
    pub(super) fn see(
        &mut self,
        by: usize,
        writes: &[Write],
        holds: &Contents,
        options: &Options,
    ) -> Option<String> {
        let mut found = None;
        for write in writes {
            match write {
                Write::Tx(tx, record) => {
                    let ops = record.ops.iter().filter(|op| op.writes());
                    let known = self.ops.entry(*tx).or_default();
                    known.extend(ops.map(|op| (op.item.clone(), op.base.version + 1)));
                }
                Write::Item(_, written) => {
                    self.wrote.insert(written.stamp.tx);
                    if self.aborted.contains(&written.stamp.tx) {
                        return Some(format!("wrote of the aborted {}", written.stamp.tx));
                    }
                    if !holds.aligning {
                        let tx = written.stamp.tx;
                        found = found.or_else(|| self.missing(by, tx, holds, options));
                    }
                }
                Write::Outcome(tx, Decided::Abort) => {
                    self.aborted.insert(*tx);
                    if self.wrote.contains(tx) {
                        return Some(format!("{tx} aborted after something of it was written"));
                    }
                }
                Write::Outcome(tx, Decided::Commit) => {
                    self.committed.insert(*tx);
                    if !holds.aligning {
                        found = found.or_else(|| self.missing(by, *tx, holds, options));
                    }
                }
                Write::Purge(item) => {
                    let ops = self.committed.iter().filter_map(|tx| self.ops.get(tx));
                    let version = ops.filter_map(|ops| ops.get(item)).max();
                    self.purged.insert((by, item.clone()), version.copied().unwrap_or_default());
                }
                Write::Aligning(false) => {
                    let missing = |tx: &TxId| self.missing(by, *tx, holds, options);
                    let knows = |tx: &TxId| {
                        self.has_part(by, *tx, holds) || holds.outcomes.contains_key(tx)
                    };
                    let mut parts = self.committed.iter().filter(|tx| knows(tx));
                    found = found.or_else(|| parts.find_map(missing));
                }
                Write::Aligning(true)
                | Write::Log(..)
                | Write::TruncateLog(_)
                | Write::Applied(..)
                | Write::BootEnd(..)
                | Write::OutOfLog(_)
                | Write::InLog(_)
                | Write::Shown(..)
                | Write::Begun(_)
                | Write::Copied(..)
                | Write::Sealed(..)
                | Write::Entered(..)
                | Write::Ancestors(..)
                | Write::Rivals(..)
                | Write::Lost(..)
                | Write::Low(..) => {}
            }
        }
        found
    }

    /// An operation of a committed transaction that a server should hold and does not.
    /// A server joined behind those who have dropped these tombstones.
    pub(super) fn joined(&mut self, by: usize, dropped: Vec<(ItemId, Committed)>) {
        let versions = dropped.into_iter().map(|(item, last)| ((by, item), last.stamp.version));
        self.purged.extend(versions);
    }

    fn missing(&self, by: usize, tx: TxId, holds: &Contents, options: &Options) -> Option<String> {
        let ops = self.ops.get(&tx)?.iter();
        let ops = ops.filter(|(item, _)| options.holds(by, item.cluster));
        for (item, version) in ops {
            let held = self.held(by, item, holds);
            if held < *version {
                return Some(format!("{tx} committed without {item}, which is at {held}"));
            }
        }
        None
    }

    /// Version that a server holds, or dropped the tombstone of.
    fn held(&self, by: usize, item: &ItemId, holds: &Contents) -> u64 {
        let held = holds.items.get(item).map(|committed| committed.stamp.version);
        let purged = || self.purged.get(&(by, item.clone())).copied();
        held.or_else(purged).unwrap_or_default()
    }

    /// A server holds a state of some item that a transaction led to.
    fn has_part(&self, by: usize, tx: TxId, holds: &Contents) -> bool {
        let mut ops = self.ops.get(&tx).into_iter().flatten();
        ops.any(|(item, version)| self.held(by, item, holds) >= *version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{OpKind, Operation, Stamp};
    use quorate_protocol::message::TxRecord;

    fn options() -> Options {
        let clusters = vec![crate::options::Shape::new(0, vec![0, 1, 2], 2)];
        Options { keyed: clusters.len(), clusters, ..Options::of_seed(1) }
    }

    fn item() -> ItemId {
        options().record_of(0)
    }

    #[test]
    fn a_write_of_an_aborted_transaction_is_caught() {
        let mut invariant = AllOrNothing::default();
        let (options, holds) = (options(), Contents::default());
        let stamp = Stamp { version: 1, tx: TxId::NONE };
        let write =
            Write::Item(item(), Committed { stamp, live: true, image: None, elsewhere: None });
        assert_eq!(invariant.see(0, &[write], &holds, &options), None);
        let abort = Write::Outcome(TxId::NONE, Decided::Abort);
        assert!(invariant.see(0, &[abort], &holds, &options).is_some());
    }

    /// A server with one record of a commit on two.
    fn half() -> (AllOrNothing, Contents) {
        let other = options().record_of(1);
        let op = |item| Operation { item, kind: OpKind::Create, base: Stamp::ABSENT, image: None };
        let ops = vec![op(item()), op(other)];
        let (mut invariant, mut holds) = (AllOrNothing::default(), Contents::default());
        let record = TxRecord { ops, ..TxRecord::default() };
        invariant.see(1, &[Write::Tx(TxId::NONE, record)], &holds, &options());
        let stamp = Stamp { version: 1, tx: TxId::NONE };
        holds.items.insert(item(), Committed { stamp, live: true, image: None, elsewhere: None });
        (invariant, holds)
    }

    #[test]
    fn a_part_shown_while_online_is_caught() {
        let (mut invariant, mut holds) = half();
        let write = [Write::Item(item(), holds.items[&item()].clone())];
        holds.aligning = true;
        assert_eq!(invariant.see(0, &write, &holds, &options()), None);
        holds.aligning = false;
        assert!(invariant.see(0, &write, &holds, &options()).is_some());
    }

    #[test]
    fn coming_back_with_a_part_is_caught() {
        let (mut invariant, mut holds) = half();
        let commit = [Write::Outcome(TxId::NONE, Decided::Commit)];
        holds.aligning = true;
        assert_eq!(invariant.see(0, &commit, &holds, &options()), None);
        holds.aligning = false;
        let back = [Write::Aligning(false)];
        assert!(invariant.see(0, &back, &holds, &options()).is_some());
        // A tombstone that was dropped was there.
        invariant.see(0, &[Write::Purge(options().record_of(1))], &holds, &options());
        assert_eq!(invariant.see(0, &back, &holds, &options()), None);
    }

    #[test]
    fn half_a_commit_is_caught() {
        let mut invariant = AllOrNothing::default();
        let (options, holds) = (options(), Contents::default());
        let op = Operation { item: item(), kind: OpKind::Create, base: Stamp::ABSENT, image: None };
        let record = TxRecord { ops: vec![op], ..TxRecord::default() };
        let commit = Write::Outcome(TxId::NONE, Decided::Commit);
        let writes = [Write::Tx(TxId::NONE, record), commit];
        assert!(invariant.see(0, &writes, &holds, &options).is_some());
    }
}
