//! Nothing of an aborted transaction is ever written, and whoever notes a commit holds all of its
//! operations (PROTOCOL.md 3.6.2 and 3.6.3, traps A8 and A12; Adya, "Weak Consistency", 1999: G1a).
//! A server that is ONLINE never shows a part of a commit, not for a moment; one that comes back
//! from aligning shows every commit it has anything of as a whole (3.6.5).

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{ItemId, TxId};
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
    /// Tombstones dropped, by server: what they held counts as held.
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
        let mut committed = None;
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
                        committed = committed.or_else(|| self.missing(by, tx, holds, options));
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
                        committed = committed.or_else(|| self.missing(by, *tx, holds, options));
                    }
                }
                Write::Purge(item) => {
                    let held = self.ops.values().filter_map(|ops| ops.get(item)).max();
                    let version = held.copied().unwrap_or_default();
                    self.purged.insert((by, item.clone()), version);
                }
                Write::Aligning(false) => {
                    let partly = |tx: &&TxId| self.has_part(by, **tx, holds);
                    let mut parts = self.committed.iter().filter(partly);
                    committed = committed
                        .or_else(|| parts.find_map(|tx| self.missing(by, *tx, holds, options)));
                }
                Write::Aligning(true)
                | Write::Log(..)
                | Write::TruncateLog(_)
                | Write::Applied(..)
                | Write::Low(..) => {}
            }
        }
        committed
    }

    /// An operation of a committed transaction that a server should hold and does not.
    fn missing(&self, by: usize, tx: TxId, holds: &Contents, options: &Options) -> Option<String> {
        let mine = |item: &ItemId| {
            let shapes = options.clusters();
            shapes.iter().any(|s| s.cluster == item.cluster && s.masters.contains(&by))
        };
        let ops = self.ops.get(&tx)?.iter().filter(|(item, _)| mine(item));
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
        let held = holds.items.get(item).map(|c| c.stamp.version);
        let purged = || self.purged.get(&(by, item.clone())).copied();
        held.or_else(purged).unwrap_or_default()
    }

    /// A server holds a state of some item that a transaction led to.
    fn has_part(&self, by: usize, tx: TxId, holds: &Contents) -> bool {
        let ops = self.ops.get(&tx).into_iter().flatten();
        ops.into_iter().any(|(item, version)| self.held(by, item, holds) >= *version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{Committed, OpKind, Operation, Stamp};
    use quorate_protocol::message::TxRecord;

    fn item() -> ItemId {
        ItemId::record(crate::options::CLUSTER, 0)
    }

    #[test]
    fn a_write_of_an_aborted_transaction_is_caught() {
        let mut invariant = AllOrNothing::default();
        let (options, holds) = (Options::of_seed(1), Contents::default());
        let stamp = Stamp { version: 1, tx: TxId::NONE };
        let write = Write::Item(item(), Committed { stamp, live: true, image: None });
        assert_eq!(invariant.see(0, &[write], &holds, &options), None);
        let abort = Write::Outcome(TxId::NONE, Decided::Abort);
        assert!(invariant.see(0, &[abort], &holds, &options).is_some());
    }

    /// A server with one record of a commit on two.
    fn half() -> (AllOrNothing, Contents) {
        let other = ItemId::record(crate::options::CLUSTER, 1);
        let op = |item| Operation { item, kind: OpKind::Create, base: Stamp::ABSENT, image: None };
        let ops = vec![op(item()), op(other)];
        let mut invariant = AllOrNothing::default();
        let (options, mut holds) = (Options::of_seed(1), Contents::default());
        let record = TxRecord { ops, ..TxRecord::default() };
        invariant.see(1, &[Write::Tx(TxId::NONE, record)], &holds, &options);
        let stamp = Stamp { version: 1, tx: TxId::NONE };
        holds.items.insert(item(), Committed { stamp, live: true, image: None });
        (invariant, holds)
    }

    #[test]
    fn a_part_shown_while_online_is_caught() {
        let (mut invariant, mut holds) = half();
        let options = Options::of_seed(1);
        let write = [Write::Item(item(), holds.items[&item()].clone())];
        holds.aligning = true;
        assert_eq!(invariant.see(0, &write, &holds, &options), None);
        holds.aligning = false;
        assert!(invariant.see(0, &write, &holds, &options).is_some());
    }

    #[test]
    fn coming_back_with_a_part_is_caught() {
        let (mut invariant, mut holds) = half();
        let options = Options::of_seed(1);
        let commit = [Write::Outcome(TxId::NONE, Decided::Commit)];
        holds.aligning = true;
        assert_eq!(invariant.see(0, &commit, &holds, &options), None);
        holds.aligning = false;
        assert!(invariant.see(0, &[Write::Aligning(false)], &holds, &options).is_some());
    }

    #[test]
    fn half_a_commit_is_caught() {
        let mut invariant = AllOrNothing::default();
        let (options, holds) = (Options::of_seed(1), Contents::default());
        let op = Operation { item: item(), kind: OpKind::Create, base: Stamp::ABSENT, image: None };
        let record = TxRecord { ops: vec![op], ..TxRecord::default() };
        let commit = Write::Outcome(TxId::NONE, Decided::Commit);
        let writes = [Write::Tx(TxId::NONE, record), commit];
        assert!(invariant.see(0, &writes, &holds, &options).is_some());
    }
}
