//! Hand-made histories: what keeps every expectation, and one planted breach at a time.

use super::super::sample::{MS, Sample, fail};
use super::*;

/// A write and a local read every 20 ms at each of three servers for 12 s; n3 is cut off from 3 s
/// to 8 s, its clients hang for half a second and are refused then.
fn kept() -> Sample {
    let mut sample = Sample::new(12_000);
    for at in (0..12_000).step_by(20) {
        for node in 0..3 {
            sample.read(node, at, 500).level = Some(ReadLevel::Local);
            let op = sample.update(node, at, 500);
            match at {
                3000..3500 if node == 2 => {
                    fail(op, Outcome::Unknown, "client_timeout");
                    op.done = Some((at + 1000) * MS);
                }
                3500..8100 if node == 2 => fail(op, Outcome::Failed, "no_quorum"),
                _ => {}
            }
        }
    }
    sample.partition("cut", 3000, 8000);
    sample
}

fn of(sample: &Sample) -> Availability {
    availability(&sample.input(), &[], None)
}

/// The writes at a server that were intended in a span of milliseconds.
fn writes(sample: &mut Sample, node: u32, span: std::ops::Range<u64>) -> Vec<&mut Operation> {
    let wanted = |op: &&mut Operation| {
        let inside = span.contains(&(op.intended / MS));
        op.node == node && op.kind == OpKind::Update && inside
    };
    sample.history.operations.iter_mut().filter(wanted).collect()
}

fn only(found: &Availability) -> &Broken {
    let [broken] = &found.broken[..] else { panic!("one breach: {found:?}") };
    assert_eq!(found.verdict, Verdict::Violated);
    broken
}

/// FEATURES: H6
#[test]
fn a_majority_that_serves_and_a_minority_that_refuses_keep_what_is_expected() {
    let found = of(&kept());
    assert_eq!((found.verdict, &found.broken[..]), (Verdict::Valid, &[][..]));
    // From the second behind the proof to the heal n3 refuses; reads of its own go on.
    assert_eq!(found.expected.refused, 200);
    assert_eq!(found.expected.impossible, 50);
    assert!(found.expected.served > 2000, "{found:?}");
}

/// FEATURES: H6
#[test]
fn one_write_that_a_minority_acknowledges_is_a_breach_and_named() {
    let mut sample = kept();
    let mut planted = 0;
    for op in writes(&mut sample, 2, 5000..5020) {
        (op.outcome, op.code, planted) = (Outcome::Ok, None, op.id);
    }
    let found = of(&sample);
    let broken = only(&found);
    assert_eq!((broken.breach, broken.count), (Breach::Acknowledged, 1));
    assert_eq!((broken.node.as_str(), broken.class.as_str()), ("n3", "update"));
    assert_eq!((&broken.operations[..], broken.from), (&[planted][..], 5000 * MS));
    // Whatever the machine did: nobody can make up a quorum.
    let doubted = availability(&sample.input(), &[], Some("driver_saturated".to_owned()));
    assert_eq!(doubted.verdict, Verdict::Violated);
}

#[test]
fn what_is_answered_after_the_heal_may_be_acknowledged() {
    let mut sample = kept();
    for op in writes(&mut sample, 2, 7980..8000) {
        (op.outcome, op.code, op.done) = (Outcome::Ok, None, Some(8010 * MS));
    }
    assert_eq!(of(&sample).verdict, Verdict::Valid);
}

/// FEATURES: H6
#[test]
fn a_majority_that_stands_still_is_a_breach() {
    let mut sample = kept();
    for op in writes(&mut sample, 0, 4500..7000) {
        fail(op, Outcome::Failed, "busy");
    }
    let found = of(&sample);
    let broken = only(&found);
    assert_eq!((broken.breach, broken.count), (Breach::NotServed, 125));
    assert_eq!((broken.from, broken.to), (4500 * MS, 6980 * MS));
    assert_eq!(broken.operations.len(), NAMED);
    // On a machine that gave no time to anybody that says nothing.
    let doubted = availability(&sample.input(), &[], Some("host_withheld_cpu".to_owned()));
    assert_eq!((doubted.verdict, doubted.broken.len()), (Verdict::Unknown, 1));
}

#[test]
fn what_is_part_of_the_workload_short_or_too_much_is_no_breach() {
    let codes = [
        ("version_conflict", 7000),
        ("busy", 6000),
        ("overload", 7000),
        ("not_sent", 7000),
        ("never_sent", 7000),
    ];
    for (code, to) in codes {
        let mut sample = kept();
        for op in writes(&mut sample, 0, 4500..to) {
            fail(op, Outcome::Failed, code);
        }
        assert_eq!(of(&sample).verdict, Verdict::Valid, "{code}");
    }
}

#[test]
fn a_rare_class_that_fails_while_its_server_serves_others_is_no_breach() {
    let mut sample = kept();
    for at in [4500, 5500, 7000] {
        let op = sample.update(0, at + 5, 500);
        (op.kind, op.id) = (OpKind::Create, 1_000_000 + at);
        fail(op, Outcome::Unknown, "client_timeout");
    }
    assert_eq!(of(&sample).verdict, Verdict::Valid);
}

/// FEATURES: H6
#[test]
fn a_minority_that_lets_clients_hang_is_a_breach() {
    let mut sample = kept();
    for op in writes(&mut sample, 2, 3500..8000) {
        fail(op, Outcome::Unknown, "client_timeout");
        op.done = Some(op.sent + 900 * MS);
    }
    let found = of(&sample);
    let broken = only(&found);
    // Those that are answered after the heal might have been served by then.
    assert_eq!((broken.breach, broken.from, broken.to), (Breach::NotRefused, 4000 * MS, 7080 * MS));
}

#[test]
fn a_server_that_never_comes_back_is_a_breach_once_it_had_time() {
    let mut sample = kept();
    for op in writes(&mut sample, 2, 8000..20_000) {
        fail(op, Outcome::Failed, "no_quorum");
    }
    // It may take the five seconds that it was away, and one: until behind the end.
    assert_eq!(of(&sample).verdict, Verdict::Valid);
    sample.faults[1].begun = 5000 * MS;
    sample.faults[1].proven = Some(5000 * MS);
    assert_eq!(only(&of(&sample)).breach, Breach::NotServed);
    assert_eq!(only(&of(&sample)).from, 8000 * MS);
}

#[test]
fn a_history_without_operations_is_not_judged() {
    let sample = Sample::new(1_000);
    assert_eq!(of(&sample).verdict, Verdict::Unknown);
}
