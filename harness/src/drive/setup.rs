//! Making the database and its class before anything is recorded: a few plain blocking requests.
//! Asks again until a server has done it, since creating what exists is harmless; only here.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::drive::reply::{Frame, frame};
use crate::drive::request::{CLASS, DATABASE, authorization};

/// How long all attempts together may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one attempt may take: a schema change waits for every MASTER.
const ATTEMPT: Duration = Duration::from_secs(20);
/// Rest between attempts.
const REST: Duration = Duration::from_millis(200);

/// Why the database could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The server could not be talked to.
    #[error("{what}: {source}")]
    Io {
        /// The request.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server refused.
    #[error("{what}: status {status}: {body}")]
    Refused {
        /// The request.
        what: String,
        /// HTTP status of the last reply.
        status: u16,
        /// Beginning of its body.
        body: String,
    },
}

/// Creates the database with this write quorum, and the class, through the servers in turn.
pub(crate) fn create_database(
    addrs: &[SocketAddr],
    password: &str,
    write_quorum: &str,
) -> Result<(), SetupError> {
    // A number stays a number; words are texts.
    let quorum = write_quorum
        .parse::<u32>()
        .map_or_else(|_| serde_json::Value::from(write_quorum), serde_json::Value::from);
    let body = serde_json::json!({ "writeQuorum": quorum }).to_string();
    let path = format!("/database/{DATABASE}/plocal");
    insist(addrs, password, ("POST", &path), &body, |status, _| status == 409)?;
    let path = format!("/class/{DATABASE}/{CLASS}");
    insist(addrs, password, ("POST", &path), "", |_, body| body.contains("\"class_exists\""))
}

/// Waits until each of these servers has the class: they learn of it a moment after it is there.
pub(crate) fn await_class(addrs: &[SocketAddr], password: &str) -> Result<(), SetupError> {
    let path = format!("/class/{DATABASE}/{CLASS}");
    addrs.iter().try_for_each(|addr| insist(&[*addr], password, ("GET", &path), "", |_, _| false))
}

/// Asks one server after the other until one says yes, or that it `exists` already.
fn insist(
    addrs: &[SocketAddr],
    password: &str,
    (method, path): (&str, &str),
    body: &str,
    exists: impl Fn(u16, &str) -> bool,
) -> Result<(), SetupError> {
    let what = || format!("{method} {path}");
    let begun = Instant::now();
    let mut last = io::Error::other("no server to ask");
    let mut refused = None;
    for addr in addrs.iter().cycle() {
        match ask(*addr, password, (method, path), body) {
            Ok((status, reply)) if (200..300).contains(&status) || exists(status, &reply) => {
                return Ok(());
            }
            Ok(reply) => refused = Some(reply),
            Err(error) => {
                refused = None;
                last = error;
            }
        }
        if begun.elapsed() >= PATIENCE {
            break;
        }
        std::thread::sleep(REST);
    }
    Err(match refused {
        Some((status, body)) => {
            let body = body.chars().take(300).collect();
            SetupError::Refused { what: what(), status, body }
        }
        None => SetupError::Io { what: what(), source: last },
    })
}

fn ask(
    addr: SocketAddr,
    password: &str,
    (method, path): (&str, &str),
    body: &str,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    stream.set_write_timeout(Some(ATTEMPT))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: quorate\r\n{}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        authorization(password),
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk)?;
        reply.extend_from_slice(&chunk[..n]);
        match frame(&reply) {
            Frame::Whole { status, body, .. } => {
                return Ok((status, String::from_utf8_lossy(&reply[body]).into_owned()));
            }
            Frame::Partial if n > 0 => {}
            Frame::Partial | Frame::Malformed => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "no HTTP reply"));
            }
        }
    }
}
