//! A sweep under way: what it is made of, which run comes next, which runs are done. The file
//! `sweep.json` in its folder names every run, so that a sweep that was killed goes on where it
//! was. May not run anything, nor draw.

mod ledger;
mod order;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use ledger::Ledger;
pub use order::{is_made_good, is_unsound, is_wanted, order};

use crate::figures::bootstrap::{Estimate, estimate};
use crate::plan::{Plan, build};
use crate::report::Summary;
use crate::run::choice::StageName;
use crate::spec::{Axis, Measure, Spec, Sweep};

/// What a sweep is: two with the same definition are the same sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Name of the workload.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// Version of the program that began it.
    pub harness: String,
    /// Root of every random stream; repeat r of a point runs under this plus r.
    pub seed: u64,
    /// One or two.
    pub axes: Vec<Axis>,
    /// Every point, the last axis changing fastest.
    pub points: Vec<PointOfSweep>,
    /// Runs of each point.
    pub repeats: u32,
    /// Share of the mean below which half an interval needs no more runs; 0: never.
    pub narrow: f64,
    /// What that interval is of.
    pub figure: Measure,
    /// True if clients send as fast as they are answered, so that rates are what servers can do.
    pub closed_loop: bool,
    /// SHA-256 of every point's plan.
    pub plans: String,
    /// With what it is run.
    pub means: Means,
}

/// With what a sweep is run: other servers at another stage give other figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Means {
    /// The stage of all its runs.
    pub stage: String,
    /// Options and values that say where and with which programs it runs.
    pub options: Vec<(String, String)>,
    /// SHA-256 of the programs, or of the images, by name.
    pub programs: Vec<(String, String)>,
}

impl Means {
    /// True if its figures are of virtual time.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.stage == StageName::Sim.to_string()
    }
}

/// A point of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointOfSweep {
    /// One an axis.
    pub labels: Vec<String>,
    /// `path=value` of everything that differs there.
    pub set: Vec<String>,
    /// Why it cannot be run; `None` if it can.
    pub refused: Option<String>,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Which point, from 0.
    pub point: usize,
    /// Which of its runs, from 0.
    pub repeat: u32,
    /// Its folder, beside `sweep.json`.
    pub folder: String,
    /// What keeps its figures out of the means; empty for a good run.
    pub remark: String,
    /// True if a checker found what was not expected.
    pub violated: bool,
    /// True if another moment may give good figures: the host withheld CPU time.
    pub spoilt: bool,
    /// True if the harness failed, so that the run says nothing about the servers.
    pub failed: bool,
    /// Its figures, if there are any.
    pub figures: Option<RunFigures>,
}

/// What a sweep keeps of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RunFigures {
    /// Acknowledged operations per second.
    pub rate: f64,
    /// Median time until acknowledged, in milliseconds; `None` where nothing was.
    pub p50_ms: Option<f64>,
    /// The same of 99 %.
    pub p99_ms: Option<f64>,
    /// Share of the operations that were not acknowledged.
    pub refused: f64,
}

impl From<&Summary> for RunFigures {
    fn from(summary: &Summary) -> Self {
        let response = &summary.all.response_ok;
        let counts = &summary.counts;
        let not_ok = counts.failed + counts.unknown;
        Self {
            rate: summary.achieved_rate,
            p50_ms: response.p50.map(|bound| bound.micros / 1e3),
            p99_ms: response.p99.map(|bound| bound.micros / 1e3),
            refused: not_ok as f64 / counts.total().max(1) as f64,
        }
    }
}

impl RunFigures {
    /// One of them.
    #[must_use]
    pub fn of(&self, measure: Measure) -> Option<f64> {
        match measure {
            Measure::Rate => Some(self.rate),
            Measure::P99 => self.p99_ms,
        }
    }
}

/// The definition of a sweep, its means still open, and the plans of each point's runs; none where
/// it is refused. `can_run` says why a stage cannot run a plan.
pub fn define(
    sweep: &Sweep,
    harness: &str,
    mut can_run: impl FnMut(&Plan) -> Result<(), String>,
) -> (Definition, Vec<Vec<Plan>>) {
    let mut digest = Sha256::new();
    let mut points = Vec::new();
    let mut plans = Vec::new();
    for point in &sweep.points {
        let found = point.spec.clone().and_then(|spec| {
            let found = plans_of(&spec, sweep.repeats)?;
            found.iter().try_for_each(&mut can_run).map(|()| found)
        });
        // Plans are made of numbers and words: they always have a form in JSON.
        let json = found.as_ref().ok().and_then(|plans| serde_json::to_vec(plans).ok());
        digest.update(json.unwrap_or_default());
        digest.update([0]);
        let (labels, set) = (point.labels.clone(), point.set.clone());
        let refused = found.as_ref().err().cloned();
        points.push(PointOfSweep { labels, set, refused });
        plans.push(found.unwrap_or_default());
    }
    let hash: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let base = &sweep.base;
    let definition = Definition {
        name: base.name.clone(),
        description: base.description.clone(),
        harness: harness.to_owned(),
        seed: base.seed,
        axes: sweep.axes.clone(),
        points,
        repeats: sweep.repeats,
        narrow: sweep.narrow,
        figure: sweep.figure,
        closed_loop: matches!(base.load.mode, crate::plan::LoadMode::Closed),
        plans: hash,
        means: Means::default(),
    };
    (definition, plans)
}

/// The plans of a point's runs. Each repeat has a seed of its own, the same at all points, so that
/// these differ by what is swept alone.
fn plans_of(spec: &Spec, repeats: u32) -> Result<Vec<Plan>, String> {
    let seeds = (0..u64::from(repeats)).map(|repeat| spec.seed.wrapping_add(repeat));
    let plans = seeds.map(|seed| {
        build(spec, seed).map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        })
    });
    plans.collect()
}

/// The mean of a figure over a point's good runs.
#[must_use]
pub fn mean_of(
    ledger: &Ledger,
    point: usize,
    figure: impl Fn(&RunFigures) -> Option<f64>,
) -> Option<Estimate> {
    let values: Vec<f64> = ledger.good(point).filter_map(figure).collect();
    estimate(&values)
}
