//! Nothing of an aborted transaction is ever written, and whoever notes a commit holds all of its
//! operations (PROTOCOL.md 3.6.2 and 3.6.3, traps A8 and A12; Adya, "Weak Consistency", 1999: G1a).

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
                }
                Write::Outcome(tx, Decided::Abort) => {
                    self.aborted.insert(*tx);
                    if self.wrote.contains(tx) {
                        return Some(format!("{tx} aborted after something of it was written"));
                    }
                }
                Write::Outcome(tx, Decided::Commit) => {
                    committed = committed.or_else(|| self.missing(by, *tx, holds, options));
                }
                Write::Log(..)
                | Write::TruncateLog(_)
                | Write::Applied(..)
                | Write::BootEnd(..)
                | Write::OutOfLog(_)
                | Write::InLog(_)
                | Write::Forget(_)
                | Write::Low(..) => {}
            }
        }
        committed
    }

    /// An operation of a committed transaction that a server should hold and does not.
    fn missing(&self, by: usize, tx: TxId, holds: &Contents, options: &Options) -> Option<String> {
        let ops = self.ops.get(&tx)?.iter();
        let ops = ops.filter(|(item, _)| options.holds(by, item.cluster));
        for (item, version) in ops {
            let held = holds.items.get(item).map_or(0, |c| c.stamp.version);
            if held < *version {
                return Some(format!("{tx} committed without {item}, which is at {held}"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{Committed, OpKind, Operation, Stamp};
    use quorate_protocol::message::TxRecord;

    fn options() -> Options {
        let clusters = vec![crate::options::Shape::new(0, vec![0, 1, 2], 2)];
        Options { clusters, ..Options::of_seed(1) }
    }

    fn item() -> ItemId {
        options().record_of(0)
    }

    #[test]
    fn a_write_of_an_aborted_transaction_is_caught() {
        let mut invariant = AllOrNothing::default();
        let (options, holds) = (options(), Contents::default());
        let stamp = Stamp { version: 1, tx: TxId::NONE };
        let write = Write::Item(item(), Committed { stamp, live: true, image: None });
        assert_eq!(invariant.see(0, &[write], &holds, &options), None);
        let abort = Write::Outcome(TxId::NONE, Decided::Abort);
        assert!(invariant.see(0, &[abort], &holds, &options).is_some());
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
