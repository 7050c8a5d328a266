//! The time line: throughput by outcome, and latency, over the same seconds, faults shaded.
//! Nothing is cut off: both axes are made from the largest figures.

use plotters::prelude::DrawingBackend;

use super::axes::{
    self, FAULT_ROW, FAULT_ROWS, Frame, LEGEND_ROW, Scale, TICK, TimeAxis, legend, legend_rows,
    nothing, tick_micros, tick_number, vertical,
};
use super::canvas::{Anchor, Canvas, Look, Plot, PlotError};
use super::palette::{Colour, FAILED, FAINT, FAULT, INK, MAX, OK, P50, P99, UNKNOWN};
use super::{LEFT, RIGHT, since};
use crate::figures::{Bound, Slot, Timeline};

const LEGEND: [(&str, Colour); 6] = [
    ("ok", OK),
    ("failed", FAILED),
    ("unknown", UNKNOWN),
    ("p50", P50),
    ("p99", P99),
    ("max", MAX),
];

/// Colour, width of the line, and which figure of a slot.
type Series = (Colour, f64, fn(&Slot) -> Option<Bound>);

const PHASE: Look = Look::new(11.0, INK);

/// Name and colour of each series, as plot files name it.
pub(crate) fn timeline_colours() -> [(&'static str, String); 7] {
    let [a, b, c, d, e, f] = LEGEND.map(|(name, colour)| (name, colour.hex()));
    [a, b, c, d, e, f, ("faults", FAULT.hex())]
}

/// Where the two frames lie, for the page's script: pixels of the plot file, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Geometry {
    /// Left edge of the frames in CSS pixels.
    pub(crate) left: f64,
    /// Right edge.
    pub(crate) right: f64,
    /// Top of the upper frame.
    pub(crate) top: f64,
    /// Bottom of the lower frame.
    pub(crate) bottom: f64,
}

/// The plot of the first screen.
pub(crate) struct TimelinePlot<'a> {
    pub(crate) timeline: &'a Timeline,
    pub(crate) axis: &'a TimeAxis,
}

impl TimelinePlot<'_> {
    fn fault_height(&self) -> f64 {
        self.axis.faults.len().min(FAULT_ROWS) as f64 * FAULT_ROW
    }

    fn frames(&self, width: f64) -> (Frame, Frame) {
        let legend = legend_rows(width, LEGEND.iter().map(|(name, _)| *name)) * LEGEND_ROW;
        let top = legend + 20.0 + self.fault_height() + 34.0;
        let (left, right) = (LEFT, width - RIGHT);
        let upper = Frame { left, top, right, bottom: top + 165.0 };
        let lower_top = upper.bottom + 36.0;
        (upper, Frame { left, top: lower_top, right, bottom: lower_top + 175.0 })
    }

    /// Where the frames lie at a width.
    pub(crate) fn geometry(&self, width: f64) -> Geometry {
        let (upper, lower) = self.frames(width);
        Geometry { left: upper.left, right: upper.right, top: upper.top, bottom: lower.bottom }
    }

    fn phases<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        upper: Frame,
        lower: Frame,
    ) -> Result<(), PlotError> {
        let scale = self.axis.scale(upper);
        let y = upper.top - 44.0 - self.fault_height();
        for phase in &self.axis.phases {
            let (x0, x1) = (scale.at(phase.from), scale.at(phase.to));
            let label = canvas.fitted(&phase.label, x1 - x0 - 8.0, PHASE)?;
            canvas.line([(x0 + 0.5, y), (x0 + 0.5, y + 10.0)], FAINT, 1.0)?;
            canvas.line([(x0, y), ((x1 - 1.0).max(x0), y)], FAINT, 1.0)?;
            canvas.text(&label, (x0 + 5.0, y + 8.5), Anchor::Start, PHASE)?;
            if self.axis.from < phase.from && phase.from < self.axis.to {
                canvas.dashes((x0, upper.top), (x0, upper.bottom), FAINT)?;
                canvas.dashes((x0, lower.top), (x0, lower.bottom), FAINT)?;
            }
        }
        Ok(())
    }

    fn throughput<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
    ) -> Result<(), PlotError> {
        let line = self.timeline;
        let most = line.slots.iter().map(|slot| line.rate(slot.counts.total())).fold(0.0, f64::max);
        let scale = Scale::linear(0.0, axes::round_top(most), frame.bottom, frame.top);
        let ticks = scale.ticks(4.0).into_iter().map(|v| (scale.at(v), tick_number(v)));
        vertical(canvas, frame, "operations per second", &ticks.collect::<Vec<_>>())?;
        self.axis.shade(canvas, frame)?;
        if line.slots.is_empty() {
            return nothing(canvas, frame, "no operations were recorded");
        }
        stack(canvas, line, self.axis, (frame, scale), &outcomes(line))
    }

    fn latency<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
    ) -> Result<(), PlotError> {
        let slots = &self.timeline.slots;
        let figures = slots.iter().flat_map(|slot| [slot.p50, slot.p99, slot.max]).flatten();
        let Some((low, high)) = axes::decades_of(figures.map(|bound| bound.micros)) else {
            vertical(canvas, frame, "response time", &[])?;
            self.axis.shade(canvas, frame)?;
            return nothing(canvas, frame, "no operation was answered");
        };
        let scale = Scale::log(low, high, frame.bottom, frame.top);
        let ticks = scale.decades().into_iter().map(|v| (scale.at(v), tick_micros(v)));
        let title = "response time (logarithmic), ok and unanswered operations";
        vertical(canvas, frame, title, &ticks.collect::<Vec<_>>())?;
        self.axis.shade(canvas, frame)?;
        let series: [Series; 3] =
            [(MAX, 1.0, |slot| slot.max), (P99, 1.5, |slot| slot.p99), (P50, 1.5, |slot| slot.p50)];
        for (colour, width, figure) in series {
            for run in runs(self.timeline, self.axis, frame, |slot| {
                figure(slot).map(|bound| scale.at(bound.micros))
            }) {
                canvas.line(run, colour, width)?;
            }
        }
        Ok(())
    }
}

impl Plot for TimelinePlot<'_> {
    fn height(&self, width: f64) -> f64 {
        self.frames(width).1.bottom + 38.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let (upper, lower) = self.frames(canvas.width);
        legend(canvas, (2.0, 9.0), &LEGEND.map(|(name, colour)| (name.to_owned(), colour)))?;
        self.throughput(canvas, upper)?;
        self.latency(canvas, lower)?;
        self.phases(canvas, upper, lower)?;
        let names_top = upper.top - 26.0 - self.fault_height();
        self.axis.name_faults(canvas, upper, names_top)?;
        self.axis.draw(canvas, lower)
    }
}

/// Counts a slot, by outcome.
fn outcomes(line: &Timeline) -> [(Colour, Vec<u64>); 3] {
    let counts = |count: fn(&Slot) -> u64| line.slots.iter().map(count).collect();
    [
        (OK, counts(|slot| slot.counts.ok)),
        (FAILED, counts(|slot| slot.counts.failed)),
        (UNKNOWN, counts(|slot| slot.counts.unknown)),
    ]
}

/// Counts a slot as areas on top of each other.
pub(super) fn stack<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    line: &Timeline,
    axis: &TimeAxis,
    (frame, scale): (Frame, Scale),
    layers: &[(Colour, Vec<u64>)],
) -> Result<(), PlotError> {
    let times = axis.scale(frame);
    let steps = |counts: &[u64]| -> Vec<(f64, f64)> {
        let both = line.slots.iter().zip(counts).flat_map(|(slot, count)| {
            let x0 = since(line.origin, slot.from);
            let x1 = since(line.origin, slot.from + line.slot);
            let y = scale.at(line.rate(*count));
            [(times.at(x0), y), (times.at(x1), y)]
        });
        both.collect()
    };
    let mut base = vec![0u64; line.slots.len()];
    for (colour, counts) in layers.iter().filter(|(_, counts)| counts.iter().any(|n| *n > 0)) {
        let top: Vec<u64> = counts.iter().zip(&base).map(|(count, base)| base + count).collect();
        let mut outline = steps(&top);
        outline.extend(steps(&base).into_iter().rev());
        canvas.polygon(outline, *colour, 1.0)?;
        base = top;
    }
    Ok(())
}

/// Lines through the slots that have a figure, as steps; a slot without one breaks the line.
fn runs(
    line: &Timeline,
    axis: &TimeAxis,
    frame: Frame,
    y_of: impl Fn(&Slot) -> Option<f64>,
) -> Vec<Vec<(f64, f64)>> {
    let times = axis.scale(frame);
    let mut runs: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    for slot in &line.slots {
        match y_of(slot) {
            Some(y) => {
                let x0 = times.at(since(line.origin, slot.from));
                let x1 = times.at(since(line.origin, slot.from + line.slot));
                if let Some(run) = runs.last_mut() {
                    run.extend([(x0, y), (x1, y)]);
                }
            }
            None => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

/// Throughput and p99 without axes, for lists of runs.
pub(crate) struct Thumbnail<'a> {
    pub(crate) timeline: &'a Timeline,
    pub(crate) axis: &'a TimeAxis,
}

impl Plot for Thumbnail<'_> {
    fn height(&self, width: f64) -> f64 {
        (width * 0.26).round()
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let line = self.timeline;
        let (left, right) = (1.0, canvas.width - 1.0);
        let split = (canvas.height * 0.58).round();
        let upper = Frame { left, top: 2.0, right, bottom: split - 3.0 };
        let lower = Frame { left, top: split + 3.0, right, bottom: canvas.height - 1.0 };
        for frame in [upper, lower] {
            self.axis.shade(canvas, frame)?;
            canvas.line([(left, frame.bottom), (right, frame.bottom)], FAINT, 1.0)?;
        }
        if line.slots.is_empty() {
            let middle = (canvas.width / 2.0, canvas.height / 2.0);
            return canvas.text("no operations", middle, Anchor::Middle, TICK);
        }
        let most = line.slots.iter().map(|slot| line.rate(slot.counts.total())).fold(0.0, f64::max);
        let scale = Scale::linear(0.0, most, upper.bottom, upper.top);
        stack(canvas, line, self.axis, (upper, scale), &outcomes(line))?;
        let figures = line.slots.iter().filter_map(|slot| slot.p99);
        let Some((low, high)) = axes::decades_of(figures.map(|bound| bound.micros)) else {
            return Ok(());
        };
        let scale = Scale::log(low, high, lower.bottom, lower.top);
        let p99 = |slot: &Slot| slot.p99.map(|bound| scale.at(bound.micros));
        for run in runs(line, self.axis, lower, p99) {
            canvas.line(run, P99, 1.0)?;
        }
        Ok(())
    }
}
