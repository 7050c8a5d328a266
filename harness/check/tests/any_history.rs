//! Whatever a history holds, sensible or not, no checker panics and none alters its mind.

use proptest::prelude::*;
use quorate_check::history::*;
use quorate_check::{Options, check_all};

/// Small numbers, so that operations meet, and the ends of the range.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..8_u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Read(None)),
        number().prop_map(|value| Action::Read(Some(Seen::Value(value)))),
        prop::option::of(number()).prop_map(|id| Action::Read(Some(Seen::Absent(id)))),
        number().prop_map(Action::Write),
        number().prop_map(Action::Delete),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (number(), action(), prop::option::of(0..3_u8), prop::option::of(number())).prop_map(
        |(key, action, rid, version)| Step {
            key,
            action,
            rid: rid.map(|rid| format!("#1:{rid}")),
            version,
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    let kind = prop::sample::select(vec![
        OpKind::Create,
        OpKind::Read,
        OpKind::Update,
        OpKind::Delete,
        OpKind::Transaction,
    ]);
    let phase = prop::sample::select(vec![Phase::Load, Phase::Measure, Phase::Final]);
    let outcome = prop::sample::select(vec![Outcome::Ok, Outcome::Failed, Outcome::Unknown]);
    let level = prop::sample::select(vec![None, Some(ReadLevel::Local), Some(ReadLevel::Majority)]);
    let times = (number(), prop::option::of(number()));
    let steps = prop::collection::vec(step(), 0..4);
    (number(), kind, phase, outcome, level, times, steps, 0..5_u32).prop_map(
        |(id, kind, phase, outcome, level, (sent, done), steps, node)| Operation {
            id,
            process: id,
            session: id,
            kind,
            phase,
            node,
            level,
            steps,
            intended: sent,
            sent,
            done,
            outcome,
            code: None,
        },
    )
}

/// Gives every write a value of its own, without which nothing is judged.
fn with_unique_values(mut operations: Vec<Operation>) -> Vec<Operation> {
    for (id, operation) in (1..).zip(&mut operations) {
        for step in &mut operation.steps {
            match &mut step.action {
                Action::Write(value) | Action::Delete(value) => *value = id,
                Action::Read(_) => {}
            }
        }
    }
    operations
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn is_judged_without_panic(
        operations in prop::collection::vec(operation(), 0..12),
        unique in prop::bool::weighted(0.8),
    ) {
        let operations = if unique { with_unique_values(operations) } else { operations };
        let header = Header {
            format: FORMAT_NAME.to_owned(),
            version: FORMAT_VERSION,
            nodes: vec!["a".to_owned(), "b".to_owned()],
            keys: 8,
            simulated: true,
        };
        let history = History { header, operations };
        let report = check_all(&history, &Options::default());
        for judgement in &report.judgements {
            let failed = judgement.explanation.contains("the checker itself failed");
            prop_assert!(!failed, "{}", judgement);
        }
        prop_assert_eq!(report.to_string(), check_all(&history, &Options::default()).to_string());
    }
}
