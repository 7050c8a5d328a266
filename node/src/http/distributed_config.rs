//! A database's distributed configuration over HTTP. May not know records, nor how servers agree.

use axum::http::StatusCode;
use quorate_api::ErrorCode;
use quorate_control::command::Command;
use quorate_control::ddl::DdlError;
use quorate_control::distributed::{ANY, DistributedConfig, Overridable, document};
use quorate_control::members::WriteQuorum;
use quorate_control::settings::Settings;
use quorate_control::status::Setting;

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
/// one it moves when its server is lost), or with other roles of servers, and the version that it
/// has now. Gives the document with the next version; writers and readers go on meanwhile. What
/// `HA SET` can say, too, means the same.
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
                    conflictResolverRepairerChain, roles in servers and the owner of a named \
                    cluster can be changed while the database is used; everything else must be as \
                    GET gives it";
        return Err(ApiError::bad_request(text));
    }
    if !roles.is_empty() {
        let says = |of: &DistributedConfig| (of.overridable, of.data_centers.clone());
        let owners = chosen_owners(&now, &wanted).filter(|_| chain.is_none());
        let Some(owners) = owners.filter(|_| says(&wanted) == says(&now)) else {
            let text = "roles can be changed together with owners of clusters that nobody chose \
                        before, and with nothing else: change one after the other";
            return Err(ApiError::bad_request(text));
        };
        let settings = [roles, owners].concat();
        ctx.access().set(ctx.param("db"), &settings).await?;
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

/// Owners that are others than now; `None` where one is to be nobody's choice any more.
fn chosen_owners(now: &DistributedConfig, wanted: &DistributedConfig) -> Option<Vec<Setting>> {
    let owner = |name: &String| now.clusters.get(name).and_then(|now| now.owner.as_ref());
    let all = wanted.clusters.iter();
    let changed = all.filter(|(name, cluster)| owner(name) != cluster.owner.as_ref());
    let settings = changed.map(|(name, cluster)| {
        let server = cluster.owner.clone()?;
        Some(Setting::Owner { cluster: name.clone(), server })
    });
    settings.collect()
}

/// Roles that are others than now.
fn changed_roles(
    now: &DistributedConfig,
    wanted: &DistributedConfig,
) -> Result<Vec<Setting>, ApiError> {
    if !now.servers.keys().eq(wanted.servers.keys()) {
        let text = "servers: servers come with --join and go with HA REMOVE SERVER";
        return Err(ApiError::bad_request(text));
    }
    let changed = wanted.servers.iter().filter(|(name, role)| now.servers[*name] != **role);
    let settings = changed.map(|(server, role)| {
        if server == ANY {
            let text = "servers: roles are changed of servers that are there, and not of '*'";
            return Err(ApiError::bad_request(text));
        }
        Ok(Setting::Role { server: server.clone(), role: *role })
    });
    settings.collect()
}
