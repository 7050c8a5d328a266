//! At most one generation of a cluster can commit at any time (PROTOCOL.md 3.9, 3.11, trap A2):
//! - what was prepared in a generation is known to have committed, somewhere, before a later one is
//!   active, or never commits;
//! - when a generation becomes active, a majority of its MASTERs durably has whatever earlier ones
//!   committed;
//! - nobody votes Yes in a generation without having that, or after having sealed it.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{ClusterKey, ItemId, Operation, TxId};
use quorate_protocol::io::Write;
use quorate_protocol::message::{Decided, Participant, TxRecord, Vote};

use crate::disk::Contents;
use crate::options::Options;

#[derive(Debug, Default)]
pub(super) struct OneGeneration {
    masters: BTreeMap<Participant, Vec<usize>>,
    active: BTreeMap<ClusterKey, u32>,
    /// From the records of all servers: the clusters of each transaction, and versions after it.
    participants: BTreeMap<TxId, Vec<Participant>>,
    versions: BTreeMap<TxId, BTreeMap<ItemId, u64>>,
    committed: BTreeSet<TxId>,
    /// By server: what it has sealed, and what it has voted Yes for.
    sealed: BTreeMap<usize, BTreeMap<ClusterKey, u32>>,
    voted: BTreeSet<(usize, TxId)>,
    /// Newest version of each item that is known to have committed.
    newest: BTreeMap<ItemId, u64>,
    /// The same as it was when the active generation of its cluster became that.
    before: BTreeMap<ItemId, u64>,
}

impl OneGeneration {
    pub(super) fn first(options: &Options) -> Self {
        let mut found = Self::default();
        for shape in &options.clusters {
            let first = Participant { cluster: shape.cluster, generation: 1 };
            found.masters.insert(first, shape.masters.clone());
            found.active.insert(shape.cluster, 1);
        }
        found
    }

    /// A cluster was made, in its first generation.
    pub(super) fn made(&mut self, cluster: ClusterKey, masters: Vec<usize>) {
        self.masters.insert(Participant { cluster, generation: 1 }, masters);
        self.active.insert(cluster, 1);
    }

    /// MASTERs of a cluster in the generation that a transaction was prepared in.
    pub(super) fn masters_of(&self, participant: &Participant) -> &[usize] {
        self.masters.get(participant).map_or(&[], Vec::as_slice)
    }

    pub(super) fn activated(
        &mut self,
        of: (ClusterKey, u32),
        masters: Vec<usize>,
        disks: &[&Contents],
        has_dropped: impl Fn(usize, &ItemId) -> bool,
    ) -> Option<String> {
        let (cluster, generation) = of;
        let items = self.newest.iter().filter(|(item, _)| item.cluster == cluster);
        let items: BTreeMap<ItemId, u64> = items.map(|(item, v)| (item.clone(), *v)).collect();
        let mut found = None;
        for (item, version) in &items {
            let has = |server: &&usize| {
                has_dropped(**server, item) || held(disks[**server], item) >= *version
            };
            let having = masters.iter().filter(has).count();
            if having <= masters.len() / 2 {
                found = Some(format!(
                    "{cluster} enters generation {generation}, and {having} of its {} MASTERs \
                     have version {version} of {item}",
                    masters.len(),
                ));
            }
        }
        self.before.extend(items);
        self.active.insert(cluster, generation);
        self.masters.insert(Participant { cluster, generation }, masters);
        found
    }

    /// Looks at a batch of a server, with what it holds after it.
    pub(super) fn see(
        &mut self,
        by: usize,
        writes: &[Write],
        holds: &Contents,
        has_dropped: impl Fn(&ItemId) -> bool,
    ) -> Option<String> {
        let mut found = None;
        for write in writes {
            if let Write::Tx(tx, record) = write {
                self.note(*tx, record);
                if record.vote == Some(Vote::Yes) {
                    found = found.or_else(|| self.lacking(by, *tx, holds, &has_dropped));
                    if self.voted.insert((by, *tx)) {
                        found = found.or_else(|| self.sealed_before(by, *tx));
                    }
                }
            }
            if let Write::Sealed(cluster, generation) = write {
                self.sealed.entry(by).or_default().insert(*cluster, *generation);
            }
            if let Write::Outcome(tx, Decided::Commit) = write
                && self.committed.insert(*tx)
            {
                found = found.or_else(|| self.committed_late(*tx));
                for (item, version) in self.versions.get(tx).into_iter().flatten() {
                    let newest = self.newest.entry(item.clone()).or_default();
                    *newest = (*newest).max(*version);
                }
            }
        }
        found
    }

    /// A server starts from what its disk kept.
    pub(super) fn restarted(&mut self, by: usize, kept: &Contents) {
        self.sealed.insert(by, kept.sealed.clone());
    }

    fn sealed_before(&self, by: usize, tx: TxId) -> Option<String> {
        let sealed = self.sealed.get(&by)?;
        let is_sealed = |p: &&Participant| {
            let at = sealed.get(&p.cluster).is_some_and(|sealed| *sealed >= p.generation);
            at && self.masters_of(p).contains(&by)
        };
        let Participant { cluster, generation } =
            self.participants.get(&tx)?.iter().find(is_sealed)?;
        Some(format!("votes Yes for {tx} in generation {generation} of {cluster}, which it sealed"))
    }

    fn note(&mut self, tx: TxId, record: &TxRecord) {
        let participants = self.participants.entry(tx).or_default();
        if participants.len() < record.participants.len() {
            participants.clone_from(&record.participants);
        }
        let version = |op: &Operation| (op.item.clone(), op.base.version + 1);
        let written = record.ops.iter().filter(|op| op.writes()).map(version);
        self.versions.entry(tx).or_default().extend(written);
    }

    fn committed_late(&self, tx: TxId) -> Option<String> {
        let is_over = |p: &&Participant| self.active.get(&p.cluster) > Some(&p.generation);
        let over = self.participants.get(&tx)?.iter().find(is_over)?;
        let Participant { cluster, generation } = over;
        Some(format!("{tx} commits in generation {generation} of {cluster}, which is over"))
    }

    /// What a voter of the active generation lacks of earlier ones.
    fn lacking(
        &self,
        by: usize,
        tx: TxId,
        holds: &Contents,
        has_dropped: impl Fn(&ItemId) -> bool,
    ) -> Option<String> {
        let of = |participant: &&Participant| {
            self.active.get(&participant.cluster) == Some(&participant.generation)
                && self.masters_of(participant).contains(&by)
        };
        let participants = self.participants.get(&tx)?.iter().filter(of);
        let clusters: BTreeSet<ClusterKey> = participants.map(|p| p.cluster).collect();
        let mut items = self.before.iter().filter(|(item, _)| clusters.contains(&item.cluster));
        let (item, version) =
            items.find(|(item, version)| held(holds, item) < **version && !has_dropped(item))?;
        let held = held(holds, item);
        Some(format!("votes Yes for {tx} with {item} at {held}, not {version}"))
    }
}

fn held(disk: &Contents, item: &ItemId) -> u64 {
    disk.items.get(item).map_or(0, |committed| committed.stamp.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Shape;
    use quorate_api::{OpKind, Stamp};

    const NO: fn(&ItemId) -> bool = |_| false;
    const NOBODY: fn(usize, &ItemId) -> bool = |_, _| false;

    fn begun() -> (OneGeneration, Write, ItemId) {
        let shape = Shape::new(0, vec![0, 1, 2], 2);
        let item = ItemId::record(shape.cluster, 0);
        let options = Options { clusters: vec![shape], ..Options::of_seed(1) };
        let op = Operation {
            item: item.clone(),
            kind: OpKind::Create,
            base: Stamp::ABSENT,
            image: None,
        };
        let participants = vec![Participant { cluster: item.cluster, generation: 1 }];
        let vote = Some(Vote::Yes);
        let record = TxRecord { participants, ops: vec![op], vote, ..TxRecord::default() };
        (OneGeneration::first(&options), Write::Tx(TxId::NONE, record), item)
    }

    const COMMIT: Write = Write::Outcome(TxId::NONE, Decided::Commit);

    #[test]
    fn a_commit_of_a_generation_that_is_over_is_caught() {
        for late in [false, true] {
            let (mut invariant, vote, item) = begun();
            let holds = Contents::default();
            assert_eq!(invariant.see(0, &[vote], &holds, NO), None);
            if late {
                invariant.activated((item.cluster, 2), vec![0], &[&holds; 3], NOBODY);
            }
            assert_eq!(invariant.see(0, &[COMMIT], &holds, NO).is_some(), late);
        }
    }

    #[test]
    fn a_vote_in_a_sealed_generation_is_caught() {
        let (mut invariant, vote, item) = begun();
        let holds = Contents::default();
        assert_eq!(invariant.see(1, std::slice::from_ref(&vote), &holds, NO), None);
        let seal = Write::Sealed(item.cluster, 1);
        assert_eq!(invariant.see(1, &[seal.clone(), vote.clone()], &holds, NO), None, "before");
        assert!(invariant.see(0, &[seal, vote.clone()], &holds, NO).is_some());
        // The seal was lost with the power, so it was told to nobody.
        let (mut invariant, _, item) = begun();
        invariant.see(0, &[Write::Sealed(item.cluster, 1)], &holds, NO);
        invariant.restarted(0, &holds);
        assert_eq!(invariant.see(0, &[vote], &holds, NO), None);
    }

    #[test]
    fn a_majority_without_what_was_committed_is_caught() {
        let (mut invariant, vote, item) = begun();
        let (lacks, mut has) = (Contents::default(), Contents::default());
        let stamp = Stamp { version: 1, tx: TxId::NONE };
        let committed = quorate_api::Committed { stamp, live: true, image: None, elsewhere: None };
        has.items.insert(item.clone(), committed);
        assert_eq!(invariant.see(0, &[vote, COMMIT], &lacks, NO), None);
        let disks = [&has, &lacks, &has];
        let found = invariant.activated((item.cluster, 2), vec![0, 1, 2], &disks, NOBODY);
        assert_eq!(found, None);
        let found = invariant.activated((item.cluster, 3), vec![0, 1], &disks, NOBODY);
        assert!(found.is_some());
    }

    #[test]
    fn a_vote_without_what_was_committed_before_is_caught() {
        let (mut invariant, vote, item) = begun();
        let lacks = Contents::default();
        invariant.see(0, &[vote, COMMIT], &lacks, NO);
        invariant.activated((item.cluster, 2), vec![0, 1], &[&lacks; 3], |_, _| true);
        let participants = vec![Participant { cluster: item.cluster, generation: 2 }];
        let record = TxRecord { participants, vote: Some(Vote::Yes), ..TxRecord::default() };
        let later = [Write::Tx(TxId { seq: 2, ..TxId::NONE }, record)];
        assert!(invariant.see(1, &later, &lacks, NO).is_some());
        assert_eq!(invariant.see(1, &later, &lacks, |_| true), None);
        assert_eq!(invariant.see(2, &later, &lacks, NO), None, "no MASTER, no vote that counts");
    }
}
