//! Databases and classes: created, dropped, described, listed. A change is a command that all
//! servers carry out in one order; of two equal creations one therefore finds that the thing
//! exists. May not know record content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use quorate_api::{ErrorCode, NodeId};
use quorate_control::command::Command;
use quorate_control::data_centers::DataCenters;
use quorate_control::distributed::{CHAIN, NewNodeStrategy};
use quorate_control::dynamic::NewNodes;
use quorate_control::indexes::{Index, IndexState};
use quorate_control::members::WriteQuorum;
use quorate_control::schema::{Class, Database, DatabaseKind, Schema};
use quorate_control::settings::{ExecutionMode, NewDatabase, ReadQuorum};
use quorate_control::versions::CHAIN_SINCE;
use quorate_protocol::chain::{Chain, ChainError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Access;
use super::backend::Backend;
use super::context::Ctx;
use super::error::ApiError;
use super::permitted;
use super::record;
use super::reply::{self, Answer, Reply};
use crate::sql::{AddCluster, CreateClass, CreateIndex, Drop, DropClass};

impl<B: Backend> Access<'_, B> {
    /// Has the servers agree on a change; gives the schema here after it, or after a later one.
    /// Without a majority within reach it is refused before anything is sent, as writes are.
    pub(super) async fn change(&self, command: Command) -> Result<Arc<Schema>, ApiError> {
        self.require_majority()?;
        self.app.backend.decide(command, self.deadline).await?;
        Ok(self.app.backend.schema())
    }

    /// `CREATE CLASS`; the value is how many classes there are, as in the original.
    pub(super) async fn run_create_class(
        &self,
        database: &str,
        create: &CreateClass,
    ) -> Result<Answer, ApiError> {
        let (name, supers) = (&create.name, &create.super_classes);
        let (database_name, supers) = (database.to_owned(), supers.clone());
        let command = Command::CreateClass { database: database_name, name: name.clone(), supers };
        let schema = match self.change(command).await {
            Err(error) if error.code == ErrorCode::ClassExists && create.if_not_exists => {
                self.app.backend.schema()
            }
            made => made?,
        };
        let count = schema.database(database).map_or(0, |d| d.classes.len());
        Ok(done(json!({"operation": "create class", "className": name, "value": count})))
    }

    /// `ALTER CLASS … ADDCLUSTER`: the cluster is this server's, whoever else gets one by the
    /// statement run there, as in the original.
    pub(super) async fn run_add_cluster(
        &self,
        database: &str,
        add: &AddCluster,
    ) -> Result<Answer, ApiError> {
        let (class, name, owner) = (add.class.clone(), add.name.clone(), self.app.node);
        let command = Command::AddCluster { database: database.to_owned(), class, name, owner };
        let schema = self.change(command).await?;
        let found = schema.database(database).and_then(|d| d.cluster_named(&add.name));
        let id = found.map(|cluster| cluster.id);
        Ok(done(json!({"operation": "alter class", "className": add.class, "value": id})))
    }

    /// `DROP CLASS`.
    pub(super) async fn run_drop_class(
        &self,
        database: &str,
        drop: &DropClass,
    ) -> Result<Answer, ApiError> {
        let mut dropped = Ok(());
        if !drop.is_forced {
            dropped = self.refuse_full_graph_class(database, &drop.name).await;
        }
        let dropped = match dropped {
            Ok(()) => {
                let (database, name) = (database.to_owned(), drop.name.clone());
                self.change(Command::DropClass { database, name }).await
            }
            Err(error) => Err(error),
        };
        match dropped {
            Err(error) if error.code == ErrorCode::UnknownClass && drop.if_exists => {}
            dropped => std::mem::drop(dropped?),
        }
        Ok(done(json!({"operation": "drop class", "className": drop.name, "value": true})))
    }

    /// Vertices must not go without their edges, nor edges while vertices list them; records of
    /// other classes go with theirs, as in the original. What is made meanwhile through another
    /// server is not seen here: whoever comes upon a record of a dropped class passes over it.
    async fn refuse_full_graph_class(&self, database: &str, name: &str) -> Result<(), ApiError> {
        let db = self.database_with_class(self.database(database).await?, name).await?;
        let Some(class) = db.class(name) else { return Err(db.unknown_class(name)) };
        let (kind, statement) = if db.is_a(name, "V") {
            ("vertices", "DELETE VERTEX")
        } else if db.is_a(name, "E") {
            ("edges", "DELETE EDGE")
        } else {
            return Ok(());
        };
        for cluster in &class.clusters {
            if !self.scan(db.key(*cluster), 0, 1).await?.is_empty() {
                let text = format!(
                    "class '{}' cannot be dropped because it contains {kind}; {statement} removes \
                     them first, DROP CLASS … UNSAFE leaves the graph with loose ends",
                    class.name
                );
                return Err(ApiError::bad_request(text));
            }
        }
        Ok(())
    }

    /// `CREATE INDEX`: done when every record there was is in it. Past the deadline it goes on.
    pub(super) async fn run_create_index(
        &self,
        database: &str,
        create: &CreateIndex,
    ) -> Result<Answer, ApiError> {
        record::refuse_attribute(&create.new.field)?;
        let name = &create.new.name;
        let command =
            Command::CreateIndex { database: database.to_owned(), new: create.new.clone() };
        let schema = match self.change(command).await {
            Err(error) if error.code == ErrorCode::IndexExists && create.if_not_exists => {
                self.app.backend.schema()
            }
            made => made?,
        };
        let mut changes = self.app.backend.changes();
        let filled = async {
            loop {
                changes.mark_unchanged();
                match self.index_state(database, name, schema.revision)? {
                    IndexState::Ready => return Ok(()),
                    IndexState::Failed(reasons) => {
                        let text = format!("index '{name}' cannot be: {}", reasons.join("; "));
                        return Err(ApiError::new(ErrorCode::DuplicateKey, text));
                    }
                    IndexState::Building(_) => {}
                }
                if changes.changed().await.is_err() {
                    return Err(ApiError::new(ErrorCode::NotReady, "the server is stopping"));
                }
            }
        };
        match tokio::time::timeout_at(self.deadline.into(), filled).await {
            Ok(filled) => filled?,
            Err(_) => {
                let text = format!("index '{name}' is still being built");
                return Err(ApiError::new(ErrorCode::Deadline, text));
            }
        }
        Ok(done(json!({"operation": "create index", "name": name, "value": true})))
    }

    /// How far an index is that was there in some revision of the schema. This server may not have
    /// come to that yet.
    fn index_state(
        &self,
        database: &str,
        name: &str,
        revision: u64,
    ) -> Result<IndexState, ApiError> {
        let schema = self.app.backend.schema();
        // An index of this name before that may be another one.
        if schema.revision < revision {
            return Ok(IndexState::Building(Vec::new()));
        }
        let index = schema.database(database).and_then(|d| d.index(name));
        index.map(|i| i.state.clone()).ok_or_else(|| {
            ApiError::new(ErrorCode::UnknownIndex, format!("Index '{name}' was dropped"))
        })
    }

    /// `DROP INDEX`.
    pub(super) async fn run_drop_index(
        &self,
        database: &str,
        drop: &Drop,
    ) -> Result<Answer, ApiError> {
        let (database, name) = (database.to_owned(), drop.name.clone());
        match self.change(Command::DropIndex { database, name }).await {
            Err(error) if error.code == ErrorCode::UnknownIndex && drop.if_exists => {}
            dropped => std::mem::drop(dropped?),
        }
        Ok(done(json!({"operation": "drop index", "name": drop.name, "value": true})))
    }

    /// Before every founder was met there is nothing that could agree on a database.
    fn everybody_was_met(&self) -> Result<(), ApiError> {
        let masters = self.app.backend.status().masters;
        let Some((name, _)) = masters.iter().find(|(_, master)| master.node.is_none()) else {
            return Ok(());
        };
        let text = format!("MASTER '{name}' was never met, its identity is not known");
        Err(ApiError::new(ErrorCode::NotReady, text))
    }
}

/// One row.
fn done(row: Value) -> Answer {
    Answer::result(&[row.to_string().into_bytes()])
}

/// `POST /database/{db}/{kind}[/{model}]`.
pub(super) async fn create_database<B: Backend>(ctx: Ctx<B>) -> Reply {
    permitted::write(&ctx.app, || format!("Command 'CREATE DATABASE {}'", ctx.param("db")))?;
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default, deny_unknown_fields)]
    struct Options {
        write_quorum: Option<WriteQuorum>,
        read_quorum: Option<ReadQuorum>,
        execution_mode: Option<ExecutionMode>,
        data_centers: Option<DataCenters>,
        new_node_strategy: Option<NewNodeStrategy>,
        conflict_resolver_repairer_chain: Option<String>,
    }
    let kind = match ctx.param("kind") {
        "plocal" => DatabaseKind::Plocal,
        "memory" => DatabaseKind::Memory,
        other => {
            let text = format!("database type '{other}' is neither plocal nor memory");
            return Err(ApiError::bad_request(text));
        }
    };
    if let Some(model) = ctx.optional_param("model")
        && !matches!(model, "document" | "graph")
    {
        let text = format!("database model '{model}' is neither document nor graph");
        return Err(ApiError::bad_request(text));
    }
    let options: Options = optional_json(&ctx.body)?;
    let write_quorum = options.write_quorum.unwrap_or(ctx.app.config.write_quorum);
    let read_quorum = options.read_quorum.unwrap_or(ctx.app.config.read_quorum);
    let execution_mode = options.execution_mode.unwrap_or(ctx.app.config.execution_mode);
    let data_centers = options.data_centers.unwrap_or_else(|| ctx.app.config.data_centers.clone());
    let chain = chain_of_new(&ctx, options.conflict_resolver_repairer_chain, &data_centers)?;
    let new_nodes = new_nodes_of_new(&ctx, options.new_node_strategy);
    let name = ctx.param("db").to_owned();
    let new = NewDatabase::new(&name, kind, write_quorum);
    let new = NewDatabase { read_quorum, execution_mode, data_centers, chain, new_nodes, ..new };
    let access = ctx.access();
    access.everybody_was_met()?;
    let schema = access.change(Command::CreateDatabase { new }).await?;
    let warning = schema.database(ctx.param("db")).and_then(|db| schema.warning_of(db));
    database_info(&ctx, &schema, warning)
}

/// What was asked for, else the server's default, if that can be kept: by servers that know of
/// chains in schemas, and where data centers are as it says.
fn chain_of_new<B: Backend>(
    ctx: &Ctx<B>,
    wanted: Option<String>,
    centers: &DataCenters,
) -> Result<Option<Chain>, ApiError> {
    if let Some(wanted) = wanted {
        let refused = |error: ChainError| ApiError::bad_request(format!("{CHAIN}: {error}"));
        return wanted.parse().map(Some).map_err(refused);
    }
    let chain = &ctx.app.config.chain;
    let is_kept = chain.data_centers().all(|center| centers.contains_key(center))
        && ctx.app.backend.schema().level >= CHAIN_SINCE;
    Ok(is_kept.then(|| chain.clone()))
}

/// Which servers a new database enlists; who asks for a strategy alone names nobody.
fn new_nodes_of_new<B: Backend>(ctx: &Ctx<B>, strategy: Option<NewNodeStrategy>) -> NewNodes {
    let template = ctx.app.config.new_nodes.clone();
    match strategy {
        Some(NewNodeStrategy::Static) => NewNodes::Static,
        Some(NewNodeStrategy::Dynamic) if template == NewNodes::Static => {
            NewNodes::Dynamic(BTreeSet::new())
        }
        Some(NewNodeStrategy::Dynamic) | None => template,
    }
}

/// `GET /database/{db}`.
pub(super) async fn describe_database<B: Backend>(ctx: Ctx<B>) -> Reply {
    let db = ctx.database().await?;
    let warning = db.schema().warning_of(&db);
    database_info(&ctx, db.schema(), warning)
}

/// `DELETE /database/{db}`.
pub(super) async fn drop_database<B: Backend>(ctx: Ctx<B>) -> Reply {
    permitted::write(&ctx.app, || format!("Command 'DROP DATABASE {}'", ctx.param("db")))?;
    let name = ctx.param("db").to_owned();
    ctx.access().change(Command::DropDatabase { name }).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `GET /listDatabases`.
pub(super) async fn list_databases<B: Backend>(ctx: Ctx<B>) -> Reply {
    let names = database_names(&ctx.app.backend.schema(), ctx.app.node);
    reply::json(StatusCode::OK, &json!({"@type": "d", "@version": 0, "databases": names}))
}

/// Names of what a server serves in the original's order, which looks at no case.
pub(super) fn database_names(schema: &Schema, by: NodeId) -> Vec<String> {
    let mut names: Vec<String> = schema.served_by(by).map(|d| d.name.clone()).collect();
    names.sort_by_key(|name| name.to_lowercase());
    names
}

/// `POST /class/{db}/{class}`; the body may name super classes (an addition to the original).
pub(super) async fn create_class<B: Backend>(ctx: Ctx<B>) -> Reply {
    permitted::write(&ctx.app, || format!("Command 'CREATE CLASS {}'", ctx.param("class")))?;
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Options {
        super_class: Option<String>,
        super_classes: Vec<String>,
    }
    let mut options: Options = optional_json(&ctx.body)?;
    options.super_classes.extend(options.super_class);
    let (db, class) = (ctx.param("db"), ctx.param("class"));
    let (database, name, supers) = (db.to_owned(), class.to_owned(), options.super_classes);
    refuse_offline(&ctx)?;
    let schema = ctx.access().change(Command::CreateClass { database, name, supers }).await?;
    let count = schema.database(db).map_or(0, |d| d.classes.len());
    Ok(reply::text(StatusCode::CREATED, count.to_string()))
}

/// `GET /class/{db}/{class}`.
pub(super) async fn describe_class<B: Backend>(ctx: Ctx<B>) -> Reply {
    let db = ctx.database().await?;
    let db = ctx.access().database_with_class(db, ctx.param("class")).await?;
    match db.class(ctx.param("class")) {
        Some(class) => reply::json(StatusCode::OK, &class_info(&db, class)),
        None => Err(db.unknown_class(ctx.param("class"))),
    }
}

/// `DELETE /class/{db}/{class}`.
pub(super) async fn drop_class<B: Backend>(ctx: Ctx<B>) -> Reply {
    permitted::write(&ctx.app, || format!("Command 'DROP CLASS {}'", ctx.param("class")))?;
    let (access, db, class) = (ctx.access(), ctx.param("db"), ctx.param("class"));
    refuse_offline(&ctx)?;
    access.refuse_full_graph_class(db, class).await?;
    let (database, name) = (db.to_owned(), class.to_owned());
    access.change(Command::DropClass { database, name }).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// Refuses clients of a database that is known here where people took this server OFFLINE for it.
fn refuse_offline<B: Backend>(ctx: &Ctx<B>) -> Result<(), ApiError> {
    let schema = ctx.app.backend.schema();
    schema.database(ctx.param("db")).map_or(Ok(()), |db| ctx.access().check_served(db))
}

/// An absent body stands for all defaults.
pub(super) fn optional_json<T: Default + for<'a> Deserialize<'a>>(
    body: &[u8],
) -> Result<T, ApiError> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|e| ApiError::bad_request(e.to_string()))
}

/// The original's description. Counts of records are left out: they would need a scan.
fn database_info<B: Backend>(
    ctx: &Ctx<B>,
    schema: &Schema,
    warning: Option<String>,
) -> Result<Response<Body>, ApiError> {
    let name = ctx.param("db");
    let Some(database) = schema.database(name) else {
        let text = format!("Database '{name}' does not exist");
        return Err(ApiError::new(ErrorCode::UnknownDatabase, text));
    };
    let classes: Vec<Value> =
        database.classes.iter().map(|class| class_info(database, class)).collect();
    let mut info = json!({
        "server": {
            "version": env!("CARGO_PKG_VERSION"),
            "osName": std::env::consts::OS,
            "osArch": std::env::consts::ARCH,
            "conflictStrategies": [],
            "clusterSelectionStrategies": ["round-robin"],
        },
        "classes": classes,
        "clusters": clusters_info(schema, database),
        "currentUser": super::auth::ROOT,
        "indexes": database.indexes.iter().map(index_info).collect::<Vec<_>>(),
        "config": {
            "values": [
                {"name": "storage", "value": database.kind.name()},
                {"name": "writeQuorum", "value": database.write_quorum.to_string()},
                {"name": "readQuorum", "value": database.read_quorum.to_string()},
                {"name": "executionMode", "value": database.execution_mode.name()},
            ],
            "properties": [],
        },
    });
    if let (Some(warning), Value::Object(fields)) = (warning, &mut info) {
        fields.insert("warnings".to_owned(), json!([warning]));
    }
    reply::json(StatusCode::OK, &info)
}

fn clusters_info(schema: &Schema, database: &Database) -> Vec<Value> {
    let names: BTreeMap<NodeId, &str> =
        schema.servers.iter().map(|server| (server.node, server.name.as_str())).collect();
    let describe = |cluster: &quorate_control::schema::Cluster| {
        let owner = names.get(&cluster.owner).copied();
        json!({"id": cluster.id, "name": cluster.name, "owner": owner})
    };
    database.clusters.iter().map(describe).collect()
}

fn index_info(index: &Index) -> Value {
    let mut info = json!({
        "name": index.name,
        "type": index.kind.name(),
        "class": index.class,
        "fields": [index.field],
        "state": index.state.name(),
    });
    if let (IndexState::Failed(reasons), Value::Object(fields)) = (&index.state, &mut info) {
        fields.insert("reasons".to_owned(), json!(reasons));
    }
    info
}

fn class_info(database: &Database, class: &Class) -> Value {
    let own = database.indexes.iter().filter(|i| i.class == class.name);
    let indexes: Vec<Value> = own.map(index_info).collect();
    json!({
        "name": class.name,
        "superClass": class.super_classes.first().cloned().unwrap_or_default(),
        "superClasses": class.super_classes,
        "alias": null,
        "abstract": false,
        "strictmode": false,
        "clusters": class.clusters,
        "defaultCluster": class.clusters.first(),
        "clusterSelection": "round-robin",
        "properties": [],
        "indexes": indexes,
    })
}
