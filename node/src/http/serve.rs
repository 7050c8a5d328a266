//! The accept loop: connections in, bounded in number, time and size; an orderly end. May not know
//! what requests are about.
//!
//! What the HTTP library refuses by itself (malformed request lines, oversized headers) is answered
//! by it without a JSON body; such a reply has no outcome and must be taken for `unknown`.
//!
//! A request can be refused before all of it was read. Closing the socket then would make the
//! kernel reset the connection, and the reset can destroy the refusal before the client has read
//! it; so the end is announced first, and what still comes is read and thrown away, for a time.
//!
//! A server that is to stop refuses what is new, definitely, and ends each connection with that
//! answer: were it only closed, whoever is just sending a request could not know what became of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use quorate_api::ErrorCode;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

use super::backend::{Backend, NodeState};
use super::context::{App, HttpConfig};
use super::error::ApiError;
use super::router::router;

/// Pause after a failed accept, so that running out of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long is read from a client that was told that its connection ends, and how long when the
/// server is about to end, too. The time is the only bound: whoever was refused for the size of
/// what it sends has more than any other number of bytes would let through.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_AT_END: Duration = Duration::from_millis(500);

/// Sent to connections above the limit.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/json; charset=utf-8\r\nretry-after: 1\r\nconnection: close\r\n\
content-length: 135\r\n\r\n\
{\"errors\":[{\"code\":503,\"reason\":503,\"content\":\"too many connections open\",\
\"errorCode\":\"overload\",\"outcome\":\"failed\",\"retryable\":true}]}";

/// What is said of a server that is to stop, too.
const WATCHED: [&str; 3] = ["/ping", "/health", "/metrics"];
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Serves HTTP until `shutdown` is done, and a moment longer; then running requests may finish
/// within the grace period.
pub async fn serve<B: Backend>(
    backend: B,
    listener: TcpListener,
    config: HttpConfig,
    shutdown: impl Future<Output = ()> + Send,
) {
    let limits = config.limits.clone();
    let app = Arc::new(App::new(backend, config));
    let router = router(Arc::clone(&app));
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let (stop, stopped) = watch::channel(());
    // Nobody can know whether a client is just sending something, or about to connect: what comes
    // is refused definitely for a fixed time, in which whoever is told so finds another server.
    let mut shutdown = std::pin::pin!(async {
        shutdown.await;
        tokio::time::sleep(limits.shutdown_stay).await;
    });
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "HTTP connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            app.counters.refused.fetch_add(1, Ordering::Relaxed);
            refuse(stream);
            continue;
        };
        let (app, router, stopped) = (Arc::clone(&app), router.clone(), stopped.clone());
        tokio::spawn(async move {
            app.counters.connections.fetch_add(1, Ordering::Relaxed);
            connection(&app, router, stream, stopped).await;
            app.counters.connections.fetch_sub(1, Ordering::Relaxed);
            drop(slot);
        });
    }
    drop(listener);
    drop(stopped);
    // Each connection holds a receiver until it is closed.
    if stop.send(()).is_ok()
        && tokio::time::timeout(limits.shutdown_grace, stop.closed()).await.is_err()
    {
        tracing::warn!("HTTP connections still busy after the grace period are dropped");
    }
}

/// Tells a client beyond the limit so, without waiting for it.
fn refuse(mut stream: TcpStream) {
    tracing::warn!("HTTP connection refused: too many are open");
    tokio::spawn(async move {
        match tokio::time::timeout(ACCEPT_PAUSE, stream.write_all(TOO_MANY)).await {
            Ok(Ok(())) => linger(stream, LINGER).await,
            Ok(Err(error)) => tracing::debug!(%error, "refused client did not listen"),
            Err(_) => tracing::debug!("refused client did not listen in time"),
        }
    });
}

/// Ends a connection so that its client gets to read what was sent.
async fn linger(mut stream: TcpStream, patience: Duration) {
    let reading = async {
        stream.shutdown().await?;
        // The runtime's own, and small: what is read here is within no request's budget.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    match tokio::time::timeout(patience, reading).await {
        Ok(Ok(_)) => {}
        // It was gone already, or does not stop: nothing is owed to it any more.
        Ok(Err(error)) => tracing::debug!(%error, "client was gone"),
        Err(_) => tracing::debug!("client did not close its side in time"),
    }
}

async fn connection<B: Backend>(
    app: &Arc<App<B>>,
    router: Router,
    stream: TcpStream,
    mut stopped: watch::Receiver<()>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(app, router, request).await) }
    });
    let limits = &app.config.limits;
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.header_bytes_max)
        .keep_alive(true);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        result = &mut connection => Some(result),
        // Also when the sender is gone.
        _ = stopped.changed() => None,
    };
    let stopping = ended.is_none();
    let result = match ended {
        Some(result) => result,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "HTTP connection ended");
    }
    let patience = if stopping { LINGER_AT_END } else { LINGER };
    linger(connection.into_parts().io.into_inner(), patience).await;
}

/// A request that runs: counted until it is answered, or dropped because its client has gone.
struct Running<'a>(&'a AtomicU64);

impl<'a> Running<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn answer<B: Backend>(
    app: &Arc<App<B>>,
    mut router: Router,
    request: hyper::Request<Incoming>,
) -> axum::http::Response<Body> {
    // Before the look at the state, so that a server that leaves misses none.
    let running = Running::begin(&app.counters.running);
    let goes_elsewhere = is_leaving(app) && !WATCHED.contains(&request.uri().path());
    let mut response = if goes_elsewhere {
        let text = format!("server '{}' is SHUTTINGDOWN: ask another one", app.name);
        ApiError::new(ErrorCode::NotReady, text).into_response()
    } else {
        // The router is always ready.
        match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    drop(running);
    if is_leaving(app) {
        response.headers_mut().insert(CONNECTION, CLOSE);
    }
    app.counters.count(response.extensions().get::<ErrorCode>().copied());
    response
}

fn is_leaving<B: Backend>(app: &App<B>) -> bool {
    app.backend.state() == NodeState::ShuttingDown
}
