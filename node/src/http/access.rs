//! Writing, and looking up names, for one request (reading is `reading`'s): everything that waits,
//! each within the request's deadline, and the words for what went wrong. May not know paths,
//! methods or SQL.

use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_api::{ClusterKey, ErrorCode, ItemId, NodeId, OpKind, Rid};
use quorate_control::schema::{Database, Schema};
use quorate_control::settings::ReadQuorum;
use quorate_protocol::io::{Base, Failure, Proposal};
use tokio::sync::Notify;

use super::backend::{Backend, Commit, Planned};
use super::context::{App, Ctx};
use super::error::{ApiError, describe};
use super::members::Uniting;
use super::session::Trail;
use super::token::Token;
use super::weight::Weight;
use super::{permitted, record};
use crate::index::table;

/// The server answers at its deadline by itself; this much later it is not waited for any more.
const DEADLINE_SLACK: Duration = Duration::from_millis(250);

/// How long a name that only others know yet is waited for.
const SCHEMA_WAIT_MAX: Duration = Duration::from_secs(1);
/// A server seen through one request.
pub(super) struct Access<'a, B> {
    /// The application.
    pub(super) app: &'a App<B>,
    /// When the client stops waiting.
    pub(super) deadline: Instant,
    /// How many MASTERs answer reads; `None`: as the database says.
    pub(super) level: Option<ReadQuorum>,
    /// What a transaction builds on is read by majority: an attempt on local state has failed.
    pub(super) fresh: bool,
    /// Under which token a transaction runs.
    pub(super) token: Option<&'a Token>,
    /// What the request holds.
    pub(super) weight: &'a Arc<Weight>,
    /// What the session must remember, if the request belongs to one.
    pub(super) trail: Option<&'a Trail>,
    /// Told once this server has voted for the request's transaction on records.
    pub(super) accepted: Option<&'a Arc<Notify>>,
}

impl<B> Clone for Access<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Access<'_, B> {}

/// A database in the schema it was found in.
pub(super) struct Db {
    schema: Arc<Schema>,
    index: usize,
}

impl Deref for Db {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.schema.databases[self.index]
    }
}

impl Db {
    fn find(schema: &Arc<Schema>, name: &str, node: NodeId) -> Option<Self> {
        let is_it = |d: &Database| d.name == name && d.is_served_by(node);
        let index = schema.databases.iter().position(is_it)?;
        Some(Self { schema: Arc::clone(schema), index })
    }

    /// The schema it was found in.
    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The item that a record of this database is.
    pub(super) fn item(&self, rid: Rid) -> ItemId {
        ItemId::record(self.key(rid.cluster), rid.position)
    }

    /// A cluster of this database.
    pub(super) fn key(&self, cluster: u32) -> ClusterKey {
        ClusterKey { database: self.id, cluster }
    }

    /// Name of the class that records of a cluster have.
    pub(super) fn class_name(&self, cluster: u32) -> Result<&str, ApiError> {
        match self.class_of(cluster) {
            Some(class) => Ok(&class.name),
            None => Err(self.unknown_cluster(&format!("#{cluster}"))),
        }
    }

    /// The refusal for a cluster that is not there.
    pub(super) fn unknown_cluster(&self, cluster: &str) -> ApiError {
        let text = format!("Cluster '{cluster}' does not exist in database '{}'", self.name);
        ApiError::new(ErrorCode::UnknownCluster, text)
    }

    /// The refusal for a class that is not there.
    pub(super) fn unknown_class(&self, class: &str) -> ApiError {
        let text = format!("Class '{class}' was not found in database '{}'", self.name);
        ApiError::new(ErrorCode::UnknownClass, text)
    }
}

impl<B: Backend> Ctx<B> {
    /// The server as this request sees it.
    pub(super) fn access(&self) -> Access<'_, B> {
        Access {
            app: &self.app,
            deadline: self.deadline,
            level: self.level,
            fresh: false,
            token: self.token.as_ref(),
            weight: &self.weight,
            trail: self.trail.as_deref(),
            accepted: self.early.as_ref().map(|early| &early.accepted),
        }
    }

    /// The database named in the path.
    pub(super) async fn database(&self) -> Result<Db, ApiError> {
        self.access().database(self.param("db")).await
    }

    /// The same for a client's own records.
    pub(super) async fn served(&self) -> Result<Db, ApiError> {
        self.access().served(self.param("db")).await
    }
}

impl<B: Backend> Access<'_, B> {
    /// A database by name.
    pub(super) async fn database(&self, name: &str) -> Result<Db, ApiError> {
        let found = self.find(|schema| Db::find(schema, name, self.app.node)).await?;
        found.ok_or_else(|| {
            let schema = self.app.backend.schema();
            if schema.databases.iter().any(|database| database.name == name) {
                let text = format!("Database '{name}' is being brought in, and not whole here yet");
                return ApiError::new(ErrorCode::NotReady, text);
            }
            ApiError::new(ErrorCode::UnknownDatabase, format!("Database '{name}' does not exist"))
        })
    }

    /// A database by name, for a client's own records: not where people took this server OFFLINE
    /// for it.
    pub(super) async fn served(&self, name: &str) -> Result<Db, ApiError> {
        let db = self.database(name).await?;
        self.check_served(&db)?;
        Ok(db)
    }

    /// Refuses clients of a database that people took this server OFFLINE for.
    pub(super) fn check_served(&self, database: &Database) -> Result<(), ApiError> {
        if !database.is_offline_at(&self.app.name) {
            return Ok(());
        }
        let name = &database.name;
        let own = &self.app.name;
        let text = format!(
            "Database '{name}' is OFFLINE on server '{own}': ask another server (HA SET STATUS \
             {own}=ONLINE lets it serve again)"
        );
        Err(ApiError::new(ErrorCode::NotReady, text))
    }

    /// A database as it is once it knows the class; the refusal names the class when it never does.
    pub(super) async fn database_with_class(&self, db: Db, class: &str) -> Result<Db, ApiError> {
        if db.class(class).is_some() {
            return Ok(db);
        }
        let with = |schema: &Arc<Schema>| {
            Db::find(schema, &db.name, self.app.node)
                .filter(|d| d.id == db.id && d.class(class).is_some())
        };
        self.find(with).await?.ok_or_else(|| db.unknown_class(class))
    }

    /// Looks into the applied schema and, when that does not have it, asks the others: a name that
    /// was created through another server must not be denied because it is not applied here yet.
    async fn find<T>(
        &self,
        pick: impl Fn(&Arc<Schema>) -> Option<T> + Send,
    ) -> Result<Option<T>, ApiError> {
        if let Some(found) = pick(&self.app.backend.schema()) {
            return Ok(Some(found));
        }
        self.catch_up().await?;
        Ok(pick(&self.app.backend.schema()))
    }

    /// Waits for whatever the servers agreed on before.
    pub(super) async fn catch_up(&self) -> Result<(), ApiError> {
        let until = self.deadline.min(Instant::now() + SCHEMA_WAIT_MAX);
        self.app.backend.catch_up(until).await.map_err(|code| {
            let text = "what the servers agreed on last has not reached this one in time";
            ApiError::new(code, text)
        })
    }

    /// A page of a cluster's live records, from this server's state.
    pub(super) async fn scan(
        &self,
        cluster: ClusterKey,
        from: u64,
        limit: usize,
    ) -> Result<super::backend::Page, ApiError> {
        let page = permitted::reader(self.app)?.scan_local(cluster, from, limit);
        let page = self.in_time(ErrorCode::ReadTimeout, page).await?;
        page.map_err(|error| permitted::unread(self.app, error))
    }

    /// Runs a transaction planned on a revision of the schema. The refusal is in words, with what a
    /// tombstone in the way keeps, and names the item concerned.
    pub(super) async fn submit(
        &self,
        ops: Vec<Proposal>,
        schema: u64,
    ) -> Result<Commit, (ApiError, Option<ItemId>)> {
        self.submit_planned(Planned { ops, schema, accepted: None }).await
    }

    /// The same; `accepted` is told once this server has voted for it.
    pub(super) async fn submit_planned(
        &self,
        planned: Planned,
    ) -> Result<Commit, (ApiError, Option<ItemId>)> {
        let bases: Vec<Attempted> = planned.ops.iter().map(Attempted::of).collect();
        let expected = planned.ops.len();
        let run = self.app.backend.submit(planned, self.deadline);
        let run = self.in_time(ErrorCode::Deadline, run).await;
        let failure = match run.map_err(|error| (error, None))? {
            Ok(commit) if commit.stamps.len() == expected => {
                if let Some(trail) = self.trail {
                    let ops = bases.iter().map(|op| (&op.kind, &op.item));
                    trail.committed(self.app.node, &commit, ops);
                }
                return Ok(commit);
            }
            Ok(commit) => {
                let text = format!("{} stamps for {expected} operations", commit.stamps.len());
                return Err((ApiError::new(ErrorCode::Storage, text), None));
            }
            Err(failure) => failure,
        };
        if failure.code == ErrorCode::NotFound
            && let Some(item) = failure.item.as_ref().or(bases.first().map(|b| &b.item))
            && let Some(rid) = table::rid_of(item)
        {
            // Only for its id: that the record is not there is decided already.
            let found = self.read_local(item).await.ok().flatten();
            return Err((record::not_found(rid, found.as_ref()), failure.item));
        }
        Err((self.explain(&failure, &bases), failure.item))
    }

    /// Bounds a wait by the deadline; `late` is what is told then.
    pub(super) async fn in_time<T>(
        &self,
        late: ErrorCode,
        work: impl Future<Output = T> + Send,
    ) -> Result<T, ApiError> {
        let until = self.deadline + DEADLINE_SLACK;
        match tokio::time::timeout_at(until.into(), work).await {
            Ok(done) => Ok(done),
            Err(_) => Err(ApiError::new(late, describe(late))),
        }
    }

    pub(super) fn server_name(&self, node: quorate_api::NodeId) -> String {
        if let Some(name) = self.app.backend.schema().server_name(node) {
            return name.to_owned();
        }
        let masters = self.app.backend.status().masters;
        let known = masters.into_iter().find(|(_, m)| m.node == Some(node));
        known.map_or_else(|| node.to_string(), |(name, _)| name)
    }

    /// Refuses what needs a majority of the MASTERs where there is none: nothing was sent.
    pub(super) fn require_majority(&self) -> Result<(), ApiError> {
        let masters = self.app.backend.status().masters;
        if masters.values().filter(|m| m.up).count() > masters.len() / 2 {
            return Ok(());
        }
        let code = ErrorCode::NoQuorum;
        Err(ApiError::new(code, format!("{}{}", describe(code), self.reachable())))
    }

    /// How many MASTERs this server reaches, to be put behind what that comes to.
    fn reachable(&self) -> String {
        let masters = self.app.backend.status().masters;
        let up = masters.values().filter(|m| m.up).count();
        let (name, count) = (&self.app.name, masters.len());
        format!(" on server '{name}': {up} of {count} MASTERs reachable")
    }

    /// What an item's cluster waits for, if its MASTERs unite.
    fn uniting(&self, item: &ItemId) -> Option<Uniting> {
        let servers = self.app.backend.servers();
        let mut of_database = servers.uniting_in(item.cluster.database);
        of_database.find(|uniting| uniting.cluster == item.cluster.cluster).cloned()
    }

    /// A failure in words.
    pub(super) fn explain(&self, failure: &Failure, attempted: &[Attempted]) -> ApiError {
        let code = failure.code;
        let mut text = describe(code).to_owned();
        if code == ErrorCode::VersionConflict {
            text = conflict_text(failure, attempted);
        } else if matches!(code, ErrorCode::NoQuorum | ErrorCode::QuorumFailed) {
            text.push_str(&self.reachable());
        } else if code == ErrorCode::GenerationChanged
            && let Some(uniting) = failure.item.as_ref().and_then(|item| self.uniting(item))
        {
            text = format!("The cluster's configuration changes: {uniting}");
        }
        if code != ErrorCode::VersionConflict
            && let Some(item) = &failure.item
        {
            text.push_str(&format!(" ({item})"));
        }
        if let Some(holder) = failure.holder {
            let server = self.server_name(holder.node);
            text.push_str(&format!(
                "; undecided transaction {holder} of coordinator '{server}' is in the way"
            ));
        }
        permitted::naming_masters(self.app, ApiError::new(code, text))
    }
}

/// What the words for a refusal need of an operation.
pub(super) struct Attempted {
    item: ItemId,
    kind: OpKind,
    base: Base,
}

impl Attempted {
    fn of(proposal: &Proposal) -> Self {
        Self { item: proposal.item.clone(), kind: proposal.kind.clone(), base: proposal.base }
    }
}

/// The original's text (ORIENTDB.md 4.6).
fn conflict_text(failure: &Failure, attempted: &[Attempted]) -> String {
    let op = match &failure.item {
        Some(item) => attempted.iter().find(|a| a.item == *item),
        None => attempted.first(),
    };
    let verb = match op.map(|o| &o.kind) {
        Some(OpKind::Create) => "CREATE",
        Some(OpKind::Delete) => "DELETE",
        Some(OpKind::Check) => "CHECK",
        Some(OpKind::Update | OpKind::Merge(_)) | None => "UPDATE",
    };
    let yours = match op.map(|o| o.base) {
        Some(Base::Version(version)) => version.to_string(),
        Some(Base::Exact(stamp)) => stamp.version.to_string(),
        Some(Base::Current) | None => "?".to_owned(),
    };
    let item = failure.item.as_ref().or(op.map(|o| &o.item));
    conflict(
        verb,
        &item.map_or_else(|| "?".to_owned(), ToString::to_string),
        &failure.current.map_or_else(|| "?".to_owned(), |s| s.version.to_string()),
        &yours,
    )
}

fn conflict(verb: &str, item: &str, stored: &str, yours: &str) -> String {
    format!(
        "Cannot {verb} the record {item} because the version is not the latest. Probably you are \
         updating an old record or it has been modified by another user (db=v{stored} \
         your=v{yours})"
    )
}

/// The refusal when this layer itself sees that the client's version is outdated.
pub(super) fn version_conflict(verb: &str, rid: Rid, stored: u64, yours: u64) -> ApiError {
    let text = conflict(verb, &rid.to_string(), &stored.to_string(), &yours.to_string());
    ApiError::new(ErrorCode::VersionConflict, text)
}
