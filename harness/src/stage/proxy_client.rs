//! Client of the fault proxy: Toxiproxy v2 as everybody speaks it. What only the project's own
//! proxy can do (cuts, fine delays, steps over many links, counters, lease) is in `extension.rs`.
//! Standard latency toxics are set through a public client library, see `toxics.rs`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::StageError;
use super::http::{Reply, request};

/// Longest wait for an answer. A step over many links waits for connections to end.
const LIMIT: Duration = Duration::from_secs(5);

/// A proxy entry as Toxiproxy lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name; the harness uses the name of the link.
    pub name: String,
    /// Where it listens.
    pub listen: String,
    /// Where it connects to.
    pub upstream: String,
    /// False: it does not listen.
    pub enabled: bool,
    /// Its toxics.
    #[serde(default)]
    pub toxics: Vec<Toxic>,
}

/// A toxic as Toxiproxy lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Toxic {
    /// Its name, unique in the entry.
    pub name: String,
    /// Its type, `latency` and so on.
    pub r#type: String,
    /// `upstream` or `downstream`.
    pub stream: String,
    /// Probability that it meets a connection.
    pub toxicity: f64,
    /// Settings by name.
    pub attributes: BTreeMap<String, serde_json::Value>,
}

/// What is to be changed about an entry.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EntryChange {
    /// Where it connects to from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Whether it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A proxy's API.
#[derive(Debug, Clone)]
pub struct ProxyClient {
    api: SocketAddr,
}

impl ProxyClient {
    /// The API at this address.
    #[must_use]
    pub fn new(api: SocketAddr) -> Self {
        Self { api }
    }

    /// The API at `HOST:PORT` or `http://HOST:PORT`.
    ///
    /// # Errors
    /// When that names no address.
    pub fn at_url(url: &str) -> Result<Self, StageError> {
        let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let unusable = |reason: String| StageError::ProxyUnexpected {
            request: format!("address {url:?}"),
            reason,
        };
        let mut addresses = host.to_socket_addrs().map_err(|error| unusable(error.to_string()))?;
        let api = addresses.next().ok_or_else(|| unusable("it names no address".to_string()))?;
        Ok(Self { api })
    }

    /// Where the API listens.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Every entry by name.
    ///
    /// # Errors
    /// When the proxy does not answer as it should; so below.
    pub async fn entries(&self) -> Result<BTreeMap<String, Entry>, StageError> {
        self.json(Method::GET, "/proxies", None::<&()>).await
    }

    /// Creates an entry.
    ///
    /// # Errors
    /// See [`Self::entries`].
    pub async fn create(&self, entry: &Entry) -> Result<Entry, StageError> {
        self.json(Method::POST, "/proxies", Some(entry)).await
    }

    /// Changes an entry.
    ///
    /// # Errors
    /// See [`Self::entries`].
    pub async fn update(&self, name: &str, change: &EntryChange) -> Result<Entry, StageError> {
        self.json(Method::POST, &format!("/proxies/{}", encoded(name)), Some(change)).await
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// See [`Self::entries`].
    pub async fn delete(&self, name: &str) -> Result<(), StageError> {
        let path = format!("/proxies/{}", encoded(name));
        self.call(Method::DELETE, &path, None::<&()>).await.map(drop)
    }

    /// The toxics of an entry.
    ///
    /// # Errors
    /// See [`Self::entries`].
    pub async fn toxics(&self, name: &str) -> Result<Vec<Toxic>, StageError> {
        let path = format!("/proxies/{}/toxics", encoded(name));
        self.json(Method::GET, &path, None::<&()>).await
    }

    /// Puts a toxic on an entry; gives it as the proxy has it.
    ///
    /// # Errors
    /// See [`Self::entries`].
    pub async fn add_toxic(&self, name: &str, toxic: &Toxic) -> Result<Toxic, StageError> {
        self.json(Method::POST, &format!("/proxies/{}/toxics", encoded(name)), Some(toxic)).await
    }

    /// Removes a toxic of an entry.
    ///
    /// # Errors
    /// See [`Self::entries`].
    pub async fn remove_toxic(&self, name: &str, toxic: &str) -> Result<(), StageError> {
        let path = format!("/proxies/{}/toxics/{}", encoded(name), encoded(toxic));
        self.call(Method::DELETE, &path, None::<&()>).await.map(drop)
    }

    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, StageError> {
        let what = format!("{method} {path}");
        let reply = self.call(method, path, body).await?;
        serde_json::from_slice(&reply.body).map_err(|error| StageError::ProxyUnexpected {
            request: what,
            reason: format!("{error} in {}", reply.text()),
        })
    }

    /// Sends a request; every status but success is an error.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Reply, StageError> {
        let what = format!("{method} {path}");
        let body = body.map(serde_json::to_vec).transpose().map_err(|error| {
            StageError::ProxyUnexpected { request: what.clone(), reason: error.to_string() }
        })?;
        let reply = request(self.api, method, path, body, LIMIT).await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        let (status, answer) = (reply.status.as_u16(), reply.text());
        Err(StageError::ProxyRefused { request: what, status, answer })
    }
}

/// A name as a path segment. Links have `->` in theirs.
fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}
