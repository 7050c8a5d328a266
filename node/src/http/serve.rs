//! The accept loop: connections in, bounded in number, time and size; an orderly end. May not know
//! what requests are about.
//!
//! What the HTTP library refuses by itself (malformed request lines, oversized headers) is answered
//! by it without a JSON body; such a reply has no outcome and must be taken for `unknown`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use quorate_api::ErrorCode;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

use super::backend::Backend;
use super::context::{App, HttpConfig};
use super::router::router;

/// Pause after a failed accept, so that running out of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Sent to connections above the limit.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/json; charset=utf-8\r\nretry-after: 1\r\nconnection: close\r\n\
content-length: 135\r\n\r\n\
{\"errors\":[{\"code\":503,\"reason\":503,\"content\":\"too many connections open\",\
\"errorCode\":\"overload\",\"outcome\":\"failed\",\"retryable\":true}]}";

/// Serves HTTP until `shutdown` is done; then running requests may finish within the grace period.
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
    let mut shutdown = std::pin::pin!(shutdown);
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
        let written = async {
            stream.write_all(TOO_MANY).await?;
            stream.shutdown().await
        };
        match tokio::time::timeout(ACCEPT_PAUSE, written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "refused client did not listen"),
            Err(_) => tracing::debug!("refused client did not listen in time"),
        }
    });
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
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        // Also when the sender is gone.
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

async fn answer<B: Backend>(
    app: &Arc<App<B>>,
    mut router: Router,
    request: hyper::Request<Incoming>,
) -> axum::http::Response<Body> {
    // The router is always ready.
    let response = match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    app.counters.count(response.extensions().get::<ErrorCode>().copied());
    response
}
