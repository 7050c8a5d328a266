//! The first four frames of a link: introductions, proofs, acceptance or the reason against it. May
//! not know what is remembered of peers; the caller judges the introduction.

use std::fmt;

use quorate_api::{Boot, NodeId};
use quorate_control::versions::Versions;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::auth::{Key, Proof, Role};
use super::frame::{self, Decoder, FrameError, HANDSHAKE_FRAME_MAX, Kind};
use super::metrics::LinkBytes;
use crate::runtime::storage::Durable;

/// First bytes of an introduction.
const MAGIC: [u8; 8] = *b"quorate\0";
/// The last version whose servers name that one alone. All later ones name the range that they
/// speak, in a form that stays as it is; what they add to it is passed over by older ones.
const WITHOUT_RANGE: u16 = 8;

/// A server's introduction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// Own name.
    pub(crate) name: String,
    /// Whom the dialer wants to reach, empty for whoever is there: it wants to join, and no link;
    /// in an answer, whom the acceptor answers.
    pub(crate) to: String,
    /// Own identity.
    pub(crate) node: NodeId,
    /// Own boot.
    pub(crate) boot: Boot,
    /// Random number of the own process: two processes in one boot are copies of one server.
    pub(crate) process: u64,
    /// Last batch that the own disk held when this boot started.
    pub(crate) started_with: Durable,
    /// Makes the conversation unrepeatable.
    pub(crate) nonce: [u8; 32],
}

/// Why a link is refused. Told to the other side; says nothing about the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    /// Another version of the link protocol: said to, and by, servers that know no ranges.
    #[error("the other side speaks another version of the link protocol only")]
    Version,
    /// One of the two differs; which one is nobody's business.
    #[error("cluster name or password differ")]
    Credentials,
    /// The dial map leads to another server than it says.
    #[error("the address belongs to another server")]
    OtherServer,
    /// Not in the cluster, as far as the other side knows.
    #[error("the server is not in the cluster")]
    UnknownName,
    /// It was removed from the cluster.
    #[error("the server was removed from the cluster")]
    Removed,
    /// The name belongs to another node id, or the id to another name.
    #[error("the name is bound to another identity; a wiped server must join under a new name")]
    OtherIdentity,
    /// A boot that is over.
    #[error("a later boot of the server was seen")]
    ClosedBoot,
    /// Two processes with one identity and boot.
    #[error("another process runs under the same identity: a copied data folder")]
    Twin,
    /// The disk holds less than the server once said it had.
    #[error("the server has lost data it had acknowledged; it must not rejoin under its identity")]
    LostData,
    /// The store that remembers peers failed, or the server stops.
    #[error("the server cannot take links now")]
    Unavailable,
    /// No version is spoken by both; these are the refusing one's.
    #[error("the link protocol has other versions, {oldest} to {newest}")]
    Versions {
        /// The first one.
        oldest: u16,
        /// The last one.
        newest: u16,
    },
    /// It left the cluster because it was lost.
    #[error("the cluster goes on without the server, which may join as another one")]
    Absent,
}

impl Refusal {
    /// The cluster has let the server go: believed only from who has proved to know the password.
    pub(crate) const fn is_dismissal(self) -> bool {
        matches!(self, Self::Removed | Self::Absent)
    }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The other side sent something else.
    #[error("malformed handshake: {0}")]
    Frame(#[from] FrameError),
    /// This side refuses.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The other side refuses.
    #[error("refused by the other side: {0}")]
    RefusedByPeer(Refusal),
    /// One side is too old for the other.
    #[error(
        "no common version of the link protocol: this server speaks {own}, the other one {theirs}; \
         start {} with a newer program, the data folder stays as it is",
        if .own.newest < .theirs.oldest { "this server" } else { "the other one" }
    )]
    NoCommonVersion {
        /// What this server speaks.
        own: Versions,
        /// What the other one does.
        theirs: Versions,
    },
}

impl HandshakeError {
    /// The other side knows no ranges, and did not look further.
    pub(super) const fn is_of_version(&self) -> bool {
        matches!(self, Self::RefusedByPeer(Refusal::Version))
    }
}

/// What introductions are checked with.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// Its key.
    pub(crate) key: Key,
}

/// A connection during the handshake.
pub(crate) struct Talk<'a, S> {
    stream: &'a mut S,
    bytes: &'a LinkBytes,
    decoder: Decoder,
    claimed: Option<String>,
    versions: Versions,
    version: u16,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Talk<'a, S> {
    /// Starts on a fresh connection whose bytes are counted, in one of these versions.
    pub(crate) fn new(stream: &'a mut S, bytes: &'a LinkBytes, versions: Versions) -> Self {
        let (decoder, version) = (Decoder::default(), versions.newest);
        Self { stream, bytes, decoder, claimed: None, versions, version }
    }

    /// The version that both sides speak, once the other one has introduced itself.
    pub(crate) const fn version(&self) -> u16 {
        self.version
    }

    /// The dialer's part up to the acceptor's proof. The caller may still refuse.
    pub(crate) async fn dial(
        &mut self,
        hello: &Hello,
        credentials: &Credentials,
    ) -> Result<Hello, HandshakeError> {
        let own = introduction(hello, self.versions)?;
        self.send(Kind::Hello, &Raw(&own)).await?;
        let theirs = self.receive_raw(Kind::Welcome).await?;
        let peer = self.check(&theirs, credentials).await?;
        let is_wanted = hello.to.is_empty() || peer.name == hello.to;
        if !is_wanted || peer.to != hello.name {
            return Err(self.refuse(Refusal::OtherServer).await);
        }
        let proof = credentials.key.prove(Role::Dialer, &own, &theirs);
        self.send(Kind::Proof, &proof).await?;
        let proof: Proof = frame::decode(&self.receive(Kind::Accepted).await?)?;
        if !credentials.key.verify(Role::Acceptor, &own, &theirs, &proof) {
            return Err(self.refuse(Refusal::Credentials).await);
        }
        Ok(peer)
    }

    /// The acceptor's part up to the dialer's proof; then the caller judges, and answers by
    /// `accept` or `refuse`.
    pub(crate) async fn answer(
        &mut self,
        mut hello: Hello,
        credentials: &Credentials,
    ) -> Result<(Hello, Proof), HandshakeError> {
        let theirs = self.receive_raw(Kind::Hello).await?;
        let peer = self.check(&theirs, credentials).await?;
        if !peer.to.is_empty() && peer.to != hello.name {
            return Err(self.refuse(Refusal::OtherServer).await);
        }
        hello.to.clone_from(&peer.name);
        // Who knows no ranges is answered as if this server did not either.
        let shown = match self.version {
            WITHOUT_RANGE => Versions { oldest: WITHOUT_RANGE, newest: WITHOUT_RANGE },
            _ => self.versions,
        };
        let own = introduction(&hello, shown)?;
        self.send(Kind::Welcome, &Raw(&own)).await?;
        let proof: Proof = frame::decode(&self.receive(Kind::Proof).await?)?;
        if !credentials.key.verify(Role::Dialer, &theirs, &own, &proof) {
            return Err(self.refuse(Refusal::Credentials).await);
        }
        Ok((peer, credentials.key.prove(Role::Acceptor, &theirs, &own)))
    }

    /// The link is up, as far as the acceptor is concerned.
    pub(crate) async fn accept(&mut self, proof: &Proof) -> Result<(), HandshakeError> {
        self.send(Kind::Accepted, proof).await
    }

    /// Tells the other side why there will be no link.
    pub(crate) async fn refuse(&mut self, refusal: Refusal) -> HandshakeError {
        // The reason is for the other side's log; the connection is closed either way.
        self.send(Kind::Refused, &refusal).await.ok();
        HandshakeError::Refused(refusal)
    }

    /// Tells the other side what this one speaks, in words that it knows.
    async fn refuse_versions(&mut self, theirs: Versions) -> HandshakeError {
        let own = self.versions;
        let Versions { oldest, newest } = own;
        let knows_ranges = theirs.newest > WITHOUT_RANGE && newest > WITHOUT_RANGE;
        let ranges = Refusal::Versions { oldest, newest };
        self.refuse(if knows_ranges { ranges } else { Refusal::Version }).await;
        HandshakeError::NoCommonVersion { own, theirs }
    }

    /// The name that the other side gave, proven or not.
    pub(crate) fn take_claimed(&mut self) -> Option<String> {
        self.claimed.take()
    }

    /// What was received behind the handshake.
    pub(crate) fn into_decoder(self) -> Decoder {
        self.decoder
    }

    async fn check(
        &mut self,
        introduction: &[u8],
        credentials: &Credentials,
    ) -> Result<Hello, HandshakeError> {
        let (theirs, body) = versions_of(introduction)?;
        // Before ranges, a newer version was refused unread.
        let is_read = self.versions.newest > WITHOUT_RANGE || theirs.newest == WITHOUT_RANGE;
        self.version = match self.versions.common(theirs).filter(|_| is_read) {
            Some(version) => version,
            None => return Err(self.refuse_versions(theirs).await),
        };
        let hello: Hello = match theirs.newest {
            WITHOUT_RANGE => frame::decode(body)?,
            _ => frame::decode_begin(body)?,
        };
        self.claimed = Some(hello.name.clone());
        if hello.cluster != credentials.cluster {
            return Err(self.refuse(Refusal::Credentials).await);
        }
        Ok(hello)
    }

    /// Sends what follows the handshake.
    pub(super) async fn send<T: Serialize>(
        &mut self,
        kind: Kind,
        value: &T,
    ) -> Result<(), HandshakeError> {
        let mut buffer = Vec::new();
        frame::append(&mut buffer, kind, value)?;
        self.stream.write_all(&buffer).await?;
        self.bytes.add_sent(buffer.len());
        Ok(())
    }

    async fn receive_raw(&mut self, wanted: Kind) -> Result<Vec<u8>, HandshakeError> {
        let body = self.receive(wanted).await?;
        Ok(frame::decode(&body)?)
    }

    async fn receive(&mut self, wanted: Kind) -> Result<Vec<u8>, HandshakeError> {
        self.receive_up_to(wanted, HANDSHAKE_FRAME_MAX).await
    }

    /// The same with frames up to a length.
    pub(super) async fn receive_up_to(
        &mut self,
        wanted: Kind,
        length: usize,
    ) -> Result<Vec<u8>, HandshakeError> {
        loop {
            if let Some((kind, body)) = self.decoder.next(length)? {
                if kind == wanted {
                    return Ok(body.to_vec());
                }
                if kind == Kind::Refused {
                    return Err(refused_by_peer(self.versions, frame::decode(body)?));
                }
                return Err(FrameError::Turn(kind).into());
            }
            let count = self.stream.read_buf(self.decoder.space()).await?;
            if count == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            self.bytes.add_received(count);
        }
    }
}

/// Bytes as they are, behind their length.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// What is offered, on another connection, to a server that refused these versions and knows no
/// ranges; `None`: nothing is left.
pub(super) fn without_range(versions: Versions) -> Option<Versions> {
    let is_left = versions.oldest <= WITHOUT_RANGE && versions.newest > WITHOUT_RANGE;
    is_left.then_some(Versions { oldest: WITHOUT_RANGE, newest: WITHOUT_RANGE })
}

/// What the other side's refusal means to a server that speaks these versions.
const fn refused_by_peer(own: Versions, refusal: Refusal) -> HandshakeError {
    if let Refusal::Versions { oldest, newest } = refusal {
        return HandshakeError::NoCommonVersion { own, theirs: Versions { oldest, newest } };
    }
    HandshakeError::RefusedByPeer(refusal)
}

/// Magic and newest version stay where they are in all versions; then the oldest one, then who this
/// is. A server that speaks one from before the ranges shows that one alone, in its form.
fn introduction(hello: &Hello, versions: Versions) -> Result<Vec<u8>, FrameError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&versions.newest.to_le_bytes());
    if versions.newest > WITHOUT_RANGE {
        bytes.extend_from_slice(&versions.oldest.to_le_bytes());
    }
    postcard::to_extend(hello, bytes).map_err(|_| FrameError::Body)
}

fn versions_of(introduction: &[u8]) -> Result<(Versions, &[u8]), FrameError> {
    let rest = introduction.strip_prefix(&MAGIC).ok_or(FrameError::Body)?;
    let (newest, body) = rest.split_first_chunk().ok_or(FrameError::Body)?;
    let newest = u16::from_le_bytes(*newest);
    if newest <= WITHOUT_RANGE {
        return Ok((Versions { oldest: newest, newest }, body));
    }
    let (oldest, body) = body.split_first_chunk().ok_or(FrameError::Body)?;
    Ok((Versions { oldest: u16::from_le_bytes(*oldest), newest }, body))
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, boot {})", self.name, self.node, self.boot.0)
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
