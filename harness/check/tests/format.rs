//! The history file format: what is written comes back, and nothing that is not a history does.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::BufReader;

use proptest::prelude::*;
use quorate_check::format::{FormatError, Note, Reading, Writer, read, read_path};
use quorate_check::history::*;

fn header() -> Header {
    let promises = Promises {
        bank: Some(Bank { accounts: 2, total: -7 }),
        serializable: true,
        sessions: false,
        quorums: vec![KeyQuorum { from_key: 0, masters: vec![0, 1], write: 2 }],
    };
    let nodes = vec!["europe".to_owned(), "usa \"2\"".to_owned()];
    Header { promises, ..Header::new(nodes, 3, false) }
}

fn written(operations: &[Operation]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    for operation in operations {
        writer.invoke(operation).unwrap();
    }
    for operation in operations {
        let answered = operation.done.is_some() || operation.code.is_some();
        if answered {
            writer.complete(operation).unwrap();
        }
    }
    writer.finish().unwrap()
}

fn read_text(text: &str) -> Result<Reading, FormatError> {
    read(text.as_bytes())
}

const HEADER: &str =
    r#"{"format":"quorate-history","version":1,"nodes":["a"],"keys":1,"simulated":true}"#;
const INVOKE: &str = concat!(
    r#"{"invoke":{"id":1,"process":0,"session":0,"kind":"read","phase":"measure","node":0,"#,
    r#""level":"local","steps":[{"key":0,"action":"read"}],"intended":1,"sent":2}}"#
);
const COMPLETE: &str = concat!(
    r#"{"complete":{"id":1,"sent":2,"done":3,"outcome":"ok","code":null,"#,
    r#""steps":[{"version":4,"seen":{"value":9}}]}}"#
);

fn operation() -> impl Strategy<Value = Operation> {
    let outcome = prop_oneof![Just(Outcome::Ok), Just(Outcome::Failed), Just(Outcome::Unknown)];
    let step = (0..3_u64, 0..6_u8, any::<u64>(), any::<Option<u64>>(), any::<bool>());
    let steps = prop::collection::vec(step, 1..4);
    let times = (0..1000_u64, 0..1000_u64, any::<bool>());
    (outcome, steps, times, 0..2_u32, any::<[u64; 2]>()).prop_map(
        |(outcome, steps, (sent, took, answered), node, [process, session])| {
            let done = (answered || outcome == Outcome::Ok).then_some(sent + took);
            let steps = steps.into_iter().map(|(key, action, value, version, has_rid)| Step {
                key,
                action: match action {
                    0 => Action::Read(Some(Seen::Value(value))),
                    1 => Action::Read(Some(Seen::Absent(Some(value)))),
                    2 => Action::Read(Some(Seen::Absent(None))),
                    3 | 4 => Action::Write(value),
                    _ => Action::Delete(value),
                },
                rid: has_rid.then(|| format!("#{key}:{value}")),
                version,
                content: version.map(|n| match n % 4 {
                    0 => Content::Balance(-5),
                    1 => Content::Unique(n),
                    2 => Content::Edge(Edge { from: n, to: key }),
                    _ => Content::Vertex(Box::new(Vertex { outgoing: vec![n], incoming: vec![] })),
                }),
                evidence: has_rid
                    .then(|| Box::new(Evidence { voted: vec![0, 1], accepted: vec![key as u32] })),
            });
            Operation {
                id: 0,
                process,
                session,
                kind: OpKind::Transaction,
                phase: Phase::Measure,
                node,
                level: Some(ReadLevel::Majority),
                steps: steps.collect(),
                intended: sent,
                sent,
                done,
                outcome,
                code: (outcome != Outcome::Ok).then(|| "busy\n\u{1f980}".to_owned()),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_comes_back(mut operations in prop::collection::vec(operation(), 0..20)) {
        operations.sort_by_key(|operation| operation.sent);
        for (id, operation) in (1..).zip(&mut operations) {
            operation.id = id;
        }
        let reading = read(written(&operations).as_slice()).unwrap();
        prop_assert_eq!(reading.history, History { header: header(), operations });
        prop_assert!(reading.notes.is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut text = format!("{HEADER}\n{INVOKE}\n").into_bytes();
        text.extend(&bytes);
        drop(read(text.as_slice()));
        drop(read(bytes.as_slice()));
    }

    #[test]
    fn no_damage_makes_it_panic(
        operations in prop::collection::vec(operation(), 1..4),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        end in any::<prop::sample::Index>(),
    ) {
        let mut text = written(&operations);
        let at = at.index(text.len());
        text[at] = byte;
        text.truncate(end.index(text.len()) + 1);
        drop(read(text.as_slice()));
    }
}

#[test]
fn an_invocation_without_completion_is_pending() {
    let reading = read_text(&format!("{HEADER}\n{INVOKE}\n")).unwrap();
    let operation = &reading.history.operations[0];
    assert_eq!((operation.outcome, operation.done), (Outcome::Unknown, None));
    assert_eq!(operation.steps[0].action, Action::Read(None));
}

/// However a crash cuts the file, every operation that was invoked before is still there.
#[test]
fn a_cut_anywhere_after_the_header_is_tolerated() {
    let text = format!("{HEADER}\n{INVOKE}\n{COMPLETE}\n");
    let (invoked, completed) = (HEADER.len() + INVOKE.len() + 1, text.len() - 1);
    for end in HEADER.len() + 1..=text.len() {
        let reading = read_text(&text[..end]).unwrap();
        let operations = &reading.history.operations;
        assert_eq!(operations.len(), usize::from(end >= invoked), "cut at {end}");
        let acknowledged = operations.iter().any(|operation| operation.outcome == Outcome::Ok);
        assert_eq!(acknowledged, end >= completed, "cut at {end}");
        let on_a_border = [HEADER.len() + 1, invoked, invoked + 1, completed, text.len()];
        assert_eq!(reading.notes.is_empty(), on_a_border.contains(&end), "cut at {end}");
    }
    let reading = read_text(&text[..completed - 1]).unwrap();
    assert_eq!(reading.notes, [Note::TornLastLine { line: 3 }]);
    assert_eq!(reading.notes[0].to_string(), "the last line (3) is cut off and was left out");
}

#[test]
fn headers_that_are_none_are_refused() {
    for (header, message) in [
        ("", "the history has no header line"),
        ("{\"format\":\"quorate-history\"", "the history has no header line"),
        ("x\n", "not a history: the first line is no header: expected value at line 1 column 1"),
        (
            "{\"format\":\"other\",\"version\":1}\n",
            "not a history: the first line names the format \"other\", not \"quorate-history\"",
        ),
        (
            "{\"format\":\"quorate-history\",\"version\":3,\"servers\":3}\n",
            "history format version 3 is not supported; this program reads versions 1 to 2",
        ),
        (
            "{\"format\":\"quorate-history\",\"version\":1}\n",
            "not a history: the first line is no header: missing field `nodes` at line 1 column 40",
        ),
    ] {
        assert_eq!(read_text(header).unwrap_err().to_string(), message, "{header}");
    }
}

#[test]
fn lines_that_cannot_be_are_refused_by_number_and_reason() {
    let changed = |line: &str, from: &str, to: &str| {
        assert!(line.contains(from), "{from}");
        line.replace(from, to)
    };
    let completed = |from, to| vec![INVOKE.to_owned(), changed(COMPLETE, from, to)];
    for (lines, message) in [
        (vec![INVOKE.to_owned(), INVOKE.to_owned()], "line 3: operation 1 was invoked before"),
        (vec![COMPLETE.to_owned()], "line 2: operation 1 completes without having been invoked"),
        (
            vec![INVOKE.to_owned(), COMPLETE.to_owned(), COMPLETE.to_owned()],
            "line 4: operation 1 was completed before",
        ),
        (
            completed("\"done\":3", "\"done\":1"),
            "line 3: operation 1 was done at 1 ns, before it was sent at 2 ns",
        ),
        (
            completed("\"sent\":2", "\"sent\":1"),
            "line 3: operation 1 was sent at 1 ns, before its invocation at 2 ns",
        ),
        (completed("\"done\":3", "\"done\":null"), "line 3: operation 1 is ok, but was never done"),
        (
            completed(",\"seen\":{\"value\":9}", ""),
            "line 3: operation 1 is ok, but step 0 does not say what it saw",
        ),
        (
            completed("[{", "[{},{"),
            "line 3: operation 1 was invoked with 1 steps and completed with 2",
        ),
        (
            vec![changed(INVOKE, "\"read\"}", "{\"write\":1}}"), COMPLETE.to_owned()],
            "line 3: operation 1: step 0 is no read, but says what it saw",
        ),
        (vec![changed(INVOKE, "\"local\"", "null")], "line 2: operation 1 reads, but has no level"),
        (
            vec![changed(INVOKE, "\"node\":0", "\"node\":1")],
            "line 2: operation 1 went to node 1, but the header names 1 nodes",
        ),
        (
            vec![changed(INVOKE, "{\"key\":0,\"action\":\"read\"}", "")],
            "line 2: operation 1 has no steps",
        ),
    ] {
        let text = format!("{HEADER}\n{}\n", lines.join("\n"));
        let error = read_text(&text).unwrap_err().to_string();
        assert_eq!(error, format!("history {message}"));
    }
}

#[test]
fn damage_in_the_middle_is_an_error_and_so_is_an_unknown_field() {
    let text = format!("{HEADER}\n{}\n{COMPLETE}\n", &INVOKE[..50]);
    assert!(matches!(read_text(&text), Err(FormatError::Malformed { line: 2, .. })));
    let text = format!("{HEADER}\n{}\n", INVOKE.replace("\"id\"", "\"colour\":1,\"id\""));
    let error = read_text(&text).unwrap_err().to_string();
    assert!(error.contains("unknown field `colour`"), "{error}");
}

#[test]
fn a_file_is_read_by_its_path_and_a_missing_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    assert!(matches!(read_path(&path), Err(FormatError::Io(_))));
    std::fs::write(&path, format!("{HEADER}\n{INVOKE}\n{COMPLETE}\n")).unwrap();
    let from_path = read_path(&path).unwrap();
    let small_reads = BufReader::with_capacity(3, std::fs::File::open(&path).unwrap());
    assert_eq!(read(small_reads).unwrap(), from_path);
    assert_eq!(from_path.history.operations[0].steps[0].version, Some(4));
}
