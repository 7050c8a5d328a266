//! The project's own fault proxy as a child process or container. What is said to it lives in
//! `proxy_client.rs`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;

use super::StageError;
use super::body::{Body, Form};
use super::child::{Nest, Recipe};

/// Longest wait for the proxy's first line, and for its end after SIGTERM.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct FirstLine {
    api: SocketAddr,
}

/// The running proxy.
#[derive(Debug)]
pub(crate) struct ProxyProcess {
    process: Body,
    api: SocketAddr,
}

impl ProxyProcess {
    pub(crate) async fn start(
        nest: &Nest,
        form: &Form,
        listen: SocketAddr,
        seed: u64,
        log: &Path,
    ) -> Result<Self, StageError> {
        let name = "proxy".to_string();
        let arguments = ["--listen", &listen.to_string(), "--seed", &seed.to_string()];
        let recipe = Recipe {
            name: name.clone(),
            arguments: arguments.map(String::from).to_vec(),
            environment: Vec::new(),
            log: log.to_path_buf(),
        };
        let (process, first_line) = Body::start(nest, form, recipe).await?;
        let Ok(Ok(line)) = tokio::time::timeout(LIMIT, first_line).await else {
            let what = "did not say where it listens".to_string();
            let last_words = process.last_words();
            return Err(StageError::NotReady { process: name, what, last_words });
        };
        let FirstLine { api } = serde_json::from_str(&line).map_err(|error| {
            StageError::FirstLine { process: name, line, reason: error.to_string() }
        })?;
        Ok(Self { process, api })
    }

    /// Where its API listens.
    pub(crate) fn api(&self) -> SocketAddr {
        self.api
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Stops it; true when it ended in time. An error when it had ended before.
    pub(crate) async fn stop(&self) -> Result<bool, StageError> {
        if let Some(status) = self.process.exit_status() {
            return Err(StageError::NotReady {
                process: "proxy".to_string(),
                what: format!("ended by itself ({status})"),
                last_words: self.process.last_words(),
            });
        }
        self.process.signal(Signal::SIGTERM).await?;
        if self.process.exited(LIMIT).await.is_some() {
            return Ok(true);
        }
        self.process.signal(Signal::SIGKILL).await?;
        self.process.exited(LIMIT).await;
        Ok(false)
    }
}
