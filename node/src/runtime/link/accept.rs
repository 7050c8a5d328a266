//! Takes the links that peers dial and hands their messages to the loop. May not send: answers
//! travel over the link that this server dials.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::io::PersistSeq;
use quorate_protocol::message::Message;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::frame::{self, Decoder, FRAME_MAX, FrameError, Kind};
use super::handshake::{HandshakeError, Hello, Refusal, Talk};
use super::metrics::LinkBytes;
use super::peer::{Direction, Heartbeat, Peer};
use super::{Links, enlist, prepare};
use crate::runtime::inbox::Input;

/// Connections that may be in their handshake; more wait in the system's queue.
const HANDSHAKES_MAX: usize = 64;
/// Longest handshake: a stranger that says nothing holds a place for no longer.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Longest silence on an open link; heartbeats come every 50 ms.
const SILENCE: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection (out of file descriptors), so that the loop does not
/// spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A message as it arrives, with what travels beside it.
#[derive(Deserialize)]
pub(crate) struct Envelope {
    cfg: u64,
    durable: PersistSeq,
    message: Message,
}

/// Why an open link ended.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("malformed data: {0}")]
    Frame(#[from] FrameError),
    #[error("closed by the other side")]
    Closed,
    #[error("silent for too long")]
    Silent,
    #[error("replaced by a newer link or boot")]
    Replaced,
}

/// Accepts for ever.
pub(super) async fn listen(links: Arc<Links>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let links = links.clone();
                connections.spawn(async move {
                    let opened = open(&links, stream, from).await;
                    drop(place);
                    if let Some((link, stream)) = opened {
                        serve(&links, link, stream).await;
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a link");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// A link that a peer has dialed.
struct Opened {
    peer: Arc<Peer>,
    hello: Hello,
    /// What both ends speak.
    version: u16,
    /// With what the peer sent behind its proof.
    decoder: Decoder,
}

async fn open(
    links: &Arc<Links>,
    mut stream: TcpStream,
    from: SocketAddr,
) -> Option<(Opened, TcpStream)> {
    // Whose bytes these are is known only when the stranger has introduced itself.
    let (bytes, mut claimed) = (LinkBytes::default(), None);
    let shake = handshake(links, &mut stream, &bytes, &mut claimed);
    let outcome = tokio::time::timeout(HANDSHAKE, shake).await;
    // Refused attempts count too: the proxy in between has seen their bytes.
    let peers = links.peers();
    if let Some(peer) = claimed.and_then(|name: String| peers.get(&name)) {
        peer.in_bytes.add(&bytes);
    }
    match outcome {
        Ok(Ok(Some(opened))) => {
            tracing::debug!(peer = %opened.hello, version = opened.version, "peer linked");
            Some((opened, stream))
        }
        Ok(Ok(None)) => None,
        Ok(Err(error)) => {
            tracing::warn!(%from, reason = %error, "link refused");
            None
        }
        Err(_) => {
            tracing::warn!(%from, "link refused: no handshake in time");
            None
        }
    }
}

/// `None`: it did not want a link, but to join, and was answered.
async fn handshake(
    links: &Arc<Links>,
    stream: &mut TcpStream,
    bytes: &LinkBytes,
    claimed: &mut Option<String>,
) -> Result<Option<Opened>, HandshakeError> {
    prepare(stream)?;
    let mut talk = Talk::new(stream, bytes, links.versions());
    let own = match links.hello("") {
        Ok(own) => own,
        Err(_) => return Err(talk.refuse(Refusal::Unavailable).await),
    };
    let answered = talk.answer(own, &links.credentials).await;
    *claimed = talk.take_claimed();
    let (hello, proof) = answered?;
    if hello.to.is_empty() {
        talk.accept(&proof).await?;
        enlist::answer(links, &mut talk, &hello).await?;
        return Ok(None);
    }
    match links.admit(hello.clone()).await {
        Ok(peer) => {
            talk.accept(&proof).await?;
            let version = talk.version();
            Ok(Some(Opened { peer, hello, version, decoder: talk.into_decoder() }))
        }
        Err(refusal) => {
            // Believed only from who has proved to know the password.
            if refusal.is_dismissal() {
                talk.accept(&proof).await?;
            }
            Err(talk.refuse(refusal).await)
        }
    }
}

async fn serve(links: &Links, link: Opened, mut stream: TcpStream) {
    let Opened { peer, hello, version, mut decoder } = link;
    let number = peer.next_inward();
    let mut current = peer.current();
    let now = links.clock.now();
    peer.link_up(Direction::In, now);
    peer.heartbeat(now);
    let error = tokio::select! {
        error = read(links, (&peer, &hello, version), &mut stream, &mut decoder) => error,
        _ = current.wait_for(|c| {
            c.boot > hello.boot || c.inward > number || c.retired
        }) => ReadError::Replaced,
    };
    if peer.is_always_linked() {
        tracing::info!(peer = peer.name, reason = %error, "peer's link ended");
    }
    peer.link_down(Direction::In, number, links.clock.now());
}

async fn read(
    links: &Links,
    (peer, hello, version): (&Peer, &Hello, u16),
    stream: &mut TcpStream,
    decoder: &mut Decoder,
) -> ReadError {
    let mut batch = Vec::new();
    loop {
        let bytes = match frames(links, (peer, hello, version), decoder, &mut batch) {
            Ok(bytes) => bytes,
            Err(error) => return error.into(),
        };
        if !batch.is_empty() {
            links.inbox.push_messages(&mut batch, bytes).await;
        }
        match tokio::time::timeout(SILENCE, stream.read_buf(decoder.space())).await {
            Ok(Ok(0)) => return ReadError::Closed,
            Ok(Ok(count)) => peer.in_bytes.add_received(count),
            Ok(Err(error)) => return error.into(),
            Err(_) => return ReadError::Silent,
        }
    }
}

/// Takes all complete frames; returns the bytes of those put into the batch.
fn frames(
    links: &Links,
    (peer, hello, version): (&Peer, &Hello, u16),
    decoder: &mut Decoder,
    batch: &mut Vec<Input>,
) -> Result<usize, FrameError> {
    let (mut bytes, mut durable) = (0, 0);
    while let Some((kind, body)) = decoder.next(FRAME_MAX)? {
        match kind {
            Kind::Message | Kind::Packed => {
                let envelope: Envelope = if kind == Kind::Packed {
                    peer.in_bytes.add_packed(body.len());
                    frame::unpack(body)?
                } else {
                    frame::decode(body)?
                };
                bytes += body.len();
                durable = durable.max(envelope.durable);
                let (from, boot) = (hello.node, hello.boot);
                let Envelope { cfg, message, .. } = envelope;
                batch.push(Input::Message { from, boot, cfg, message });
            }
            Kind::Control => {
                bytes += body.len();
                let (from, boot) = (hello.node, hello.boot);
                batch.push(Input::Control { from, boot, bytes: frame::decode(body)? });
            }
            Kind::Heartbeat => {
                let heartbeat = Heartbeat::decode(body, version)?;
                peer.heard(heartbeat, hello.boot, links.clock.now());
            }
            Kind::Hello
            | Kind::Welcome
            | Kind::Proof
            | Kind::Accepted
            | Kind::Refused
            | Kind::Enlist
            | Kind::Enlisted => {
                return Err(FrameError::Turn(kind));
            }
        }
    }
    if durable > 0 {
        peer.saw_durable((hello.boot, durable));
    }
    Ok(bytes)
}
