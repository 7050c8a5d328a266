//! Three servers in one process, linked over loopback, with the real machine: transactions end to
//! end, without HTTP.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quorate_api::{ClusterKey, ErrorCode, Image, ItemId, NodeId, OpKind, Stamp};
use quorate_control::command::Command;
use quorate_control::members::{Members, WriteQuorum};
use quorate_control::schema::DatabaseKind;
use quorate_control::settings::NewDatabase;
use quorate_control::versions::Versions;
use quorate_node::http::RetryPolicy;
use quorate_node::memory::Budget;
use quorate_node::runtime::handle::{NodeHandle, NodeState};
use quorate_node::runtime::{Node, Settings};
use quorate_protocol::chain::Chain;
use quorate_protocol::io::{AlignConfig, Base, Proposal};
use tokio::net::TcpListener;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Cluster {
    dir: tempfile::TempDir,
    nodes: Vec<Option<Node>>,
    addresses: Vec<SocketAddr>,
}

impl Cluster {
    async fn start() -> Self {
        let mut listeners = Vec::new();
        for _ in NAMES {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Self { dir, nodes: Vec::new(), addresses };
        for (index, listener) in listeners.into_iter().enumerate() {
            let node = Node::start(cluster.settings(index), Some(listener)).unwrap();
            cluster.nodes.push(Some(node));
        }
        for index in 0..NAMES.len() {
            cluster.online(index).await;
        }
        cluster
    }

    fn settings(&self, index: usize) -> Settings {
        let others = (0..NAMES.len()).filter(|other| *other != index);
        Settings {
            name: NAMES[index].into(),
            data: self.dir.path().join(NAMES[index]),
            http: None,
            members: Members::new(NAMES).unwrap(),
            join: Vec::new(),
            witness: false,
            advertise: None,
            multicast: false,
            dial: others.map(|o| (NAMES[o].to_owned(), self.addresses[o].to_string())).collect(),
            cluster: "bench".into(),
            password: "secret".into(),
            versions: Versions::ALL,
            suspect_after: Duration::from_millis(500),
            remove_after: None,
            align: AlignConfig::new(),
            chain: Chain::default(),
            lost_max: (100, 1 << 20),
            retry: RetryPolicy::default(),
            in_flight_max: 4_096,
            heap: Budget::divide(1 << 28, None).unwrap(),
        }
    }

    fn handle(&self, index: usize) -> NodeHandle {
        self.nodes[index].as_ref().unwrap().handle()
    }

    async fn online(&self, index: usize) {
        let handle = self.handle(index);
        until("ONLINE, all up", || {
            let status = handle.status();
            status.state == NodeState::Online && status.masters.values().all(|master| master.up)
        })
        .await;
    }

    async fn restart(&mut self, index: usize) {
        self.nodes[index].take().unwrap().stop(PATIENCE).await.unwrap();
        self.start_again(index).await;
    }

    /// Ends every server: the storage engine must not be at work when the process leaves.
    async fn stop(&mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            node.stop(PATIENCE).await.unwrap();
        }
    }

    /// Starts a stopped server, once the last task of its earlier life has let go of the folder.
    async fn start_again(&mut self, index: usize) {
        let end = deadline();
        loop {
            let listener = TcpListener::bind(self.addresses[index]).await.unwrap();
            match Node::start(self.settings(index), Some(listener)) {
                Ok(node) => {
                    self.nodes[index] = Some(node);
                    return;
                }
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A database with a class; returns the class's clusters by owner.
    async fn create_class(&self) -> BTreeMap<NodeId, ClusterKey> {
        let handle = self.handle(0);
        let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
        handle.decide(Command::CreateDatabase { new }, deadline()).await.unwrap();
        let (database, name, supers) = ("bench".into(), "Item".into(), Vec::new());
        let class = Command::CreateClass { database, name, supers };
        handle.decide(class, deadline()).await.unwrap();
        for index in 0..NAMES.len() {
            self.handle(index).catch_up(deadline()).await.unwrap();
        }
        let schema = handle.schema();
        let database = schema.database("bench").unwrap();
        let class = database.classes.iter().find(|class| class.name == "Item").unwrap();
        let of_class = database.clusters.iter().filter(|c| class.clusters.contains(&c.id));
        of_class.map(|c| (c.owner, ClusterKey { database: database.id, cluster: c.id })).collect()
    }
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = deadline();
    while !done() {
        assert!(Instant::now() < end, "no {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn write(item: &ItemId, kind: OpKind, base: Base, value: u64) -> Vec<Proposal> {
    let image = Some(Image::from(value.to_be_bytes().to_vec()));
    vec![Proposal { item: item.clone(), kind, base, image }]
}

/// A new record in this server's own cluster.
async fn create(handle: &NodeHandle, cluster: ClusterKey, value: u64) -> ItemId {
    let item = ItemId::record(cluster, handle.allocate(cluster, deadline()).await.unwrap());
    let proposal = write(&item, OpKind::Create, Base::Exact(Stamp::ABSENT), value);
    handle.submit(proposal, deadline()).await.unwrap();
    item
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_commits_all_hold_also_after_restarts() {
    let mut cluster = Cluster::start().await;
    let clusters = cluster.create_class().await;
    let n1 = cluster.handle(0);
    let own = clusters[&n1.status().node];
    let item = create(&n1, own, 1).await;
    assert_eq!(
        cluster.handle(1).allocate(own, deadline()).await.unwrap_err().code,
        ErrorCode::NotOwner,
        "another server's cluster"
    );
    // Any server coordinates updates; the second one wins over a stale base.
    let n2 = cluster.handle(1);
    n2.submit(write(&item, OpKind::Update, Base::Version(1), 2), deadline()).await.unwrap();
    let stale = n1.submit(write(&item, OpKind::Update, Base::Version(1), 3), deadline()).await;
    assert_eq!(stale.unwrap_err().code, ErrorCode::VersionConflict);
    let read = n1.read_majority(vec![item.clone()], deadline()).await.unwrap();
    assert_eq!(read[0].1.as_ref().unwrap().stamp.version, 2);
    // Handles keep the folder open.
    drop((n1, n2));
    for index in 0..NAMES.len() {
        cluster.restart(index).await;
    }
    for index in 0..NAMES.len() {
        cluster.online(index).await;
    }
    for index in 0..NAMES.len() {
        let handle = cluster.handle(index);
        let end = deadline();
        loop {
            let found = handle.read_local(&item).await.unwrap();
            if found.as_ref().is_some_and(|found| found.stamp.version == 2) {
                let page = handle.scan_local(own, 0, 10).await.unwrap();
                assert_eq!(page, [(0, found.unwrap())]);
                break;
            }
            assert!(Instant::now() < end, "{found:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let position = cluster.handle(0).allocate(own, deadline()).await.unwrap();
    assert!(position >= 10_000, "a block is never continued: {position}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_goes_on_without_the_third() {
    let mut cluster = Cluster::start().await;
    let clusters = cluster.create_class().await;
    let n1 = cluster.handle(0);
    let own = clusters[&n1.status().node];
    let stopped = cluster.nodes[2].take().unwrap();
    stopped.stop(PATIENCE).await.unwrap();
    let item = create(&n1, own, 1).await;
    let read = cluster.handle(1).read_majority(vec![item.clone()], deadline()).await.unwrap();
    assert!(read[0].1.is_some());
    cluster.start_again(2).await;
    let n3 = cluster.handle(2);
    let end = deadline();
    while n3.read_local(&item).await.unwrap().is_none() {
        assert!(Instant::now() < end, "the third server catches up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop((n1, n3));
    cluster.stop().await;
}

/// Its schema is there before it knows the placements: what it says may not be final.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_denies_no_cluster() {
    let mut cluster = Cluster::start().await;
    let clusters = cluster.create_class().await;
    let own = clusters[&cluster.handle(0).status().node];
    cluster.stop().await;
    cluster.start_again(0).await;
    let refused = cluster.handle(0).allocate(own, deadline()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotReady);
    cluster.stop().await;
}
