//! A database is deployed to joining servers while clients write: how fast, at what cost to the
//! writers, resumed wherever it is killed, and how little moves when little has changed. Real
//! processes; small here, as large as wanted by `make deploy`.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]
#![allow(clippy::print_stderr, clippy::cast_precision_loss, reason = "it prints figures")]

mod load;
mod losses;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use load::{
    Rids, Writers, assert_equal, cost, costs, is_online, load, metric, mix, received, text, wait,
};
use nix::sys::signal::Signal;
use support::people::{start, start_all};
use support::{Server, joins, status, three_servers, until};

/// Bytes of a record's text.
const TEXT: usize = 4_000;
/// Records a transaction while loading.
const GROUP: u64 = 50;
/// Records asked for at once while comparing.
const PAGE: usize = 200;

/// What a server's log says when a database is copied.
const INSTALLED: &str = "installed database";

/// What is asked for by the environment.
struct Options {
    records: u64,
    kills: usize,
    seed: u64,
    log_entries: u64,
    patience: Duration,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

impl Options {
    fn read() -> Self {
        let kills = usize::try_from(number("QUORATE_DEPLOY_KILLS", 3)).unwrap();
        let seed = number("QUORATE_DEPLOY_SEED", 1);
        Self { kills, seed, ..Self::of(number("QUORATE_DEPLOY_MB", 24)) }
    }

    /// So many MB, and no kills.
    fn of(megabytes: u64) -> Self {
        Self {
            records: megabytes * 1_000_000 / TEXT as u64,
            kills: 0,
            seed: 0,
            log_entries: (megabytes * 2).clamp(200, 1_000),
            patience: Duration::from_secs(60 + megabytes),
        }
    }

    fn bytes(&self) -> u64 {
        self.records * TEXT as u64
    }
}

struct Cluster {
    options: Options,
    servers: Vec<Server>,
    rids: Rids,
}

impl Cluster {
    fn start(dir: &Path, options: Options) -> Self {
        let mut arguments = three_servers(dir);
        for own in &mut arguments {
            own.push(format!("--log-entries-max={}", options.log_entries));
        }
        let servers = start_all(&arguments);
        servers[0].make_class();
        let began = Instant::now();
        let rids = load(&servers, options.records);
        let mb = options.bytes() as f64 / 1e6;
        eprintln!("loaded {} records, {mb:.0} MB, in {:.1?}", rids.len(), began.elapsed());
        Self { options, servers, rids }
    }

    fn seed(&self) -> &str {
        self.servers[1].line["peer"].as_str().unwrap()
    }

    /// A server joins, and is left in peace.
    fn join(&self, dir: &Path, writers: &Writers) -> Server {
        let masters: Vec<&Server> = self.servers.iter().collect();
        let before = costs(&masters);
        let began = Instant::now();
        let joined = start(&joins(dir, "n4", self.seed()));
        wait("the copy", self.options.patience, || joined.log().contains(INSTALLED));
        let copied = began.elapsed();
        wait("n4 ONLINE", self.options.patience, || is_online(&joined));
        let took = began.elapsed();
        writers.say("during the deployment");
        let mb = metric(&joined, "quorate_copied_bytes_total") as f64 / 1e6;
        eprintln!(
            "deployed {mb:.1} MB: copied in {copied:.1?} ({:.1} MB/s), ONLINE after {took:.1?} \
             ({:.1} MB/s); {:.1} MB received, items fetched singly: {}",
            mb / copied.as_secs_f64(),
            mb / took.as_secs_f64(),
            received(&joined) as f64 / 1e6,
            metric(&joined, "quorate_align_fetched_total"),
        );
        let both = costs(&masters).into_iter().zip(before);
        for (name, ((cpu, memory), (earlier, _))) in ["n1", "n2", "n3"].into_iter().zip(both) {
            eprintln!("{name}: {:.1} s of processor time, at most {memory} MB", cpu - earlier);
        }
        let (cpu, memory) = cost(&joined);
        eprintln!("n4: {cpu:.1} s of processor time, at most {memory} MB");
        for line in joined.log().lines().filter(|line| line.contains("database '")) {
            eprintln!("n4 says: {line}");
        }
        joined
    }

    /// Bytes of chunks that these servers sent, compressed.
    fn sent(&self) -> u64 {
        self.servers.iter().map(|s| metric(s, "quorate_chunk_bytes_sent_total")).sum()
    }

    /// A server joins, and is killed again and again.
    fn join_killed(&self, dir: &Path, writers: &Writers) -> Server {
        let arguments = joins(dir, "n5", self.seed());
        let (size, kills) = (self.options.bytes(), self.options.kills as u64);
        let (sent_before, written_before) = (self.sent(), writers.written());
        let mut joined = start(&arguments);
        let (mut before, mut fetched, mut within) = (0, 0, 0);
        for kill in 0..kills {
            // Somewhere in each of equal parts.
            let part = size / kills;
            let at = part * kill + mix(self.options.seed * 1_000 + kill) % part;
            let (mut copied, mut singly) = (0, 0);
            wait("a point to kill at", self.options.patience, || {
                copied = copied.max(metric(&joined, "quorate_copied_bytes_total"));
                singly = singly.max(metric(&joined, "quorate_align_fetched_total"));
                before + copied >= at || is_online(&joined)
            });
            joined.end(Signal::SIGKILL);
            joined.wait_end_of_log();
            (before, fetched) = (before + copied, fetched + singly);
            let is_within = copied > 0 && !joined.log().contains(INSTALLED);
            within += u64::from(is_within);
            eprintln!("killed with {:.1} MB copied in all", before as f64 / 1e6);
            joined = start(&arguments);
        }
        wait("n5 ONLINE", self.options.patience, || is_online(&joined));
        fetched += metric(&joined, "quorate_align_fetched_total");
        let (sent, written) = (self.sent() - sent_before, writers.written());
        eprintln!(
            "after {kills} kills, {within} of them within the copy: {:.1} MB sent of {:.1} MB, {} \
             records written meanwhile, items fetched singly: {fetched}",
            sent as f64 / 1e6,
            (size + written * TEXT as u64) as f64 / 1e6,
            written - written_before,
        );
        assert!(kills == 0 || within > 0, "no kill came before all was copied");
        // What a copy does not go on with is fetched item by item: it must have gone on.
        let (first, meanwhile) = (size + written_before * TEXT as u64, written - written_before);
        assert!(sent > first - first / 20, "only {sent} bytes of {first} came in chunks");
        assert!(fetched < meanwhile + self.options.records / 20, "{fetched} items came singly");
        // What was not durable yet is copied again.
        let there = size + written * TEXT as u64 + size / 4;
        assert!(sent < there + kills * (2 << 20), "{sent} bytes sent of {size}, {written} written");
        joined
    }

    /// A server is left behind while one record of a hundred changes.
    fn delta(&self, dir: &Path, mut behind: Server) -> Server {
        assert!(behind.end(Signal::SIGTERM).success());
        let passed =
            || -> u64 { self.servers.iter().map(|s| metric(s, "quorate_passed_over_total")).sum() };
        let before = passed();
        let count = self.options.records / 100;
        let step = self.options.records / count;
        for n in 0..count {
            let of = n * step + mix(self.options.seed + n) % step;
            let rid = self.rids[&of].trim_start_matches('#');
            let changed =
                format!(r#"{{"@class":"Item","n":{of},"t":"{}"}}"#, text(of + 1_000_000_007));
            let path = format!("/document/bench/{rid}");
            until("an update", || {
                matches!(status(&self.servers[0].http("PUT", &path, &changed)), 200..300)
            });
        }
        // Until the logs do not go back far enough.
        let mut touched = 0;
        wait("n4 passed over", self.options.patience, || {
            let path = format!("/document/bench/{}", self.rids[&0].trim_start_matches('#'));
            for _ in 0..50 {
                touched += 1;
                let changed = format!(r#"{{"@class":"Item","n":0,"t":"{touched}"}}"#);
                self.servers[0].http("PUT", &path, &changed);
            }
            passed() > before
        });
        let began = Instant::now();
        let back = start(&joins(dir, "n4", self.seed()));
        wait("n4 aligned", self.options.patience, || {
            back.log().contains("aligned with a majority")
        });
        let took = began.elapsed();
        let changed = count * TEXT as u64;
        let moved = received(&back);
        eprintln!(
            "delta after {count} of {} records ({:.2} MB) changed: {:.2} MB received, {:.2} % of \
             all, {took:.1?}, items fetched: {}",
            self.options.records,
            changed as f64 / 1e6,
            moved as f64 / 1e6,
            100.0 * moved as f64 / self.options.bytes() as f64,
            metric(&back, "quorate_align_fetched_total"),
        );
        assert_eq!(metric(&back, "quorate_copied_bytes_total"), 0, "nothing is copied again");
        assert!(moved < 4 * changed + (1 << 20), "{moved} bytes for {changed}");
        back
    }
}

/// FEATURES: S8, S10, L9
#[test]
fn a_database_is_deployed_while_clients_write() {
    let dir = tempfile::Builder::new().prefix("deploy-").tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), Options::read());
    let patience = cluster.options.patience;
    let writers = Writers::on(&cluster.servers, 1 << 40);
    // How long latencies are measured before anybody joins.
    std::thread::sleep(Duration::from_secs(if cluster.options.records > 50_000 { 10 } else { 1 }));
    writers.say("before");
    let joined = cluster.join(dir.path(), &writers);
    let killed = cluster.join_killed(dir.path(), &writers);
    writers.say("while a server is killed");
    let written = writers.end();
    eprintln!("{} records written meanwhile", written.len());
    cluster.rids.extend(written);
    let all: Vec<&Server> = cluster.servers.iter().chain([&joined, &killed]).collect();
    assert_equal(&all, &cluster.rids, patience);
    let joined = cluster.delta(dir.path(), joined);
    let all: Vec<&Server> = cluster.servers.iter().chain([&joined, &killed]).collect();
    assert_equal(&all, &cluster.rids, patience);
    eprintln!("equal on all five");
}
