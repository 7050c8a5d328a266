//! The loop with a machine that does what the test says.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, Stamp, TxId};
use quorate_control::members::Members;
use quorate_control::plane::RecoveredLog;
use quorate_control::versions::Versions;
use quorate_protocol::io::{Recovered, Store, Tick, Write};
use quorate_protocol::message::LogPosition;

use super::super::settling::SETTLE_MAX;
use super::*;
use crate::clock::Clock;
use crate::http::backend::{Backend, NodeState, Planned, ReadError};
use crate::memory::Budget;
use crate::runtime::handle::NodeHandle;
use crate::runtime::inbox::Inbox;
use crate::runtime::shared::{Listeners, Parts};
use crate::runtime::storage::{Share, Storage, StorageError, SyncThread};

const NODE: NodeId = NodeId(1);
const BOOT: Boot = Boot(1);

/// What the fake does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Plan {
    /// Writes, and answers when that is durable.
    Write,
    /// Writes, sends itself a message when that is durable, answers on the message.
    SelfMessage,
    /// Writes, sends itself its vote when that is durable, never answers.
    Vote,
    /// Answers when its deadline has passed.
    Timer,
    /// Never answers.
    Silent,
}

struct Fake {
    plan: Plan,
    seq: PersistSeq,
    pending: Vec<u64>,
    deadline: Option<Tick>,
    events: Arc<Mutex<Vec<&'static str>>>,
    undecided: Arc<Mutex<Vec<TxId>>>,
    unfinished: Arc<AtomicUsize>,
}

fn item() -> ItemId {
    ItemId::record(ClusterKey { database: 1, cluster: 10 }, 0)
}

fn reply(request: u64, after: PersistSeq) -> Effect {
    let tx = TxId { node: NODE, boot: BOOT, seq: request };
    let reply = Reply::Committed { tx, stamps: vec![], decision: LogPosition::default() };
    Effect::Reply { request, after, reply }
}

impl Fake {
    fn submit(&mut self, now: Tick, request: u64, out: &mut Vec<Effect>) {
        self.seq += 1;
        let stamp = Stamp { version: self.seq, ..Stamp::ABSENT };
        let committed = Committed { stamp, live: true, image: None, elsewhere: None };
        let writes = vec![Write::Item(item(), committed)];
        match self.plan {
            Plan::Write => {
                out.push(Effect::Persist { seq: self.seq, writes });
                out.push(reply(request, self.seq));
            }
            Plan::SelfMessage => {
                out.push(Effect::Persist { seq: self.seq, writes });
                let message = Message::Low { seq: request };
                out.push(Effect::Send { to: NODE, after: self.seq, message });
            }
            Plan::Vote => {
                out.push(Effect::Persist { seq: self.seq, writes });
                let tx = TxId { node: NODE, boot: BOOT, seq: request };
                let message = Message::Vote { tx, reply: VoteReply::Vote(Vote::Yes) };
                out.push(Effect::Send { to: NODE, after: self.seq, message });
            }
            Plan::Timer => {
                self.deadline = Some(now + 20_000);
                self.pending.push(request);
            }
            Plan::Silent => {}
        }
    }
}

impl Protocol for Fake {
    fn step(&mut self, now: Tick, event: Event, store: &dyn Store, out: &mut Vec<Effect>) {
        let name = match event {
            Event::Submit(submit) => {
                self.submit(now, submit.request, out);
                "submit"
            }
            Event::Message { from, message: Message::Low { seq }, .. } => {
                assert_eq!(from, NODE);
                assert!(store.item(&item()).is_some(), "what is written is visible");
                out.push(reply(seq, 0));
                "message"
            }
            Event::Tick if self.deadline.is_some_and(|at| at <= now) => {
                self.deadline = None;
                out.extend(self.pending.drain(..).map(|request| reply(request, 0)));
                "due"
            }
            Event::Configure { placements, .. } => {
                assert!(placements.is_empty());
                "configure"
            }
            Event::Read(_)
            | Event::Choose(_)
            | Event::Chains(_)
            | Event::Dismiss(_)
            | Event::Compare { .. }
            | Event::Session(_)
            | Event::Surveyed { .. }
            | Event::Message { .. }
            | Event::Peer { .. }
            | Event::Tick => return,
        };
        self.events.lock().unwrap().push(name);
    }

    /// A transaction has the number of its request.
    fn needs(&self) -> BTreeSet<NodeId> {
        BTreeSet::new()
    }

    fn request_of(&self, tx: TxId) -> Option<u64> {
        (self.plan == Plan::Vote).then_some(tx.seq)
    }

    fn diverged(&self) -> u64 {
        0
    }

    fn lost(&self) -> (u64, u64) {
        (0, 0)
    }

    fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Relaxed)
    }

    fn undecided(&self) -> Vec<TxId> {
        self.undecided.lock().unwrap().clone()
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.deadline
    }
}

struct Rig {
    handle: NodeHandle,
    shared: Arc<Shared>,
    events: Arc<Mutex<Vec<&'static str>>>,
    undecided: Arc<Mutex<Vec<TxId>>>,
    unfinished: Arc<AtomicUsize>,
    looping: Option<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn start(plan: Plan) -> Self {
        let rig = Self::starting(plan, Vec::new());
        while rig.shared.state() == NodeState::Starting {
            std::thread::yield_now();
        }
        rig
    }

    /// With these transactions undecided on its disk.
    fn starting(plan: Plan, undecided: Vec<TxId>) -> Self {
        let (rig, node_loop) = Self::at_rest(plan, undecided);
        let looping = Some(std::thread::spawn(move || node_loop.run()));
        Self { looping, ..rig }
    }

    /// A loop that the test turns.
    fn at_rest(plan: Plan, undecided: Vec<TxId>) -> (Self, NodeLoop<Fake>) {
        let dir = tempfile::tempdir().unwrap();
        let storage = Arc::new(Storage::open(&dir.path().join("store"), Share::default()).unwrap());
        let writer = Writer::new(storage.clone(), BOOT, &Recovered::default());
        let shared = Arc::new(Shared::new(Parts {
            name: "n1".into(),
            node: NODE,
            boot: BOOT,
            members: Members::new(["n1"]).unwrap(),
            address: None,
            clock: Clock::start(),
            inbox: Arc::new(Inbox::new(64, 1 << 20)),
            storage,
            links: None,
            own: Arc::default(),
            versions: Versions::ALL,
            listeners: Listeners::default(),
            heap: Budget::LITTLE,
        }));
        let events = Arc::new(Mutex::new(Vec::new()));
        let undecided = Arc::new(Mutex::new(undecided));
        let unfinished: Arc<AtomicUsize> = Arc::default();
        let fake = Fake {
            plan,
            seq: 0,
            pending: vec![],
            deadline: None,
            events: events.clone(),
            undecided: undecided.clone(),
            unfinished: unfinished.clone(),
        };
        let recovered = RecoveredLog::default();
        let foundation = Foundation { recovered, seed: 1, joins: false, remove_after: None };
        let node_loop = NodeLoop::new(shared.clone(), Handle::current(), fake, writer, foundation);
        let handle = NodeHandle::new(shared.clone());
        let rig = Self { handle, shared, events, undecided, unfinished, looping: None, _dir: dir };
        (rig, node_loop)
    }

    fn sync(&self) -> SyncThread {
        let inbox = self.shared.inbox.clone();
        let clock = self.shared.clock;
        SyncThread::start(self.shared.storage.clone(), clock, move |_, _| inbox.signal()).unwrap()
    }

    fn submit(&self) -> tokio::task::JoinHandle<Result<TxId, ErrorCode>> {
        let handle = self.handle.clone();
        let deadline = self.shared.clock.deadline_in(Duration::from_secs(10));
        tokio::spawn(async move {
            let outcome = handle.submit(vec![], deadline).await;
            outcome.map(|commit| commit.tx).map_err(|failure| failure.code)
        })
    }

    /// Returns once the loop has gone round.
    async fn turned(&self) {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.push_control(Input::Undecided { reply });
        answer.await.unwrap();
    }

    async fn saw(&self, name: &str) {
        while !self.events.lock().unwrap().contains(&name) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn an_answer_waits_until_its_writes_are_durable() {
    let rig = Rig::start(Plan::Write);
    let answer = rig.submit();
    rig.saw("submit").await;
    assert_eq!(rig.shared.storage.durability().durable(), 0);
    assert!(!answer.is_finished());
    let sync = rig.sync();
    assert_eq!(answer.await.unwrap().unwrap().seq, 1);
    assert!(rig.shared.storage.durability().durable() >= 1);
    sync.stop().unwrap();
}

/// Links are held back by a full inbox, so the loop must not empty it faster than it works.
#[tokio::test]
async fn what_is_not_handled_yet_stays_in_the_inbox() {
    let (rig, mut node_loop) = Rig::at_rest(Plan::Silent, Vec::new());
    let messages = |count: usize| {
        let message = || {
            let (from, message) = (NodeId(2), Message::Low { seq: 1 });
            Input::Message { from, boot: BOOT, cfg: 0, message }
        };
        (0..count).map(|_| message()).collect::<Vec<Input>>()
    };
    rig.shared.inbox.push_messages(&mut messages(3 * BATCH_MAX), 0).await;
    node_loop.turn();
    rig.shared.inbox.push_messages(&mut messages(10), 0).await;
    node_loop.turn();
    assert_eq!((rig.shared.inbox.len(), node_loop.work.len()), (10, BATCH_MAX));
    node_loop.turn();
    node_loop.turn();
    assert_eq!((rig.shared.inbox.len(), node_loop.work.len()), (0, 0));
}

#[tokio::test]
async fn a_message_to_itself_waits_like_any_other() {
    let rig = Rig::start(Plan::SelfMessage);
    let answer = rig.submit();
    rig.saw("submit").await;
    assert!(!rig.events.lock().unwrap().contains(&"message"));
    let sync = rig.sync();
    answer.await.unwrap().unwrap();
    assert_eq!(*rig.events.lock().unwrap(), ["configure", "submit", "message"]);
    sync.stop().unwrap();
}

/// Who does not wait for the outcome is told of the own vote, of the transaction that it asked for,
/// and not before that vote is durable.
///
/// FEATURES: A15
#[tokio::test]
async fn a_vote_is_told_once_it_is_durable() {
    let rig = Rig::start(Plan::Vote);
    let accepted = Arc::new(Notify::new());
    let planned = Planned { ops: vec![], schema: 0, accepted: Some(accepted.clone()) };
    let deadline = rig.shared.clock.deadline_in(Duration::from_secs(10));
    let handle = rig.handle.clone();
    let running = tokio::spawn(async move { Backend::submit(&handle, planned, deadline).await });
    rig.saw("submit").await;
    rig.turned().await;
    let told = accepted.notified();
    tokio::pin!(told);
    let early = tokio::time::timeout(Duration::ZERO, told.as_mut()).await;
    assert!(early.is_err(), "the vote is not durable");
    let sync = rig.sync();
    told.await;
    assert!(!running.is_finished(), "it has no outcome");
    rig.shared.inbox.push_control(Input::Stop { deadline: 0 });
    assert_eq!(running.await.unwrap().unwrap_err().code, ErrorCode::Deadline);
    sync.stop().unwrap();
}

/// The vote for another transaction is not its own.
#[tokio::test]
async fn another_transactions_vote_is_not_told() {
    let (rig, mut node_loop) = Rig::at_rest(Plan::Vote, Vec::new());
    let accepted = Arc::new(Notify::new());
    node_loop.accepting.insert(7, accepted.clone());
    let tx = TxId { node: NODE, boot: BOOT, seq: 8 };
    let vote = |tx, vote| Message::Vote { tx, reply: VoteReply::Vote(vote) };
    node_loop.tell_own_vote(&vote(tx, Vote::Yes));
    assert!(node_loop.accepting.contains_key(&7));
    node_loop.tell_own_vote(&vote(TxId { seq: 7, ..tx }, Vote::Yes));
    assert!(node_loop.accepting.is_empty());
    accepted.notified().await;
    drop(rig);
}

#[tokio::test]
async fn a_deadline_of_the_machine_wakes_the_loop() {
    let rig = Rig::start(Plan::Timer);
    rig.submit().await.unwrap().unwrap();
    assert_eq!(*rig.events.lock().unwrap(), ["configure", "submit", "due"]);
}

#[tokio::test]
async fn stopping_refuses_the_new_and_answers_the_running() {
    let rig = Rig::start(Plan::Write);
    let running = rig.submit();
    rig.saw("submit").await;
    let deadline = rig.shared.clock.now() + 10_000_000;
    rig.shared.inbox.push_control(Input::Stop { deadline });
    while rig.shared.state() != NodeState::ShuttingDown {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.submit().await.unwrap(), Err(ErrorCode::NotReady));
    let sync = rig.sync();
    running.await.unwrap().unwrap();
    rig.looping.unwrap().join().unwrap();
    sync.stop().unwrap();
}

/// FEATURES: S11
#[tokio::test]
async fn who_leaves_goes_on_with_what_was_begun_and_gives_its_clusters_away_behind_it() {
    let rig = Rig::start(Plan::Write);
    let sync = rig.sync();
    rig.shared.running.store(1, Ordering::Release);
    let (left, mut gave) = oneshot::channel();
    let patience = rig.shared.clock.now() + 60_000_000;
    rig.shared.inbox.push_control(Input::Leave { patience, left });
    rig.turned().await;
    rig.turned().await;
    assert_eq!(rig.shared.state(), NodeState::ShuttingDown);
    rig.submit().await.unwrap().unwrap();
    assert!(gave.try_recv().is_err(), "a request runs");
    rig.shared.running.store(0, Ordering::Release);
    gave.await.unwrap();
    sync.stop().unwrap();
}

/// FEATURES: S11
#[tokio::test]
async fn who_leaves_does_not_wait_for_a_slow_request_for_ever() {
    let rig = Rig::start(Plan::Silent);
    rig.shared.running.store(1, Ordering::Release);
    let (left, gave) = oneshot::channel();
    let patience = rig.shared.clock.now() + 20_000;
    rig.shared.inbox.push_control(Input::Leave { patience, left });
    gave.await.unwrap();
    assert!(rig.shared.clock.now() >= patience, "it has had its time");
    assert_eq!(rig.shared.running.load(Ordering::Acquire), 1, "it still runs");
}

/// FEATURES: S11
#[tokio::test]
async fn the_end_waits_for_what_others_would_have_to_find_out() {
    let rig = Rig::start(Plan::Silent);
    rig.unfinished.store(1, Ordering::Relaxed);
    let deadline = rig.shared.clock.now() + 60_000_000;
    rig.shared.inbox.push_control(Input::Stop { deadline });
    rig.turned().await;
    rig.turned().await;
    assert_eq!(rig.shared.state(), NodeState::ShuttingDown);
    rig.unfinished.store(0, Ordering::Relaxed);
    rig.looping.unwrap().join().unwrap();
    assert_eq!(rig.shared.state(), NodeState::Offline);
}

#[tokio::test]
async fn what_is_unanswered_when_the_time_is_over_is_unknown() {
    let rig = Rig::start(Plan::Silent);
    let running = rig.submit();
    rig.saw("submit").await;
    rig.shared.inbox.push_control(Input::Stop { deadline: 0 });
    assert_eq!(running.await.unwrap(), Err(ErrorCode::Deadline));
    assert_eq!(rig.shared.metrics.transactions_unknown.get(), 1);
}

fn left(node: NodeId) -> TxId {
    TxId { node, boot: Boot(0), seq: 1 }
}

#[tokio::test]
async fn a_server_serves_when_its_earlier_boots_are_decided() {
    let (own, other) = (left(NODE), left(NodeId(2)));
    let rig = Rig::starting(Plan::Write, vec![own, other]);
    // The second answer comes from a turn that began after the first one ended.
    rig.turned().await;
    rig.turned().await;
    assert_eq!(rig.shared.state(), NodeState::Starting);
    assert_eq!(rig.submit().await.unwrap(), Err(ErrorCode::NotReady));
    let read = Backend::read_local(&rig.handle, &item()).await;
    assert_eq!(read.unwrap_err().code, ErrorCode::NotReady);
    *rig.undecided.lock().unwrap() = vec![other];
    rig.turned().await;
    rig.turned().await;
    assert_eq!(rig.shared.state(), NodeState::Online);
    assert!(Backend::read_local(&rig.handle, &item()).await.unwrap().is_none());
}

#[tokio::test]
async fn without_a_majority_to_decide_it_serves_after_a_while() {
    let rig = Rig::starting(Plan::Write, vec![left(NODE)]);
    while rig.shared.state() == NodeState::Starting {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(rig.shared.clock.now() >= SETTLE_MAX);
    assert_eq!(rig.shared.state(), NodeState::Online);
    assert_eq!(*rig.undecided.lock().unwrap(), [left(NODE)]);
}

/// A witness drops contents at any time: who reads behind that is told so, and never nothing.
///
/// FEATURES: A2
#[tokio::test]
async fn a_content_that_is_elsewhere_is_refused_and_not_read_as_empty() {
    let (rig, _node_loop) = Rig::at_rest(Plan::Silent, Vec::new());
    let _sync = rig.sync();
    let mut writer = Writer::new(rig.shared.storage.clone(), BOOT, &Recovered::default());
    let (first, second) = (item(), ItemId { key: ItemKey::Record(1), ..item() });
    let stamp = Stamp { version: 3, ..Stamp::ABSENT };
    let here = Committed { stamp, live: true, image: None, elsewhere: None };
    let gone = Committed::without_content(stamp, false, 7);
    let write = |item: &ItemId, committed: &Committed| Write::Item(item.clone(), committed.clone());
    writer.apply(1, &[write(&first, &here), write(&second, &gone)]).unwrap();
    assert_eq!(rig.handle.read_local(&second).await.unwrap(), Some(gone), "a tombstone is whole");
    assert_eq!(rig.handle.scan_local(first.cluster, 0, 9).await.unwrap(), [(0, here)]);
    let dropped = Committed::without_content(stamp, true, 7);
    writer.apply(2, &[write(&second, &dropped)]).unwrap();
    let refused = |error: StorageError| ReadError::from(error).code;
    let read = rig.handle.read_local(&second).await.map_err(refused);
    assert_eq!(read, Err(ErrorCode::NotMaster));
    let scanned = rig.handle.scan_local(first.cluster, 0, 9).await.map_err(refused);
    assert_eq!(scanned, Err(ErrorCode::NotMaster));
}
