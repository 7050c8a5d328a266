//! One connection through a link: dialling, the two directions, and how it ends.
//! May not know what the rules mean for bytes; that is the pump's part.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::counters::StreamCounters;
use super::pump::{End, Pump, SILENT_BYTES_MAX};
use super::{Ending, LinkPath, Rules};
use crate::model::Stream;
use crate::stages::{Naming, Pipeline};

/// What one read from an end that is kept may bring.
const KEPT_READ_BYTES: usize = 16 * 1024;

/// How long a node may take to accept; the client is reset after that.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Counts a connection as open for as long as it lives, panics included.
struct OpenGuard(Arc<LinkPath>);

impl OpenGuard {
    fn new(link: &Arc<LinkPath>) -> Self {
        link.open.send_modify(|open| *open += 1);
        Self(Arc::clone(link))
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// Counts a connection as waiting to be dialled.
struct WaitingGuard<'a>(&'a LinkPath);

impl<'a> WaitingGuard<'a> {
    fn new(link: &'a LinkPath) -> Self {
        link.counters.waiting.fetch_add(1, Relaxed);
        Self(link)
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.counters.waiting.fetch_sub(1, Relaxed);
    }
}

/// Counts an end as kept by a half-open cut.
struct KeptGuard<'a>(&'a LinkPath);

impl<'a> KeptGuard<'a> {
    fn new(link: &'a LinkPath) -> Self {
        link.counters.half_open.fetch_add(1, Relaxed);
        Self(link)
    }
}

impl Drop for KeptGuard<'_> {
    fn drop(&mut self) {
        self.0.counters.half_open.fetch_sub(1, Relaxed);
    }
}

/// A connection taken from the kernel and not yet joined to its node.
pub(super) struct Accepted {
    link: Arc<LinkPath>,
    client: TcpStream,
    place: OwnedSemaphorePermit,
    open: OpenGuard,
    /// Index on the link, in the order of accepting.
    index: u64,
    /// Rules when it was accepted; `None` when the link was going away at that moment.
    rules: Option<Arc<Rules>>,
}

/// Why a connection was not joined to its node.
enum NotJoined {
    /// The rules ended it.
    Ended(Ending),
    /// The node could not be dialled.
    Unreachable(std::io::Error),
    /// The client left while it waited, without having said anything.
    Abandoned,
}

impl Accepted {
    pub(super) fn new(link: Arc<LinkPath>, client: TcpStream, place: OwnedSemaphorePermit) -> Self {
        let index = link.next_connection.fetch_add(1, Relaxed);
        let rules = link.rules().filter(|rules| rules.listening);
        Self { open: OpenGuard::new(&link), link, client, place, index, rules }
    }

    /// Carries the connection to its end.
    pub(super) async fn run(self) {
        let Self { link, mut client, place, open, index, rules } = self;
        let dialled = match &rules {
            Some(rules) => dial(&link, &client, rules.generation).await,
            None => Err(NotJoined::Ended(Ending::Reset)),
        };
        drop(place);
        match (dialled, rules) {
            (Ok(mut node), Some(rules)) => {
                let sockets = (&mut client, &mut node);
                let end = join(&link, index, rules.generation, sockets).await;
                if end != Ending::Close {
                    link.counters.reset.fetch_add(1, Relaxed);
                }
                match end {
                    Ending::Close => {}
                    Ending::Reset => {
                        abort(&link, &client);
                        abort(&link, &node);
                    }
                    Ending::HalfOpen(stream) => {
                        let (kept, gone) = match stream {
                            Stream::Upstream => (client, node),
                            Stream::Downstream => (node, client),
                        };
                        abort(&link, &gone);
                        drop(gone);
                        return keep(&link, stream, kept, open).await;
                    }
                }
            }
            (Err(NotJoined::Abandoned), _) => {}
            (Err(NotJoined::Ended(Ending::Close)), _) => {}
            (Err(NotJoined::Ended(Ending::HalfOpen(Stream::Upstream))), _) => {
                return keep(&link, Stream::Upstream, client, open).await;
            }
            (Err(reason), _) => {
                if let NotJoined::Unreachable(error) = reason {
                    tracing::warn!(link = %link.name, %error, "node cannot be reached");
                }
                link.counters.refused.fetch_add(1, Relaxed);
                abort(&link, &client);
            }
            (Ok(_), None) => {}
        }
        // The sockets close before the connection stops counting as open.
        drop(client);
        drop(open);
    }
}

/// Keeps the end of whoever sends in `stream`, takes a little from it and answers nothing, until
/// the cut is over. Then it is reset, as by a peer that has never heard of the connection.
async fn keep(link: &LinkPath, stream: Stream, mut end: TcpStream, open: OpenGuard) {
    let kept = KeptGuard::new(link);
    // Half a connection is none: who waits for the ends of connections need not wait for it.
    drop(open);
    let counters = &link.counters.streams[stream.index()];
    let mut changes = link.changes.subscribe();
    let mut buffer = vec![0; KEPT_READ_BYTES];
    let (mut held, mut ended) = (0, false);
    while link.rules().is_some_and(|rules| rules.ending == Ending::HalfOpen(stream)) {
        tokio::select! {
            biased;
            changed = changes.changed() => {
                if changed.is_err() {
                    break;
                }
            }
            read = end.read(&mut buffer), if !ended && held < SILENT_BYTES_MAX => match read {
                // The end of the stream gets no answer either.
                Ok(0) => ended = true,
                Ok(count) => {
                    StreamCounters::add(&counters.received, count);
                    held += count;
                }
                Err(_) => break,
            },
        }
    }
    StreamCounters::add(&counters.discarded, held);
    abort(link, &end);
    drop(end);
    drop(kept);
}

/// Makes the close that follows a reset. On a socket the peer has reset already it fails, and
/// there is nothing left to do.
fn abort(link: &LinkPath, socket: &TcpStream) {
    if let Err(error) = socket.set_zero_linger() {
        tracing::debug!(link = %link.name, %error, "socket was gone before its reset");
    }
}

/// How connections of a generation end, `None` while they may live.
fn doom(link: &LinkPath, generation: u64) -> Option<Ending> {
    match link.rules() {
        None => Some(Ending::Close),
        Some(rules) if rules.generation != generation => Some(rules.ending),
        Some(_) => None,
    }
}

/// Dials the node once no direction is silent: a handshake needs both.
async fn dial(
    link: &LinkPath,
    client: &TcpStream,
    generation: u64,
) -> Result<TcpStream, NotJoined> {
    let mut changes = link.changes.subscribe();
    let waiting = WaitingGuard::new(link);
    let mut waited = false;
    let upstream = loop {
        if let Some(ending) = doom(link, generation) {
            return Err(NotJoined::Ended(ending));
        }
        match link.rules() {
            Some(rules) if rules.silent == [false; 2] => break rules.upstream.clone(),
            _ => waited = true,
        }
        if changes.changed().await.is_err() {
            return Err(NotJoined::Ended(Ending::Close));
        }
    };
    if waited && has_left(client).await {
        return Err(NotJoined::Abandoned);
    }
    drop(waiting);
    let mut connect = pin!(tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(upstream)));
    let connected = loop {
        tokio::select! {
            biased;
            connected = &mut connect => break connected,
            changed = changes.changed() => {
                let ending = doom(link, generation);
                if let Some(ending) = ending.or(changed.is_err().then_some(Ending::Close)) {
                    return Err(NotJoined::Ended(ending));
                }
            }
        }
    };
    let node = connected
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(NotJoined::Unreachable)?;
    // Without this, small requests meet delayed acknowledgements: stalls of 40 ms.
    node.set_nodelay(true).and(client.set_nodelay(true)).map_err(NotJoined::Unreachable)?;
    Ok(node)
}

/// Whether the client closed its side without having sent anything.
async fn has_left(client: &TcpStream) -> bool {
    let mut byte = [0];
    tokio::select! {
        biased;
        peeked = client.peek(&mut byte) => !matches!(peeked, Ok(1..)),
        () = std::future::ready(()) => false,
    }
}

/// Runs both directions until the connection is over, and says how it is to be closed.
async fn join(
    link: &LinkPath,
    index: u64,
    generation: u64,
    (client, node): (&mut TcpStream, &mut TcpStream),
) -> Ending {
    let (client_read, client_write) = client.split();
    let (node_read, node_write) = node.split();
    let (client_broken, node_broken) = (AtomicBool::new(false), AtomicBool::new(false));
    let chain = || {
        let naming = Naming { link: link.name.clone(), connection: index };
        Pipeline::new(naming, link.shared.delay_line_bytes)
    };
    let ends = (client_read, node_write);
    let mut up = Pump::new(link, Stream::Upstream, generation, ends, chain(), &client_broken);
    let ends = (node_read, client_write);
    let mut down = Pump::new(link, Stream::Downstream, generation, ends, chain(), &node_broken);
    let ending = {
        let (mut up, mut down) = (pin!(up.run()), pin!(down.run()));
        let (mut up_done, mut down_done) = (false, false);
        loop {
            // A direction whose receiver is gone leaves the word to the other direction, in
            // which the receiver's reset travels.
            let end = tokio::select! {
                biased;
                end = &mut up, if !up_done => {
                    up_done = true;
                    node_broken.fetch_or(end == End::Broken, Relaxed);
                    end
                }
                end = &mut down, if !down_done => {
                    down_done = true;
                    client_broken.fetch_or(end == End::Broken, Relaxed);
                    end
                }
            };
            match end {
                End::Closed(ending) => break ending,
                End::Fin | End::Broken if !(up_done && down_done) => {}
                End::Fin | End::Broken => {
                    let broken = client_broken.load(Relaxed) || node_broken.load(Relaxed);
                    break if broken { Ending::Reset } else { Ending::Close };
                }
            }
        }
    };
    up.discard_rest();
    down.discard_rest();
    ending
}
