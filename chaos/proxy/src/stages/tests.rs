//! The stages and their chain under synthetic time: no sockets, no sleeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Draws, Item, Naming, Pipeline, StageSpec};
use crate::model::{Attributes, Delay, Distribution, Streams, Toxic};

const DELAY_LINE_BYTES: usize = 1024 * 1024;

fn chain() -> Pipeline {
    let naming = Naming { link: "a-b".to_owned(), connection: 0 };
    Pipeline::new(naming, DELAY_LINE_BYTES)
}

fn spec(uid: u64, revision: u64, kind: &str, attributes: Value) -> Arc<StageSpec> {
    let toxic = Toxic::parse(json!({"type": kind, "attributes": attributes})).unwrap();
    let name = format!("{kind}-{uid}");
    Arc::new(StageSpec { uid, revision, name, toxicity: 1.0, attributes: toxic.attributes })
}

fn data(bytes: &[u8]) -> Item {
    Item::Data(Bytes::copy_from_slice(bytes))
}

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// Everything that is ready, as bytes.
fn drain(chain: &mut Pipeline) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(chunk) = chain.ready().pop() {
        if let Item::Data(data) = chunk.item {
            out.extend_from_slice(&data);
        }
    }
    out
}

#[test]
fn delays_count_from_arrival_and_add_up_exactly() {
    let start = Instant::now();
    let mut chain = chain();
    let specs = [1, 2].map(|uid| spec(uid, 0, "latency", json!({"latency": 5})));
    chain.reconcile(start, 0, &specs);
    chain.push(start, data(b"one"));
    chain.push(start + us(1_000), data(b"two"));
    // A late look at the first delay does not make the second one later.
    let step = chain.advance(start + us(7_777));
    assert_eq!(step.wake, Some(start + us(10_000)));
    assert_eq!(drain(&mut chain), b"");
    let step = chain.advance(start + us(10_000));
    assert_eq!(drain(&mut chain), b"one");
    assert_eq!(step.wake, Some(start + us(11_000)));
    chain.advance(start + us(11_000));
    assert_eq!(drain(&mut chain), b"two");
    assert!(!chain.is_direct());
    chain.reconcile(start, 0, &[]);
    assert!(chain.is_direct());
}

/// When each of some pieces leaves a delay, microseconds after it arrived.
fn sample(delay: Delay, count: u64) -> Vec<f64> {
    let start = Instant::now();
    let mut chain = chain();
    let attributes = Attributes::Delay(delay);
    let (name, toxicity) = ("delay".to_owned(), 1.0);
    let spec = StageSpec { uid: 1, revision: 0, name, toxicity, attributes };
    chain.reconcile(start, 3, &[Arc::new(spec)]);
    let mut times = Vec::new();
    for index in 0..count {
        // Far apart, so that keeping the order changes no draw.
        let arrived = start + us(index * 1_000_000);
        chain.push(arrived, data(b"x"));
        let due = chain.advance(arrived).wake.unwrap();
        times.push((due - arrived).as_nanos() as f64 / 1_000.0);
        chain.advance(due);
        assert_eq!(drain(&mut chain), b"x");
    }
    times
}

#[test]
fn applied_delays_are_distributed_as_asked() {
    let ask = |distribution| Delay {
        latency_us: 800,
        jitter_us: 100,
        distribution,
        stream: Streams::Both,
    };
    let moments = |times: &[f64]| {
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let variance = times.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / times.len() as f64;
        (mean, variance.sqrt())
    };
    let mut uniform = sample(ask(Distribution::Uniform), 20_000);
    let (mean, deviation) = moments(&uniform);
    assert!((mean - 800.0).abs() < 2.0, "{mean}");
    assert!((deviation - 100.0 / 3.0_f64.sqrt()).abs() < 1.0, "{deviation}");
    // Kolmogorov-Smirnov distance; 1.63 over the root of n is the 1 % bound.
    uniform.sort_by(f64::total_cmp);
    let distance = uniform
        .iter()
        .enumerate()
        .map(|(index, time)| ((time - 700.0) / 200.0 - index as f64 / uniform.len() as f64).abs());
    assert!(distance.fold(0.0, f64::max) < 1.63 / (uniform.len() as f64).sqrt());
    let (mean, deviation) = moments(&sample(ask(Distribution::Normal), 20_000));
    assert!((mean - 800.0).abs() < 3.0 && (deviation - 100.0).abs() < 2.0, "{mean} {deviation}");
}

#[test]
fn a_line_of_a_rate_is_even_and_gives_no_credit_for_silence() {
    let start = Instant::now();
    let mut chain = chain();
    chain.reconcile(start, 0, &[spec(1, 0, "bandwidth", json!({"rate": 100}))]);
    // Ten idle seconds earn nothing.
    let now = start + us(10_000_000);
    chain.push(now, data(&[1; 5_000]));
    let mut passed = 0;
    for ms in 1..=50 {
        chain.advance(now + us(ms * 1_000));
        passed += drain(&mut chain).len() as u64;
        assert!(passed <= ms * 100, "{passed} bytes after {ms} ms");
    }
    assert_eq!(passed, 5_000);
}

#[test]
fn adding_a_toxic_redraws_nothing() {
    let start = Instant::now();
    for connection in 0..50 {
        let naming = Naming { link: "a-b".to_owned(), connection };
        let mut chain = Pipeline::new(naming, DELAY_LINE_BYTES);
        let half = Arc::new(StageSpec {
            toxicity: 0.5,
            ..(*spec(1, 0, "bandwidth", json!({"rate": 0}))).clone()
        });
        chain.reconcile(start, 9, std::slice::from_ref(&half));
        let spared = chain.is_direct();
        let luck = Draws::new(9, "a-b", &half.name, connection).unit();
        assert_eq!(spared, luck >= 0.5);
        for uid in 2..10 {
            let other = spec(uid, 0, "latency", json!({}));
            chain.reconcile(start, 9, &[Arc::clone(&half), other]);
            chain.push(start, data(b"x"));
            chain.advance(start);
            assert_eq!(drain(&mut chain).is_empty(), !spared);
        }
    }
}

#[test]
fn a_full_chain_says_so_and_bounds_what_it_holds() {
    let start = Instant::now();
    let mut chain = chain();
    chain.reconcile(start, 0, &[spec(1, 0, "latency", json!({"latency": 60_000}))]);
    let mut pushed = 0;
    while chain.has_room() {
        chain.push(start, data(&[0]));
        chain.advance(start);
        pushed += 1;
    }
    // One-byte pieces are charged for the memory they take, not for their payload.
    assert!(pushed <= DELAY_LINE_BYTES / 128 + 1, "{pushed}");
    chain.advance(start + us(60_000_000));
    assert!(chain.has_room());
}

/// Random pushes, waits, additions, updates and removals: what comes out is what went in.
#[test]
fn no_change_of_toxics_loses_doubles_or_reorders_bytes() {
    for seed in 0..60 {
        let mut dice = Draws::new(seed, "test", "changes", 0);
        let start = Instant::now();
        let mut now = start;
        let (mut chain, mut specs) = (chain(), Vec::<Arc<StageSpec>>::new());
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for round in 0..400_u64 {
            match dice.between(0, 9) {
                0..=3 if chain.has_room() => {
                    let length = dice.between(1, 3_000) as usize;
                    // Bytes that tell their position.
                    let places = sent.len() as u64..(sent.len() + length) as u64;
                    let bytes: Vec<u8> =
                        places.map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
                    sent.extend_from_slice(&bytes);
                    chain.push(now, data(&bytes));
                }
                4 if specs.len() < 6 => {
                    specs.push(harmless(&mut dice, round + 1, 0));
                    chain.reconcile(now, seed, &specs);
                }
                5 if !specs.is_empty() => {
                    let at = dice.between(0, specs.len() as u64 - 1) as usize;
                    specs.remove(at);
                    chain.reconcile(now, seed, &specs);
                }
                6 if !specs.is_empty() => {
                    let at = dice.between(0, specs.len() as u64 - 1) as usize;
                    let old = Arc::clone(&specs[at]);
                    let new = harmless(&mut dice, old.uid, round);
                    // Another toxicity; attributes only where the type is the same.
                    let attributes = if std::mem::discriminant(&new.attributes)
                        == std::mem::discriminant(&old.attributes)
                    {
                        new.attributes
                    } else {
                        old.attributes
                    };
                    let toxicity = new.toxicity;
                    let name = old.name.clone();
                    let spec = StageSpec { attributes, toxicity, name, ..*new };
                    specs[at] = Arc::new(spec);
                    chain.reconcile(now, seed, &specs);
                }
                _ => now += us(dice.between(0, 2_000)),
            }
            chain.advance(now);
            got.extend(drain(&mut chain));
            assert_eq!(chain.payload(), sent.len() - got.len());
        }
        chain.reconcile(now, seed, &[]);
        got.extend(drain(&mut chain));
        assert!(got == sent, "seed {seed}");
    }
}

/// A toxic that throws nothing away.
fn harmless(dice: &mut Draws, uid: u64, revision: u64) -> Arc<StageSpec> {
    let made = match dice.between(0, 4) {
        0 => spec(uid, revision, "latency", json!({"latency": dice.between(0, 4), "jitter": 2})),
        1 => spec(uid, revision, "bandwidth", json!({"rate": dice.between(0, 3_000)})),
        2 => spec(uid, revision, "slow_close", json!({"delay": 5})),
        3 => spec(uid, revision, "reset_peer", json!({"timeout": 80_000_000})),
        _ => spec(
            uid,
            revision,
            "slicer",
            json!({"average_size": dice.between(1, 90), "size_variation": 40, "delay": 1}),
        ),
    };
    let toxicity = dice.unit() as f32;
    Arc::new(StageSpec { toxicity, ..(*made).clone() })
}
