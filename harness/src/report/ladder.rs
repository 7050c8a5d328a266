//! How small the servers' memory can be: the answer of a sweep over it, in a sentence. Judges what
//! the runs' own reports say; runs and draws nothing.

use crate::spec::Size;
use crate::sweep::{Definition, Done, Ledger};

/// What a sweep over memory sets.
const PATHS: [&str; 2] = ["topology.heap", "topology.memory"];
/// Largest share of a run's operations that may go unacknowledged where a workload "runs".
const SHARE_MOST: f64 = 0.01;

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A rung: how much memory, and what became of its runs.
struct Rung {
    memory: Size,
    /// `None` if the workload runs there.
    reason: Option<Reason>,
}

/// Why it cannot be said that the workload runs.
#[derive(Debug, PartialEq)]
enum Reason {
    /// It does not.
    Broken(String),
    /// No run tells: what is wrong with its figures is not the servers'.
    Untold(String),
}

/// The smallest memory at which the workload runs, down to which it runs everywhere; `None` for a
/// sweep over something else, or that is not done.
pub(super) fn told(ledger: &Ledger) -> Option<String> {
    let definition = &ledger.definition;
    if !ledger.finished || definition.axes.len() != 1 {
        return None;
    }
    let rungs: Option<Vec<Rung>> =
        (0..definition.points.len()).map(|point| rung(ledger, point)).collect();
    let mut rungs = rungs?;
    rungs.sort_by_key(|rung| std::cmp::Reverse(rung.memory));
    let runs = rungs.iter().take_while(|rung| rung.reason.is_none()).count();
    let broken = rungs.get(runs).and_then(|rung| {
        Some(match rung.reason.as_ref()? {
            Reason::Broken(reason) => format!("with {} it does not: {reason}", rung.memory),
            Reason::Untold(reason) => {
                format!("with {} it cannot be told: {reason}", rung.memory)
            }
        })
    });
    let Some(smallest) = rungs[..runs].last() else {
        return broken.map(|broken| format!("No memory is known with which it runs: {broken}."));
    };
    let share = percent(SHARE_MOST);
    Some(format!(
        "The smallest memory with which the workload runs is {}: in every run there, and with \
         more, all checkers say what is expected, the figures are sound, and at most {share} of \
         the operations are not acknowledged; {}.",
        smallest.memory,
        broken.unwrap_or_else(|| "less was not tried".to_owned())
    ))
}

fn rung(ledger: &Ledger, point: usize) -> Option<Rung> {
    let memory = memory_of(&ledger.definition, point)?;
    if let Some(refused) = &ledger.definition.points[point].refused {
        return Some(Rung { memory, reason: Some(Reason::Broken(refused.clone())) });
    }
    let runs: Vec<&Done> = ledger.runs.iter().filter(|run| run.point == point).collect();
    let telling = || runs.iter().filter(|run| tells(run));
    let untold = || runs.iter().find(|run| !tells(run)).map(|run| run.remark.clone());
    let reason = if let Some(broken) = telling().find_map(|run| wrong_with(run)) {
        Some(Reason::Broken(broken))
    } else if telling().next().is_none() {
        Some(Reason::Untold(untold().unwrap_or_else(|| "it was not run".to_owned())))
    } else {
        None
    };
    Some(Rung { memory, reason })
}

/// A run whose driver was late, or that the host spoilt, says nothing of the servers.
fn tells(run: &Done) -> bool {
    run.violated || run.failed || run.remark.is_empty()
}

fn memory_of(definition: &Definition, point: usize) -> Option<Size> {
    definition.points[point].set.iter().find_map(|set| {
        let (path, value) = set.split_once('=')?;
        // Values stand as in JSON.
        let text = value.trim_matches('"').to_owned();
        PATHS.contains(&path).then(|| Size::try_from(text).ok())?
    })
}

fn wrong_with(run: &Done) -> Option<String> {
    if run.violated {
        return Some("a checker found what was not expected".to_owned());
    }
    if run.failed {
        return Some(run.remark.clone());
    }
    match run.figures.map(|figures| figures.refused) {
        None => Some("a run has no figures".to_owned()),
        Some(share) if share > SHARE_MOST => {
            Some(format!("{} of the operations were not acknowledged", percent(share)))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Axis, Measure};
    use crate::sweep::{Means, PointOfSweep, RunFigures};

    /// A finished sweep over these, each with runs by the share that was not acknowledged.
    fn ladder(path: &str, rungs: &[(&str, &[f64])]) -> Ledger {
        let labels: Vec<String> = rungs.iter().map(|(memory, _)| (*memory).to_owned()).collect();
        let point = |label: &String| PointOfSweep {
            labels: vec![label.clone()],
            set: vec![format!("{path}=\"{label}\"")],
            refused: None,
        };
        let mut ledger = Ledger::new(Definition {
            name: "memory-ladder".to_owned(),
            description: String::new(),
            harness: "test".to_owned(),
            seed: 1,
            axes: vec![Axis { name: "memory".to_owned(), labels: labels.clone(), is_size: false }],
            points: labels.iter().map(point).collect(),
            repeats: 1,
            narrow: 0.0,
            figure: Measure::Rate,
            closed_loop: false,
            plans: String::new(),
            means: Means::default(),
        });
        ledger.finished = true;
        for (point, (_, shares)) in rungs.iter().enumerate() {
            for (repeat, refused) in shares.iter().enumerate() {
                let (p50_ms, p99_ms) = (Some(1.0), Some(2.0));
                ledger.runs.push(Done {
                    point,
                    repeat: u32::try_from(repeat).unwrap(),
                    folder: String::new(),
                    remark: String::new(),
                    violated: false,
                    spoilt: false,
                    failed: false,
                    figures: Some(RunFigures { rate: 1.0, p50_ms, p99_ms, refused: *refused }),
                });
            }
        }
        ledger
    }

    /// FEATURES: H7
    #[test]
    fn the_smallest_memory_is_the_last_rung_before_the_first_that_breaks() {
        let rungs: [(&str, &[f64]); 4] =
            [("2GiB", &[0.0]), ("64MiB", &[0.0, 0.01]), ("48MiB", &[0.0, 0.2]), ("32MiB", &[0.0])];
        let mut ledger = ladder("topology.heap", &rungs);
        let text = told(&ledger).unwrap();
        assert!(text.starts_with("The smallest memory with which the workload runs is 64MiB"));
        assert!(text.contains("with 48MiB it does not: 20"), "{text}");
        // A driver that was late says nothing of the servers, another run of the point does.
        ledger.runs[4].remark = "late".to_owned();
        let text = told(&ledger).unwrap();
        assert!(text.contains("runs is 32MiB") && text.contains("less was not tried"), "{text}");
        ledger.runs[0].violated = true;
        let text = told(&ledger).unwrap();
        assert!(text.starts_with("No memory is known with which it runs: with 2GiB it does not"));
        ledger.runs[0].violated = false;
        ledger.runs[0].remark = "late".to_owned();
        let text = told(&ledger).unwrap();
        assert!(text.contains("with 2GiB it cannot be told: late"), "{text}");
        ledger.finished = false;
        assert_eq!(told(&ledger), None);
        assert_eq!(told(&ladder("load.rate", &[("10", &[0.0])])), None);
    }
}
