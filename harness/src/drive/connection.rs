//! One keep-alive HTTP/1.1 connection: at most one request on it, never blocking.
//! Knows bytes and times; what a reply means is judged in `reply.rs`, when to wait in `wake.rs`.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use quorate_check::history::Nanos;

use crate::drive::reply::{Answer, ClientFault, Frame, frame, judge};
use crate::drive::request::Call;
use crate::run::parts::Clock;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The handshake is under way; an operation may be waiting for its end.
    Connecting,
    /// Connected: idle without a call, busy with one.
    Open,
}

/// The operation on a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    pub(crate) call: Call,
    /// When the driver took it up; the client's timeout counts from here.
    pub(crate) begun: Nanos,
    /// Just before its first byte was written; `None` while still connecting.
    pub(crate) sent: Option<Nanos>,
}

/// What a look at the socket brought.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Nothing that ends the operation.
    None,
    /// The operation is over at this time; the connection can be used again.
    Done(Answer, Nanos),
    /// The connection is of no further use; an operation on it, if any, ends so.
    Closed(Option<(Answer, Nanos)>),
}

/// A connection to one server.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    stage: Stage,
    pub(crate) node: u32,
    pub(crate) pending: Option<Pending>,
    /// The request, and how much of it the kernel has taken.
    pub(crate) request: Vec<u8>,
    written: usize,
    /// The beginning of a reply that did not come in one piece.
    partial: Vec<u8>,
}

impl Connection {
    /// Begins to connect. An error here is the server's refusal.
    pub(crate) fn open(
        addr: SocketAddr,
        node: u32,
        token: Token,
        registry: &Registry,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(addr)?;
        // Requests are written whole; waiting for more to send would only delay them.
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            stage: Stage::Connecting,
            node,
            pending: None,
            request: Vec::new(),
            written: 0,
            partial: Vec::new(),
        })
    }

    /// Where the connection stands.
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Takes note of a writable socket: the end of the handshake, or room for more bytes.
    pub(crate) fn on_writable(&mut self, clock: Clock) -> Progress {
        if self.stage == Stage::Connecting {
            let refused = match self.stream.take_error() {
                Ok(None) => self.stream.peer_addr().err(),
                Ok(Some(error)) | Err(error) => Some(error),
            };
            match refused {
                Some(error) if error.kind() == io::ErrorKind::NotConnected => {
                    return Progress::None;
                }
                Some(_) => return self.closed(ClientFault::ConnectRefused, clock),
                None => self.stage = Stage::Open,
            }
        }
        match self.pending {
            Some(pending) if self.written < self.request.len() => {
                self.write(pending.sent.unwrap_or_else(|| clock.now()), clock)
            }
            Some(_) | None => Progress::None,
        }
    }

    /// Puts an operation on the connection; its request must already be in `request`. It is
    /// written at once, with `now` as its time, or when the handshake ends.
    pub(crate) fn start(&mut self, call: Call, now: Nanos, clock: Clock) -> Progress {
        self.written = 0;
        self.pending = Some(Pending { call, begun: now, sent: None });
        match self.stage {
            Stage::Connecting => Progress::None,
            Stage::Open => self.write(now, clock),
        }
    }

    fn write(&mut self, now: Nanos, clock: Clock) -> Progress {
        while self.written < self.request.len() {
            match self.stream.write(&self.request[self.written..]) {
                Ok(0) => return self.lost(clock),
                Ok(n) => {
                    self.written += n;
                    if let Some(pending) = &mut self.pending {
                        pending.sent.get_or_insert(now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.lost(clock),
            }
        }
        Progress::None
    }

    /// Reads what there is. `buffer` is shared by all connections and holds nothing between calls.
    pub(crate) fn on_readable(
        &mut self,
        buffer: &mut [u8],
        hang_up: bool,
        clock: Clock,
    ) -> Progress {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return self.lost(clock),
                Ok(n) => {
                    // A short read means that the socket is drained, which saves asking again;
                    // unless the other side has hung up, when only the end tells the whole story.
                    let drained = n < buffer.len() && !hang_up;
                    match self.take_in(&buffer[..n], clock) {
                        Progress::None if drained => return Progress::None,
                        Progress::None => {}
                        Progress::Done(answer, at) if hang_up => {
                            return Progress::Closed(Some((answer, at)));
                        }
                        other @ (Progress::Done(..) | Progress::Closed(_)) => return other,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.lost(clock),
            }
        }
    }

    fn take_in(&mut self, bytes: &[u8], clock: Clock) -> Progress {
        let Some(pending) = self.pending.filter(|pending| pending.sent.is_some()) else {
            // Bytes nobody asked for: whatever they are, the next reply could not be trusted.
            return self.lost(clock);
        };
        let whole: &[u8] = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            &self.partial
        };
        match frame(whole) {
            Frame::Partial => {
                if self.partial.is_empty() {
                    self.partial.extend_from_slice(bytes);
                }
                Progress::None
            }
            Frame::Malformed => self.closed(ClientFault::MalformedReply, clock),
            Frame::Whole { status, body, close } => {
                let done = clock.now();
                // Neither more bytes than the reply has, nor a reply to half a request, leaves the
                // connection in a state to rely on.
                let surplus = body.end < whole.len() || self.written < self.request.len();
                let answer = judge(pending.call.class, status, &whole[body]);
                self.partial.clear();
                if close || surplus {
                    Progress::Closed(Some((answer, done)))
                } else {
                    Progress::Done(answer, done)
                }
            }
        }
    }

    /// The connection broke: what that proves depends on whether a byte was ever sent.
    fn lost(&mut self, clock: Clock) -> Progress {
        let fault = match (self.stage, self.pending.and_then(|pending| pending.sent)) {
            (Stage::Connecting, _) => ClientFault::ConnectRefused,
            (Stage::Open, None) => ClientFault::NotSent,
            (Stage::Open, Some(_)) => ClientFault::ConnectionLost,
        };
        self.closed(fault, clock)
    }

    fn closed(&mut self, fault: ClientFault, clock: Clock) -> Progress {
        Progress::Closed(self.pending.map(|_| (fault.answer(), clock.now())))
    }
}
