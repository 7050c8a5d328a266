//! What is deployed, and who looks on: records of text that hardly compresses, writers of more of
//! them, what servers count and cost, and whether all have the same. May not start or end servers.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::support::{ONLINE, Server, body, json_of, request, status, until};
use super::{GROUP, PAGE, TEXT};

/// A generator without memory: the same number gives the same word.
pub(super) const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Text that hardly compresses.
pub(super) fn text(seed: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let words = (0..).map(|n| mix(seed.wrapping_mul(0x1_0000).wrapping_add(n)));
    let letters = words.flat_map(|word| (0..10).map(move |at| (word >> (6 * at)) & 63));
    letters.take(TEXT).map(|at| LETTERS[usize::try_from(at).unwrap()] as char).collect()
}

pub(super) fn wait(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for: {what}");
        // Between two looks at what other processes do.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A counter of a server, over all its labels; 0 while it says nothing.
pub(super) fn metric(server: &Server, name: &str) -> u64 {
    let answer = request(server.address(), "GET", "/metrics", "").unwrap_or_default();
    let of = |line: &&str| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']);
    let value = |line: &str| line.rsplit(' ').next().and_then(|text| text.parse().ok());
    body(&answer).lines().filter(of).map(|line| value(line).unwrap_or(0)).sum()
}

/// Bytes that came over links.
pub(super) fn received(server: &Server) -> u64 {
    let answer = request(server.address(), "GET", "/metrics", "").unwrap_or_default();
    let lines = body(&answer).lines().filter(|line| line.starts_with("quorate_link_bytes_total"));
    let lines = lines.filter(|line| line.contains("direction=\"received\""));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Seconds of processor time so far, and the most memory ever, in MB.
pub(super) fn cost(server: &Server) -> (f64, u64) {
    let read = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", server.id()));
    let stat = read("stat").unwrap();
    let ticks: Vec<f64> = stat.split(' ').skip(13).take(2).map(|t| t.parse().unwrap()).collect();
    let text = read("status").unwrap();
    let most = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kb: u64 = most.split_whitespace().next().unwrap().parse().unwrap();
    (ticks.iter().sum::<f64>() / 100.0, kb / 1024)
}

pub(super) fn costs(servers: &[&Server]) -> Vec<(f64, u64)> {
    servers.iter().map(|server| cost(server)).collect()
}

/// Ids of records, by what the writers called them.
pub(super) type Rids = BTreeMap<u64, String>;

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

pub(super) fn load(servers: &[Server], records: u64) -> Rids {
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
pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    took: Arc<Mutex<Vec<Duration>>>,
    count: Arc<AtomicU64>,
    running: Vec<JoinHandle<Rids>>,
}

impl Writers {
    pub(super) fn on(servers: &[Server], first: u64) -> Self {
        let (stop, took) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let count = Arc::new(AtomicU64::new(0));
        let writer = |(index, server): (u64, &Server)| {
            let (stop, took) = (stop.clone(), Arc::<Mutex<Vec<Duration>>>::clone(&took));
            let (address, count) = (server.address().to_owned(), count.clone());
            std::thread::spawn(move || {
                let mut rids = Rids::new();
                for n in (first + index..).step_by(3) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let began = Instant::now();
                    rids.extend(write(&address, &[n]));
                    took.lock().unwrap().push(began.elapsed());
                    count.fetch_add(1, Ordering::Relaxed);
                    // A client's pace: the load is to be light enough to compare latencies.
                    std::thread::sleep(Duration::from_millis(20));
                }
                rids
            })
        };
        Self { running: (0..).zip(servers).map(writer).collect(), stop, took, count }
    }

    /// Records written so far.
    pub(super) fn written(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How long writes took since the last call.
    pub(super) fn say(&self, when: &str) {
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

    pub(super) fn end(self) -> Rids {
        self.stop.store(true, Ordering::Relaxed);
        self.running.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    }
}

/// One number for all records as a server itself has them; `None` while it says nothing.
fn digest(server: &Server, rids: &[String]) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    for page in rids.chunks(PAGE) {
        let text = format!("SELECT @rid, @version, n, t FROM [{}] LIMIT -1", page.join(","));
        let answer = request(server.address(), "POST", "/command/bench/sql", &text).ok()?;
        if status(&answer) != 200 {
            return None;
        }
        let rows = json_of(&answer);
        let rows = rows["result"].as_array()?;
        if rows.len() != page.len() {
            return None;
        }
        rows.iter().for_each(|row| row.to_string().hash(&mut hasher));
    }
    Some(hasher.finish())
}

pub(super) fn assert_equal(servers: &[&Server], rids: &Rids, patience: Duration) {
    let rids: Vec<String> = rids.values().cloned().collect();
    wait("the same on every server", patience, || {
        let all: Vec<_> = std::thread::scope(|scope| {
            let running = servers.iter().map(|server| scope.spawn(|| digest(server, &rids)));
            running.collect::<Vec<_>>().into_iter().map(|one| one.join().unwrap()).collect()
        });
        all[0].is_some() && all.windows(2).all(|two| two[0] == two[1])
    });
}

pub(super) fn is_online(server: &Server) -> bool {
    server.log().contains(ONLINE)
}
