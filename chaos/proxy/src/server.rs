//! The fault proxy as a value: start it, ask where its API is, shut it down.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api;
use crate::control::{Control, ProxyRequest};
use crate::model::Refusal;

/// Bytes one delay holds unless configured otherwise: enough for 160 MB/s at 100 ms.
pub const DELAY_LINE_BYTES: usize = 16 * 1024 * 1024;

/// How to start a proxy.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where the HTTP API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Seed of every random draw.
    pub seed: u64,
    /// Most bytes that one delay on one direction of one connection holds. When it is full the
    /// proxy stops reading, so above `delay_line_bytes / latency` bytes a second a delay also
    /// limits the rate.
    pub delay_line_bytes: usize,
    /// Body of a `POST /populate` to start with, as JSON.
    pub populate: Option<String>,
}

impl Default for ServerConfig {
    /// The API on a free port of loopback, seed 0, no links.
    fn default() -> Self {
        Self {
            listen: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            seed: 0,
            delay_line_bytes: DELAY_LINE_BYTES,
            populate: None,
        }
    }
}

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The API's address cannot be listened on.
    #[error("API address {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The links to start with are not good.
    #[error("links to start with: {0}")]
    Populate(String),
}

/// The fault proxy.
#[derive(Debug)]
pub struct Server;

/// A running proxy. Dropping it stops the API and the links without waiting.
#[derive(Debug)]
pub struct ServerHandle {
    api: SocketAddr,
    control: Arc<Control>,
    stop: Option<oneshot::Sender<()>>,
    http: JoinHandle<()>,
    lease: JoinHandle<()>,
}

impl Server {
    /// Starts a proxy on the current tokio runtime.
    ///
    /// # Errors
    /// When the API's address or the links to start with cannot be had.
    pub async fn start(config: ServerConfig) -> Result<ServerHandle, StartError> {
        let listen = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let api = listener.local_addr().map_err(listen)?;
        let control = Arc::new(Control::new(config.seed, config.delay_line_bytes));
        if let Some(populate) = &config.populate {
            populate_from(&control, populate)
                .await
                .map_err(|refusal| StartError::Populate(refusal.to_string()))?;
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let router = api::router(Arc::clone(&control));
        let serve = axum::serve(listener, router).with_graceful_shutdown(async {
            // Either the word to stop or the handle's end.
            stopped.await.unwrap_or(());
        });
        let http = tokio::spawn(async {
            if let Err(error) = serve.await {
                tracing::error!(%error, "API server failed");
            }
        });
        let lease = tokio::spawn(Arc::clone(&control).keep_lease());
        tracing::info!(%api, seed = config.seed, "fault proxy started");
        Ok(ServerHandle { api, control, stop: Some(stop), http, lease })
    }
}

async fn populate_from(control: &Control, json: &str) -> Result<(), Refusal> {
    let requests: Vec<ProxyRequest> = serde_json::from_str(json)?;
    control.populate(requests).await?;
    Ok(())
}

impl ServerHandle {
    /// Address of the HTTP API, with the real port.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Closes every link and its connections, lets API requests finish, and stops.
    pub async fn shutdown(mut self) {
        self.lease.abort();
        self.control.shut_down().await;
        if let Some(stop) = self.stop.take()
            && stop.send(()).is_err()
        {
            tracing::debug!("API server had stopped already");
        }
        // Idle keep-alive connections are closed; a request in progress gets a moment.
        if tokio::time::timeout(GRACE, &mut self.http).await.is_err() {
            tracing::warn!("API requests outlived the grace period");
        }
    }
}

/// How long requests in progress may take after the word to stop.
const GRACE: std::time::Duration = std::time::Duration::from_secs(2);

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.http.abort();
        self.lease.abort();
    }
}
