//! Servers that do not belong to the cluster: refused, said on both sides, nothing given away.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use nix::sys::signal::Signal;
use support::{Server, three_servers};

const DIFFER: &str = "cluster name or password differ";

fn start(password: &str, arguments: &[String]) -> Server {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Server::start_with(password, &[], &arguments)
}

/// Three servers on one host, told apart by their ports only.
///
/// FEATURES: S7
#[test]
fn who_has_another_password_or_cluster_name_stays_out_until_it_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut good: Vec<Server> = arguments[..2].iter().map(|a| start("secret", a)).collect();
    for server in &good {
        server.wait_log("peer up");
    }
    let other_cluster: Vec<String> =
        arguments[2].iter().map(|a| a.replace("cluster-name=bench", "cluster-name=prod")).collect();
    let strangers = [("guessed", &arguments[2]), ("secret", &other_cluster)];
    for (round, (password, arguments)) in strangers.into_iter().enumerate() {
        let mut stranger = start(password, arguments);
        stranger.wait_log(&format!("refused by the other side: {DIFFER}"));
        stranger.wait_log(&format!("refused: {DIFFER}"));
        for server in &good {
            server.wait_log_times(&format!("refused: {DIFFER}"), round + 1);
        }
        let health = stranger.http("GET", "/health", "");
        assert!(health.contains("never met so far: n1, n2"), "{health}");
        for server in good.iter().chain([&stranger]) {
            let log = server.log();
            assert!(!log.contains("secret") && !log.contains("guessed"), "{log}");
        }
        // Which of the two differs is nobody's business.
        assert!(!stranger.log().contains("bench") && !good[0].log().contains("prod"));
        assert!(stranger.end(Signal::SIGTERM).success());
    }
    let health = good[0].http("GET", "/health", "");
    assert!(health.contains("never met so far: n3"), "{health}");
    good.push(start("secret", &arguments[2]));
    for server in &mut good {
        server.wait_for_all_three();
        assert!(server.end(Signal::SIGTERM).success());
    }
}
