//! A server in memory: commits by itself, owns the first cluster of each class, fails on demand.
//! May not be cleverer than the tests need.

mod picture;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use quorate_api::{
    Boot, ClusterKey, Committed, ErrorCode, ItemId, ItemKey, NodeId, OpKind, Rid, Stamp, TxId,
};
use quorate_control::agreement::Agreement;
use quorate_control::command::Command;
use quorate_control::schema::Schema;
use quorate_control::servers::Role;
use quorate_protocol::conflict::Rival;
use quorate_protocol::io::{Base, Failure, Proposal, ReadQuorum, SessionToken};
use quorate_protocol::message::LogPosition;
use tokio::sync::{Semaphore, watch};

use crate::http::backend::{
    Answers, Backend, Commit, DecideError, Master, NodeState, NodeStatus, Page, Planned, ReadError,
};
use crate::http::members::{Bulletin, Servers};
use crate::index::table::{IndexTable, rid_of};

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
    starting: bool,
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

    /// From now on it stands alone.
    pub(super) fn stand_alone(&self) {
        self.state().alone = true;
    }

    pub(super) fn last_submitted(&self) -> Vec<Proposal> {
        self.state().submitted.last().cloned().unwrap_or_default()
    }
}

impl State {
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
            writes.push((op.item, Committed { stamp, live, image: op.image }));
        }
        for (item, committed) in writes {
            self.items.insert(item, committed);
        }
        let decision = LogPosition { boot: Boot(1), index: self.seq };
        Ok(Commit { tx, stamps, decision })
    }
}

impl Backend for Fake {
    async fn submit(&self, planned: Planned, deadline: Instant) -> Result<Commit, Failure> {
        self.state().deadlines.1.push(deadline);
        if self.state().hangs {
            self.hang_for_ever().await;
        }
        let deciding = self.state().deciding.clone();
        if let Some(deciding) = deciding {
            if let Some(accepted) = &planned.accepted {
                accepted.notify_one();
            }
            deciding.acquire().await.unwrap().forget();
        }
        let mut state = self.state();
        match state.failures.pop_front() {
            Some(failure) => Err(failure),
            None => {
                let done = state.commit(planned.ops);
                drop(state);
                self.1.send_modify(|changes| *changes += 1);
                done
            }
        }
    }

    async fn read_quorum(
        &self,
        items: Vec<ItemId>,
        quorum: ReadQuorum,
        _: Instant,
    ) -> Result<Answers, Failure> {
        self.state().quorums.push(quorum);
        if self.state().hangs {
            self.hang_for_ever().await;
        }
        let mut state = self.state();
        if state.failing_reads > 0 {
            state.failing_reads -= 1;
            let code = ErrorCode::ReadTimeout;
            return Err(Failure { code, item: None, current: None, holder: None });
        }
        match state.failures.pop_front() {
            Some(failure) => Err(failure),
            None => Ok(items
                .into_iter()
                .map(|item| {
                    let known =
                        state.items.get(&item).filter(|_| state.hidden.as_ref() != Some(&item));
                    (item.clone(), known.cloned())
                })
                .collect()),
        }
    }

    async fn session(
        &self,
        token: SessionToken,
        seen: Vec<(ItemId, Stamp)>,
        deadline: Instant,
    ) -> Result<SessionToken, Failure> {
        let mut state = self.state();
        state.deadlines.0.push(deadline);
        let (applied, closed) = (state.seq, state.closed);
        let is_ahead = |((_, boot), index): (&(NodeId, Boot), &u64)| {
            *index > applied && !(closed && *boot == Boot(0))
        };
        if token.iter().any(is_ahead) || (state.lags && !seen.is_empty()) {
            let code = ErrorCode::SessionBehind;
            return Err(Failure { code, item: None, current: None, holder: None });
        }
        Ok([((NODE, Boot(1)), applied)].into())
    }

    async fn read_local(&self, item: &ItemId) -> Result<Option<Committed>, ReadError> {
        let mut state = self.state();
        let found = match state.stale.get(item) {
            Some(stale) => stale.clone(),
            None => state.items.get(item).cloned(),
        };
        if let Some((_, later)) = state.turn.take_if(|(at, _)| at == item) {
            state.items = later;
        }
        Ok(found)
    }

    async fn scan_local(
        &self,
        cluster: ClusterKey,
        from: u64,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let state = self.state();
        let range = ItemId::record(cluster, from)..;
        let records = state.items.range(range).take_while(|(item, _)| item.cluster == cluster);
        let live = records.filter(|(_, committed)| committed.live);
        let positions = live.filter_map(|(item, committed)| match item.key {
            ItemKey::Record(position) => Some((position, committed.clone())),
            ItemKey::Key(_) | ItemKey::Token(_) => None,
        });
        Ok(positions.take(limit).collect())
    }

    async fn index_scan(
        &self,
        index: ClusterKey,
        key: Vec<u8>,
    ) -> Result<Option<Vec<Rid>>, ReadError> {
        let state = self.state();
        let table = IndexTable::of(&state.schema);
        let is_under = |(item, committed): (&ItemId, &Committed)| {
            let entries = table.entries(item, Some(committed));
            entries.contains(&(index, key.clone())).then(|| rid_of(item)).flatten()
        };
        Ok(Some(state.items.iter().filter_map(is_under).collect()))
    }

    async fn votes_settled(&self) {}

    async fn rivals(
        &self,
        _: u32,
        _: Option<ItemId>,
        _: usize,
    ) -> Result<Vec<(ItemId, Vec<Rival>)>, ReadError> {
        Ok(Vec::new())
    }

    async fn choose(&self, item: ItemId, _: Stamp, _: Instant) -> Result<Commit, Failure> {
        let (code, item) = (ErrorCode::VersionConflict, Some(item));
        Err(Failure { code, item, current: None, holder: None })
    }

    fn compare(&self, _: Vec<ClusterKey>) {}

    async fn decide(&self, command: Command, _: Instant) -> Result<(), DecideError> {
        let masters = self.status().masters.into_iter();
        let founders: Vec<_> = masters.filter_map(|(name, m)| Some((name, m.node?))).collect();
        let mut state = self.state();
        if let Some(failure) = state.failures.pop_front() {
            return Err(DecideError::Failed(failure.code));
        }
        if state.agreed.schema.servers.is_empty() {
            state.agreed = Agreement::founded_by(&founders);
        }
        let applied = state.agreed.apply(&command);
        // Whoever is answered has applied what was agreed on up to there.
        state.schema = state.agreed.schema.clone();
        drop(state);
        self.1.send_modify(|changes| *changes += 1);
        applied.map(drop).map_err(DecideError::Refused)
    }

    async fn catch_up(&self, deadline: Instant) -> Result<(), ErrorCode> {
        let mut changes = self.changes();
        loop {
            {
                let mut state = self.state();
                if let Some(failure) = state.failures.pop_front() {
                    return Err(failure.code);
                }
                if state.schema == state.agreed.schema {
                    return Ok(());
                }
                state.catching_up += 1;
            }
            // The sender lives in `self`.
            let changed = tokio::time::timeout_at(deadline.into(), changes.changed()).await;
            self.state().catching_up -= 1;
            changed.map_err(|_| ErrorCode::ReadTimeout)?.unwrap();
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }

    async fn allocate(&self, cluster: ClusterKey, _: Instant) -> Result<u64, Failure> {
        let mut state = self.state();
        let database = state.schema.databases.iter().find(|d| d.id == cluster.database);
        let owner = database.and_then(|d| d.cluster(cluster.cluster)).map(|c| c.owner);
        if owner != Some(NODE) {
            let code = ErrorCode::NotOwner;
            return Err(Failure { code, item: None, current: None, holder: None });
        }
        let next = state.positions.entry(cluster).or_default();
        *next += 1;
        Ok(*next - 1)
    }

    fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.state().schema)
    }

    fn status(&self) -> NodeStatus {
        let state = self.state();
        let (starting, grown) = (state.starting, state.grown);
        drop(state);
        let known = |n: u64| Some(NodeId(n)).filter(|_| n != 3 || !starting);
        let master = |n| (format!("n{n}"), Master { node: known(n), up: n != 3 });
        NodeStatus {
            name: "n1".to_owned(),
            node: self.2.unwrap_or(NODE),
            boot: 1,
            state: if starting { NodeState::Starting } else { NodeState::Online },
            masters: (1..=if grown { 5 } else { 3 }).map(master).collect(),
        }
    }

    fn role(&self) -> Role {
        self.state().role
    }

    fn servers(&self) -> Servers {
        self.picture()
    }

    fn connections(&self) -> Arc<AtomicU64> {
        Arc::default()
    }

    fn metrics(&self) -> String {
        "quorate_transactions_total{outcome=\"ok\"} 1\n".to_owned()
    }
}
