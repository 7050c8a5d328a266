//! Edges between packages (DESIGN.md section 2), transitive ones included, read from `cargo
//! metadata`.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// (package, packages it must never reach, why). Features are unified over the workspace, so the
/// operating system's generator shows up behind `rand_core` although the machine cannot name it.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "quorate",
        &["quorate-protocol", "quorate-control", "quorate-sim", "quorate-node", "quorate-proxy"],
        "the judge may not use the accused's arithmetic; other programs are started as processes",
    ),
    ("quorate-node", &["quorate", "quorate-check", "quorate-sim"], "the accused may not judge"),
    (
        "quorate-sim",
        &["quorate-node", "quorate", "tokio"],
        "the simulator runs machines, not shells",
    ),
    ("quorate-proxy", OTHERS_OF_THE_PROXY, "the proxy moves bytes and knows nobody"),
    ("quorate-check", OTHERS_OF_THE_CHECKERS, "checkers are pure"),
    ("quorate-api", &["tokio", "rand", "getrandom", "std-detect"], "words only"),
    ("quorate-protocol", &["tokio", "rand", "quorate-control"], "no I/O, no chance"),
    ("quorate-control", &["tokio", "quorate-node"], "no I/O"),
];

/// Everything of Quorate but the proxy.
const OTHERS_OF_THE_PROXY: &[&str] = &[
    "quorate",
    "quorate-node",
    "quorate-api",
    "quorate-protocol",
    "quorate-control",
    "quorate-sim",
    "quorate-check",
];

/// Everything of Quorate but the checkers, and the runtime.
const OTHERS_OF_THE_CHECKERS: &[&str] = &[
    "tokio",
    "quorate",
    "quorate-node",
    "quorate-api",
    "quorate-protocol",
    "quorate-control",
    "quorate-sim",
    "quorate-proxy",
];

/// Packages that cannot name files, sockets, clocks or threads.
const NO_STD: &[&str] = &["node/api", "node/protocol", "node/control"];

/// Normal and build dependencies of every package, by name.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = super::root().join("Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).exec().expect("cargo metadata");
    let names: BTreeMap<_, _> =
        metadata.packages.iter().map(|p| (p.id.clone(), p.name.to_string())).collect();
    let resolve = metadata.resolve.expect("a resolved graph");
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in resolve.nodes {
        let edges = graph.entry(names[&node.id].clone()).or_default();
        for dep in node.deps {
            if dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development) {
                edges.insert(names[&dep.pkg].clone());
            }
        }
    }
    graph
}

/// The path from one package to another, if there is one.
fn path(graph: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> Option<Vec<String>> {
    let mut paths = vec![vec![from.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(path) = paths.pop() {
        let last = path.last().expect("never empty").clone();
        if last == to && path.len() > 1 {
            return Some(path);
        }
        for next in graph.get(&last).into_iter().flatten() {
            if seen.insert(next.clone()) {
                paths.push([path.as_slice(), std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

#[test]
fn forbidden_edges_do_not_exist() {
    let graph = graph();
    let mut found = Vec::new();
    for (from, targets, why) in FORBIDDEN {
        assert!(graph.contains_key(*from), "no package {from}");
        for to in *targets {
            if let Some(path) = path(&graph, from, to) {
                found.push(format!("{} ({why})", path.join(" → ")));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_search_finds_transitive_edges() {
    let edge = |to: &str| BTreeSet::from([to.to_owned()]);
    let graph = BTreeMap::from([
        ("a".to_owned(), edge("b")),
        ("b".to_owned(), edge("c")),
        ("c".to_owned(), edge("a")),
    ]);
    assert_eq!(path(&graph, "a", "c").expect("there is one").join(""), "abc");
    assert_eq!(path(&graph, "a", "d"), None);
}

/// The control plane's log library draws election time-outs from an ambient generator. They are
/// replaced before they are used (`plane::tests::same_seed_same_trace_whatever_thread_draws`);
/// nobody else brings chance in.
#[test]
fn chance_reaches_the_control_plane_through_its_log_library_alone() {
    let mut graph = graph();
    assert!(path(&graph, "quorate-control", "rand").is_some(), "then this test can go");
    graph.remove("raft");
    assert_eq!(path(&graph, "quorate-control", "rand"), None);
}

#[test]
fn wanted_edges_exist() {
    let graph = graph();
    assert!(
        graph["quorate-sim"].contains("quorate-check"),
        "the simulator is judged by the checkers"
    );
    assert!(graph["quorate-sim"].contains("quorate-protocol"), "the simulator runs the machine");
}

#[test]
fn pure_packages_are_no_std() {
    for package in NO_STD {
        let lib = super::root().join(package).join("src/lib.rs");
        let text = std::fs::read_to_string(&lib).expect("a lib.rs");
        let marked =
            text.contains("#![no_std]") || text.contains("#![cfg_attr(not(test), no_std)]");
        assert!(marked, "{} is not no_std", lib.display());
    }
}
