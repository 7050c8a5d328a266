//! A database's distributed configuration over HTTP. May not know records, nor how servers agree.

use axum::http::StatusCode;
use quorate_api::ErrorCode;
use quorate_control::command::Command;
use quorate_control::ddl::DdlError;
use quorate_control::distributed::{ANY, DistributedConfig, Overridable, Role, document};
use quorate_control::members::WriteQuorum;
use quorate_control::settings::Settings;

use super::backend::Backend;
use super::context::Ctx;
use super::error::ApiError;
use super::reply::{self, Reply};

/// `GET /distributed/database/{db}`: the very bytes of the file that each server keeps.
pub(super) async fn describe<B: Backend>(ctx: Ctx<B>) -> Reply {
    let db = ctx.database().await?;
    let text = document(db.schema(), &db).write();
    let text = text.map_err(|error| ApiError::new(ErrorCode::Storage, error.to_string()))?;
    Ok(reply::json_bytes(StatusCode::OK, text))
}

/// `PUT /distributed/database/{db}`: the document as it is, with other quorums, another mode, other
/// data centers, another chain of resolvers or other static owners of clusters (`owner`; without
/// one it moves when its server is lost), and the version that it has now. Gives the document with
/// the next version; writers and readers go on meanwhile.
pub(super) async fn change<B: Backend>(ctx: Ctx<B>) -> Reply {
    let db = ctx.database().await?;
    let parsed = DistributedConfig::parse(&ctx.body)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let mut wanted = parsed.config;
    let mut now = document(db.schema(), &db);
    if wanted.version > now.version {
        // It was read from a server that is further.
        ctx.access().catch_up().await?;
        let db = ctx.database().await?;
        now = document(db.schema(), &db);
    }
    if wanted.version != now.version {
        let (database, given) = (ctx.param("db").to_owned(), wanted.version);
        let stale = DdlError::Version { database, now: now.version, given };
        return Err(ApiError::new(stale.code(), stale.to_string()));
    }
    // Who leaves it out has an older document.
    let chain = wanted.chain.take().filter(|chain| now.chain.as_ref() != Some(chain));
    wanted.chain.clone_from(&now.chain);
    let roles = changed_roles(&now, &wanted)?;
    let mut same = DistributedConfig {
        servers: now.servers.clone(),
        data_centers: now.data_centers.clone(),
        overridable: Overridable {
            read_your_writes: wanted.overridable.read_your_writes,
            ..now.overridable
        },
        ..wanted.clone()
    };
    for (name, cluster) in &mut same.clusters {
        cluster.owner = now.clusters.get(name).and_then(|now| now.owner.clone());
    }
    if same != now || wanted.clusters.get(ANY).is_some_and(|any| any.owner.is_some()) {
        let text = "only writeQuorum, readQuorum, executionMode, dataCenters, \
                    conflictResolverRepairerChain, a role in servers and the owner of a named \
                    cluster can be changed while the database is used; everything else must be as \
                    GET gives it";
        return Err(ApiError::bad_request(text));
    }
    if let Some((server, role)) = roles {
        let says =
            |of: &DistributedConfig| (of.overridable, of.clusters.clone(), of.data_centers.clone());
        if says(&wanted) != says(&now) || chain.is_some() {
            let text = "a role and a quorum or an owner cannot be changed at once: change one \
                        after the other";
            return Err(ApiError::bad_request(text));
        }
        ctx.access().set_role(&server, role).await?;
        return describe(ctx).await;
    }
    let settings = Settings {
        write_quorum: wanted.write_quorum(ANY).into(),
        read_quorum: WriteQuorum::from(wanted.read_quorum(ANY)).into(),
        execution_mode: wanted.execution_mode(ANY),
        data_centers: wanted.data_centers,
        chain,
    };
    let (database, version) = (ctx.param("db").to_owned(), wanted.version);
    let owners = wanted.clusters.into_iter();
    let owners = owners.filter_map(|(name, cluster)| Some((name, cluster.owner?))).collect();
    ctx.access().change(Command::Reconfigure { database, version, settings, owners }).await?;
    describe(ctx).await
}

/// The one role that is another than now.
fn changed_roles(
    now: &DistributedConfig,
    wanted: &DistributedConfig,
) -> Result<Option<(String, Role)>, ApiError> {
    if !now.servers.keys().eq(wanted.servers.keys()) {
        let text = "servers: servers come with --join and go with HA REMOVE SERVER";
        return Err(ApiError::bad_request(text));
    }
    let changed = wanted.servers.iter().filter(|(name, role)| now.servers[*name] != **role);
    let changed: Vec<(&String, &Role)> = changed.collect();
    match changed[..] {
        [] => Ok(None),
        [(server, role)] if server != ANY => Ok(Some((server.clone(), *role))),
        _ => {
            let text = "servers: one role is changed at a time, and of a server that is there";
            Err(ApiError::bad_request(text))
        }
    }
}
