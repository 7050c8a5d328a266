//! Operations that were not acknowledged, by code, over time: refusals, hangs and lost connections
//! told apart.

use plotters::prelude::DrawingBackend;

use super::axes::{
    self, Frame, LEGEND_ROW, Scale, TimeAxis, legend, legend_rows, nothing, tick_number, vertical,
};
use super::canvas::{Canvas, Plot, PlotError};
use super::palette::{self, Colour};
use super::timeline::stack;
use super::{LEFT, RIGHT};
use crate::figures::Timeline;

/// Stacked areas, one a code.
pub(crate) struct Codes<'a> {
    pub(crate) timeline: &'a Timeline,
    pub(crate) axis: &'a TimeAxis,
}

impl Codes<'_> {
    fn frame(&self, width: f64) -> Frame {
        let names = self.timeline.codes.keys().map(String::as_str);
        let top = legend_rows(width, names) * LEGEND_ROW + 30.0;
        Frame { left: LEFT, top, right: width - RIGHT, bottom: top + 130.0 }
    }

    fn entries(&self) -> Vec<(String, Colour)> {
        let codes = self.timeline.codes.keys().enumerate();
        codes.map(|(index, code)| (code.clone(), palette::code(code, index))).collect()
    }
}

impl Plot for Codes<'_> {
    fn height(&self, width: f64) -> f64 {
        self.frame(width).bottom + 38.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let frame = self.frame(canvas.width);
        let line = self.timeline;
        let total = |slot: usize| line.codes.values().map(|counts| counts[slot]).sum::<u64>();
        let most = (0..line.slots.len()).map(|slot| line.rate(total(slot))).fold(0.0, f64::max);
        let scale = Scale::linear(0.0, axes::round_top(most), frame.bottom, frame.top);
        let ticks = scale.ticks(4.0).into_iter().map(|v| (scale.at(v), tick_number(v)));
        let title = "not acknowledged, per second";
        vertical(canvas, frame, title, &ticks.collect::<Vec<_>>())?;
        self.axis.shade(canvas, frame)?;
        self.axis.draw(canvas, frame)?;
        if line.codes.is_empty() {
            return nothing(canvas, frame, "every operation was acknowledged");
        }
        let entries = self.entries();
        legend(canvas, (2.0, 9.0), &entries)?;
        let layers: Vec<(Colour, Vec<u64>)> = entries
            .into_iter()
            .zip(line.codes.values())
            .map(|((_, colour), counts)| (colour, counts.clone()))
            .collect();
        stack(canvas, line, self.axis, (frame, scale), &layers)
    }
}
