//! A server is cut off from the others without a sign and returns, as in the original's tests of
//! split brains (chaos/SCENARIOS.md). Real processes; bytes between them wait in the test's hand.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::people::{
    ask, assert_same, create_people, done, people, person, start_all, stop_all, write_on,
};
use support::wire::{Wire, hold, wires_around_the_last};
use support::{Server, servers_of, until};

/// The states that a server shows of all, in their order.
fn states(server: &Server) -> Vec<String> {
    let status = done(server, "GET", "/distributed/node", "");
    let members = status["members"].as_array().unwrap();
    let state = |member: &Value| member["status"].as_str().unwrap().to_owned();
    members.iter().map(state).collect()
}

/// Waits until both sides know: each shows itself ONLINE and the other one NOT_AVAILABLE.
fn await_split(servers: &[Server]) {
    let last = servers.len() - 1;
    for (index, server) in servers.iter().enumerate() {
        let is_here = |other: usize| (index == last) == (other == last);
        let shown = |other| if is_here(other) { "ONLINE" } else { "NOT_AVAILABLE" };
        let expected: Vec<&str> = (0..=last).map(shown).collect();
        until("a split in the picture", || states(server) == expected);
    }
}

fn assert_refuses(server: &Server) {
    let refused = ask(server, "POST", "/document/bench", &person("nobody"));
    assert!(refused.code() == "no_quorum" && refused.is_retryable(), "{refused:?}");
    let refused = ask(server, "POST", "/class/bench/Late", "");
    assert!(refused.code() == "no_quorum" && refused.is_retryable(), "{refused:?}");
}

/// After the heal: everybody writes at once, and all are the same.
fn assert_heals(servers: &[Server], mut names: BTreeSet<String>) {
    names.extend(write_on(servers, "healed"));
    assert_same(servers, &names);
    for server in servers {
        until("everybody is back", || states(server).iter().all(|state| state == "ONLINE"));
    }
}

/// SplitBrainNetwork3StaticServers, SplitBraiNetwork: the lonely one refuses writes and keeps what
/// it had, the others go on.
///
/// FEATURES: A12, S11
#[test]
fn one_of_three_cut_off_keeps_what_it_had_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments = servers_of(dir.path(), ["n1", "n2", "n3"]);
    let wires = wires_around_the_last(&mut arguments);
    let servers = start_all(&arguments);
    create_people(&servers, 0, "majority");
    let mut names = write_on(&servers, "whole");
    assert_same(&servers, &names);
    hold(&wires, true);
    await_split(&servers);
    assert_refuses(&servers[2]);
    let before = people(&servers[2]);
    names.extend(write_on(&servers[..2], "split"));
    assert_same(&servers[..2], &names);
    assert_eq!(people(&servers[2]), before);
    assert_refuses(&servers[2]);
    hold(&wires, false);
    assert_heals(&servers, names);
    stop_all(servers);
}

/// SplitBrainNetwork2DynamicServers: neither of two is a majority, and what both refused is never
/// seen.
///
/// FEATURES: A12, S11
#[test]
fn two_that_do_not_see_each_other_both_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments = servers_of(dir.path(), ["n1", "n2"]);
    let wires = wires_around_the_last(&mut arguments);
    let servers = start_all(&arguments);
    create_people(&servers, 0, "majority");
    let names = write_on(&servers, "whole");
    assert_same(&servers, &names);
    hold(&wires, true);
    await_split(&servers);
    for server in &servers {
        assert_refuses(server);
        // Reads go on.
        assert_eq!(people(server).len(), names.len());
    }
    hold(&wires, false);
    assert_heals(&servers, names);
    stop_all(servers);
}

/// Leads every link through a wire: (from, to) → wire.
fn wires_everywhere(arguments: &mut [Vec<String>]) -> BTreeMap<(usize, usize), Wire> {
    let mut wires = BTreeMap::new();
    for (from, arguments) in arguments.iter_mut().enumerate() {
        for argument in arguments.iter_mut() {
            let Some(peer) = argument.strip_prefix("--dial=n") else { continue };
            let to: usize = peer.split('=').next().unwrap().parse().unwrap();
            wires.insert((from, to - 1), Wire::through(argument));
        }
    }
    assert_eq!(wires.len(), 6);
    wires
}

/// A bridge: whoever leads the control plane and one other do not hear each other, the third one
/// hears both. What the other has to have agreed on is, and it is told what others agree on.
///
/// FEATURES: A12
#[test]
fn a_server_that_cannot_reach_the_leader_makes_classes_and_records_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments = servers_of(dir.path(), ["n1", "n2", "n3"]);
    let wires = wires_everywhere(&mut arguments);
    let servers = start_all(&arguments);
    create_people(&servers, 0, "majority");
    let leads = |server: &Server| {
        server.http("GET", "/metrics", "").contains("\nquorate_control_leads 1\n")
    };
    let leader = servers.iter().position(leads).unwrap();
    let other = (leader + 1) % 3;
    for way in [(leader, other), (other, leader)] {
        wires[&way].hold(true);
    }
    until("the leader out of sight", || states(&servers[other])[leader] == "NOT_AVAILABLE");
    for (on, name) in [(other, "There"), (leader, "Here")] {
        done(&servers[on], "POST", &format!("/class/bench/{name}"), "");
        let body = format!(r#"{{"@class":"{name}"}}"#);
        // Its first positions: they are granted by the log.
        done(&servers[other], "POST", "/document/bench", &body);
    }
    for way in [(leader, other), (other, leader)] {
        wires[&way].hold(false);
    }
    assert_heals(&servers, BTreeSet::new());
    stop_all(servers);
}
