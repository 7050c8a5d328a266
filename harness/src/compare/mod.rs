//! Comparing runs: what differs before any figure does, and what blocks of interleaved runs say of
//! each metric with a stated margin. A run is the unit: operations of one run share its servers and
//! its moment. `read` reads run folders; everything else is pure. Starts nothing and draws nothing.

mod beside;
pub mod bootstrap;
mod calibration;
mod change_points;
mod differences;
mod metric;
mod read;
mod statistics;
mod survival;
mod trend;
mod verdict;
pub mod words;

#[cfg(test)]
mod rates_test;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod verdict_test;

pub use beside::{Beside, metrics};
pub use calibration::{CALIBRATION_FORMAT, Calibration, Spread};
pub use change_points::{CHANGE_ALPHA, ChangePoint, FIGURES_MIN, STRETCH_MIN, change_points};
pub use differences::{Difference, apart, circumstances, differences, machine};
pub use metric::{Kind, Metric, Scale};
pub use read::{CompareError, Figures, Run, Value, run, runs_in};
pub(crate) use statistics::median;
pub use statistics::{ALPHA, Effect, student};
pub use survival::{Curve, Wait};
pub use trend::{Change, Moment, Trend, TrendRow, trends};
pub use verdict::{
    BLOCKS_MIN, Block, Comparison, Finding, Row, Verdict, Waits, Wanted, compare, usual,
};
