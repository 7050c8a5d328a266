//! Quorums of a database that is written to, changed again and again: real servers, one of which is
//! killed in between.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::items::numbers;
use support::people::{start, start_all};
use support::{Server, body, request, status, three_servers, until};

/// Changes in a row, each begun when the one before it is done.
const CHANGES: usize = 20;
const DOCUMENT: &str = "/distributed/database/bench";

/// Inserts records one after the other, each once, whatever is answered; gives those acknowledged.
fn write(address: &str, first: usize, stop: &AtomicBool, count: &AtomicUsize) -> Vec<usize> {
    let mut acknowledged = Vec::new();
    for n in (first..).step_by(3) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let body = format!(r#"{{"@class":"Item","n":{n}}}"#);
        let answer = request(address, "POST", "/document/bench", &body);
        if answer.is_ok_and(|answer| status(&answer) == 201) {
            acknowledged.push(n);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    acknowledged
}

/// Puts the document back with another quorum, as soon as the last change is done.
fn change(server: &Server, quorum: &str) {
    let mut last = String::new();
    until("a change of the quorum", || {
        let Ok(shown) = request(server.address(), "GET", DOCUMENT, "") else { return false };
        let Ok(mut document) = serde_json::from_str::<Value>(body(&shown)) else { return false };
        document["writeQuorum"] = quorum.into();
        let put = request(server.address(), "PUT", DOCUMENT, &document.to_string());
        let put = put.unwrap_or_default();
        let done = status(&put) == 200;
        assert!(done || matches!(status(&put), 409 | 423 | 500 | 503), "{put}");
        last = put;
        done
    });
    assert!(body(&last).contains(&format!("\"writeQuorum\": \"{quorum}\"")), "{last}");
}

/// FEATURES: L7
#[test]
fn quorums_change_under_load_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers = start_all(&arguments);
    servers[0].make_class();
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..3)
        .map(|n| {
            let (address, stop) = (servers[n].address().to_owned(), stop.clone());
            let count = count.clone();
            std::thread::spawn(move || write(&address, n, &stop, &count))
        })
        .collect();
    for round in 0..CHANGES {
        let quorum = ["all", "majority"][round % 2];
        change(&servers[round % 2], quorum);
        let before = count.load(Ordering::Relaxed);
        until("writes", || count.load(Ordering::Relaxed) >= before + 10);
        if round == CHANGES / 2 + 1 {
            // W is a majority now. One change is made without the third server, which comes back on
            // its disk with the one before.
            servers[2].end(Signal::SIGKILL);
            change(&servers[0], "all");
            servers[2] = start(&arguments[2]);
            servers[2].wait_for_all_three();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let written: Vec<Vec<usize>> = writers.into_iter().map(|w| w.join().unwrap()).collect();
    for server in &servers {
        let mut found: Vec<u64> = Vec::new();
        until("every record everywhere", || {
            found = numbers(server).unwrap_or_default();
            let missing = written.iter().flatten();
            missing.copied().all(|n| found.binary_search(&(n as u64)).is_ok())
        });
        let before = found.len();
        found.dedup();
        assert_eq!(found.len(), before, "written twice");
    }
}
