//! What can be set about a stage beside the plan.
//! Values alone; finding programs lives in `binaries.rs`.

use std::path::PathBuf;
use std::time::Duration;

/// The server's image, unless set.
const NODE_IMAGE: &str = "quorate-node:local";
/// The proxy's image, unless set.
const PROXY_IMAGE: &str = "quorate-proxy:local";
/// Longest wait for every server to get ready, unless set.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for a clean end before a process is killed, unless set. A server bounds each step
/// of its end, to some 8 s in all, and an engine that is busy tells of an end seconds after it.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Name of the variable with the password of the servers' user `root`.
const ROOT_PASSWORD: &str = "ORIENTDB_ROOT_PASSWORD";

/// Settings of a stage.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// The server's executable; `None`: looked for, see [`super::Program::find`].
    pub node: Option<PathBuf>,
    /// The proxy's executable; `None`: looked for.
    pub proxy: Option<PathBuf>,
    /// The guard's executable; `None`: looked for.
    pub guard: Option<PathBuf>,
    /// The disk's executable; `None`: looked for.
    pub disk: Option<PathBuf>,
    /// The simulator's executable; `None`: looked for.
    pub sim: Option<PathBuf>,
    /// The server's image, for containers.
    pub node_image: String,
    /// The proxy's image, for containers.
    pub proxy_image: String,
    /// `HOST:PORT` or `http://HOST:PORT` of a Toxiproxy that runs already; `None`: own proxy.
    pub toxiproxy: Option<String>,
    /// Leave the servers' data in the run folder after the end.
    pub keep_data: bool,
    /// Longest wait for every server to get ready.
    pub ready_limit: Duration,
    /// Longest wait for a clean end of a process before it is killed.
    pub stop_limit: Duration,
    /// Passwords of the servers, by environment variable.
    pub secrets: Vec<(String, String)>,
}

impl Default for StageOptions {
    fn default() -> Self {
        let secret = |name: &str, value: &str| (name.to_string(), value.to_string());
        Self {
            node: None,
            proxy: None,
            guard: None,
            disk: None,
            sim: None,
            node_image: NODE_IMAGE.to_string(),
            proxy_image: PROXY_IMAGE.to_string(),
            toxiproxy: None,
            keep_data: false,
            ready_limit: READY_LIMIT,
            stop_limit: STOP_LIMIT,
            // The servers live for one run and listen on loopback.
            secrets: vec![
                secret("QUORATE_CLUSTER_PASSWORD", "quorate-bench"),
                secret(ROOT_PASSWORD, "root"),
            ],
        }
    }
}

impl StageOptions {
    /// Password of the servers' user `root`.
    #[must_use]
    pub fn password(&self) -> &str {
        let secret = self.secrets.iter().find(|(name, _)| name == ROOT_PASSWORD);
        secret.map_or("root", |(_, password)| password)
    }

    /// The defaults, with the passwords and images that the environment names.
    #[must_use]
    pub fn from_env() -> Self {
        let mut options = Self::default();
        for (name, value) in &mut options.secrets {
            if let Ok(given) = std::env::var(&*name) {
                *value = given;
            }
        }
        let images = [&mut options.node_image, &mut options.proxy_image];
        for (name, image) in ["QUORATE_NODE_IMAGE", "QUORATE_PROXY_IMAGE"].iter().zip(images) {
            if let Ok(given) = std::env::var(name) {
                *image = given;
            }
        }
        options
    }
}
