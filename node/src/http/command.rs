//! `/query`, `/command`, `/cluster`: statements and scans by path or body. May not run them itself.

use quorate_api::ErrorCode;
use serde::Deserialize;
use serde_json::Value;

use super::asynchronous;
use super::backend::Backend;
use super::context::Ctx;
use super::error::ApiError;
use super::execute::execute;
use super::permitted;
use super::reply::Reply;
use super::token;
use crate::sql::{self, Params, Select, Statement, Target};

/// Records that a query shows when neither it nor the path says.
const QUERY_LIMIT_DEFAULT: usize = 20;

/// `GET /query/{db}/{language}/{text}[/{limit}]`, and `GET` of a command: reads only.
pub(super) async fn query<B: Backend>(ctx: Ctx<B>) -> Reply {
    require_sql(ctx.param("language"))?;
    let statement = sql::parse(ctx.param("text"), &Params::None)?;
    if !statement.is_idempotent() {
        let text = "Cannot execute non idempotent command using HTTP GET";
        return Err(ApiError::bad_request(text));
    }
    let limit = path_limit(ctx.optional_param("limit"))?.unwrap_or(Some(QUERY_LIMIT_DEFAULT));
    run(ctx, &statement, limit).await
}

/// `POST /command/{db}/{language}[/{text}[/{limit}]]`: the text may also be the body, alone or as
/// JSON with parameters.
pub(super) async fn command<B: Backend>(ctx: Ctx<B>) -> Reply {
    #[derive(Deserialize)]
    struct Body {
        command: String,
        parameters: Option<Value>,
    }
    require_sql(ctx.param("language"))?;
    let limit = path_limit(ctx.optional_param("limit"))?.unwrap_or(None);
    let (text, params) = if let Some(text) = ctx.optional_param("text") {
        (text.to_owned(), Params::None)
    } else if ctx.body.trim_ascii_start().starts_with(b"{") {
        let body: Body = serde_json::from_slice(&ctx.body).map_err(|e| {
            ApiError::bad_request(format!("the body is not the JSON of a command: {e}"))
        })?;
        (body.command, params(body.parameters)?)
    } else {
        let text = std::str::from_utf8(&ctx.body)
            .map_err(|_| ApiError::bad_request("the command is not UTF-8 text"))?;
        (text.to_owned(), Params::None)
    };
    let statement = sql::parse(&text, &params)?;
    // What is about servers is said to any of them, as in the original.
    if !statement.is_idempotent() && !statement.is_about_servers() {
        permitted::write(&ctx.app, || format!("Command '{}'", text.trim()))?;
    }
    run(ctx, &statement, limit).await
}

/// `GET /cluster/{db}/{cluster}[/{limit}]`.
pub(super) async fn cluster<B: Backend>(ctx: Ctx<B>) -> Reply {
    let limit = path_limit(ctx.optional_param("limit"))?.unwrap_or(Some(QUERY_LIMIT_DEFAULT));
    let statement = Statement::Select(Select {
        projections: Vec::new(),
        target: Target::Cluster(ctx.param("cluster").to_owned()),
        filter: None,
        order: Vec::new(),
        skip: 0,
        limit: None,
    });
    run(ctx, &statement, limit).await
}

async fn run<B: Backend>(ctx: Ctx<B>, statement: &Statement, limit: Option<usize>) -> Reply {
    if statement.is_idempotent() || statement.is_ddl() {
        token::refuse(&ctx)?;
        asynchronous::refuse(&ctx)?;
    }
    let (access, database) = (ctx.access(), ctx.param("db"));
    token::once(access, database, execute(access, database, statement, limit)).await
}

fn require_sql(language: &str) -> Result<(), ApiError> {
    if language.eq_ignore_ascii_case("sql") {
        return Ok(());
    }
    let text = format!("language '{language}' is not supported");
    Err(ApiError::new(ErrorCode::Unsupported, text))
}

/// The limit in the path; 0 and -1 ask for everything.
fn path_limit(text: Option<&str>) -> Result<Option<Option<usize>>, ApiError> {
    match text {
        None => Ok(None),
        Some("0" | "-1") => Ok(Some(None)),
        Some(text) => match text.parse() {
            Ok(limit) => Ok(Some(Some(limit))),
            Err(_) => Err(ApiError::bad_request(format!("limit '{text}' is not a number"))),
        },
    }
}

fn params(value: Option<Value>) -> Result<Params, ApiError> {
    match value {
        None | Some(Value::Null) => Ok(Params::None),
        Some(Value::Array(list)) => Ok(Params::Positional(list)),
        Some(Value::Object(map)) => Ok(Params::Named(map)),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            Err(ApiError::bad_request("parameters must be an object or a list"))
        }
    }
}
