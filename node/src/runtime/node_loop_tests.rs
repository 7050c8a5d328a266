//! The loop with a machine that does what the test says.

use std::sync::Mutex;

use quorate_api::{ClusterKey, Committed, ItemId, Stamp, TxId};
use quorate_control::members::Members;
use quorate_protocol::io::{Recovered, Write};
use quorate_protocol::message::LogPosition;

use super::*;
use crate::clock::Clock;
use crate::runtime::handle::{NodeHandle, Parts};
use crate::runtime::inbox::Inbox;
use crate::runtime::storage::{Storage, SyncThread};

const NODE: NodeId = NodeId(1);
const BOOT: Boot = Boot(1);

/// What the fake does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Plan {
    /// Writes, and answers when that is durable.
    Write,
    /// Writes, sends itself a message when that is durable, answers on the message.
    SelfMessage,
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
        let committed = Committed { stamp, live: true, image: None };
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
                assert_eq!(placements.len(), 1);
                "configure"
            }
            Event::Read(_)
            | Event::Session(_)
            | Event::Message { .. }
            | Event::Peer { .. }
            | Event::Tick => return,
        };
        self.events.lock().unwrap().push(name);
    }

    fn undecided(&self) -> Vec<TxId> {
        Vec::new()
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.deadline
    }
}

struct Rig {
    handle: NodeHandle,
    shared: Arc<Shared>,
    events: Arc<Mutex<Vec<&'static str>>>,
    looping: std::thread::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn start(plan: Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = Arc::new(Storage::open(&dir.path().join("store")).unwrap());
        let writer = Writer::new(storage.clone(), BOOT, &Recovered::default());
        let shared = Arc::new(Shared::new(Parts {
            name: "n1".into(),
            node: NODE,
            boot: BOOT,
            members: Members::new(["n1"]).unwrap(),
            clock: Clock::start(),
            inbox: Arc::new(Inbox::default()),
            storage,
            links: None,
        }));
        let events = Arc::new(Mutex::new(Vec::new()));
        let fake = Fake { plan, seq: 0, pending: vec![], deadline: None, events: events.clone() };
        let node_loop = NodeLoop::new(shared.clone(), Handle::current(), fake, writer);
        let looping = std::thread::spawn(move || node_loop.run());
        while shared.state() == NodeState::Starting {
            std::thread::yield_now();
        }
        Self { handle: NodeHandle::new(shared.clone()), shared, events, looping, _dir: dir }
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
    rig.looping.join().unwrap();
    sync.stop().unwrap();
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
