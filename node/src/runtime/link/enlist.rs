//! How a server asks to be taken in: at any server of the cluster, over an authenticated connection
//! of its own, which ends with the answer. May not decide who is taken in: servers agree on that.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use quorate_control::command::Command;
use quorate_control::servers::Member;
use quorate_control::versions::Versions;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Links;
use super::dial::CONNECT;
use super::frame::{self, FRAME_MAX, Kind};
use super::handshake::{self, HandshakeError, Hello, Talk};
use super::metrics::LinkBytes;
use crate::http::backend::DecideError;
use crate::runtime::handle::NodeHandle;

/// How long the servers may take to agree: less than a handshake.
const AGREE: Duration = Duration::from_millis(1_500);
/// Longest wait for the whole conversation.
const CONVERSATION: Duration = Duration::from_secs(5);

/// What a server says that wants to join; name and identity are in its introduction.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Where others reach it.
    address: String,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    /// It is in, with these.
    Enlisted(Vec<Member>),
    /// It cannot be, and why.
    Refused(String),
    /// Nobody knows yet: it may ask again.
    Later(String),
}

/// Why a server is not in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnlistError {
    /// For good, in the words of the cluster.
    #[error("{0}")]
    Refused(String),
    /// For now.
    #[error("{0}")]
    Later(String),
    /// The seed could not be reached or understood.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It refused the connection.
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    /// It did not answer.
    #[error("no answer in time")]
    Timeout,
    /// The introduction could not be made.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

impl Links {
    /// Asks a seed to be taken in, reached at `address`; gives the servers there are.
    ///
    /// # Errors
    /// Not taken in, for now or for good.
    pub(crate) async fn enlist(
        &self,
        seed: &str,
        address: &str,
    ) -> Result<Vec<Member>, EnlistError> {
        let versions = self.versions();
        let ask = async {
            match self.ask(seed, address, versions).await {
                Err(EnlistError::Handshake(error)) if error.is_of_version() => {
                    let Some(older) = handshake::without_range(versions) else {
                        return Err(error.into());
                    };
                    self.ask(seed, address, older).await
                }
                answer => answer,
            }
        };
        tokio::time::timeout(CONVERSATION, ask).await.unwrap_or(Err(EnlistError::Timeout))
    }

    async fn ask(
        &self,
        seed: &str,
        address: &str,
        versions: Versions,
    ) -> Result<Vec<Member>, EnlistError> {
        let connect = tokio::time::timeout(CONNECT, TcpStream::connect(seed));
        let mut stream = connect.await.map_err(|_| EnlistError::Timeout)??;
        super::prepare(&stream)?;
        let bytes = LinkBytes::default();
        let mut talk = Talk::new(&mut stream, &bytes, versions);
        let hello = self.hello("").map_err(EnlistError::Random)?;
        talk.dial(&hello, &self.credentials).await?;
        talk.send(Kind::Enlist, &Request { address: address.to_owned() }).await?;
        let body = talk.receive_up_to(Kind::Enlisted, FRAME_MAX).await?;
        match frame::decode(&body).map_err(HandshakeError::from)? {
            Response::Enlisted(servers) => Ok(servers),
            Response::Refused(text) => Err(EnlistError::Refused(text)),
            Response::Later(text) => Err(EnlistError::Later(text)),
        }
    }
}

/// The seed's part, behind the handshake.
pub(super) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    links: &Arc<Links>,
    talk: &mut Talk<'_, S>,
    hello: &Hello,
) -> Result<(), HandshakeError> {
    let body = talk.receive_up_to(Kind::Enlist, FRAME_MAX).await?;
    let Request { address }: Request = frame::decode(&body)?;
    let (name, node) = (hello.name.clone(), hello.node);
    tracing::info!(%node, address, "server '{name}' wants to join");
    let response = match links.host.get().and_then(Weak::upgrade) {
        Some(host) => {
            let host = NodeHandle::new(host);
            let enlist = Command::Enlist { name, node, address };
            match host.decide(enlist, Instant::now() + AGREE).await {
                Ok(()) => Response::Enlisted(host.schema().servers.clone()),
                Err(DecideError::Refused(refusal)) => Response::Refused(refusal.text),
                Err(DecideError::Failed(code)) => {
                    Response::Later(format!("the servers do not agree on it yet: {code}"))
                }
            }
        }
        None => Response::Later("the server is starting, or stops".to_owned()),
    };
    talk.send(Kind::Enlisted, &response).await
}
