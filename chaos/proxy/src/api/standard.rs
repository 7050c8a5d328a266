//! Toxiproxy's paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::API_VERSION;
use super::reply::{ErrorBody, Refused, read};
use crate::control::{Control, ProxyView};
use crate::model::Toxic;

type Shared = State<Arc<Control>>;
type Answer<T> = Result<Json<T>, Refused>;

pub(super) async fn proxies(State(control): Shared) -> Json<BTreeMap<String, ProxyView>> {
    Json(control.proxies().await)
}

pub(super) async fn create(
    State(control): Shared,
    body: Bytes,
) -> Result<(StatusCode, Json<ProxyView>), Refused> {
    let created = control.create(read(&body)?).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Populate answers errors with the list of proxies beside them.
#[derive(Serialize)]
struct Populated {
    #[serde(flatten)]
    error: Option<ErrorBody>,
    proxies: Vec<ProxyView>,
}

pub(super) async fn populate(State(control): Shared, body: Bytes) -> Response {
    let populated = match read(&body) {
        Ok(requests) => control.populate(requests).await,
        Err(refusal) => Err(refusal),
    };
    let (code, body) = match populated {
        Ok(proxies) => (StatusCode::CREATED, Populated { error: None, proxies }),
        Err(refusal) => {
            let (code, error) = Refused(refusal).parts();
            (code, Populated { error: Some(error), proxies: Vec::new() })
        }
    };
    (code, Json(body)).into_response()
}

pub(super) async fn proxy(State(control): Shared, Path(name): Path<String>) -> Answer<ProxyView> {
    Ok(Json(control.proxy(&name).await?))
}

pub(super) async fn update(
    State(control): Shared,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer<ProxyView> {
    // An unknown proxy is reported before a bad body, as in the original.
    control.proxy(&name).await?;
    Ok(Json(control.update(&name, read(&body)?).await?))
}

pub(super) async fn delete(
    State(control): Shared,
    Path(name): Path<String>,
) -> Result<StatusCode, Refused> {
    control.delete(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn reset(State(control): Shared) -> Result<StatusCode, Refused> {
    control.reset().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn toxics(State(control): Shared, Path(name): Path<String>) -> Answer<Vec<Toxic>> {
    Ok(Json(control.toxics(&name).await?))
}

pub(super) async fn add_toxic(
    State(control): Shared,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer<Toxic> {
    control.proxy(&name).await?;
    Ok(Json(control.add_toxic(&name, read(&body)?).await?))
}

pub(super) async fn toxic(
    State(control): Shared,
    Path((name, toxic)): Path<(String, String)>,
) -> Answer<Toxic> {
    Ok(Json(control.toxic(&name, &toxic).await?))
}

pub(super) async fn update_toxic(
    State(control): Shared,
    Path((name, toxic)): Path<(String, String)>,
    body: Bytes,
) -> Answer<Toxic> {
    control.toxic(&name, &toxic).await?;
    Ok(Json(control.update_toxic(&name, &toxic, read(&body)?).await?))
}

pub(super) async fn remove_toxic(
    State(control): Shared,
    Path((name, toxic)): Path<(String, String)>,
) -> Result<StatusCode, Refused> {
    control.remove_toxic(&name, &toxic).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
pub(super) struct Version {
    version: &'static str,
}

pub(super) async fn version() -> Json<Version> {
    Json(Version { version: API_VERSION })
}
