//! How fast the linearizability checker judges one hot key, and in how much memory. No
//! correctness here.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_check::history::*;
use quorate_check::{Options, Verdict, check_all};

const OPERATIONS: u64 = 1_000_000;

/// Clients that always have one operation open.
const CLIENTS: u64 = 100;

/// A legal history of one key: each operation takes effect in the middle of its interval. Half
/// read; one write in a hundred is never answered, and every second one of these took effect.
fn hot_key() -> History {
    let mut operations = Vec::with_capacity(OPERATIONS as usize);
    let mut current = 0;
    for id in 1..=OPERATIONS {
        let is_read = id > 1 && id % 2 == 0;
        let answered = is_read || id % 100 != 51;
        if !is_read && (answered || id % 200 == 51) {
            current = id;
        }
        let action = match is_read {
            true => Action::Read(Some(Seen::Value(current))),
            false => Action::Write(id),
        };
        operations.push(Operation {
            id,
            process: id % CLIENTS,
            session: id % CLIENTS,
            kind: if is_read { OpKind::Read } else { OpKind::Update },
            phase: Phase::Measure,
            node: 0,
            level: is_read.then_some(ReadLevel::Majority),
            steps: vec![Step::new(0, action)],
            intended: id * 1000,
            sent: id * 1000,
            done: answered.then_some((id + CLIENTS) * 1000),
            outcome: if answered { Outcome::Ok } else { Outcome::Unknown },
            code: None,
        });
    }
    let header = Header::new(vec!["a".to_owned()], 1, true);
    History { header, operations }
}

/// Peak resident memory of this process so far; `None` where the system does not say.
fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

fn zone(criterion: &mut Criterion) {
    let history = hot_key();
    let options = Options::only(["linearizable"]).expect("a checker of that name");
    let before = peak_memory_mib();
    assert_eq!(check_all(&history, &options).verdict, Verdict::Valid);
    if let (Some(before), Some(after)) = (before, peak_memory_mib()) {
        eprintln!("peak memory: history {before} MiB, checker {} MiB on top", after - before);
    }
    let mut group = criterion.benchmark_group("zone");
    group.throughput(Throughput::Elements(OPERATIONS)).sample_size(10);
    group.bench_function("one key, 10^6 operations", |bencher| {
        bencher.iter(|| {
            let report = check_all(black_box(&history), &options);
            assert_eq!(report.verdict, Verdict::Valid);
        });
    });
    group.finish();
}

criterion_group!(benches, zone);
criterion_main!(benches);
