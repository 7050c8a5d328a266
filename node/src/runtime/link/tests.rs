//! Links over loopback: meeting, messages, one-way cuts, refusals, garbage, restarts.

use std::collections::VecDeque;
use std::net::SocketAddr;

use quorate_control::members::Members;
use quorate_control::roles::gone_text;
use quorate_control::servers::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::sync::watch;

use super::frame::Kind;
use super::*;
use crate::http::backend::NodeState;
use crate::http::members::{Bulletin, Server as PeerServer, ServerState};
use crate::memory::Budget;
use crate::runtime::inbox::Input;
use crate::runtime::shared::{Dismissal, Listeners, Parts};
use crate::runtime::storage::Share;

const SUSPECT: Duration = Duration::from_millis(300);
/// Far more than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that has links only.
struct Server {
    links: Arc<Links>,
    inbox: Arc<Inbox>,
    storage: Arc<Storage>,
    seen: VecDeque<Input>,
    tasks: JoinSet<()>,
}

/// How a server differs from the usual one.
struct Who {
    name: &'static str,
    node: u64,
    boot: u32,
    password: &'static str,
    started_with: Durable,
}

impl Who {
    fn usual(name: &'static str, node: u64) -> Self {
        Self { name, node, boot: 1, password: "secret", started_with: (Boot(0), 0) }
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl Server {
    fn start(
        who: &Who,
        dial: (&str, SocketAddr),
        listener: TcpListener,
        dir: &tempfile::TempDir,
    ) -> Self {
        let path = dir.path().join(who.name);
        let storage = Arc::new(Storage::open(&path, Share::default()).unwrap());
        let inbox = Arc::new(Inbox::new(64, 1 << 20));
        let config = LinkConfig {
            me: Me {
                name: who.name.into(),
                node: NodeId(who.node),
                boot: Boot(who.boot),
                process: getrandom::u64().unwrap(),
                started_with: who.started_with,
            },
            cluster: "bench".into(),
            password: who.password.into(),
            others: vec![dial.0.to_owned()],
            dial: [(dial.0.to_owned(), dial.1.to_string())].into(),
            suspect_after: SUSPECT,
            versions: Versions::ALL,
            own: Arc::new(Own::new(NodeId(who.node), Boot(who.boot))),
            room: Arc::default(),
        };
        let links = Links::new(config, storage.clone(), inbox.clone(), Clock::start()).unwrap();
        let tasks = links.run(listener);
        Self { links, inbox, storage, seen: VecDeque::new(), tasks }
    }

    fn peer(&self) -> Arc<Peer> {
        self.links.peers().values().next().unwrap().clone()
    }

    /// Waits for an input; the ones before it are forgotten.
    async fn wait(&mut self, what: &str, wanted: impl Fn(&Input) -> bool) -> Input {
        let waiting = async {
            loop {
                while let Some(input) = self.seen.pop_front() {
                    if wanted(&input) {
                        return input;
                    }
                }
                self.inbox.take(&mut self.seen, Some(Duration::ZERO));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    async fn wait_up(&mut self, wanted: bool) {
        self.wait("peer", |i| matches!(i, Input::Peer { up, .. } if *up == wanted)).await;
    }

    fn send(&self, message: &Message) -> bool {
        let envelope = Envelope { cfg: 3, durable: 9, message };
        let queued = self.peer().queue.push(Kind::Message, &envelope);
        self.peer().queue.flush(&self.peer().out_bytes);
        queued
    }

    async fn stop(mut self) {
        self.tasks.shutdown().await;
        // Connection tasks let go of the store a moment later.
        let storage = Arc::downgrade(&self.storage);
        drop(self);
        while storage.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn two_servers(dir: &tempfile::TempDir) -> (Server, Server) {
    let ((a, a_at), (b, b_at)) = (listener().await, listener().await);
    let a = Server::start(&Who::usual("n1", 1), ("n2", b_at), a, dir);
    let b = Server::start(&Who::usual("n2", 2), ("n1", a_at), b, dir);
    (a, b)
}

#[tokio::test]
async fn two_servers_meet_and_talk() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, mut b) = two_servers(&dir).await;
    a.wait_up(true).await;
    b.wait_up(true).await;
    let message = Message::Low { seq: 42 };
    assert!(a.send(&message));
    let input = b.wait("message", |i| matches!(i, Input::Message { .. })).await;
    let Input::Message { from, boot, cfg, message: got } = input else { unreachable!() };
    assert_eq!((from, boot, cfg, got), (NodeId(1), Boot(1), 3, message));
    assert_eq!(b.peer().binding().unwrap().durable, (Boot(1), 9));
    assert_eq!(b.storage.bindings().unwrap()[0].1.node, NodeId(1));
}

#[tokio::test]
async fn both_ends_count_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, mut b) = two_servers(&dir).await;
    a.wait_up(true).await;
    b.wait_up(true).await;
    assert!(a.send(&Message::Low { seq: 42 }));
    b.wait("message", |i| matches!(i, Input::Message { .. })).await;
    a.tasks.shutdown().await;
    let (dialer, acceptor) = (a.peer().out_bytes.clone(), b.peer().in_bytes.clone());
    let same = async {
        while dialer.sent() != acceptor.received() || dialer.received() != acceptor.sent() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, same).await.unwrap();
    assert!(dialer.sent() > 0 && dialer.received() > 0);
}

/// Passes connections on; while cut, bytes of the dialer go nowhere.
async fn one_way_relay(to: SocketAddr, cut: watch::Receiver<bool>) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut cut = cut.clone();
            tokio::spawn(async move {
                let mut to = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut from, &mut to) => return,
                    _ = cut.wait_for(|cut| *cut) => {}
                }
                // Held open and never read, until the cut is over.
                cut.wait_for(|cut| !*cut).await.ok();
            });
        }
    });
    address
}

#[tokio::test]
async fn a_cut_in_one_direction_is_noticed_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let ((a, a_at), (b, b_at)) = (listener().await, listener().await);
    let (cut, is_cut) = watch::channel(false);
    let relay = one_way_relay(b_at, is_cut).await;
    let mut a = Server::start(&Who::usual("n1", 1), ("n2", relay), a, &dir);
    let mut b = Server::start(&Who::usual("n2", 2), ("n1", a_at), b, &dir);
    a.wait_up(true).await;
    b.wait_up(true).await;
    cut.send_replace(true);
    a.wait_up(false).await;
    b.wait_up(false).await;
    cut.send_replace(false);
    a.wait_up(true).await;
    b.wait_up(true).await;
}

#[tokio::test]
async fn a_restarted_peer_goes_down_and_comes_up_in_its_new_boot() {
    let dir = tempfile::tempdir().unwrap();
    let ((a, a_at), (b, b_at)) = (listener().await, listener().await);
    let mut a = Server::start(&Who::usual("n1", 1), ("n2", b_at), a, &dir);
    let mut b = Server::start(&Who::usual("n2", 2), ("n1", a_at), b, &dir);
    a.wait_up(true).await;
    b.wait_up(true).await;
    b.stop().await;
    a.wait_up(false).await;
    let again = Who { boot: 2, ..Who::usual("n2", 2) };
    let b = TcpListener::bind(b_at).await.unwrap();
    let mut b = Server::start(&again, ("n1", a_at), b, &dir);
    let new_boot = |i: &Input| matches!(i, Input::Peer { boot: Boot(2), up: true, .. });
    a.wait("peer in its new boot", new_boot).await;
    b.wait_up(true).await;
}

/// Waits until a peer is seen as expected.
async fn wait_seen(server: &Server, what: &str, expected: impl Fn(&PeerServer) -> bool) {
    let seen = async {
        while !expected(&server.peer().server(Role::Master)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, seen).await;
    waited.unwrap_or_else(|_| panic!("no {what}: {:?}", server.peer().server(Role::Master)));
}

/// Nothing is told twice on one link, and everything once on each.
///
/// FEATURES: S11, A20
#[tokio::test]
async fn state_and_bulletin_reach_a_peer_also_after_its_restart() {
    let dir = tempfile::tempdir().unwrap();
    let ((a, a_at), (b, b_at)) = (listener().await, listener().await);
    let mut a = Server::start(&Who::usual("n1", 1), ("n2", b_at), a, &dir);
    let b = Server::start(&Who::usual("n2", 2), ("n1", a_at), b, &dir);
    let told = Bulletin { connections: 3, ..Bulletin::default() };
    a.links.own.publish(told.clone(), PATIENCE);
    a.wait_up(true).await;
    let is = |state| move |seen: &PeerServer| seen.state == ServerState::Is(state);
    wait_seen(&b, "state", is(NodeState::Starting)).await;
    wait_seen(&b, "bulletin", |seen| seen.bulletin.as_ref() == Some(&told)).await;
    a.links.own.set_state(NodeState::Online);
    wait_seen(&b, "new state", is(NodeState::Online)).await;
    wait_seen(&a, "latency", |_| a.peer().toward().latency.entries > 0).await;
    b.stop().await;
    wait_seen(&a, "end", |seen| seen.state == ServerState::NotAvailable).await;
    let again = Who { boot: 2, ..Who::usual("n2", 2) };
    let b = TcpListener::bind(b_at).await.unwrap();
    let b = Server::start(&again, ("n1", a_at), b, &dir);
    wait_seen(&b, "state again", is(NodeState::Online)).await;
    wait_seen(&b, "bulletin again", |seen| seen.bulletin.as_ref() == Some(&told)).await;
}

#[tokio::test]
async fn a_peer_that_lost_data_stays_out() {
    let dir = tempfile::tempdir().unwrap();
    let ((a, a_at), (b, b_at)) = (listener().await, listener().await);
    let mut a = Server::start(&Who::usual("n1", 1), ("n2", b_at), a, &dir);
    let mut b = Server::start(&Who::usual("n2", 2), ("n1", a_at), b, &dir);
    a.wait_up(true).await;
    b.wait_up(true).await;
    assert!(b.send(&Message::Low { seq: 1 }));
    a.wait("message", |i| matches!(i, Input::Message { .. })).await;
    b.stop().await;
    // The first server has seen batch 9 of boot 1.
    let poorer = Who { boot: 2, started_with: (Boot(1), 8), ..Who::usual("n2", 2) };
    let b = TcpListener::bind(b_at).await.unwrap();
    let b = Server::start(&poorer, ("n1", a_at), b, &dir);
    assert_eq!(first_refusal(a_at, &poorer).await, Refusal::LostData);
    assert_eq!(a.peer().binding().unwrap().boot, Boot(1));
    b.stop().await;
}

/// What a server answers to an introduction.
async fn first_refusal(address: SocketAddr, who: &Who) -> Refusal {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let credentials =
        Credentials { cluster: "bench".into(), key: Key::derive("bench", who.password) };
    let hello = Hello {
        cluster: "bench".into(),
        name: who.name.into(),
        to: "n1".into(),
        node: NodeId(who.node),
        boot: Boot(who.boot),
        process: 5,
        started_with: who.started_with,
        nonce: [3; 32],
    };
    let bytes = LinkBytes::default();
    match handshake::Talk::new(&mut stream, &bytes, Versions::ALL).dial(&hello, &credentials).await
    {
        Err(handshake::HandshakeError::RefusedByPeer(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// A second server under a name that is taken, among others.
///
/// FEATURES: S4
#[tokio::test]
async fn strangers_are_refused_and_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, mut b) = two_servers(&dir).await;
    a.wait_up(true).await;
    let a_at: SocketAddr = b.links.dial["n1"].parse().unwrap();
    let wrong = Who { password: "guess", ..Who::usual("n2", 2) };
    assert_eq!(first_refusal(a_at, &wrong).await, Refusal::Credentials);
    assert_eq!(first_refusal(a_at, &Who::usual("n9", 9)).await, Refusal::UnknownName);
    assert_eq!(first_refusal(a_at, &Who::usual("n2", 9)).await, Refusal::OtherIdentity);
    assert_eq!(first_refusal(a_at, &Who::usual("n2", 2)).await, Refusal::Twin);
    for garbage in [&[0xff; 64][..], b"GET / HTTP/1.1\r\n\r\n", &[0; 64]] {
        let mut stream = TcpStream::connect(a_at).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        // A reset is as good as an end.
        stream.read_to_end(&mut Vec::new()).await.ok();
    }
    b.wait_up(true).await;
    assert!(b.send(&Message::Low { seq: 7 }));
    a.wait("message", |i| matches!(i, Input::Message { .. })).await;
}

/// What a server is told to do by its links.
fn host(server: &Server) -> Arc<Shared> {
    let me = &server.links.me;
    let shared = Arc::new(Shared::new(Parts {
        name: me.name.clone(),
        node: me.node,
        boot: me.boot,
        members: Members::new([me.name.clone()]).unwrap(),
        address: Some("here:1".into()),
        clock: Clock::start(),
        inbox: server.inbox.clone(),
        storage: server.storage.clone(),
        links: Some(server.links.clone()),
        own: Arc::default(),
        versions: Versions::ALL,
        listeners: Listeners::default(),
        heap: Budget::LITTLE,
    }));
    server.links.set_host(&shared);
    shared
}

/// FEATURES: L7
#[tokio::test]
async fn who_was_removed_believes_it_of_a_server_of_the_cluster() {
    let (told, _) = dismissed(false).await;
    assert_eq!(told, Dismissal::Final(gone_text("n2")));
}

/// FEATURES: S9
#[tokio::test]
async fn who_left_because_it_was_lost_is_told_that_it_may_come_back() {
    let (told, seed) = dismissed(true).await;
    assert_eq!(told, Dismissal::Absent { seeds: vec![seed] });
}

/// One of two servers is let go; what it comes to there, and where the other one is.
async fn dismissed(is_absent: bool) -> (Dismissal, String) {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, mut b) = two_servers(&dir).await;
    a.wait_up(true).await;
    b.wait_up(true).await;
    let (left, removed) = (host(&a), host(&b));
    let gone = [Gone { name: "n2".into(), node: NodeId(2) }];
    let absent = if is_absent { &gone[..] } else { &[] };
    a.links.follow(&[Member::founder("n1", NodeId(1))], (&gone, absent), Default::default());
    let mut refused = removed.refused.subscribe();
    let told = tokio::time::timeout(PATIENCE, refused.wait_for(Option::is_some)).await;
    let told = told.unwrap().unwrap().clone().unwrap();
    assert_eq!(*left.refused.borrow(), None);
    (told, b.links.address_of("n1").unwrap())
}

/// FEATURES: S7
#[tokio::test]
async fn who_answers_at_an_address_cannot_end_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let ((a, _), (stranger, at)) = (listener().await, listener().await);
    let a = Server::start(&Who::usual("n1", 1), ("n2", at), a, &dir);
    let shared = host(&a);
    // It is dialled again only when what it said was judged.
    for said in [Refusal::Removed, Refusal::Absent, Refusal::Removed] {
        let mut refusal = Vec::new();
        frame::append(&mut refusal, Kind::Refused, &said).unwrap();
        let dialled = tokio::time::timeout(PATIENCE, stranger.accept()).await;
        let (mut stream, _) = dialled.unwrap().unwrap();
        stream.read_buf(&mut Vec::with_capacity(1)).await.unwrap();
        stream.write_all(&refusal).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.ok();
    }
    assert_eq!(*shared.refused.borrow(), None);
}
