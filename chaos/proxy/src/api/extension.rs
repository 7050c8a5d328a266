//! The extension's paths, documented in `API.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};

use super::API_VERSION;
use super::reply::{Refused, read};
use crate::control::{Control, Effect, LeaseView, LinkView};

type Shared = State<Arc<Control>>;
type Answer<T> = Result<Json<T>, Refused>;

#[derive(Serialize)]
pub(super) struct Info {
    name: &'static str,
    version: &'static str,
    commit: &'static str,
    toxiproxy_api: &'static str,
    extension: &'static str,
    seed: u64,
    pid: u32,
}

pub(super) async fn info(State(control): Shared) -> Json<Info> {
    Json(Info {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        commit: crate::COMMIT,
        toxiproxy_api: API_VERSION,
        extension: "v1",
        seed: control.seed().await,
        pid: std::process::id(),
    })
}

#[derive(Serialize)]
pub(super) struct Links {
    links: BTreeMap<String, LinkView>,
}

pub(super) async fn links(State(control): Shared) -> Json<Links> {
    Json(Links { links: control.links().await })
}

pub(super) async fn link(State(control): Shared, Path(name): Path<String>) -> Answer<LinkView> {
    Ok(Json(control.link(&name).await?))
}

#[derive(Serialize)]
pub(super) struct Counters {
    links: BTreeMap<String, LinkCounters>,
}

#[derive(Serialize)]
struct LinkCounters {
    listening: bool,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Counts {
    connections: crate::path::ConnectionCounts,
    bytes: crate::control::PerStream<crate::path::StreamCounts>,
}

pub(super) async fn counters(State(control): Shared) -> Json<Counters> {
    let links = control.links().await.into_iter().map(|(name, view)| {
        let counts = Counts { connections: view.connections, bytes: view.bytes };
        (name, LinkCounters { listening: view.listening, counts })
    });
    Json(Counters { links: links.collect() })
}

/// Answer to a step.
#[derive(Serialize)]
pub(super) struct Applied {
    effective: Effect,
    links: Vec<String>,
}

impl From<(Effect, Vec<String>)> for Applied {
    fn from((effective, links): (Effect, Vec<String>)) -> Self {
        Self { effective, links }
    }
}

pub(super) async fn rules(State(control): Shared, body: Bytes) -> Answer<Applied> {
    Ok(Json(control.step(read(&body)?).await?.into()))
}

/// What to heal; an empty body is the default.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Heal {
    /// Also standard toxics and disabled proxies.
    all: bool,
}

pub(super) async fn heal(State(control): Shared, body: Bytes) -> Answer<Applied> {
    let heal = if body.is_empty() { Heal::default() } else { read(&body)? };
    Ok(Json(control.heal(heal.all).await?.into()))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seed {
    seed: u64,
}

pub(super) async fn seed(State(control): Shared) -> Json<Seed> {
    Json(Seed { seed: control.seed().await })
}

pub(super) async fn set_seed(State(control): Shared, body: Bytes) -> Answer<Seed> {
    let seed: Seed = read(&body)?;
    control.set_seed(seed.seed).await;
    Ok(Json(seed))
}

pub(super) async fn lease(State(control): Shared) -> Json<LeaseView> {
    Json(control.lease().await)
}

pub(super) async fn renew(State(control): Shared, body: Bytes) -> Answer<LeaseView> {
    Ok(Json(control.renew(read(&body)?).await?))
}

#[derive(Serialize)]
pub(super) struct Released {
    effective: Effect,
}

pub(super) async fn release(State(control): Shared) -> Answer<Released> {
    Ok(Json(Released { effective: control.release().await? }))
}
