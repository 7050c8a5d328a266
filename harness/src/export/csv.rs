//! Comma separated values as RFC 4180 has them: a line of names, then one an operation or interval.
//! A cell without a value is empty, never 0.

use std::fmt::Display;

use quorate_check::history::{History, Operation};

use super::Interval;
use crate::figures::class_of;

/// Quantiles of an interval, as the columns name them.
const QUANTILES: [(&str, f64); 4] =
    [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999)];

/// One line an operation of any phase, in the order in which they were sent. Times are nanoseconds
/// on the history's clock.
pub(super) fn operations(history: &History) -> String {
    let mut text = lines(&[
        "id",
        "process",
        "session",
        "class",
        "phase",
        "server",
        "keys",
        "intended_ns",
        "sent_ns",
        "done_ns",
        "outcome",
        "code",
        "response_us",
        "service_us",
    ]);
    for op in &history.operations {
        text.push_str(&lines(&operation(history, op)));
    }
    text
}

fn operation(history: &History, op: &Operation) -> [String; 14] {
    let server = history.header.nodes.get(op.node as usize).cloned();
    let keys: Vec<String> = op.steps.iter().map(|step| step.key.to_string()).collect();
    let since = |from: u64| op.done.map(|done| done.saturating_sub(from) as f64 / 1e3);
    [
        op.id.to_string(),
        op.process.to_string(),
        op.session.to_string(),
        class_of(op).to_owned(),
        word(&op.phase),
        server.unwrap_or_default(),
        keys.join(" "),
        op.intended.to_string(),
        op.sent.to_string(),
        or_empty(op.done),
        word(&op.outcome),
        or_empty(op.code.as_ref()),
        or_empty(since(op.intended)),
        or_empty(since(op.sent)),
    ]
}

/// One line a class, outcome and interval. Times are seconds on the history's clock.
pub(super) fn intervals(intervals: &[Interval]) -> String {
    let mut names = vec!["from_s", "length_s", "class", "outcome", "count", "min_us", "mean_us"];
    names.extend(QUANTILES.map(|(name, _)| name));
    names.push("max_us");
    let mut text = lines(&names);
    for of in intervals {
        let found = &of.response;
        let mut row = vec![
            of.from_s.to_string(),
            of.length_s.to_string(),
            of.class.clone(),
            of.outcome.clone(),
            found.len().to_string(),
            found.min().to_string(),
            format!("{:.1}", found.mean()),
        ];
        row.extend(QUANTILES.map(|(_, q)| found.value_at_quantile(q).to_string()));
        row.push(found.max().to_string());
        text.push_str(&lines(&row));
    }
    text
}

/// A word of the history as its file spells it.
fn word(of: &impl serde::Serialize) -> String {
    // Words always have a form in JSON.
    let json = serde_json::to_value(of).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}

fn or_empty(of: Option<impl Display>) -> String {
    of.map(|of| of.to_string()).unwrap_or_default()
}

/// A line of cells, quoted where they need it.
fn lines(cells: &[impl AsRef<str>]) -> String {
    let cell = |cell: &str| {
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.to_owned()
        }
    };
    let cells: Vec<String> = cells.iter().map(|of| cell(of.as_ref())).collect();
    cells.join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_need_it() {
        assert_eq!(lines(&["a", "b c", ""]), "a,b c,\r\n");
        assert_eq!(lines(&["a,b", "say \"no\""]), "\"a,b\",\"say \"\"no\"\"\"\r\n");
    }
}
