//! Plots of a run: one drawing each, made into SVG and PNG alike. Data comes from `figures/`.
//! No HTML and no files here. Empty data is drawn as an empty plot that says so.

mod axes;
mod canvas;
mod codes;
mod forest;
mod heat;
mod history;
mod lines;
mod matrix;
mod nodes;
mod overlay;
pub(super) mod palette;
mod percentiles;
mod rates;
mod resources;
mod timeline;

pub use canvas::PlotError;
pub(super) use canvas::{FONT, Plot, bitmap, svg};
pub(super) use codes::Codes;
pub(super) use forest::{Forest, ForestRow, Measure};
pub(super) use heat::{Heat, HeatCell};
pub(super) use history::HistoryPlot;
pub(super) use lines::Lines;
pub(super) use matrix::{Cell, Matrix};
pub(super) use nodes::Availability;
pub(super) use overlay::{Over, Overlay, Side};
pub(super) use percentiles::{Curve, Percentiles, by_class, by_outcome};
pub(super) use rates::{Mark, Rates, Unit};
pub(super) use resources::Resources;
pub(super) use timeline::{Geometry, Thumbnail, TimelinePlot, timeline_colours};

pub(super) use axes::{Band, TimeAxis};
use quorate_check::history::{Nanos, Phase};

use crate::figures::{Figures, Window};
use crate::folder::PhaseMark;

/// Left and right margin of a frame in CSS pixels.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;

/// Seconds from `origin` to `at`, negative before it.
pub(super) fn since(origin: Nanos, at: Nanos) -> f64 {
    (at as f64 - origin as f64) / 1e9
}

/// The time axis that all plots of a run share.
pub(super) fn time_axis(figures: &Figures, phases: &[PhaseMark]) -> TimeAxis {
    let origin = figures.timeline.origin;
    let Window { from, to } = figures.timeline.window();
    let (from, to) = (from.min(figures.window.from), to.max(figures.window.to));
    let fault = |fault: &crate::figures::FaultFigures| {
        let window = fault.window(to);
        Band {
            from: since(origin, window.from),
            to: since(origin, window.to),
            label: fault.name.clone(),
        }
    };
    let shown = |mark: &&PhaseMark| match mark.phase {
        Phase::Warmup | Phase::Measure => true,
        // Bursts of reads that watch the servers settle would dwarf the load.
        Phase::Load | Phase::Settle | Phase::Final => false,
    };
    let phase = |mark: &PhaseMark| Band {
        from: since(origin, mark.from.clamp(from, to)),
        to: since(origin, mark.to.clamp(from, to)),
        label: phase_name(mark.phase).to_owned(),
    };
    TimeAxis {
        from: since(origin, from),
        to: since(origin, to),
        faults: figures.faults.iter().map(fault).collect(),
        phases: phases.iter().filter(shown).map(phase).collect(),
    }
}

/// A phase for people.
pub(super) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Load => "load",
        Phase::Warmup => "warm-up",
        Phase::Measure => "measure",
        Phase::Settle => "settle",
        Phase::Final => "final reads",
    }
}
