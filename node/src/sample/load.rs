//! Puts the sample into a new database of a running server, as any client would: over HTTP, the
//! vertices in one transaction, the edges a statement each. May not know what the graph is like.

use std::fmt::Write as _;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Graph, Song};

/// Before what a server asks to be repeated is repeated, and how often at most: a server does not
/// say when it can do it.
const PAUSE: Duration = Duration::from_millis(200);
const TRIES: u32 = 50;

/// Why the sample is not there, or only a part of it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server cannot be reached.
    #[error("server {address}: {source}")]
    Unreachable {
        /// Where.
        address: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The conversation broke.
    #[error("server {address}: {source}")]
    Broken {
        /// Where.
        address: String,
        /// What went wrong.
        source: hyper::Error,
    },
    /// The name cannot stand in a request.
    #[error("database '{0}' is no name that a request can have")]
    Name(String),
    /// The server refuses a request.
    #[error("{what}: {status}: {text}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its status.
        status: StatusCode,
        /// Its words.
        text: String,
    },
}

/// Makes a database at a server and fills it; gives the graph that is in it.
///
/// # Errors
/// There is one of this name, or the server refuses, or cannot be reached. What was made until then
/// stays; the database can be dropped.
pub async fn load(address: &str, database: &str, password: &str) -> Result<Graph, LoadError> {
    let graph = Graph::generate();
    let mut client = Client::connect(address, database, password).await?;
    client.post(&format!("/database/{database}/plocal"), String::new()).await?;
    for statement in [
        "CREATE CLASS song EXTENDS V",
        "CREATE CLASS artist EXTENDS V",
        "CREATE CLASS followed_by EXTENDS E",
        "CREATE CLASS written_by EXTENDS E",
        "CREATE CLASS sung_by EXTENDS E",
        "CREATE INDEX song.name UNIQUE",
        "CREATE INDEX artist.name UNIQUE",
    ] {
        client.sql(statement).await?;
    }
    client.post(&format!("/batch/{database}"), vertices(&graph).to_string()).await?;
    for statement in edges(&graph) {
        client.sql(&statement).await?;
    }
    Ok(graph)
}

fn vertices(graph: &Graph) -> Value {
    let create = |record: Value| json!({"type": "c", "record": record});
    let artists = graph.artists.iter().map(|name| json!({"@class": "artist", "name": name}));
    let songs = graph.songs.iter().map(|song| {
        let Song { name, kind, performances, .. } = song;
        json!({"@class": "song", "name": name, "song_type": kind, "performances": performances})
    });
    let operations: Vec<Value> = artists.chain(songs).map(create).collect();
    json!({"transaction": true, "operations": operations})
}

/// A statement an edge; names have no quotes in them.
fn edges(graph: &Graph) -> Vec<String> {
    let vertex = |class: &str, name: &str| format!("(SELECT FROM {class} WHERE name = '{name}')");
    let mut statements = Vec::new();
    for song in &graph.songs {
        let from = vertex("song", &song.name);
        for (class, place) in [("written_by", song.written_by), ("sung_by", song.sung_by)] {
            let to = vertex("artist", &graph.artists[place]);
            statements.push(format!("CREATE EDGE {class} FROM {from} TO {to}"));
        }
        for (place, weight) in &song.followed_by {
            let to = vertex("song", &graph.songs[*place].name);
            let set = format!("SET weight = {weight}");
            statements.push(format!("CREATE EDGE followed_by FROM {from} TO {to} {set}"));
        }
    }
    statements
}

/// One connection to a server.
struct Client {
    address: String,
    database: String,
    authorization: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    async fn connect(address: &str, database: &str, password: &str) -> Result<Self, LoadError> {
        let address = address.to_owned();
        let unreachable = |source| LoadError::Unreachable { address: address.clone(), source };
        let stream = TcpStream::connect(&address).await.map_err(unreachable)?;
        let broken = |source| LoadError::Broken { address: address.clone(), source };
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // What breaks it is told to whoever waits for an answer.
        tokio::spawn(connection);
        let mut authorization = "Basic ".to_owned();
        STANDARD.encode_string(format!("root:{password}"), &mut authorization);
        Ok(Self { address, database: database.to_owned(), authorization, sender })
    }

    async fn sql(&mut self, statement: &str) -> Result<(), LoadError> {
        self.post(&format!("/command/{}/sql", self.database), statement.to_owned()).await
    }

    /// Sends a request until it is done, as long as the server says that it was not and can be.
    async fn post(&mut self, path: &str, body: String) -> Result<(), LoadError> {
        let body = Bytes::from(body);
        for _ in 1..TRIES {
            match self.send(path, body.clone()).await? {
                (status, _) if status.is_success() => return Ok(()),
                (_, answer) if is_retryable(&answer) => tokio::time::sleep(PAUSE).await,
                refused => return Err(refusal(path, &body, refused)),
            }
        }
        match self.send(path, body.clone()).await? {
            (status, _) if status.is_success() => Ok(()),
            refused => Err(refusal(path, &body, refused)),
        }
    }

    async fn send(&mut self, path: &str, body: Bytes) -> Result<(StatusCode, Value), LoadError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, &self.address)
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| LoadError::Name(self.database.clone()))?;
        let broken = |source| LoadError::Broken { address: self.address.clone(), source };
        self.sender.ready().await.map_err(broken)?;
        let answer = self.sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

/// It did not happen, and the same request can succeed.
fn is_retryable(answer: &Value) -> bool {
    let error = &answer["errors"][0];
    error["outcome"] == "failed" && error["retryable"] == true
}

fn refusal(path: &str, body: &Bytes, (status, answer): (StatusCode, Value)) -> LoadError {
    let mut what = path.to_owned();
    if let Ok(text) = std::str::from_utf8(body)
        && text.len() < 200
    {
        // Writing to a string cannot fail.
        write!(what, " {text}").ok();
    }
    let text = answer["errors"][0]["content"].as_str().unwrap_or("no reason given").to_owned();
    LoadError::Refused { what, status, text }
}
