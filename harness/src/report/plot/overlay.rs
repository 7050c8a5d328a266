//! Time lines of the sides of a comparison over each other: acknowledged per second, and p99 below.
//! A line is the median over a side's runs; shaded around it lies what its runs reach.

use plotters::prelude::DrawingBackend;

use super::axes::{
    self, FAULT_ROW, FAULT_ROWS, Frame, LEGEND_ROW, Scale, TimeAxis, legend, legend_rows, nothing,
    tick_micros, tick_number, vertical,
};
use super::canvas::{Canvas, Plot, PlotError};
use super::palette::Colour;
use super::{Geometry, LEFT, RIGHT};

/// The lowest, the median and the highest of a side's runs.
pub(crate) type Middle = [f64; 3];

/// A slot of a side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Over {
    /// Seconds since measuring began.
    pub(crate) from: f64,
    /// Its end.
    pub(crate) to: f64,
    /// Acknowledged operations per second.
    pub(crate) rate: Middle,
    /// Microseconds; `None` where no run has an answer.
    pub(crate) p99: Option<Middle>,
}

/// A side.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) colour: Colour,
    /// In order of time.
    pub(crate) slots: Vec<Over>,
}

/// All sides over one time axis.
pub(crate) struct Overlay {
    pub(crate) axis: TimeAxis,
    pub(crate) sides: Vec<Side>,
}

impl Overlay {
    fn frames(&self, width: f64) -> (Frame, Frame) {
        let names = self.sides.iter().map(|side| side.name.as_str());
        let faults = self.axis.faults.len().min(FAULT_ROWS) as f64 * FAULT_ROW;
        let top = legend_rows(width, names) * LEGEND_ROW + 40.0 + faults;
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

    fn values(&self, of: fn(&Over) -> Option<Middle>) -> impl Iterator<Item = f64> {
        self.sides.iter().flat_map(|side| &side.slots).filter_map(of).flatten()
    }

    fn side<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        side: &Side,
        (x, y): (Scale, Scale),
        of: fn(&Over) -> Option<Middle>,
    ) -> Result<(), PlotError> {
        for run in side.slots.chunk_by(|a, b| of(a).is_some() && of(b).is_some()) {
            let edge = |which: usize| {
                let step = move |slot: &Over| {
                    let at = of(slot).map(|middle| y.at(middle[which]));
                    at.map(|at| [(x.at(slot.from), at), (x.at(slot.to), at)])
                };
                run.iter().filter_map(step).flatten().collect::<Vec<_>>()
            };
            let (low, middle, high) = (edge(0), edge(1), edge(2));
            if middle.is_empty() {
                continue;
            }
            if low != high {
                let around = low.into_iter().chain(high.into_iter().rev());
                canvas.polygon(around, side.colour, 0.18)?;
            }
            canvas.line(middle, side.colour, 1.5)?;
        }
        Ok(())
    }
}

fn rate(slot: &Over) -> Option<Middle> {
    Some(slot.rate)
}

fn p99(slot: &Over) -> Option<Middle> {
    slot.p99
}

impl Plot for Overlay {
    fn height(&self, width: f64) -> f64 {
        self.frames(width).1.bottom + 38.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let (upper, lower) = self.frames(canvas.width);
        let entries: Vec<_> =
            self.sides.iter().map(|side| (side.name.clone(), side.colour)).collect();
        legend(canvas, (2.0, 9.0), &entries)?;
        let most = axes::round_top(self.values(rate).fold(0.0, f64::max));
        let scale = Scale::linear(0.0, most, upper.bottom, upper.top);
        let ticks = scale.ticks(4.0).into_iter().map(|v| (scale.at(v), tick_number(v)));
        vertical(canvas, upper, "acknowledged per second", &ticks.collect::<Vec<_>>())?;
        for frame in [upper, lower] {
            self.axis.shade(canvas, frame)?;
        }
        let names = upper.top - 32.0 - self.axis.faults.len().min(FAULT_ROWS) as f64 * FAULT_ROW;
        self.axis.name_faults(canvas, upper, names + 8.0)?;
        self.axis.draw(canvas, lower)?;
        let x = self.axis.scale(upper);
        for side in &self.sides {
            self.side(canvas, side, (x, scale), rate)?;
        }
        let title = "p99 response time (logarithmic), ok and unanswered operations";
        let Some((low, high)) = axes::decades_of(self.values(p99)) else {
            vertical(canvas, lower, title, &[])?;
            return nothing(canvas, lower, "no operation was answered");
        };
        let scale = Scale::log(low, high, lower.bottom, lower.top);
        let ticks = scale.decades().into_iter().map(|v| (scale.at(v), tick_micros(v)));
        vertical(canvas, lower, title, &ticks.collect::<Vec<_>>())?;
        for side in &self.sides {
            self.side(canvas, side, (x, scale), p99)?;
        }
        Ok(())
    }
}
