//! A small HTTP/1 client: one connection per request, one deadline over all of it.
//! For control and measurement; the workload's client, which must be fast, lives in the driver.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::drive::request::basic;

/// Largest reply that is read; beyond it the server is broken.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// Why a request got no complete reply.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection, or it broke.
    #[error("connection to {address}: {source}")]
    Connection {
        /// Whom.
        address: SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// No reply in time.
    #[error("no reply from {address} within {limit:?}")]
    Late {
        /// Whom.
        address: SocketAddr,
        /// The time given.
        limit: Duration,
    },
    /// Something else than HTTP, or a reply beyond the limit.
    #[error("bad exchange with {address}: {reason}")]
    Protocol {
        /// Whom.
        address: SocketAddr,
        /// What was wrong.
        reason: String,
    },
}

/// A complete reply.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request and reads the whole reply.
///
/// # Errors
/// When there is no complete reply within `limit`. Any status is a reply.
pub async fn request(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
    limit: Duration,
) -> Result<Reply, HttpError> {
    request_as(address, None, method, path, body, limit).await
}

/// The same as user `root` with a password.
///
/// # Errors
/// When there is no complete reply within `limit`. Any status is a reply.
pub async fn request_as(
    address: SocketAddr,
    password: Option<&str>,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
    limit: Duration,
) -> Result<Reply, HttpError> {
    let exchange = exchange(address, password, method, path, body);
    match tokio::time::timeout(limit, exchange).await {
        Ok(result) => result,
        Err(_) => Err(HttpError::Late { address, limit }),
    }
}

async fn exchange(
    address: SocketAddr,
    password: Option<&str>,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Reply, HttpError> {
    let protocol = |reason: String| HttpError::Protocol { address, reason };
    let broken = |source| HttpError::Connection { address, source };
    let stream = TcpStream::connect(address).await.map_err(broken)?;
    stream.set_nodelay(true).map_err(broken)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(io::Error::other(error)))?;
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close");
    if let Some(password) = password {
        builder = builder.header(header::AUTHORIZATION, basic(password));
    }
    if body.is_some() {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    let request = builder
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| protocol(error.to_string()))?;
    let exchange = async {
        let reply = sender.send_request(request).await?;
        let (head, body) = reply.into_parts();
        Ok::<_, hyper::Error>((head.status, body))
    };
    // The connection must be driven beside the exchange; it ends with it or with the deadline.
    let mut driver = tokio::spawn(connection);
    let result = async {
        let (status, body) = exchange.await.map_err(|error| broken(io::Error::other(error)))?;
        let body = Limited::new(body, REPLY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| protocol(error.to_string()))?.to_bytes();
        Ok(Reply { status, body })
    };
    let _stop = AbortOnDrop(&mut driver);
    result.await
}

/// Ends the connection's task even when the deadline drops the exchange half-way.
struct AbortOnDrop<'a, T>(&'a mut tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
