//! A server in memory: commits by itself, owns the first cluster of each class, fails on demand.
//! May not be cleverer than the tests need. What it answers stands in `backend`.

mod backend;
mod picture;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use quorate_api::{Boot, ClusterKey, Committed, ErrorCode, ItemId, NodeId, OpKind, Stamp, TxId};
use quorate_control::agreement::Agreement;
use quorate_control::schema::Schema;
use quorate_control::servers::Role;
use quorate_protocol::io::{Base, Failure, Proposal, ReadQuorum};
use quorate_protocol::message::LogPosition;
use tokio::sync::{Semaphore, watch};

use crate::http::backend::{Backend, Commit, NodeState};
use crate::http::members::Bulletin;

/// This server's identity.
pub(super) const NODE: NodeId = NodeId(1);

/// Its wall clock: 2026-11-23 01:02:03 UTC.
pub(super) const NOW_MS: u64 = 1_795_395_723_000;

#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>, Arc<watch::Sender<u64>>, Option<NodeId>);

#[derive(Default)]
struct State {
    items: BTreeMap<ItemId, Committed>,
    /// The items as they are once this one was read here.
    turn: Option<(ItemId, BTreeMap<ItemId, Committed>)>,
    /// What local reads see instead, for items where this server is behind.
    stale: BTreeMap<ItemId, Option<Committed>>,
    positions: BTreeMap<ClusterKey, u64>,
    /// Applied here.
    schema: Arc<Schema>,
    agreed: Agreement,
    seq: u64,
    failures: VecDeque<Failure>,
    /// Majority reads from now on that fail.
    failing_reads: u32,
    hangs: bool,
    /// Transactions and majority reads that are never answered.
    hanging: u32,
    /// Requests of clients that run.
    running: Arc<AtomicU64>,
    starting: bool,
    leaving: bool,
    /// It has not applied what others showed a session.
    lags: bool,
    /// The one ended boot is closed.
    closed: bool,
    /// Requests that wait for what others agreed on.
    catching_up: u32,
    submitted: Vec<Vec<Proposal>>,
    /// There are five MASTERs, not three.
    grown: bool,
    /// Those who answer first have not heard of it.
    hidden: Option<ItemId>,
    /// Quorums of reads.
    quorums: Vec<ReadQuorum>,
    /// Transactions are voted for at once, and decided no sooner than a permit is given.
    deciding: Option<Arc<Semaphore>>,
    /// What servers told of themselves, and their messages here.
    bulletins: BTreeMap<String, Bulletin>,
    received: BTreeMap<String, BTreeMap<&'static str, u64>>,
    role: Role,
    /// Servers that others hear.
    heard: BTreeSet<String>,
    /// There are no other servers.
    alone: bool,
    /// Deadlines of waits for a session, and of transactions.
    deadlines: (Vec<Instant>, Vec<Instant>),
}

impl Fake {
    /// The same server under another name: what a second one would do.
    pub(super) fn as_node(&self, node: NodeId) -> Self {
        Self(self.0.clone(), self.1.clone(), Some(node))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The next transactions or majority reads fail so.
    pub(super) fn fail(&self, code: ErrorCode) -> &Self {
        let holder = TxId { node: NodeId(2), boot: Boot(1), seq: 7 };
        let holder =
            matches!(code, ErrorCode::Busy | ErrorCode::UnresolvedIntent).then_some(holder);
        self.state().failures.push_back(Failure { code, item: None, current: None, holder });
        self
    }

    /// The next majority reads find no majority.
    pub(super) fn fail_reads(&self, count: u32) {
        self.state().failing_reads = count;
    }

    /// Transactions and majority reads are not answered from now on.
    pub(super) fn hang(&self) {
        self.state().hangs = true;
    }

    /// Other servers hear these, whatever this one does.
    pub(super) fn heard_elsewhere(&self, servers: &[&str]) {
        self.state().heard = servers.iter().map(|name| (*name).to_owned()).collect();
    }

    /// Waits until one is waiting for its answer in vain.
    pub(super) async fn until_hanging(&self) {
        let mut changes = self.changes();
        while self.state().hanging == 0 {
            changes.changed().await.unwrap();
        }
    }

    async fn hang_for_ever(&self) {
        self.state().hanging += 1;
        self.1.send_modify(|changes| *changes += 1);
        std::future::pending::<()>().await;
    }

    /// Nothing that others showed a session is applied here from now on.
    pub(super) fn lag(&self) {
        self.state().lags = true;
    }

    /// So many transactions were committed here before.
    pub(super) fn has_committed(&self, count: u64) {
        self.state().seq = count;
    }

    /// Boot 0 is closed.
    pub(super) fn close(&self) {
        self.state().closed = true;
    }

    /// Waits until a request that runs beside this waits for a newer schema.
    pub(super) async fn schema_is_waited_for(&self) {
        while self.state().catching_up == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Deadlines so far of waits for a session, and of transactions.
    pub(super) fn deadlines(&self) -> (Vec<Instant>, Vec<Instant>) {
        self.state().deadlines.clone()
    }

    /// One MASTER was never met.
    pub(super) fn starting(&self, is: bool) {
        self.state().starting = is;
    }

    /// It is to stop soon from now on.
    pub(super) fn leave(&self) {
        self.state().leaving = true;
    }

    /// Local reads of an item see its state as of now for ever.
    pub(super) fn freeze(&self, item: &ItemId) {
        let mut state = self.state();
        let now = state.items.get(item).cloned();
        state.stale.insert(item.clone(), now);
    }

    /// An earlier schema is the one applied here until [`Self::apply_schema`].
    pub(super) fn apply_old_schema(&self, schema: Arc<Schema>) {
        self.state().schema = schema;
    }

    /// Applies the agreed schema.
    pub(super) fn apply_schema(&self) {
        let mut state = self.state();
        state.schema = state.agreed.schema.clone();
        drop(state);
        self.1.send_modify(|changes| *changes += 1);
    }

    /// All items as they are now.
    pub(super) fn items(&self) -> BTreeMap<ItemId, Committed> {
        self.state().items.clone()
    }

    /// Goes back to earlier items; those of now come again right behind the next local read of one.
    pub(super) fn turn_after_read(&self, earlier: BTreeMap<ItemId, Committed>, item: ItemId) {
        let mut state = self.state();
        let now = std::mem::replace(&mut state.items, earlier);
        state.turn = Some((item, now));
    }

    /// Puts bytes where a record's image is.
    pub(super) fn corrupt(&self, item: &ItemId, bytes: &[u8]) {
        self.state().items.get_mut(item).unwrap().image = Some(bytes.into());
    }

    /// From now on there are five MASTERs.
    pub(super) fn grow(&self) {
        self.state().grown = true;
    }

    /// From now on those who answer a read first have not heard of an item.
    pub(super) fn hide_from_quorums(&self, item: ItemId) {
        self.state().hidden = Some(item);
    }

    /// Quorums of reads so far, forgotten with this.
    pub(super) fn quorums(&self) -> Vec<ReadQuorum> {
        std::mem::take(&mut self.state().quorums)
    }

    /// From now on transactions are voted for at once and wait for a permit to be decided.
    pub(super) fn decide_later(&self) -> Arc<Semaphore> {
        let permits = Arc::new(Semaphore::new(0));
        self.state().deciding = Some(Arc::clone(&permits));
        permits
    }

    /// A server tells of itself, and its messages are counted here.
    pub(super) fn hear(
        &self,
        name: &str,
        bulletin: Bulletin,
        received: BTreeMap<&'static str, u64>,
    ) {
        let mut state = self.state();
        state.bulletins.insert(name.to_owned(), bulletin);
        state.received.insert(name.to_owned(), received);
    }

    /// From now on it reads only.
    pub(super) fn be_replica(&self) {
        self.state().role = Role::Replica;
    }

    /// From now on it votes only.
    pub(super) fn be_witness(&self) {
        self.state().role = Role::Witness;
    }

    /// From now on it stands alone.
    pub(super) fn stand_alone(&self) {
        self.state().alone = true;
    }

    pub(super) fn last_submitted(&self) -> Vec<Proposal> {
        self.state().submitted.last().cloned().unwrap_or_default()
    }
}

impl State {
    fn life(&self) -> NodeState {
        match (self.leaving, self.starting) {
            (true, _) => NodeState::ShuttingDown,
            (false, true) => NodeState::Starting,
            (false, false) => NodeState::Online,
        }
    }

    fn commit(&mut self, ops: Vec<Proposal>) -> Result<Commit, Failure> {
        self.seq += 1;
        let tx = TxId { node: NODE, boot: Boot(1), seq: self.seq };
        self.submitted.push(ops.clone());
        let mut stamps = Vec::new();
        let mut writes = Vec::new();
        for op in ops {
            let found = self.items.get(&op.item).cloned();
            let stamp = found.as_ref().map_or(Stamp::ABSENT, |c| c.stamp);
            let live = found.as_ref().is_some_and(|c| c.live);
            let fail = |code| {
                let (item, current) = (Some(op.item.clone()), Some(stamp));
                Err(Failure { code, item, current, holder: None })
            };
            if !live && !matches!(op.kind, OpKind::Create | OpKind::Check) {
                return fail(ErrorCode::NotFound);
            }
            let fits = match op.base {
                Base::Current => true,
                Base::Version(version) => version == stamp.version,
                Base::Exact(exact) => exact == stamp,
            };
            if !fits {
                return fail(ErrorCode::VersionConflict);
            }
            if op.kind == OpKind::Check {
                stamps.push(stamp);
                continue;
            }
            let stamp = Stamp { version: stamp.version + 1, tx };
            let live = op.kind != OpKind::Delete;
            stamps.push(stamp);
            writes.push((op.item, Committed { stamp, live, image: op.image, elsewhere: None }));
        }
        for (item, committed) in writes {
            self.items.insert(item, committed);
        }
        let decision = LogPosition { boot: Boot(1), index: self.seq };
        Ok(Commit { tx, stamps, decision })
    }
}
