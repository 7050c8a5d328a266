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

fn content() -> impl Strategy<Value = Content> {
    let keys = || prop::collection::vec(number(), 0..3);
    prop_oneof![
        any::<i64>().prop_map(Content::Balance),
        number().prop_map(Content::Unique),
        (number(), number()).prop_map(|(from, to)| Content::Edge(Edge { from, to })),
        (keys(), keys()).prop_map(|(outgoing, incoming)| {
            Content::Vertex(Box::new(Vertex { outgoing, incoming }))
        }),
    ]
}

fn promises() -> impl Strategy<Value = Promises> {
    let bank = (0..4_u64, any::<i64>()).prop_map(|(accounts, total)| Bank { accounts, total });
    let quorum = (number(), 0..3_u32).prop_map(|(from_key, write)| {
        let masters = vec![0, 1];
        KeyQuorum { from_key, masters, write }
    });
    let quorums = prop::collection::vec(quorum, 0..3);
    (prop::option::of(bank), any::<[bool; 2]>(), quorums).prop_map(
        |(bank, [serializable, sessions], quorums)| Promises {
            bank,
            serializable,
            sessions,
            quorums,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let rid = prop::option::of(0..3_u8);
    let (version, content) = (prop::option::of(number()), prop::option::of(content()));
    let evidence = prop::option::of(prop::collection::vec(0..4_u32, 0..3));
    (number(), action(), rid, version, content, evidence).prop_map(
        |(key, action, rid, version, content, voted)| Step {
            key,
            action,
            rid: rid.map(|rid| format!("#1:{rid}")),
            version,
            content,
            evidence: voted.map(|voted| Box::new(Evidence { voted, accepted: Vec::new() })),
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
        promises in promises(),
    ) {
        let operations = if unique { with_unique_values(operations) } else { operations };
        let nodes = vec!["a".to_owned(), "b".to_owned()];
        let header = Header { promises, ..Header::new(nodes, 8, true) };
        let history = History { header, operations };
        let options = Options { applicable_only: false, ..Options::default() };
        let report = check_all(&history, &options);
        for judgement in &report.judgements {
            let failed = judgement.explanation.contains("the checker itself failed");
            prop_assert!(!failed, "{}", judgement);
        }
        prop_assert_eq!(report.to_string(), check_all(&history, &options).to_string());
    }
}
