//! Keeps the link that this server dials: connect, handshake, drive the queue, back off, again. May
//! not read messages: they come over the link that the peer dials.

use std::sync::Arc;
use std::time::Duration;

use quorate_api::Boot;
use quorate_control::versions::Versions;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tokio::net::TcpStream;

use super::Links;
use super::frame::{self, Decoder, HANDSHAKE_FRAME_MAX, Kind};
use super::handshake::{self, HandshakeError, Refusal, Talk};
use super::peer::{Direction, Peer};

/// Longest wait for a connection and for the handshake, each.
pub(super) const CONNECT: Duration = Duration::from_millis(500);
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Bounds of the pause before dialing again; doubles from the lower to the upper, with jitter.
const BACK_OFF_MS: (u64, u64) = (20, 500);

/// Why the link is not up, or not any more.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("no answer in time")]
    Timeout,
    #[error("closed by the other side")]
    Closed,
    #[error("the peer has started anew")]
    NewBoot,
    #[error("not needed any more")]
    Idle,
    #[error("data on a link that only carries this server's messages")]
    UnexpectedData,
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

/// Dials for ever, whenever a link is needed.
pub(super) async fn keep(links: Arc<Links>, peer: Arc<Peer>, address: String) {
    let mut jitter = ChaCha8Rng::seed_from_u64(links.me.process);
    let mut pause = BACK_OFF_MS.0;
    let mut told = String::new();
    let mut wanted = peer.wanted();
    loop {
        // The sender lives in the peer.
        wanted.wait_for(|wanted| *wanted).await.ok();
        let error = match open(&links, &peer, &address).await {
            Ok(opened) => {
                (pause, told) = (BACK_OFF_MS.0, String::new());
                tracing::debug!(peer = peer.name, address, "link up");
                let error = serve(&links, &peer, opened).await;
                peer.queue.detach();
                peer.link_down(Direction::Out, 0, links.clock.now());
                // Behind the peer's proof. Before it, anybody could say so who answers there.
                if let DialError::Handshake(HandshakeError::RefusedByPeer(refusal)) = error
                    && refusal.is_dismissal()
                {
                    links.dismissed(refusal == Refusal::Absent);
                }
                error
            }
            Err(error) => error,
        };
        if matches!(error, DialError::Idle) {
            tracing::debug!(peer = peer.name, "link ended, nobody needs it");
            continue;
        }
        // A peer that stays away is one line, not two a second.
        let text = error.to_string();
        if text != told {
            tracing::info!(peer = peer.name, address, reason = text, "no link");
            told = text;
        }
        let wait = pause / 2 + jitter.next_u64() % pause;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        pause = (pause * 2).min(BACK_OFF_MS.1);
    }
}

/// An open link.
struct Opened {
    stream: TcpStream,
    /// The peer's.
    boot: Boot,
    /// What both ends speak.
    version: u16,
    /// With what the peer sent behind its proof.
    decoder: Decoder,
}

async fn open(links: &Arc<Links>, peer: &Peer, address: &str) -> Result<Opened, DialError> {
    let versions = links.versions();
    match attempt(links, peer, address, versions).await {
        Err(DialError::Handshake(error)) if error.is_of_version() => {
            let Some(older) = handshake::without_range(versions) else { return Err(error.into()) };
            attempt(links, peer, address, older).await
        }
        opened => opened,
    }
}

async fn attempt(
    links: &Arc<Links>,
    peer: &Peer,
    address: &str,
    versions: Versions,
) -> Result<Opened, DialError> {
    let connect = TcpStream::connect(address);
    let mut stream =
        tokio::time::timeout(CONNECT, connect).await.map_err(|_| DialError::Timeout)??;
    super::prepare(&stream)?;
    let shake = handshake(links, peer, &mut stream, versions);
    let shaken = tokio::time::timeout(HANDSHAKE, shake).await;
    let (boot, version, decoder) = shaken.map_err(|_| DialError::Timeout)??;
    Ok(Opened { stream, boot, version, decoder })
}

/// The peer's boot, the version of the link, and what the peer sent behind its proof.
async fn handshake(
    links: &Arc<Links>,
    peer: &Peer,
    stream: &mut TcpStream,
    versions: Versions,
) -> Result<(Boot, u16, Decoder), DialError> {
    let hello = links.hello(&peer.name).map_err(DialError::Random)?;
    let mut talk = Talk::new(stream, &peer.out_bytes, versions);
    let theirs = talk.dial(&hello, &links.credentials).await?;
    let (boot, version) = (theirs.boot, talk.version());
    match links.admit(theirs).await {
        Ok(_) => Ok((boot, version, talk.into_decoder())),
        Err(refusal) => Err(talk.refuse(refusal).await.into()),
    }
}

/// Runs an open link until it ends; says why it did.
async fn serve(links: &Links, peer: &Peer, opened: Opened) -> DialError {
    let Opened { stream, boot, version, decoder } = opened;
    let stream = Arc::new(stream);
    let now = links.clock.now();
    peer.link_up(Direction::Out, now);
    peer.queue.attach(stream.clone(), version);
    peer.heartbeat(now);
    let (mut current, mut wanted) = (peer.current(), peer.wanted());
    tokio::select! {
        error = peer.queue.drive(&peer.out_bytes) => error.into(),
        error = closed(&stream, peer, decoder) => error,
        _ = current.wait_for(|current| current.boot > boot) => DialError::NewBoot,
        _ = wanted.wait_for(|wanted| !*wanted) => DialError::Idle,
    }
}

/// Returns when the other side closes, or sends what does not belong here: a late refusal.
async fn closed(stream: &TcpStream, peer: &Peer, mut decoder: Decoder) -> DialError {
    loop {
        match decoder.next(HANDSHAKE_FRAME_MAX) {
            Ok(None) => {}
            Ok(Some((Kind::Refused, body))) => {
                return match frame::decode::<Refusal>(body) {
                    Ok(refusal) => HandshakeError::RefusedByPeer(refusal).into(),
                    Err(error) => HandshakeError::from(error).into(),
                };
            }
            Ok(Some(_)) => return DialError::UnexpectedData,
            Err(error) => return HandshakeError::from(error).into(),
        }
        if let Err(error) = stream.readable().await {
            return error.into();
        }
        match stream.try_read_buf(decoder.space()) {
            Ok(0) => return DialError::Closed,
            Ok(count) => peer.out_bytes.add_received(count),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return error.into(),
        }
    }
}
