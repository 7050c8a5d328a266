//! What servers can do to a client, and what the history says of it: a scripted server that
//! resets, falls silent, sends half a reply or none that makes sense.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod drive_common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use drive_common::pauses::{Witnesses, seconds};
use drive_common::{Run, endpoint, plan};
use quorate::drive::Progress;
use quorate::drive::null_server::NullServer;
use quorate::plan::{LoadMode, OpClass};
use quorate::run::parts::Clock;
use quorate_check::history::{Action, Operation, Outcome, Phase, Seen};
use tokio_util::sync::CancellationToken;

/// How the server treats a request that is not one of the load phase.
#[derive(Debug, Clone, Copy)]
enum Trick {
    /// A reply that is no HTTP.
    Garbage,
    /// This status with this body.
    Say(u16, &'static str),
    HalfThenClose,
    ResetAfterRequest,
    Silence,
    Close,
}

const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 29\r\n\r\n\
    {\"@rid\":\"#12:0\",\"@version\":1}";

/// A server that sets up and loads as it should, and then plays `trick` once per connection.
fn serve(trick: Trick) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            // A connection that says nothing but "stop" ends the server.
            if !converse(stream, trick) {
                return;
            }
        }
    });
    (addr, thread)
}

fn converse(mut stream: TcpStream, trick: Trick) -> bool {
    let mut held = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return true,
            Ok(n) => n,
        };
        held.extend_from_slice(&chunk[..n]);
        if held == b"stop" {
            return false;
        }
        let text = String::from_utf8_lossy(&held).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |length| length.parse().unwrap());
        if body.len() < length {
            continue;
        }
        held.clear();
        if head.starts_with("POST /document") {
            stream.write_all(CREATED.as_bytes()).unwrap();
        } else if head.starts_with("POST") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        } else {
            return play(stream, trick);
        }
    }
}

/// True: go on with the next connection.
fn play(mut stream: TcpStream, trick: Trick) -> bool {
    match trick {
        Trick::Garbage => stream.write_all(b"I am no HTTP server\r\n\r\n").unwrap(),
        Trick::Say(status, body) => {
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}")
                .unwrap();
        }
        Trick::HalfThenClose => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"v\":").unwrap();
        }
        Trick::ResetAfterRequest => {
            // Closing with a zero linger time sends a reset.
            socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
        Trick::Silence => {
            // Until the client has had enough.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
        }
        Trick::Close => {}
    }
    true
}

/// One operation of `class` against a server with that trick.
fn one(class: OpClass, trick: Trick) -> Operation {
    one_at(Clock::start(), class, trick)
}

fn one_at(clock: Clock, class: OpClass, trick: Trick) -> Operation {
    let (addr, thread) = serve(trick);
    let operation = run_one(clock, class, addr, || {});
    TcpStream::connect(addr).unwrap().write_all(b"stop").unwrap();
    thread.join().unwrap();
    operation
}

fn run_one(clock: Clock, class: OpClass, addr: SocketAddr, before_run: impl FnOnce()) -> Operation {
    let run = Run::new(clock);
    let mut plan = plan(10.0, 90);
    plan.workload.records = 1;
    plan.workload.mix = [(class, 1)].into();
    plan.load.timeout_ms = 300;
    plan.load.clients = 0;
    plan.load.mode = match plan.load.mode {
        LoadMode::Open { arrivals, .. } => LoadMode::Open { rate: 10.0, arrivals },
        LoadMode::Closed => LoadMode::Closed,
    };
    let cancel = CancellationToken::new();
    let mut driver = run.driver(&plan, &[endpoint("n1", addr)]);
    driver.prepare().unwrap();
    driver.load(&cancel).unwrap();
    before_run();
    let progress = tokio::sync::watch::Sender::new(Progress::default());
    let start = run.clock.now() + 20_000_000;
    driver.run(start, &cancel, progress).unwrap();
    driver.finish().unwrap();
    let mut operations = run.measured();
    assert_eq!(operations.len(), 1, "{operations:?}");
    operations.remove(0)
}

fn assert_ends(operation: &Operation, outcome: Outcome, code: Option<&str>) {
    assert_eq!((operation.outcome, operation.code.as_deref()), (outcome, code), "{operation:?}");
    assert!(operation.done.unwrap() >= operation.sent && operation.sent >= operation.intended);
}

#[test]
fn a_reset_after_the_request_is_unknown() {
    let operation = one(OpClass::Update, Trick::ResetAfterRequest);
    assert_ends(&operation, Outcome::Unknown, Some("connection_lost"));
}

#[test]
fn an_orderly_close_instead_of_a_reply_is_unknown() {
    let operation = one(OpClass::Update, Trick::Close);
    assert_ends(&operation, Outcome::Unknown, Some("connection_lost"));
}

#[test]
fn half_a_reply_is_unknown() {
    let operation = one(OpClass::ReadLocal, Trick::HalfThenClose);
    assert_ends(&operation, Outcome::Unknown, Some("connection_lost"));
}

#[test]
fn garbage_is_unknown() {
    let operation = one(OpClass::Update, Trick::Garbage);
    assert_ends(&operation, Outcome::Unknown, Some("malformed_reply"));
}

#[test]
fn silence_is_unknown_when_the_client_gives_up_and_counts_as_at_least_the_timeout() {
    let clock = Clock::start();
    let witnesses = Witnesses::start(clock);
    let operation = one_at(clock, OpClass::Update, Trick::Silence);
    assert_ends(&operation, Outcome::Unknown, Some("client_timeout"));
    let done = operation.done.unwrap();
    let waited = seconds(done - operation.sent);
    let paused = witnesses.pauses().within(operation.sent, done);
    assert!((0.3..0.6 + paused).contains(&waited), "{waited} s, {paused} s of them paused");
}

#[test]
fn overload_is_what_the_server_says_it_is() {
    let body = r#"{"errors":[{"errorCode":"overload","outcome":"failed"}]}"#;
    let operation = one(OpClass::Update, Trick::Say(503, body));
    assert_ends(&operation, Outcome::Failed, Some("overload"));
}

#[test]
fn an_error_without_outcome_is_unknown() {
    let operation = one(OpClass::Update, Trick::Say(502, "oops"));
    assert_ends(&operation, Outcome::Unknown, Some("http_502"));
}

#[test]
fn not_found_is_what_a_read_saw() {
    let body = r#"{"errors":[{"errorCode":"not_found","outcome":"failed","tombstone":9}]}"#;
    let operation = one(OpClass::ReadLocal, Trick::Say(404, body));
    assert_ends(&operation, Outcome::Ok, None);
    assert_eq!(operation.steps[0].action, Action::Read(Some(Seen::Absent(Some(9)))));
    assert_eq!(operation.phase, Phase::Measure);
}

#[test]
fn a_refused_connection_has_definitely_failed() {
    // The server is gone when the load begins, and the connection of the load phase with it.
    let server = NullServer::start(Clock::start(), None).unwrap();
    let addr = server.addr();
    let operation = run_one(Clock::start(), OpClass::Update, addr, || {
        server.stop().unwrap();
    });
    assert_ends(&operation, Outcome::Failed, Some("connect_refused"));
}
