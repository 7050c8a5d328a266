//! Damage to what was synced, on real files of a real server: flipped bits, zeroed sectors, cut and
//! missing files. The server refuses with a message that names the place and the remedy, or it
//! notices when it reads; it never serves less than it acknowledged, and never panics.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]
#![allow(clippy::print_stdout, reason = "the figures are what the test is for")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use quorate_node::runtime::storage::EXIT_STORAGE;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use support::{PATIENCE, Server, http, status, try_http};

/// Lives of the server before its files are damaged; each leaves tables of the one before it.
const LIVES: usize = 3;
/// Records written in each life.
const RECORDS: usize = 60;
/// Damages a file kind.
const SEEDS: u64 = 7;

/// A server's folder as it was when it was killed, and what it had acknowledged.
struct Golden {
    dir: tempfile::TempDir,
    /// Text by record id.
    acknowledged: BTreeMap<String, String>,
}

fn start(data: &Path) -> Server {
    let data = format!("--data={}", data.display());
    Server::start(&[], &[&data, "--http=127.0.0.1:0"])
}

fn golden() -> Golden {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for life in 0..LIVES {
        let mut server = start(dir.path());
        server.wait_online();
        if life == 0 {
            http(&server, "POST", "/database/bench/plocal", "");
            http(&server, "POST", "/class/bench/Item", "");
        }
        for record in 0..RECORDS {
            let text = format!("{life}-{record}-{}", "x".repeat(400));
            let body = format!("{{\"@class\":\"Item\",\"text\":\"{text}\"}}");
            let answer = http(&server, "POST", "/document/bench", &body);
            assert_eq!(status(&answer), 201, "{answer}");
            let rid = answer.split("\"@rid\":\"#").nth(1).unwrap().split('"').next().unwrap();
            acknowledged.insert(rid.to_owned(), text);
        }
        server.end(Signal::SIGKILL);
    }
    Golden { dir, acknowledged }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// Files of a kind, the oldest first.
fn files(data: &Path, kind: &str) -> Vec<PathBuf> {
    if matches!(kind, "identity" | "boot" | "synced") {
        return vec![data.join(kind)];
    }
    let entries = fs::read_dir(data.join("databases/store")).unwrap();
    let matches = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(kind) || name.ends_with(kind)
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(matches).collect();
    files.retain(|path| fs::metadata(path).unwrap().len() > 0);
    files.sort();
    assert!(!files.is_empty(), "no {kind}");
    files
}

/// Damages one file and says how.
fn damage(data: &Path, kind: &str, seed: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let files = files(data, kind);
    let mut below = |limit: usize| (rng.next_u64() % limit as u64) as usize;
    let path = &files[below(files.len())];
    let mut bytes = fs::read(path).unwrap();
    let at = below(bytes.len());
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let how = match seed % 7 {
        0 => {
            fs::remove_file(path).unwrap();
            return format!("{name} removed");
        }
        1 => {
            bytes.truncate(at);
            format!("{name} cut at {at}")
        }
        2 => {
            let first = at / 512 * 512;
            let last = (first + 512).min(bytes.len());
            bytes[first..last].fill(0);
            format!("{name} zero from {first} to {last}")
        }
        _ => {
            bytes[at] ^= 1 << below(8);
            format!("{name} bit flipped at {at}")
        }
    };
    fs::write(path, bytes).unwrap();
    how
}

/// What became of a damaged server.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Fate {
    /// It did not start.
    Refused,
    /// It noticed when it read.
    Noticed,
    /// It has everything.
    Whole,
}

/// Starts the server on damaged files, reads everything, and checks that nothing is wrong in
/// silence.
fn fate(data: &Path, golden: &Golden, how: &str) -> Fate {
    let mut server = start(data);
    if server.line.is_null() {
        let end = end_of(&mut server);
        check_end(&server, data, end, how);
        return Fate::Refused;
    }
    let online = await_online(&mut server);
    let mut noticed = !online;
    for (rid, text) in golden.acknowledged.iter().filter(|_| online) {
        let path = format!("/document/bench/{}", rid.replace(':', "%3A"));
        let Ok(answer) = try_http(&server, "GET", &path, "") else {
            noticed = true;
            break;
        };
        match status(&answer) {
            200 => assert!(answer.contains(text), "{how}: {rid} is not what was written: {answer}"),
            // Nothing, when it ended in the middle of the answer.
            0 | 500..=599 => noticed = true,
            other => panic!("{how}: {rid} answers {other}: {answer}"),
        }
    }
    if !noticed {
        assert!(server.end(Signal::SIGTERM).success(), "{how}:\n{}", server.log());
        return Fate::Whole;
    }
    let end = end_of(&mut server);
    check_end(&server, data, end, how);
    Fate::Noticed
}

/// False when it ended instead.
fn await_online(server: &mut Server) -> bool {
    let end = Instant::now() + PATIENCE;
    while !server.log().contains("ONLINE") {
        if server.ended().is_some() {
            return false;
        }
        assert!(Instant::now() < end, "{}", server.log());
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

fn end_of(server: &mut Server) -> Option<i32> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(ended) = server.ended() {
            return ended.code();
        }
        assert!(Instant::now() < end, "it does not end:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A refusal is clear: an exit code of its own, the place, what to do, and no panic.
fn check_end(server: &Server, data: &Path, code: Option<i32>, how: &str) {
    server.wait_end_of_log();
    let log = server.log();
    assert!(!log.contains("panicked"), "{how}:\n{log}");
    let renamed = log.contains("belongs to server");
    assert!(code == Some(EXIT_STORAGE.into()) || renamed, "{how}: {code:?}\n{log}");
    assert!(log.contains(&data.display().to_string()), "{how} names no place:\n{log}");
    let remedies = ["check the disk", "must not rejoin", "rebuilt by guessing", "not supported"];
    assert!(renamed || remedies.iter().any(|r| log.contains(r)), "{how} names no remedy:\n{log}");
}

#[test]
fn damage_is_refused_or_noticed_and_nothing_is_lost_in_silence() {
    let golden = golden();
    let mut fates: BTreeMap<(&str, Fate), u32> = BTreeMap::new();
    for kind in [".sst", ".log", "MANIFEST", "CURRENT", "identity", "boot", "synced"] {
        for seed in 0..SEEDS {
            let case = tempfile::tempdir().unwrap();
            copy(golden.dir.path(), case.path());
            let how = damage(case.path(), kind, seed);
            let fate = fate(case.path(), &golden, &how);
            println!("{how}: {fate:?}");
            *fates.entry((kind, fate)).or_default() += 1;
        }
    }
    println!("{fates:?}");
    for kind in [".sst", ".log", "MANIFEST", "CURRENT"] {
        let noticed = fates.iter().any(|((of, fate), _)| *of == kind && *fate != Fate::Whole);
        assert!(noticed, "no damage to {kind} was noticed");
    }
}

#[test]
fn an_unsynced_end_of_the_log_is_dropped_and_a_hole_before_it_is_refused() {
    let golden = golden();
    let tail = |data: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let path = files(data, ".log").pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    let case = |how: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let case = tempfile::tempdir().unwrap();
        copy(golden.dir.path(), case.path());
        tail(case.path(), change);
        fate(case.path(), &golden, how)
    };
    assert_eq!(case("garbage behind the end", &|log| log.extend([0xa5; 700])), Fate::Whole);
    assert_eq!(case("zeroes behind the end", &|log| log.extend([0; 4096])), Fate::Whole);
    let half = |log: &mut Vec<u8>| {
        // A record that was written in part: checksum, length 500, type "whole", some of its body.
        log.extend([0x11, 0x22, 0x33, 0x44, 0xf4, 0x01, 1]);
        log.extend([0x55; 100]);
    };
    assert_eq!(case("half a record behind the end", &half), Fate::Whole);
    // Some records' worth: of the very last one it may not be noted yet that it was synced.
    let shorter = |log: &mut Vec<u8>| log.truncate(log.len() - 4000);
    assert_eq!(case("the last records gone", &shorter), Fate::Refused);
    let hole = |log: &mut Vec<u8>| {
        let middle = log.len() / 2;
        log[middle..middle + 512].fill(0);
    };
    assert_eq!(case("a hole in the middle", &hole), Fate::Refused);
}

#[test]
fn a_list_of_files_cut_anywhere_is_refused_before_a_table_is_removed() {
    let golden = golden();
    let manifest = files(golden.dir.path(), "MANIFEST").pop().unwrap();
    let name = manifest.file_name().unwrap();
    let whole = fs::read(&manifest).unwrap();
    let tables = files(golden.dir.path(), ".sst").len();
    for part in 1..8 {
        let case = tempfile::tempdir().unwrap();
        copy(golden.dir.path(), case.path());
        let store = case.path().join("databases/store");
        let end = whole.len() * part / 8;
        fs::write(store.join(name), &whole[..end]).unwrap();
        assert_eq!(fate(case.path(), &golden, &format!("list cut at {end}")), Fate::Refused);
        assert_eq!(files(case.path(), ".sst").len(), tables);
    }
}

#[test]
fn the_refusal_stays_until_the_files_are_put_back() {
    let golden = golden();
    let case = tempfile::tempdir().unwrap();
    copy(golden.dir.path(), case.path());
    let log = files(case.path(), ".log").pop().unwrap();
    let good = fs::read(&log).unwrap();
    fs::write(&log, &good[..good.len() / 2]).unwrap();
    for _ in 0..2 {
        assert_eq!(fate(case.path(), &golden, "half of the log gone"), Fate::Refused);
    }
    let store = case.path().join("databases/store");
    fs::remove_dir_all(&store).unwrap();
    copy(&golden.dir.path().join("databases/store"), &store);
    assert_eq!(fate(case.path(), &golden, "put back"), Fate::Whole);
}
