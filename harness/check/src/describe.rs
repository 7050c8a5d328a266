//! Operations as text that a person can follow. No judging here.

use crate::history::{Action, Header, Nanos, OpKind, Operation, Outcome, ReadLevel, Seen, Step};
use crate::index::Index;
use crate::verdict::Counterexample;

/// Steps named of one operation; longer transactions are cut so that a report stays readable.
const STEPS_SHOWN_MAX: usize = 8;

/// `1500000` nanoseconds as `1.500 ms`.
pub(crate) fn millis(at: Nanos) -> String {
    format!("{}.{:03} ms", at / 1_000_000, at % 1_000_000 / 1_000)
}

/// The name of server `node`, or its number if the header does not name it.
pub(crate) fn node_name(header: &Header, node: u32) -> String {
    let named = usize::try_from(node).ok().and_then(|node| header.nodes.get(node));
    named.cloned().unwrap_or_else(|| format!("#{node}"))
}

/// What a read saw.
pub(crate) fn seen(seen: Seen) -> String {
    match seen {
        Seen::Value(value) => format!("value {value}"),
        Seen::Absent(Some(tombstone)) => format!("no record (tombstone {tombstone})"),
        Seen::Absent(None) => "no record".to_owned(),
    }
}

/// One line: what, who, where, when. With `key`, only the steps on that key.
pub(crate) fn operation(header: &Header, operation: &Operation, key: Option<u64>) -> String {
    let mut steps = operation.steps.iter().filter(|step| key.is_none_or(|key| step.key == key));
    let mut told: Vec<String> =
        steps.by_ref().take(STEPS_SHOWN_MAX).map(|step| told_step(operation, step)).collect();
    if steps.next().is_some() {
        told.push("…".to_owned());
    }
    let within = if operation.kind == OpKind::Transaction { "transaction: " } else { "" };
    format!(
        "op {} (process {}, session {}) at node {}, sent {}, {}: {within}{}",
        operation.id,
        operation.process,
        operation.session,
        node_name(header, operation.node),
        millis(operation.sent),
        told_outcome(operation),
        told.join("; "),
    )
}

/// The counter-example made of the operations at `indexes`, ended by `reason`.
pub(crate) fn counterexample(
    index: &Index<'_>,
    mut indexes: Vec<usize>,
    key: Option<u64>,
    reason: String,
) -> Counterexample {
    let history = index.history;
    indexes.sort_by_key(|&at| (history.operations[at].sent, history.operations[at].id, at));
    indexes.dedup();
    let operations: Vec<Operation> =
        indexes.iter().map(|&at| history.operations[at].clone()).collect();
    let mut lines: Vec<String> =
        operations.iter().map(|op| operation(&history.header, op, key)).collect();
    lines.push(format!("Impossible because {reason}"));
    Counterexample { operations, lines }
}

fn told_step(operation: &Operation, step: &Step) -> String {
    let mut text = match &step.action {
        Action::Read(result) => {
            let level = match operation.level {
                Some(ReadLevel::Local) => "local read",
                Some(ReadLevel::Majority) => "majority read",
                None => "read",
            };
            let result = result.map_or_else(|| "nothing known".to_owned(), seen);
            format!("{level} of key {} saw {result}", step.key)
        }
        Action::Write(value) if operation.kind == OpKind::Create => {
            format!("create of key {} with value {value}", step.key)
        }
        Action::Write(value) => format!("write of value {value} to key {}", step.key),
        Action::Delete(tombstone) => format!("delete of key {} (tombstone {tombstone})", step.key),
    };
    if let Some(version) = step.version {
        text.push_str(&format!(", version {version}"));
    }
    if let Some(rid) = &step.rid {
        text.push_str(&format!(", rid {rid}"));
    }
    text
}

fn told_outcome(operation: &Operation) -> String {
    let outcome = match operation.outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::Unknown => "unknown",
    };
    let when = match operation.done {
        Some(done) => {
            format!(" after {} at {}", millis(done.saturating_sub(operation.sent)), millis(done))
        }
        None => ", never answered".to_owned(),
    };
    match &operation.code {
        Some(code) => format!("{outcome} ({code}){when}"),
        None => format!("{outcome}{when}"),
    }
}
