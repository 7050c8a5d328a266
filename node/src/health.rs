//! Is a server ready? Asked as any client would, for health checks of containers, whose image holds
//! no other program. May not know how a server is made.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Why a server does not count as ready.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Nobody listens there, or it cannot be reached.
    #[error("no server answers at {address}: {source}")]
    Unreachable {
        /// As given.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// What answers speaks no HTTP, or ended the connection.
    #[error("{address} gave no answer: {source}")]
    Broken {
        /// As given.
        address: String,
        /// Why.
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("{address} gave no answer within {limit:?}")]
    Late {
        /// As given.
        address: String,
        /// The time it had.
        limit: Duration,
    },
    /// It answers, and does not serve.
    #[error("{0}")]
    NotReady(String),
    /// The address cannot stand in a request.
    #[error("'{0}' is no HOST:PORT")]
    Address(String),
}

/// Asks `GET /health` of the server at `address`, `HOST:PORT`.
///
/// # Errors
/// It cannot be reached, gives no answer within `limit`, or is not ready, in its own words.
pub async fn ask(address: &str, limit: Duration) -> Result<(), HealthError> {
    let late = HealthError::Late { address: address.to_owned(), limit };
    tokio::time::timeout(limit, asked(address)).await.unwrap_or(Err(late))
}

async fn asked(address: &str) -> Result<(), HealthError> {
    let unreachable = |source| HealthError::Unreachable { address: address.to_owned(), source };
    let broken = |source| HealthError::Broken { address: address.to_owned(), source };
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // What breaks it is told to whoever waits for an answer.
    tokio::spawn(connection);
    let request = Request::get("/health").header(HOST, address).body(Empty::<Bytes>::new());
    let request = request.map_err(|_| HealthError::Address(address.to_owned()))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let words = body["errors"][0]["content"].as_str().unwrap_or("no reason given");
    Err(HealthError::NotReady(format!("{status}: {words}")))
}
