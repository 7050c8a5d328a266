//! What a copy survives besides kills while it runs: the loss of the server that it comes from, and
//! a kill between its end and ONLINE.

use nix::sys::signal::Signal;

use super::load::{assert_equal, is_online, metric, wait};
use super::support::joins;
use super::support::people::start;
use super::{Cluster, INSTALLED, Options};

/// Pause between two questions of comparing, long enough to be killed in it.
const SLOWLY: &str = "--align-pause-ms=500";

/// FEATURES: S8, S10, L9
#[test]
fn a_copy_goes_on_without_its_source_and_is_kept_while_it_is_compared() {
    let dir = tempfile::Builder::new().prefix("deploy-").tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), Options::of(24));
    let (size, patience) = (cluster.options.bytes(), cluster.options.patience);
    let seed = cluster.seed().to_owned();
    let arguments = joins(dir.path(), "n4", &seed);
    let slowly = [arguments.clone(), vec![SLOWLY.to_owned()]].concat();
    let mut joined = start(&slowly);
    wait("a part of the copy", patience, || {
        metric(&joined, "quorate_copied_bytes_total") > size / 10
    });
    let sent = |s: &_| metric(s, "quorate_chunk_bytes_sent_total");
    let source = (0..3).max_by_key(|n| sent(&cluster.servers[*n])).unwrap();
    let mut source = cluster.servers.remove(source);
    source.end(Signal::SIGKILL);
    let before = metric(&joined, "quorate_copied_bytes_total");
    assert!(before < size - size / 10, "the source died too late: {before} bytes were copied");

    wait("the copy", patience, || joined.log().contains(INSTALLED));
    joined.end(Signal::SIGKILL);
    joined.wait_end_of_log();
    assert!(joined.log().contains("from now on"), "another source gave the rest");
    assert!(!is_online(&joined), "the kill came too late");
    let others: u64 = cluster.servers.iter().map(sent).sum();
    assert!(before + others > size - size / 10, "{others} bytes came from others");

    let joined = start(&arguments);
    wait("n4 ONLINE", patience, || is_online(&joined));
    let [copied, fetched] = ["quorate_copied_bytes_total", "quorate_align_fetched_total"]
        .map(|name| metric(&joined, name));
    eprintln!(
        "source killed at {before} of {size} bytes, others sent {others}; killed while comparing, \
         then {copied} bytes were copied, and {fetched} items came singly"
    );
    assert_eq!(copied, 0, "what is copied is not copied again");
    assert!(fetched < cluster.options.records / 100, "{fetched} items were fetched again");
    let all: Vec<_> = cluster.servers.iter().chain([&joined]).collect();
    assert_equal(&all, &cluster.rids, patience);
}
