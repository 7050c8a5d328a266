//! What the harness asks a server itself, past every proxy: readiness and counters.
//! May not touch records; those belong to the driver.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::StageError;
use super::http::{HttpError, Reply, request, request_as};

/// The distributed configuration of the database that the driver uses.
const DOCUMENT: &str = "/distributed/database/bench";

/// The first line a server prints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Announcement {
    /// Where it serves clients.
    pub http: SocketAddr,
    /// Where it takes connections of other servers; a standalone server has none.
    pub peer: Option<SocketAddr>,
    /// Its identity, kept in its data directory.
    pub node_id: String,
    /// How often it has been started on that data.
    pub boot: u64,
}

impl Announcement {
    /// Understands the line.
    pub(crate) fn parse(process: &str, line: &str) -> Result<Self, StageError> {
        serde_json::from_str(line).map_err(|error| StageError::FirstLine {
            process: process.to_string(),
            line: line.to_string(),
            reason: error.to_string(),
        })
    }
}

/// True when the server says it is ready to serve.
///
/// # Errors
/// When it does not answer within `limit`.
pub async fn is_ready(direct: SocketAddr, limit: Duration) -> Result<bool, HttpError> {
    let reply = request(direct, Method::GET, "/health", None, limit).await?;
    Ok(reply.status == StatusCode::OK)
}

/// The state that the server says it is in, serving or not.
///
/// # Errors
/// When it does not answer within `limit`, or without one.
pub async fn state(direct: SocketAddr, limit: Duration) -> Result<String, HttpError> {
    let reply = request(direct, Method::GET, "/health", None, limit).await?;
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let status = body.as_ref().and_then(|body| body.get("status")?.as_str());
    status.map(str::to_string).ok_or_else(|| {
        let reason = format!("/health answered {}: {}", reply.status, reply.text());
        HttpError::Protocol { address: direct, reason }
    })
}

/// Reads `/metrics`.
///
/// # Errors
/// When it does not answer within `limit`, or not with success.
pub async fn metrics(
    direct: SocketAddr,
    limit: Duration,
) -> Result<BTreeMap<String, f64>, HttpError> {
    let reply = request(direct, Method::GET, "/metrics", None, limit).await?;
    if reply.status != StatusCode::OK {
        let reason = format!("/metrics answered {}", reply.status);
        return Err(HttpError::Protocol { address: direct, reason });
    }
    Ok(parse_metrics(&reply.text()))
}

/// Reads the distributed configuration of the database under test.
///
/// # Errors
/// When it does not answer within `limit`, or not with that document.
pub async fn configuration(
    direct: SocketAddr,
    password: &str,
    limit: Duration,
) -> Result<Value, HttpError> {
    let reply = request_as(direct, Some(password), Method::GET, DOCUMENT, None, limit).await?;
    let document = serde_json::from_slice(&reply.body).ok().filter(Value::is_object);
    document.filter(|_| reply.status == StatusCode::OK).ok_or_else(|| {
        let reason = format!("{DOCUMENT} answered {}: {}", reply.status, reply.text());
        HttpError::Protocol { address: direct, reason }
    })
}

/// Puts a changed document back; any status is a reply.
///
/// # Errors
/// When it does not answer within `limit`.
pub async fn reconfigure(
    direct: SocketAddr,
    password: &str,
    document: &Value,
    limit: Duration,
) -> Result<Reply, HttpError> {
    let body = Some(document.to_string().into_bytes());
    request_as(direct, Some(password), Method::PUT, DOCUMENT, body, limit).await
}

/// Prometheus text: one value per name with labels. Comments and lines without a number are left
/// out, time stamps ignored. Not-a-number and infinity have no place in JSON and are left out too.
#[must_use]
pub fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(String, f64)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    // Label values may contain spaces, so the name ends at the last bracket if there is one.
    let end = line.rfind('}').map(|at| at + 1).or_else(|| line.find(' '))?;
    let (name, rest) = line.split_at(end);
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    value.is_finite().then(|| (name.to_string(), value))
}

/// The value of a label in a name with labels.
#[must_use]
pub fn label<'a>(name: &'a str, label: &str) -> Option<&'a str> {
    let labels = name.split_once('{')?.1.strip_suffix('}')?;
    let mut rest = labels;
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        if key.trim_start_matches(',').trim() == label {
            return Some(value);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_labels() {
        let text = "# HELP x y\nup 1\nquorate_link_bytes_total{link=\"n1->n2\",end=\"dialer\"} 42 \
                    1700000000\nbad{a=\"b\"} NaN\nempty\n";
        let metrics = parse_metrics(text);
        assert_eq!(metrics.len(), 2);
        assert_eq!(metrics["up"], 1.0);
        let (name, value) = metrics.iter().next().unwrap();
        assert_eq!(*value, 42.0);
        assert_eq!(label(name, "link"), Some("n1->n2"));
        assert_eq!(label(name, "end"), Some("dialer"));
        assert_eq!(label(name, "direction"), None);
    }

    #[test]
    fn a_first_line_of_a_standalone_server_has_no_peer_port() {
        let line = r#"{"http":"127.0.0.1:1","node_id":"ab","boot":3}"#;
        assert_eq!(Announcement::parse("n1", line).unwrap().peer, None);
        let error = Announcement::parse("n1", "panicked").unwrap_err().to_string();
        assert!(error.contains("panicked"), "{error}");
    }
}
