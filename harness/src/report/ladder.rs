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
    /// Why the workload does not run there; `None` if it does.
    reason: Option<String>,
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
    let broken = rungs.get(runs).map(|rung| {
        let reason = rung.reason.as_deref().unwrap_or_default();
        format!("with {} it does not: {reason}", rung.memory)
    });
    let Some(smallest) = rungs[..runs].last() else {
        return broken.map(|broken| format!("The workload does not run: {broken}."));
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
        return Some(Rung { memory, reason: Some(refused.clone()) });
    }
    let runs: Vec<&Done> = ledger.runs.iter().filter(|run| run.point == point).collect();
    let reason = if runs.is_empty() {
        Some("it was not run".to_owned())
    } else {
        runs.iter().find_map(|run| wrong_with(run))
    };
    Some(Rung { memory, reason })
}

fn memory_of(definition: &Definition, point: usize) -> Option<Size> {
    definition.points[point].set.iter().find_map(|set| {
        let (path, value) = set.split_once('=')?;
        PATHS.contains(&path).then(|| Size::try_from(value.to_owned()).ok())?
    })
}

/// A run that the host spoilt says nothing of the servers; the others of its point do.
fn wrong_with(run: &Done) -> Option<String> {
    if run.violated {
        return Some("a checker found what was not expected".to_owned());
    }
    if run.spoilt {
        return None;
    }
    if !run.remark.is_empty() {
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
            set: vec![format!("{path}={label}")],
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
        ledger.runs[3].spoilt = true;
        let text = told(&ledger).unwrap();
        assert!(text.contains("runs is 32MiB") && text.contains("less was not tried"), "{text}");
        ledger.runs[0].violated = true;
        let text = told(&ledger).unwrap();
        assert!(text.starts_with("The workload does not run: with 2GiB it does not"), "{text}");
        ledger.finished = false;
        assert_eq!(told(&ledger), None);
        assert_eq!(told(&ladder("load.rate", &[("10", &[0.0])])), None);
    }
}
