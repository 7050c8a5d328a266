//! A server that does next to nothing, for measuring and testing the driver alone.
//! Speaks as much of the node's HTTP contract as the driver uses, from a table in memory, on one
//! thread. Not a database: no quorum, no disk, no login. Always built, since the driver's own
//! limits on a machine are found with it, and a figure without them is worth little.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use quorate_check::history::Nanos;
use serde::Deserialize;
use socket2::{Domain, Socket, Type};

use crate::run::parts::Clock;

const LISTENER: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
const EVENTS: usize = 512;
const READ_BYTES: usize = 64 * 1024;

/// A time during which the server does not touch its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// When it begins.
    pub from: Nanos,
    /// When it ends.
    pub to: Nanos,
}

/// What the server did, once it has stopped.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// Requests answered.
    pub requests: u64,
    /// The outage as it really was, a little later and longer than planned.
    pub outage: Option<Outage>,
    /// CPU seconds of the server's thread.
    pub cpu_seconds: f64,
}

/// A running null server; stops when dropped.
#[derive(Debug)]
pub struct NullServer {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<io::Result<Served>>>,
}

impl NullServer {
    /// Starts one on a free loopback port. During `planned` it stands still, like a stopped
    /// process: the kernel goes on taking connections and bytes.
    ///
    /// # Errors
    /// When the system gives no socket or thread.
    pub fn start(clock: Clock, planned: Option<Outage>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = listen()?;
        let addr = listener.local_addr()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let stop = Arc::new(AtomicBool::new(false));
        let mut server = Server {
            poll,
            listener,
            clients: HashMap::new(),
            next: 0,
            store: Store::default(),
            clock,
            planned,
            served: Served::default(),
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("null-server".to_owned())
            .spawn(move || server.serve(&stopped))?;
        Ok(Self { addr, stop, waker, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops it and says what it did.
    ///
    /// # Errors
    /// When its loop had failed.
    pub fn stop(mut self) -> io::Result<Served> {
        self.end()
    }

    fn end(&mut self) -> io::Result<Served> {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake()?;
        let Some(thread) = self.thread.take() else {
            return Ok(Served::default());
        };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the null server panicked")))
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        if self.thread.is_some()
            && let Err(error) = self.end()
        {
            tracing::warn!(%error, "the null server failed");
        }
    }
}

/// The usual backlog of 128 would be full in the first moments of an outage, and connections
/// beyond it are tried again by the kernel only after a whole second.
fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

#[derive(Debug)]
struct Server {
    poll: Poll,
    listener: TcpListener,
    clients: HashMap<usize, Peer>,
    next: usize,
    store: Store,
    clock: Clock,
    planned: Option<Outage>,
    served: Served,
}

#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    partial: Vec<u8>,
}

impl Server {
    fn serve(&mut self, stop: &AtomicBool) -> io::Result<Served> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; READ_BYTES];
        let mut reply = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, Some(Duration::from_millis(2))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            self.stand_still();
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    WAKER => {}
                    Token(index) => {
                        if self.answer(index, &mut buffer, &mut reply).is_err() {
                            self.clients.remove(&index);
                        }
                    }
                }
            }
        }
        self.served.cpu_seconds = super::cpu::thread_ns() as f64 / 1e9;
        Ok(self.served.clone())
    }

    fn stand_still(&mut self) {
        let from = self.clock.now();
        let Some(planned) = self.planned.filter(|planned| from >= planned.from) else {
            return;
        };
        self.planned = None;
        std::thread::sleep(Duration::from_nanos(planned.to - planned.from));
        self.served.outage = Some(Outage { from, to: self.clock.now() });
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let token = Token(self.next);
                    self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    self.clients.insert(self.next, Peer { stream, partial: Vec::new() });
                    self.next += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads and answers what a client has sent. An error means that the client is gone.
    fn answer(&mut self, index: usize, buffer: &mut [u8], reply: &mut Vec<u8>) -> io::Result<()> {
        let Some(peer) = self.clients.get_mut(&index) else {
            return Ok(());
        };
        loop {
            let n = match peer.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let whole: &[u8] = if peer.partial.is_empty() {
                &buffer[..n]
            } else {
                peer.partial.extend_from_slice(&buffer[..n]);
                &peer.partial
            };
            match respond(whole, &mut self.store, reply)? {
                // Replies are far smaller than a socket's buffer, so they go out in one piece.
                true => {
                    peer.stream.write_all(reply)?;
                    peer.partial.clear();
                    self.served.requests += 1;
                }
                false if peer.partial.is_empty() => peer.partial.extend_from_slice(&buffer[..n]),
                false => {}
            }
            if n < buffer.len() {
                return Ok(());
            }
        }
    }
}

/// The records: position in record cluster 12 → value and version; the value is `Err` with the
/// tombstone's id once deleted.
#[derive(Debug, Default)]
struct Store {
    records: Vec<(u64, Result<u64, u64>, u64)>,
}

#[derive(Deserialize)]
struct Posted {
    k: u64,
    v: u64,
    #[serde(rename = "@version")]
    version: Option<u64>,
}

/// Answers the one request in `data` into `reply`; false when it is not complete yet.
fn respond(data: &[u8], store: &mut Store, reply: &mut Vec<u8>) -> io::Result<bool> {
    let invalid = || io::Error::from(ErrorKind::InvalidData);
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(data).map_err(|_| invalid())? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return Ok(false),
    };
    let header = |name: &str| {
        let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<u64>().ok())
    };
    let length = header("content-length").unwrap_or(0) as usize;
    let Some(body) = data.get(head..head + length) else {
        return Ok(false);
    };
    let (method, path) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    reply.clear();
    let Some(record) = path.strip_prefix("/document/bench") else {
        write!(reply, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{}}")?;
        return Ok(true);
    };
    let position = record.strip_prefix("/12:").and_then(|text| text.parse::<usize>().ok());
    let posted = || serde_json::from_slice::<Posted>(body).map_err(|_| invalid());
    match (method, position) {
        ("POST", None) => {
            let Posted { k, v, .. } = posted()?;
            store.records.push((k, Ok(v), 1));
            store.show("201 Created", store.records.len() - 1, reply)?;
        }
        ("GET", Some(position)) => store.show("200 OK", position, reply)?,
        ("PUT", Some(position)) => store.put(position, &posted()?, reply)?,
        ("DELETE", Some(position)) => {
            if let Some(row) = store.records.get_mut(position) {
                row.1 = Err(header("x-quorate-tombstone-id").unwrap_or(0));
            }
            write!(reply, "HTTP/1.1 204 No Content\r\n\r\n")?;
        }
        _ => return Err(invalid()),
    }
    Ok(true)
}

impl Store {
    fn put(&mut self, position: usize, posted: &Posted, reply: &mut Vec<u8>) -> io::Result<()> {
        match self.records.get_mut(position) {
            Some((_, Ok(_), version)) if posted.version.is_some_and(|base| base != *version) => {
                error(reply, "409 Conflict", "version_conflict", None)
            }
            Some((_, value @ Ok(_), version)) => {
                *value = Ok(posted.v);
                *version += 1;
                self.show("200 OK", position, reply)
            }
            Some(_) | None => self.show("200 OK", position, reply),
        }
    }

    fn show(&self, status: &str, position: usize, reply: &mut Vec<u8>) -> io::Result<()> {
        let (k, v, version) = match self.records.get(position) {
            Some((k, Ok(v), version)) => (k, v, version),
            Some((_, Err(tombstone), _)) => {
                return error(reply, "404 Not Found", "not_found", Some(*tombstone));
            }
            None => return error(reply, "404 Not Found", "not_found", None),
        };
        // The length is written before the body is known, in as many digits as it can need.
        write!(reply, "HTTP/1.1 {status}\r\nETag: {version}\r\nContent-Length: 000\r\n\r\n")?;
        let body = reply.len();
        write!(
            reply,
            "{{\"@type\":\"d\",\"@rid\":\"#12:{position}\",\"@version\":{version},\
             \"@class\":\"Item\",\"k\":{k},\"v\":{v},\"pad\":\"xxxxxxxxxxxxxxxx\"}}"
        )?;
        let length = reply.len() - body;
        debug_assert!(length < 1000);
        write!(&mut reply[body - 7..body - 4], "{length:03}")
    }
}

fn error(reply: &mut Vec<u8>, status: &str, code: &str, tombstone: Option<u64>) -> io::Result<()> {
    let tombstone = tombstone.map_or(String::new(), |id| format!(",\"tombstone\":{id}"));
    let body = format!(
        "{{\"errors\":[{{\"content\":\"null server\",\"errorCode\":\"{code}\",\
         \"outcome\":\"failed\",\"retryable\":false{tombstone}}}]}}"
    );
    write!(reply, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
