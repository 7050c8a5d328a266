//! A run in sentences, from its plan and its summary alone: what was done, what held, what faults
//! cost, where time went, what to doubt, what to run next. May not look at the history or measure
//! anything anew: every figure in it stands in the report, too.

mod doubts;
mod faults;
mod held;
mod next;
mod time;

use quorate_check::verdict::Verdict;
use serde::Serialize;

use super::{Summary, words};
use crate::figures::Bound;
use crate::plan::{Arrivals, LoadMode, Plan};

/// A run in sentences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Name of the experiment.
    pub name: String,
    /// The run in one sentence.
    pub verdict: String,
    /// The rest of it, in the order in which one asks.
    pub parts: Vec<Part>,
}

/// Sentences about one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The question.
    pub question: &'static str,
    /// The answer, a sentence or two each.
    pub sentences: Vec<String>,
}

/// Explains the run whose report is `summary`; `folder` is what people call it.
#[must_use]
pub fn explain(plan: &Plan, summary: &Summary, folder: &str) -> Explanation {
    let part = |question, sentences: Vec<String>| Part {
        question,
        sentences: sentences.iter().map(|sentence| plain(sentence)).collect(),
    };
    Explanation {
        name: summary.name.clone(),
        verdict: plain(&verdict(summary)),
        parts: vec![
            part("What was run?", asked(plan, summary)),
            part("Did everything hold?", held::sentences(plan, summary)),
            part("What did faults cost?", faults::sentences(plan, summary)),
            part("Where did time go?", time::sentences(summary)),
            part("What should a reader doubt?", doubts::sentences(plan, summary)),
            part("What to run next?", next::sentences(plan, summary, folder)),
        ],
    }
}

/// The run in one sentence.
fn verdict(summary: &Summary) -> String {
    let safety = &summary.safety;
    let availability = summary.availability.as_ref().map(|found| found.verdict);
    let broken = availability == Some(Verdict::Violated);
    let first = match (safety.verdict, safety.as_expected) {
        (Verdict::Violated, true) => "A promise was broken, as this experiment expects.",
        (Verdict::Violated, false) => "A promise was broken.",
        (_, false) => "It was not shown that every promise held.",
        (_, true) if broken => {
            "What was acknowledged held, and clients were not served as they must."
        }
        (_, true) => "Every promise held.",
    };
    match summary.measurement.sound {
        true => first.to_owned(),
        false => format!("{first} The figures cannot be trusted."),
    }
}

/// What was run, and on what.
fn asked(plan: &Plan, summary: &Summary) -> Vec<String> {
    let about = match summary.description.as_str() {
        "" => format!("The experiment is `{}`.", summary.name),
        description => {
            let end = if description.ends_with('.') { "" } else { "." };
            format!("The experiment is `{}`: {description}{end}", summary.name)
        }
    };
    let servers = match (plan.topology.standalone, summary.masters, summary.replicas) {
        (true, ..) => "One server ran by itself, without a cluster".to_owned(),
        (_, 1, 0) => "One MASTER ran".to_owned(),
        (_, masters, 0) => format!("{masters} MASTERs ran"),
        (_, masters, replicas) => format!("{masters} MASTERs and {replicas} REPLICAs ran"),
    };
    let quorum = match plan.topology.standalone {
        true => String::new(),
        false => format!(", with the write quorum `{}`", summary.write_quorum),
    };
    let stage = match (summary.simulated, summary.stage.as_str()) {
        (true, _) => "in the simulator, in virtual time",
        (_, "process") => "as processes of one machine",
        (_, "docker") => "in containers of one machine",
        _ => "on a stage that the run folder does not name",
    };
    let clients = plan.load.clients;
    let load = match plan.load.mode {
        LoadMode::Open { rate, arrivals } => {
            let how = match arrivals {
                Arrivals::Poisson => "as independent users would",
                Arrivals::Uniform => "evenly spaced",
            };
            format!(
                "{} operations a second were to start, {how}, whether the servers kept up or not",
                words::count(rate.round() as u64)
            )
        }
        LoadMode::Closed => {
            format!("{clients} clients each sent an operation as soon as their last had ended")
        }
    };
    vec![
        about,
        format!("{servers} {stage}{quorum}."),
        format!(
            "Clients worked on {} records for {} that count: {load}. Each waited {} at most.",
            words::count(plan.workload.records),
            words::seconds(summary.measured_s),
            words::seconds(plan.load.timeout_ms as f64 / 1e3),
        ),
    ]
}

/// A figure in words.
fn told(bound: Bound) -> String {
    let sign = if bound.at_least { "at least " } else { "" };
    format!("{sign}{}", words::seconds(bound.micros / 1e6))
}

/// Spaces that terminals and searches know in place of those of a page.
fn plain(text: &str) -> String {
    text.replace(['\u{a0}', '\u{202f}'], " ")
}
