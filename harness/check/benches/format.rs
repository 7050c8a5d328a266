//! How fast events are written to a history file and read back. No correctness here.

use std::hint::black_box;
use std::io::BufWriter;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_check::format::{Writer, read};
use quorate_check::history::*;

/// Two events each.
const OPERATIONS: u64 = 50_000;

fn header() -> Header {
    Header::new(vec!["a".to_owned()], 100, false)
}

fn update(id: u64) -> Operation {
    Operation {
        id,
        process: id % 64,
        session: id % 64,
        kind: OpKind::Update,
        phase: Phase::Measure,
        node: 0,
        level: None,
        steps: vec![Step {
            rid: Some(format!("#12:{}", id % 100)),
            version: Some(id),
            ..Step::new(id % 100, Action::Write(id))
        }],
        intended: id * 1_000_000,
        sent: id * 1_000_000 + 321,
        done: Some(id * 1_000_000 + 654_321),
        outcome: Outcome::Ok,
        code: None,
    }
}

fn write(operations: &[Operation]) -> Vec<u8> {
    let buffered = BufWriter::new(Vec::new());
    let mut writer = Writer::new(buffered, &header()).expect("memory takes every write");
    for operation in operations {
        writer.invoke(operation).expect("memory takes every write");
        writer.complete(operation).expect("memory takes every write");
    }
    let buffered = writer.finish().expect("memory takes every write");
    buffered.into_inner().expect("memory takes every write")
}

fn format(criterion: &mut Criterion) {
    let operations: Vec<Operation> = (1..=OPERATIONS).map(update).collect();
    let file = write(&operations);
    let mut group = criterion.benchmark_group("format");
    group.throughput(Throughput::Elements(2 * OPERATIONS)).sample_size(10);
    group.bench_function("write events", |bencher| {
        bencher.iter(|| write(black_box(&operations)).len());
    });
    group.bench_function("read events", |bencher| {
        bencher.iter(|| read(black_box(file.as_slice())).map(|read| read.history.operations.len()));
    });
    group.finish();
}

criterion_group!(benches, format);
criterion_main!(benches);
