//! What the server in memory answers to HTTP. May not change what it was told to be.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use quorate_api::{Boot, ClusterKey, Committed, ErrorCode, ItemId, ItemKey, NodeId, Rid, Stamp};
use quorate_control::agreement::Agreement;
use quorate_control::command::Command;
use quorate_control::schema::Schema;
use quorate_control::servers::Role;
use quorate_protocol::conflict::{Dismissed, Rival};
use quorate_protocol::io::{Failure, ReadQuorum, SessionToken};
use tokio::sync::watch;

use super::{Fake, NODE};
use crate::http::backend::{
    Answers, Backend, Commit, DecideError, Master, NodeState, NodeStatus, Page, Planned, ReadError,
};
use crate::http::members::Servers;
use crate::index::table::{IndexTable, rid_of};

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

    async fn dismiss(&self, contents: Dismissed, _: Instant) -> Result<u64, Failure> {
        // One of each record.
        Ok(u64::from(!matches!(contents, Dismissed::Content(..))))
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

    fn state(&self) -> NodeState {
        self.state().life()
    }

    fn status(&self) -> NodeStatus {
        let state = self.state();
        let (starting, grown, life) = (state.starting, state.grown, state.life());
        drop(state);
        let known = |n: u64| Some(NodeId(n)).filter(|_| n != 3 || !starting);
        let master = |n| (format!("n{n}"), Master { node: known(n), up: n != 3 });
        NodeStatus {
            name: "n1".to_owned(),
            node: self.2.unwrap_or(NODE),
            boot: 1,
            state: life,
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

    fn running(&self) -> Arc<AtomicU64> {
        self.state().running.clone()
    }

    fn metrics(&self) -> String {
        "quorate_transactions_total{outcome=\"ok\"} 1\n".to_owned()
    }
}
