//! Plans of the harness, executed: what clients are told, and that it repeats.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test ends it")]

use std::path::PathBuf;

use quorate_sim::stage::execute;
use serde_json::{Value, json};

/// A plan of so many MASTERs and REPLICAs, saved under a name of the test's own.
fn plan(test: &str, masters: usize, replicas: usize, network: Value) -> PathBuf {
    let names = |letter: &str, count| (1..=count).map(|n| format!("{letter}{n}")).collect();
    let (masters, replicas): (Vec<_>, Vec<_>) = (names("n", masters), names("r", replicas));
    let plan = json!({
        "format": 1,
        "seed": 7,
        "topology": { "masters": masters, "replicas": replicas, "write_quorum": "majority" },
        "workload": { "value_bytes": 16 },
        "network": network,
    });
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.json"));
    std::fs::write(&path, plan.to_string()).unwrap();
    path
}

const SECOND: u64 = 1_000_000_000;

fn ask(id: u64, at: u64, node: usize, class: &str, rid: Value) -> String {
    let deadline = at + SECOND;
    json!({ "ask": { "id": id, "at": at, "node": node, "class": class, "rid": rid, "base": null,
        "deadline": deadline } })
    .to_string()
}

fn advance(until: u64) -> String {
    json!({ "advance": { "until": until } }).to_string()
}

/// What is said to these orders, a value a line.
fn told(plan: &std::path::Path, orders: &[String]) -> Vec<Value> {
    let mut told = Vec::new();
    execute(plan.to_str().unwrap(), orders.join("\n").as_bytes(), &mut told).unwrap();
    let text = String::from_utf8(told).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// FEATURES: H4, H11
#[test]
fn clients_are_told_what_servers_of_every_role_hold_and_it_repeats() {
    let path = plan("roles", 3, 20, Value::Null);
    let mut orders = vec![ask(1, SECOND, 0, "create", Value::Null), advance(2 * SECOND)];
    orders.push(ask(2, 2 * SECOND, 1, "update", json!([10, 0])));
    orders.push(advance(3 * SECOND));
    // The last REPLICA is two levels below the MASTERs.
    orders.push(ask(3, 3 * SECOND, 22, "read_local", json!([10, 0])));
    orders.push(advance(4 * SECOND));
    orders.push(ask(4, 4 * SECOND, 2, "delete", json!([10, 0])));
    orders.push(advance(5 * SECOND));
    orders.push(ask(5, 5 * SECOND, 2, "read_majority", json!([10, 0])));
    orders.push(advance(6 * SECOND));
    orders.push("\"end\"".to_owned());
    let first = told(&path, &orders);
    let answer = |nth: usize| &first[nth]["answers"][0];
    assert!((0..5).all(|nth| answer(nth)["outcome"] == "ok"), "{first:?}");
    assert_eq!(answer(0)["rid"], json!([10, 0]), "in the cluster of the MASTER that was asked");
    assert_eq!(answer(2)["seen"], json!({ "value": 2 }));
    assert_eq!(answer(4)["seen"], json!({ "absent": 4 }), "the tombstone's id");
    let end = first.last().unwrap();
    assert_eq!(end["violations"], json!([]), "{end}");
    assert_eq!(told(&path, &orders), first);
}

/// FEATURES: H4
#[test]
fn nothing_is_heard_before_the_ways_of_a_majority_are_over() {
    let places = json!({
        "round_trips_us": [[500, 100_000], [100_000, 500]],
        "places": [0, 1, 1],
        "clients": null,
    });
    let path = plan("ways", 3, 0, places);
    let orders = [ask(1, SECOND, 0, "create", Value::Null), advance(2 * SECOND)];
    let told = told(&path, &orders);
    let took = told[0]["now"].as_u64().unwrap() - SECOND;
    assert_eq!(told[0]["answers"][0]["outcome"], "ok", "{told:?}");
    assert!((100_000_000..110_000_000).contains(&took), "{took} ns");
}

#[test]
fn what_is_no_plan_or_no_order_is_refused_by_name() {
    let path =
        plan("refused", 3, 0, json!({ "round_trips_us": [], "places": [], "clients": null }));
    let refused = |path: &std::path::Path, order: &str| {
        let error = execute(path.to_str().unwrap(), order.as_bytes(), Vec::new()).unwrap_err();
        error.to_string()
    };
    assert!(refused(&path, "").contains("does not fit 3 servers"));
    assert!(refused("/nowhere/plan.json".as_ref(), "").contains("/nowhere/plan.json"));
    let path = plan("orders", 1, 0, Value::Null);
    assert!(refused(&path, "\"begin\"").contains("not an order"));
    let nobody = ask(1, 0, 1, "create", Value::Null);
    assert!(refused(&path, &nobody).contains("no server with index 1"));
}
