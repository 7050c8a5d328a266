//! A database is deployed to joining servers while clients write: how fast, at what cost to the
//! writers, resumed wherever it is killed, and how little moves when little has changed. Real
//! processes; small here, as large as wanted by `make deploy`.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]
#![allow(clippy::print_stderr, clippy::cast_precision_loss, reason = "it prints figures")]

mod support;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::people::{start, start_all};
use support::{ONLINE, Server, body, joins, json_of, request, status, three_servers, until};

/// Bytes of a record's text.
const TEXT: usize = 4_000;
/// Records a transaction while loading.
const GROUP: u64 = 50;
/// Records asked for at once while comparing.
const PAGE: usize = 200;

/// What is asked for by the environment.
struct Options {
    records: u64,
    kills: usize,
    seed: u64,
    log_entries: u64,
    patience: Duration,
}

impl Options {
    fn read() -> Self {
        let number = |name: &str, default: u64| {
            std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
        };
        let megabytes = number("QUORATE_DEPLOY_MB", 24);
        Self {
            records: megabytes * 1_000_000 / TEXT as u64,
            kills: usize::try_from(number("QUORATE_DEPLOY_KILLS", 3)).unwrap(),
            seed: number("QUORATE_DEPLOY_SEED", 1),
            log_entries: (megabytes * 2).clamp(200, 1_000),
            patience: Duration::from_secs(60 + megabytes),
        }
    }

    fn bytes(&self) -> u64 {
        self.records * TEXT as u64
    }
}

/// A generator without memory: the same number gives the same word.
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Text that hardly compresses.
fn text(seed: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let words = (0..).map(|n| mix(seed.wrapping_mul(0x1_0000).wrapping_add(n)));
    let letters = words.flat_map(|word| (0..10).map(move |at| (word >> (6 * at)) & 63));
    letters.take(TEXT).map(|at| LETTERS[usize::try_from(at).unwrap()] as char).collect()
}

fn wait(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A counter of a server, over all its labels; 0 while it says nothing.
fn metric(server: &Server, name: &str) -> u64 {
    let answer = request(server.address(), "GET", "/metrics", "").unwrap_or_default();
    let of = |line: &&str| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']);
    let value = |line: &str| line.rsplit(' ').next().and_then(|text| text.parse().ok());
    body(&answer).lines().filter(of).map(|line| value(line).unwrap_or(0)).sum()
}

/// Bytes that came over links.
fn received(server: &Server) -> u64 {
    let answer = request(server.address(), "GET", "/metrics", "").unwrap_or_default();
    let lines = body(&answer).lines().filter(|line| line.starts_with("quorate_link_bytes_total"));
    let lines = lines.filter(|line| line.contains("direction=\"received\""));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Seconds of processor time so far, and the most memory ever, in MB.
fn cost(server: &Server) -> (f64, u64) {
    let read = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", server.id()));
    let stat = read("stat").unwrap();
    let ticks: Vec<f64> = stat.split(' ').skip(13).take(2).map(|t| t.parse().unwrap()).collect();
    let text = read("status").unwrap();
    let most = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kb: u64 = most.split_whitespace().next().unwrap().parse().unwrap();
    (ticks.iter().sum::<f64>() / 100.0, kb / 1024)
}

fn costs(servers: &[&Server]) -> Vec<(f64, u64)> {
    servers.iter().map(|server| cost(server)).collect()
}

/// Ids of records, by what the writers called them.
type Rids = BTreeMap<u64, String>;

fn insert(numbers: impl Iterator<Item = u64>) -> String {
    let one = |n: u64| {
        let text = text(n);
        format!(r#"{{"type":"c","record":{{"@class":"Item","n":{n},"t":"{text}"}}}}"#)
    };
    let operations: Vec<String> = numbers.map(one).collect();
    format!(r#"{{"transaction":true,"operations":[{}]}}"#, operations.join(","))
}

/// Writes one transaction, again until it is done; gives the ids.
fn write(address: &str, numbers: &[u64]) -> Rids {
    let mut rids = Rids::new();
    until("a write", || {
        let sent = insert(numbers.iter().copied());
        let answer = request(address, "POST", "/batch/bench", &sent).unwrap_or_default();
        if status(&answer) != 200 {
            return false;
        }
        let done = json_of(&answer);
        let of = |done: &serde_json::Value| done["@rid"].as_str().unwrap().to_owned();
        let all = done["operations"].as_array().unwrap().iter().map(of);
        rids = numbers.iter().copied().zip(all).collect();
        true
    });
    rids
}

fn load(servers: &[Server], records: u64) -> Rids {
    let groups: Vec<Vec<u64>> =
        (0..records).collect::<Vec<_>>().chunks(GROUP as usize).map(<[u64]>::to_vec).collect();
    std::thread::scope(|scope| {
        let groups = &groups;
        let running: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(index, server)| {
                scope.spawn(move || {
                    let own = groups.iter().skip(index).step_by(servers.len());
                    own.flat_map(|group| write(server.address(), group)).collect::<Rids>()
                })
            })
            .collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// A writer on each server, with a short pause behind each record.
struct Writers {
    stop: Arc<AtomicBool>,
    took: Arc<Mutex<Vec<Duration>>>,
    running: Vec<JoinHandle<Rids>>,
}

impl Writers {
    fn on(servers: &[Server], first: u64) -> Self {
        let (stop, took) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let writer = |(index, server): (u64, &Server)| {
            let (stop, took) = (stop.clone(), Arc::<Mutex<Vec<Duration>>>::clone(&took));
            let address = server.address().to_owned();
            std::thread::spawn(move || {
                let mut rids = Rids::new();
                for n in (first + index..).step_by(3) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let began = Instant::now();
                    rids.extend(write(&address, &[n]));
                    took.lock().unwrap().push(began.elapsed());
                    std::thread::sleep(Duration::from_millis(10));
                }
                rids
            })
        };
        Self { running: (0..).zip(servers).map(writer).collect(), stop, took }
    }

    /// How long writes took since the last call.
    fn say(&self, when: &str) {
        let mut took = std::mem::take(&mut *self.took.lock().unwrap());
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
        assert!(!took.is_empty(), "nothing was written {when}");
        eprintln!(
            "writers {when}: {} writes, p50 {:?}, p99 {:?}, max {:?}",
            took.len(),
            at(50),
            at(99),
            at(100)
        );
    }

    fn end(self) -> Rids {
        self.stop.store(true, Ordering::Relaxed);
        self.running.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    }
}

/// One number for all records as a server itself has them; `None` while it says nothing.
fn digest(server: &Server, rids: &[String]) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    for page in rids.chunks(PAGE) {
        let text = format!("SELECT @rid, @version, n, t FROM [{}]", page.join(","));
        let answer = request(server.address(), "POST", "/command/bench/sql", &text).ok()?;
        if status(&answer) != 200 {
            return None;
        }
        let rows = json_of(&answer);
        let rows = rows["result"].as_array()?;
        assert!(rows.len() <= page.len());
        rows.len().hash(&mut hasher);
        rows.iter().for_each(|row| row.to_string().hash(&mut hasher));
    }
    Some(hasher.finish())
}

fn assert_equal(servers: &[&Server], rids: &Rids, patience: Duration) {
    let rids: Vec<String> = rids.values().cloned().collect();
    wait("the same on every server", patience, || {
        let all: Vec<_> = std::thread::scope(|scope| {
            let running = servers.iter().map(|server| scope.spawn(|| digest(server, &rids)));
            running.collect::<Vec<_>>().into_iter().map(|one| one.join().unwrap()).collect()
        });
        all[0].is_some() && all.windows(2).all(|two| two[0] == two[1])
    });
}

fn is_online(server: &Server) -> bool {
    server.log().contains(ONLINE)
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
        wait("the copy", self.options.patience, || joined.log().contains("installed database"));
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
        for (server, ((cpu, memory), (earlier, _))) in
            masters.iter().zip(costs(&masters).into_iter().zip(before))
        {
            let name = &server.line["name"];
            eprintln!("{name}: {:.1} s of processor time, at most {memory} MB", cpu - earlier);
        }
        let (cpu, memory) = cost(&joined);
        eprintln!("n4: {cpu:.1} s of processor time, at most {memory} MB");
        for line in joined.log().lines().filter(|line| line.contains("database '")) {
            eprintln!("n4 says: {line}");
        }
        joined
    }

    /// A server joins, and is killed again and again.
    fn join_killed(&self, dir: &Path) -> Server {
        let arguments = joins(dir, "n5", self.seed());
        let (size, kills) = (self.options.bytes(), self.options.kills as u64);
        let mut joined = start(&arguments);
        let mut before = 0;
        for kill in 0..kills {
            // Somewhere in each of equal parts.
            let part = size / kills;
            let at = part * kill + mix(self.options.seed * 1_000 + kill) % part;
            let mut copied = 0;
            wait("a point to kill at", self.options.patience, || {
                copied = copied.max(metric(&joined, "quorate_copied_bytes_total"));
                before + copied >= at || is_online(&joined)
            });
            joined.end(Signal::SIGKILL);
            before += copied;
            eprintln!("killed with {:.1} MB copied in all", before as f64 / 1e6);
            joined = start(&arguments);
        }
        wait("n5 ONLINE", self.options.patience, || is_online(&joined));
        let all = before + metric(&joined, "quorate_copied_bytes_total");
        let again = all as f64 / size as f64;
        eprintln!(
            "after {kills} kills: {:.1} MB copied, {again:.3} times what there is",
            all as f64 / 1e6
        );
        // What was not durable yet is copied again, and what was written meanwhile is copied, too.
        let slack = size / 4 + kills * (2 << 20);
        assert!(all < size + slack, "{all} bytes were copied of {size}");
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
            until("an update", || status(&self.servers[0].http("PUT", &path, &changed)) == 200);
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
            "delta after {count} of {} records ({:.2} MB) changed: {:.2} MB received, {:.2} % of all, \
             {took:.1?}, items fetched: {}",
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
    std::thread::sleep(Duration::from_secs(if cluster.options.records > 50_000 { 10 } else { 1 }));
    writers.say("before");
    let joined = cluster.join(dir.path(), &writers);
    let killed = cluster.join_killed(dir.path());
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
