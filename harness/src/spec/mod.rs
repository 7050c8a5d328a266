//! Specs: YAML files checked into typed values, or refused with file, line, key and hint.
//!
//! YAML → [`tree`] (every value knows its line) → [`schema`] (unknown keys, wrong values) →
//! [`raw`] (typed) → `validate` and `faults` (meaning across keys) → [`Spec`] → `crate::plan`.
//! May not start anything, read a clock or draw a random number.

mod expect;
mod faults;
mod gate;
mod latency;
mod load;
mod network;
mod problem;
pub mod raw;
pub mod schema;
mod size;
mod storm;
mod suite;
mod sweep;
mod traffic;
pub mod tree;
mod triggers;
mod units;
mod validate;

use std::collections::BTreeMap;

use quorate_check::verdict::Verdict;

pub use expect::CHECKERS;
pub use gate::gate;
pub use load::{Overrides, scenario, workload};
pub use problem::{Origin, Problem, SpecError, hint, nearest};
pub use raw::Measure;
pub use size::{NoSize, Size};
pub use suite::{Experiment, Suite, suite};
pub use sweep::{Axis, Point, Sweep, sweep};
pub use units::{NoSpan, Span};

use crate::plan::{Gap, Load, Network, Phases, PlannedFault, Topology, Workload};

/// A checked workload: every default filled in, every relation between keys held.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Name of the experiment.
    pub name: String,
    /// One sentence for the report.
    pub description: String,
    /// Root seed.
    pub seed: u64,
    /// Servers and links.
    pub topology: Topology,
    /// How far they are from each other, if the spec says so.
    pub network: Option<Network>,
    /// Records and operations.
    pub workload: Workload,
    /// How operations are sent.
    pub load: Load,
    /// Lengths of the parts of the run.
    pub phases: Phases,
    /// Faults, in the order written.
    pub faults: Vec<SpecFault>,
    /// Expected verdicts.
    pub expect: BTreeMap<String, Verdict>,
    /// What is allowed but deserves a word.
    pub warnings: Vec<String>,
}

/// A fault and where it was written, for problems that show only once a seed is known.
#[derive(Debug, Clone, PartialEq)]
pub struct SpecFault {
    /// Where.
    pub origin: Origin,
    /// What.
    pub fault: PlannedFault,
    /// The pause that it comes behind, where the seed decides its length.
    pub gap: Option<Gap>,
}

/// A checked scenario file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// One sentence.
    pub description: String,
}
