//! Ports: reserved for a link's whole life, listened on only while the link is open.
//! May not know why a link listens or not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{LinkPath, connection};

/// Connections the kernel completes ahead of the accept loop; full, it drops SYNs and the
/// client's kernel tries again.
const BACKLOG: i32 = 1_024;

/// Pause after a failed accept (descriptors used up, mostly), so that the loop does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// A port held by a bound socket that does not listen. While only this one is there the kernel
/// refuses connections, and neither another process's bind nor an outgoing connection can take
/// the port away: after a heal the same port listens again.
#[derive(Debug)]
pub(crate) struct Port {
    address: SocketAddr,
    _reservation: Socket,
}

impl Port {
    /// Reserves an address; port 0 takes a free one.
    ///
    /// # Errors
    /// What the operating system says: the address is in use, or not of this machine.
    pub(crate) fn reserve(address: SocketAddr) -> std::io::Result<Self> {
        let socket = bound(address)?;
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| std::io::Error::other("a TCP socket without an IP address"))?;
        Ok(Self { address, _reservation: socket })
    }

    /// The real address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to listen; connections wait in the backlog until an acceptor takes them.
    ///
    /// # Errors
    /// What the operating system says, a listener of somebody else on the address included.
    pub(crate) fn listen(&self) -> std::io::Result<TcpListener> {
        let socket = bound(self.address)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }
}

/// A bound socket. Both the reservation and the listener allow reuse of the address, which lets
/// them share it; two listeners still exclude each other.
fn bound(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The task that accepts a link's connections; ends with the listener when dropped.
#[derive(Debug)]
pub(crate) struct Acceptor {
    task: JoinHandle<()>,
}

impl Acceptor {
    /// Starts accepting.
    pub(crate) fn start(link: Arc<LinkPath>, listener: TcpListener) -> Self {
        Self { task: tokio::spawn(accept_all(link, listener)) }
    }

    /// Closes the listener; what the kernel had accepted and the proxy had not is reset by it.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            tracing::error!(%error, "accept loop panicked");
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept_all(link: Arc<LinkPath>, listener: TcpListener) {
    loop {
        // Waiting here, with the listener alone, leaves further connections to the backlog.
        let Ok(place) = Arc::clone(&link.undialled).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((client, peer)) => {
                link.counters.accepted.fetch_add(1, Relaxed);
                tracing::debug!(link = %link.name, %peer, "accepted");
                let connection = connection::Accepted::new(Arc::clone(&link), client, place);
                tokio::spawn(connection.run());
            }
            Err(error) => {
                tracing::warn!(link = %link.name, %error, "accept failed");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
