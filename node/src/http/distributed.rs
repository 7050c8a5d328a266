//! How the servers are: `HA STATUS` and the reads below `/distributed`, in the original's shapes.
//! May not draw tables, and may not know how servers hear of each other.

use axum::http::StatusCode;
use quorate_api::ErrorCode;
use quorate_control::distributed::{CHAIN, document};
use serde_json::{Map, Value, json};

use super::access::{Access, Db};
use super::backend::Backend;
use super::context::Ctx;
use super::error::ApiError;
use super::members::{Latency, Progress, Server, Servers};
use super::reply::{self, Answer, Reply};
use super::tables::{self, DATE, date_time};
use crate::sql::HaStatus;

/// Protocol of the listener for clients, as the original calls it.
const HTTP_PROTOCOL: &str = "ONetworkProtocolHttpDb";
/// Protocol of the listener for other servers.
const PEER_PROTOCOL: &str = "quorate";

impl<B: Backend> Access<'_, B> {
    /// `HA STATUS`, as this server sees it.
    pub(super) fn run_ha_status(&self, db: &Db, parts: HaStatus) -> Result<Answer, ApiError> {
        let servers = self.app.backend.servers();
        if !servers.is_distributed {
            let text = "OrientDB is not started in distributed mode";
            return Err(ApiError::bad_request(text));
        }
        if parts.as_text {
            let mut shown = Vec::new();
            if parts.servers {
                shown.push(tables::servers(&servers));
            }
            if parts.database {
                shown.push(tables::database(&servers, db));
                shown.extend(servers.uniting_in(db.id).map(ToString::to_string));
            }
            if parts.latency {
                shown.push(tables::latency(&servers));
            }
            if parts.messages {
                shown.push(tables::messages(&servers));
            }
            return Ok(row(&json!({ "value": shown.join("\n\n") })));
        }
        let mut result = Map::new();
        if parts.servers {
            result.insert("servers".to_owned(), cluster(&servers).into());
        }
        if parts.database {
            result.insert("database".to_owned(), database(&servers, db));
        }
        if parts.latency {
            result.insert("latency".to_owned(), tables::latency(&servers).into());
        }
        if parts.messages {
            result.insert("messages".to_owned(), tables::messages(&servers).into());
        }
        Ok(row(&Value::Object(result)))
    }
}

fn row(value: &Value) -> Answer {
    Answer::result(&[value.to_string().into_bytes()])
}

/// `GET /distributed/node`; a server that stands alone is the only member.
pub(super) async fn node<B: Backend>(ctx: Ctx<B>) -> Reply {
    reply::json(StatusCode::OK, &cluster(&ctx.app.backend.servers()))
}

/// `GET /distributed/stats[/{server}]`.
pub(super) async fn stats<B: Backend>(ctx: Ctx<B>) -> Reply {
    let servers = ctx.app.backend.servers();
    let wanted = ctx.optional_param("server");
    if let Some(name) = wanted.filter(|name| servers.find(name).is_none()) {
        let text = format!("Server '{name}' is not in the cluster");
        return Err(ApiError::new(ErrorCode::NotFound, text));
    }
    let chosen = servers.list.iter().filter(|s| wanted.is_none_or(|name| s.name == name));
    let stats: Map<String, Value> =
        chosen.map(|server| (server.name.clone(), numbers(server).into())).collect();
    let schema = ctx.app.backend.schema();
    let served = schema.served_by(ctx.app.node);
    let states: Map<String, Value> =
        served.map(|d| (d.name.clone(), states_of(&servers, &d.name))).collect();
    let mut body = cluster(&servers);
    body.insert("clusterStats".to_owned(), stats.into());
    body.insert("databasesStatus".to_owned(), states.into());
    reply::json(StatusCode::OK, &body)
}

/// All servers.
fn cluster(servers: &Servers) -> Map<String, Value> {
    let id = servers.itself().and_then(|own| own.node).map(|node| node.to_string());
    Map::from_iter([
        ("localName".to_owned(), servers.own.as_str().into()),
        ("localId".to_owned(), id.into()),
        ("members".to_owned(), servers.list.iter().map(|s| member(servers, s)).collect()),
    ])
}

/// A server: who it is, how it is, what it told last. What nobody has heard yet is left out.
fn member(servers: &Servers, server: &Server) -> Value {
    let mut member = Map::new();
    let mut put = |key: &str, value: Value| member.insert(key.to_owned(), value);
    if let Some(node) = server.node {
        put("id", node.to_string().into());
    }
    put("name", server.name.as_str().into());
    put("status", server.state.name().into());
    put("decisionsBehind", servers.behind(server).into());
    put("behindMs", servers.behind_ms(server).into());
    if let Some(told) = &server.bulletin {
        let listeners = [(PEER_PROTOCOL, told.peer), (HTTP_PROTOCOL, told.http)];
        let listeners = listeners.into_iter().filter_map(|(protocol, address)| {
            Some(json!({"protocol": protocol, "listen": address?.to_string()}))
        });
        let databases = told.databases.iter();
        let databases = databases.map(|name| {
            let status = servers.database_state(server, name);
            json!({"name": name, "status": status, "role": server.role.name()})
        });
        put("publicAddress", told.peer.map(|address| address.ip().to_string()).into());
        put("startedOn", date_time(told.started_ms, DATE).into());
        if told.addendum.speaks > 0 {
            put("speaks", told.addendum.speaks.into());
        }
        if let Some(progress) = &told.addendum.progress {
            put("progress", progress_of(servers, progress));
        }
        let found = servers.found.iter().filter(|found| found.server == server.name);
        let found: Vec<Value> =
            found.map(|found| json!({"name": found.database, "status": found.state()})).collect();
        if !found.is_empty() {
            put("foundOnDisk", found.into());
        }
        put("listeners", listeners.collect());
        put("databases", databases.collect());
    }
    member.extend(numbers(server));
    Value::Object(member)
}

fn progress_of(servers: &Servers, progress: &Progress) -> Value {
    json!({
        "phase": progress.phase.name(),
        "database": progress.database,
        "from": progress.source.map(|node| servers.name_of(node)),
        "percent": progress.percent(),
        "items": progress.items,
        "bytes": progress.bytes,
        "bytesPerSecond": progress.rate(),
        "tookMs": progress.took_ms,
    })
}

/// What can be counted and measured of a server.
fn numbers(server: &Server) -> Map<String, Value> {
    let mut numbers = Map::new();
    if let Some(told) = &server.bulletin {
        let latencies: Map<String, Value> =
            told.toward.iter().map(|(name, t)| (name.clone(), latency(&t.latency))).collect();
        let sent: Map<String, Value> =
            told.toward.iter().map(|(name, t)| (name.clone(), t.messages.into())).collect();
        numbers = Map::from_iter([
            ("connections".to_owned(), told.connections.into()),
            ("usedMemory".to_owned(), told.memory.into()),
            ("freeMemory".to_owned(), told.memory_max.saturating_sub(told.memory).into()),
            ("maxMemory".to_owned(), told.memory_max.into()),
            ("latencies".to_owned(), latencies.into()),
            ("sent".to_owned(), sent.into()),
        ]);
    }
    let received = server.received.iter();
    let received: Map<String, Value> =
        received.map(|(name, count)| ((*name).to_owned(), (*count).into())).collect();
    numbers.insert("messages".to_owned(), received.into());
    numbers
}

/// In nanoseconds, as in the original.
fn latency(times: &Latency) -> Value {
    let ns = |us: u64| us.saturating_mul(1_000);
    json!({
        "entries": times.entries,
        "last": ns(times.last),
        "min": ns(times.min),
        "max": ns(times.max),
        "average": ns(times.average()),
        "total": ns(times.total),
    })
}

fn configured(servers: &Servers, db: &Db) -> Value {
    let all = servers.list.iter();
    all.map(|s| (s.name.clone(), Value::from(tables::configured(db, s)))).collect()
}

fn states_of(servers: &Servers, database: &str) -> Value {
    let states = servers.list.iter();
    states.map(|s| (s.name.clone(), Value::from(servers.database_state(s, database)))).collect()
}

/// A database: its quorums, whether writes can succeed, its state on each server, who has which
/// cluster, the owner first.
fn database(servers: &Servers, db: &Db) -> Value {
    let config = document(db.schema(), db);
    let clusters: Map<String, Value> = tables::clusters_by_name(db)
        .map(|cluster| {
            let servers = config.clusters.get(&cluster.name).map(|c| c.servers.names());
            (cluster.name.clone(), json!({ "servers": servers }))
        })
        .collect();
    let mut database = json!({
        "name": db.name,
        "writeQuorum": db.write_quorum,
        "readQuorum": db.read_quorum,
        "executionMode": db.execution_mode,
        "dataCenters": db.data_centers,
        "newNodeStrategy": db.new_nodes.strategy().name(),
        "configured": configured(servers, db),
        CHAIN: db.chain,
        "wQuorum": servers.has_write_quorum(db),
        "status": states_of(servers, &db.name),
        "clusters": clusters,
    });
    let uniting: Vec<_> = servers.uniting_in(db.id).collect();
    if !uniting.is_empty() {
        database["uniting"] = json!(uniting);
    }
    database
}
