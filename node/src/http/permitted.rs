//! What a REPLICA refuses: it reads and answers queries, and writes are a MASTER's. The words are
//! the original's; the reply says where the MASTERs are. A witness keeps no records, and refuses to
//! read them, too. May not carry anything out.

use quorate_api::ErrorCode;
use quorate_control::servers::Role;
use serde_json::{Map, Value, json};

use super::backend::{Backend, ReadError};
use super::context::App;
use super::error::ApiError;

/// Lets a write pass at a MASTER; `operation` is what the original calls it.
///
/// # Errors
/// This server is a REPLICA: nothing has happened.
pub(super) fn write<B: Backend>(
    app: &App<B>,
    operation: impl FnOnce() -> String,
) -> Result<(), ApiError> {
    if app.backend.role() == Role::Master {
        return Ok(());
    }
    let operation = operation();
    Err(elsewhere(app, |own| {
        format!(
            "Cannot execute write operation ({operation}) on node '{own}' because is non a master"
        )
    }))
}

/// Where records are read: anywhere but at a witness.
///
/// # Errors
/// This server is a witness.
pub(super) fn reader<B: Backend>(app: &App<B>) -> Result<&B, ApiError> {
    if app.backend.role() != Role::Witness {
        return Ok(&app.backend);
    }
    Err(elsewhere(app, |own| {
        format!("Cannot read records on node '{own}' because it is a witness and keeps none")
    }))
}

/// A read that began before this server became a witness is refused like those after it.
pub(super) fn unread<B: Backend>(app: &App<B>, error: ReadError) -> ApiError {
    naming_masters(app, error.into())
}

/// The refusal of what other servers do.
fn elsewhere<B: Backend>(app: &App<B>, text: impl FnOnce(&str) -> String) -> ApiError {
    let text = text(&app.backend.servers().own);
    naming_masters(app, ApiError::new(ErrorCode::NotMaster, text))
}

/// An error, and where the MASTERs are if that is what it is about.
pub(super) fn naming_masters<B: Backend>(app: &App<B>, error: ApiError) -> ApiError {
    if error.code != ErrorCode::NotMaster {
        return error;
    }
    let servers = app.backend.servers();
    let masters = servers.list.iter().filter(|server| server.role == Role::Master);
    let masters: Vec<Value> = masters
        .map(|master| {
            let http = master.bulletin.as_ref().and_then(|told| told.http);
            let address = http.map(|address| address.to_string());
            json!({"name": master.name, "status": master.state.name(), "http": address})
        })
        .collect();
    let beside = Map::from_iter([("masters".to_owned(), masters.into())]);
    ApiError { beside: Some(Box::new(beside)), ..error }
}
