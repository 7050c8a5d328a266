//! A disk in memory: writes are visible at once and durable once synced. A crash keeps a prefix of
//! the unsynced batches and may tear the next one, which its checksum shows: it is dropped whole. A
//! flipped bit in what was durable is found by its checksum at the start, and the server refuses to
//! go on under its identity (PROTOCOL.md 3.9).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_api::{Boot, ClusterKey, Committed, ItemId, ItemKey, NodeId, Stamp, TxId};
use quorate_protocol::conflict::{self, Fate, LostContent, Rival};
use quorate_protocol::io::{PAGE_BYTES, PersistSeq, Recovered, Store, Write, bytes_of};
use quorate_protocol::message::{Decided, LogEntry, LogPosition, TxRecord};

/// What else is kept on the same disk, written in batches of its own.
pub trait Beside: Default + Clone {
    /// One change of it.
    type Write;

    /// Carries a change out.
    fn apply(&mut self, write: &Self::Write);
}

/// Nothing is.
impl Beside for () {
    type Write = core::convert::Infallible;

    fn apply(&mut self, write: &Self::Write) {
        match *write {}
    }
}

/// Everything a server keeps.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Committed items.
    pub items: BTreeMap<ItemId, Committed>,
    /// Votes and acceptor state.
    pub txs: BTreeMap<TxId, TxRecord>,
    /// Outcomes.
    pub outcomes: BTreeMap<TxId, Decided>,
    log: BTreeMap<LogPosition, LogEntry>,
    logged: BTreeSet<TxId>,
    log_start: LogPosition,
    log_end: LogPosition,
    applied: BTreeMap<NodeId, LogPosition>,
    ended: BTreeMap<(NodeId, Boot), u64>,
    low: BTreeMap<(NodeId, Boot), u64>,
    out_of_log: BTreeSet<TxId>,
    shown: BTreeMap<NodeId, LogPosition>,
    begun: BTreeSet<TxId>,
    copied: BTreeMap<ClusterKey, ItemKey>,
    /// Up to which generations it votes no more.
    pub sealed: BTreeMap<ClusterKey, u32>,
    entered: BTreeMap<ClusterKey, u32>,
    ancestors: BTreeMap<ItemId, Vec<Stamp>>,
    /// Contents beside the committed ones.
    pub rivals: BTreeMap<ItemId, Vec<Rival>>,
    /// Places of those that have lost.
    pub lost_order: BTreeMap<u64, (ItemId, Stamp)>,
    /// The server aligns: its items are no snapshot.
    pub aligning: bool,
}

impl Contents {
    /// True when the own decision log tells of a transaction, or did before it was cut.
    #[must_use]
    pub fn has_logged(&self, tx: TxId) -> bool {
        self.logged.contains(&tx)
    }

    /// Finished, so outcome and vote are forgotten: this server had applied it.
    #[must_use]
    pub fn has_forgotten(&self, tx: TxId) -> bool {
        self.low.get(&(tx.node, tx.boot)).is_some_and(|low| tx.seq < *low)
    }

    /// Items with contents that are not merged.
    pub fn open(&self) -> impl Iterator<Item = &ItemId> {
        let is_open = |rivals: &[Rival]| rivals.iter().any(|rival| rival.fate != Fate::Lost);
        self.rivals.iter().filter(move |(_, rivals)| is_open(rivals)).map(|(item, _)| item)
    }

    /// Contents that have lost.
    pub fn lost(&self) -> impl Iterator<Item = LostContent> {
        self.rivals.iter().flat_map(|(item, rivals)| conflict::lost_of(item, rivals))
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Item(id, committed) => {
                self.items.insert(id.clone(), committed.clone());
            }
            Write::Tx(tx, record) => {
                self.txs.insert(*tx, record.clone());
            }
            Write::Outcome(tx, outcome) => {
                self.outcomes.insert(*tx, *outcome);
            }
            Write::Log(at, entry) => {
                self.log.insert(*at, entry.clone());
                self.logged.insert(entry.tx);
                self.log_end = *at;
            }
            Write::TruncateLog(to) => {
                self.log.retain(|at, _| at > to);
                self.log_start = *to;
            }
            Write::Applied(node, at) => {
                self.applied.insert(*node, *at);
            }
            Write::BootEnd(node, boot, last) => {
                self.ended.insert((*node, *boot), *last);
            }
            Write::OutOfLog(tx) => {
                self.out_of_log.insert(*tx);
            }
            Write::InLog(tx) => {
                self.out_of_log.remove(tx);
            }
            Write::Shown(node, at) => {
                let shown = self.shown.entry(*node).or_default();
                *shown = (*shown).max(*at);
            }
            Write::Purge(item) => {
                self.items.remove(item);
            }
            Write::Begun(tx) => {
                self.begun.insert(*tx);
            }
            Write::Copied(cluster, Some(upto)) => {
                self.copied.insert(*cluster, upto.clone());
            }
            Write::Copied(cluster, None) => {
                self.copied.remove(cluster);
            }
            Write::Sealed(cluster, generation) => {
                self.sealed.insert(*cluster, *generation);
            }
            Write::Entered(cluster, generation) => {
                self.entered.insert(*cluster, *generation);
            }
            Write::Ancestors(item, ancestors) => {
                put(&mut self.ancestors, item, ancestors);
            }
            Write::Rivals(item, rivals) => put(&mut self.rivals, item, rivals),
            Write::Lost(place, content) => self.place_lost(*place, content.as_ref()),
            Write::Aligning(aligning) => {
                self.aligning = *aligning;
                if !aligning {
                    self.begun.clear();
                    self.copied.clear();
                }
            }
            Write::Low(node, boot, seq) => self.forget(*node, *boot, *seq),
        }
    }

    fn place_lost(&mut self, place: u64, content: Option<&(ItemId, Stamp)>) {
        match content {
            Some(content) => drop(self.lost_order.insert(place, content.clone())),
            None => drop(self.lost_order.remove(&place)),
        }
    }

    fn forget(&mut self, node: NodeId, boot: Boot, seq: u64) {
        let below = |tx: &TxId| tx.node == node && tx.boot == boot && tx.seq < seq;
        self.txs.retain(|tx, _| !below(tx));
        self.outcomes.retain(|tx, _| !below(tx));
        self.low.insert((node, boot), seq);
        if seq == u64::MAX {
            self.ended.remove(&(node, boot));
        }
    }
}

/// Nothing is kept of an empty list.
fn put<T: Clone>(lists: &mut BTreeMap<ItemId, Vec<T>>, item: &ItemId, list: &[T]) {
    if list.is_empty() {
        lists.remove(item);
    } else {
        lists.insert(item.clone(), list.to_vec());
    }
}

/// One server's disk.
pub struct Disk<B: Beside = ()> {
    visible: Contents,
    durable: Contents,
    visible_beside: B,
    durable_beside: B,
    /// By the number under which they become durable.
    unsynced: VecDeque<(PersistSeq, Batch<B::Write>)>,
    /// Batches of this boot, the machine's and the others.
    tickets: PersistSeq,
    /// Those of the machine.
    last: PersistSeq,
    /// For every other batch, the machine's last one before it.
    others: Vec<PersistSeq>,
    damaged: bool,
}

/// What is written at once.
enum Batch<W> {
    Machine(Vec<Write>),
    Beside(Vec<W>),
}

impl<W> Batch<W> {
    fn write_to<B: Beside<Write = W>>(&self, contents: &mut Contents, beside: &mut B) {
        match self {
            Self::Machine(writes) => writes.iter().for_each(|write| contents.apply(write)),
            Self::Beside(writes) => writes.iter().for_each(|write| beside.apply(write)),
        }
    }
}

/// A checksum does not match: votes may be gone, so this identity must not vote again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

impl<B: Beside> Default for Disk<B> {
    fn default() -> Self {
        Self {
            visible: Contents::default(),
            durable: Contents::default(),
            visible_beside: B::default(),
            durable_beside: B::default(),
            unsynced: VecDeque::new(),
            tickets: 0,
            last: 0,
            others: Vec::new(),
            damaged: false,
        }
    }
}

impl<B: Beside> Disk<B> {
    /// What reads see.
    #[must_use]
    pub fn visible(&self) -> &Contents {
        &self.visible
    }

    /// What a crash cannot take.
    #[must_use]
    pub fn durable(&self) -> &Contents {
        &self.durable
    }

    /// A bit has turned over in it.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// The machine's batch, if it was handed over last and is not durable yet.
    #[must_use]
    pub fn last_written(&self) -> &[Write] {
        match self.unsynced.back() {
            Some((_, Batch::Machine(writes))) => writes,
            Some((_, Batch::Beside(_))) | None => &[],
        }
    }

    /// Hands over a batch of the machine.
    ///
    /// # Panics
    /// When the machine skips or repeats a number: it counts without gaps.
    pub fn write(&mut self, seq: PersistSeq, writes: Vec<Write>) {
        assert_eq!(seq, self.last + 1, "the machine's batches count up without gaps");
        self.last = seq;
        self.hand_over(Batch::Machine(writes));
    }

    /// The same for what is kept beside; gives the number under which it becomes durable.
    pub fn write_beside(&mut self, writes: Vec<B::Write>) -> PersistSeq {
        self.others.push(self.last);
        self.hand_over(Batch::Beside(writes));
        self.tickets
    }

    fn hand_over(&mut self, batch: Batch<B::Write>) {
        batch.write_to(&mut self.visible, &mut self.visible_beside);
        self.tickets += 1;
        self.unsynced.push_back((self.tickets, batch));
    }

    /// Under which number a batch of the machine becomes durable; 0 for none.
    #[must_use]
    pub fn ticket_of(&self, seq: PersistSeq) -> PersistSeq {
        seq + self.others.partition_point(|before| *before < seq) as PersistSeq
    }

    /// Number of the last batch handed over, if it is not durable yet.
    #[must_use]
    pub fn unsynced(&self) -> Option<PersistSeq> {
        self.unsynced.back().map(|(seq, _)| *seq)
    }

    /// A sync that covers everything up to `seq` returned.
    pub fn synced(&mut self, seq: PersistSeq) {
        while self.unsynced.front().is_some_and(|(first, _)| *first <= seq) {
            if let Some((_, batch)) = self.unsynced.pop_front() {
                batch.write_to(&mut self.durable, &mut self.durable_beside);
            }
        }
    }

    /// Power is lost; the first `kept` unsynced batches happened to reach the disk. Of a torn one
    /// behind them, `of_torn` writes count: none where checksums are looked at.
    pub fn crash(&mut self, kept: usize, of_torn: usize) {
        for (_, batch) in self.unsynced.drain(..kept.min(self.unsynced.len())) {
            batch.write_to(&mut self.durable, &mut self.durable_beside);
        }
        if let Some((_, Batch::Machine(torn))) = self.unsynced.pop_front() {
            for write in torn.iter().take(of_torn) {
                self.durable.apply(write);
            }
        }
        self.unsynced.clear();
        self.visible = self.durable.clone();
        self.visible_beside = self.durable_beside.clone();
        (self.tickets, self.last) = (0, 0);
        self.others.clear();
    }

    /// A bit of what is durable turns over.
    pub fn flip_bit(&mut self) {
        self.damaged = true;
    }

    /// Puts an item there before the run begins.
    pub fn preload(&mut self, item: &ItemId, committed: &Committed) {
        for contents in [&mut self.visible, &mut self.durable] {
            contents.items.insert(item.clone(), committed.clone());
        }
    }

    /// Puts there, before the run begins, that all of a boot's transactions are forgotten.
    pub fn preload_finished(&mut self, of: TxId) {
        for contents in [&mut self.visible, &mut self.durable] {
            contents.low.insert((of.node, of.boot), u64::MAX);
        }
    }

    /// What is kept beside, as reads see it.
    #[must_use]
    pub fn beside(&self) -> &B {
        &self.visible_beside
    }

    /// Makes durable what was kept beside before the run begins.
    pub fn preload_beside(&mut self, writes: &[B::Write]) {
        for write in writes {
            self.visible_beside.apply(write);
            self.durable_beside.apply(write);
        }
    }

    /// The server will align, whatever becomes of it.
    pub fn begin_aligning(&mut self) {
        (self.visible.aligning, self.durable.aligning) = (true, true);
    }

    /// The machine's data is gone, and nobody notices.
    pub fn forget_data(&mut self) {
        let beside = self.durable_beside.clone();
        let durable_beside = beside.clone();
        *self = Self { visible_beside: beside, durable_beside, ..Self::default() };
    }

    /// Batches that a crash could take.
    #[must_use]
    pub fn at_risk(&self) -> usize {
        self.unsynced.len()
    }

    /// What a starting server finds.
    ///
    /// # Errors
    /// [`Damaged`] when a checksum does not match.
    pub fn recover(&self) -> Result<Recovered, Damaged> {
        if self.damaged {
            return Err(Damaged);
        }
        let open = |tx: &TxId| !self.visible.outcomes.contains_key(tx);
        Ok(Recovered {
            undecided: self
                .visible
                .txs
                .iter()
                .filter(|(tx, _)| open(tx))
                .map(|(tx, record)| (*tx, record.clone()))
                .collect(),
            applied: self.visible.applied.clone(),
            ended: self.visible.ended.clone(),
            low: self.visible.low.clone(),
            out_of_log: self.visible.out_of_log.clone(),
            shown: self.visible.shown.clone(),
            begun: self.visible.begun.clone(),
            copied: self.visible.copied.clone(),
            sealed: self.visible.sealed.clone(),
            entered: self.visible.entered.clone(),
            diverged: self.visible.open().cloned().collect(),
            lost: self.visible.lost().collect(),
            lost_order: self.visible.lost_order.clone(),
            log_end: self.visible.log_end,
            log_start: self.visible.log_start,
            aligning: self.visible.aligning,
        })
    }
}

impl<B: Beside> Store for Disk<B> {
    fn item(&self, item: &ItemId) -> Option<Committed> {
        self.visible.items.get(item).cloned()
    }

    fn tx(&self, tx: TxId) -> Option<TxRecord> {
        self.visible.txs.get(&tx).cloned()
    }

    fn outcome(&self, tx: TxId) -> Option<Decided> {
        self.visible.outcomes.get(&tx).copied()
    }

    fn log_after(&self, position: LogPosition) -> Option<(LogPosition, LogEntry)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut after = self.visible.log.range((Excluded(position), Unbounded));
        after.next().map(|(at, entry)| (*at, entry.clone()))
    }

    fn items_after(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        limit: usize,
    ) -> Vec<(ItemKey, Committed)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = match after {
            Some(key) => Excluded(ItemId { cluster, key: key.clone() }),
            None => Included(ItemId::record(cluster, 0)),
        };
        let items = self.visible.items.range((from, Unbounded));
        let of_cluster = items.take_while(|(item, _)| item.cluster == cluster);
        let mut bytes = 0;
        let page = of_cluster.take(limit).take_while(|(item, committed)| {
            let fits = bytes < PAGE_BYTES;
            bytes += bytes_of(&item.key, committed);
            fits
        });
        page.map(|(item, c)| (item.key.clone(), c.clone())).collect()
    }

    fn outcomes_after(&self, after: TxId, limit: usize) -> Vec<(TxId, Decided)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let outcomes = self.visible.outcomes.range((Excluded(after), Unbounded));
        outcomes.take(limit).map(|(tx, outcome)| (*tx, *outcome)).collect()
    }

    fn ancestors(&self, item: &ItemId) -> Vec<Stamp> {
        self.visible.ancestors.get(item).cloned().unwrap_or_default()
    }

    fn rivals(&self, item: &ItemId) -> Vec<Rival> {
        self.visible.rivals.get(item).cloned().unwrap_or_default()
    }
}
