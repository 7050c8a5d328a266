//! Availability strips: one row a server, one cell a slot, as that server's clients saw it, with
//! the state of its process below.

use plotters::prelude::DrawingBackend;
use quorate_check::history::Nanos;

use super::axes::{Frame, LEGEND_ROW, TICK, TimeAxis, legend, legend_rows, nothing};
use super::canvas::{Anchor, Canvas, Plot, PlotError, TITLE};
use super::palette::{Colour, FAILED, FAULT, INK, NOTHING, OK, UNKNOWN};
use super::{LEFT, RIGHT, since};
use crate::figures::NodeAvailability;
use crate::folder::NodeSample;

const ROW: f64 = 26.0;

const LEGEND: [(&str, Colour); 6] = [
    ("all served well", OK),
    ("some", FAILED),
    ("none", UNKNOWN),
    ("nobody asked", NOTHING),
    ("paused", FAULT),
    ("dead", INK),
];

/// All servers.
pub(crate) struct Availability<'a> {
    pub(crate) nodes: &'a [NodeAvailability],
    pub(crate) samples: &'a [NodeSample],
    pub(crate) axis: &'a TimeAxis,
    /// Begin of the measure phase.
    pub(crate) origin: Nanos,
    /// Length of a slot.
    pub(crate) slot: Nanos,
}

impl Availability<'_> {
    fn frame(&self, width: f64) -> Frame {
        let top = legend_rows(width, LEGEND.iter().map(|(name, _)| *name)) * LEGEND_ROW + 30.0;
        let bottom = top + ROW * self.nodes.len().max(1) as f64;
        Frame { left: LEFT, top, right: width - RIGHT, bottom }
    }

    /// Cells of equal colour in a row are drawn as one.
    fn cells<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
        node: &NodeAvailability,
        y: f64,
    ) -> Result<(), PlotError> {
        let times = self.axis.scale(frame);
        let x =
            |index: usize| times.at(since(self.origin, self.origin + index as Nanos * self.slot));
        let colours: Vec<Colour> = node.slices.iter().map(|slice| shade(slice.share())).collect();
        let mut begin = 0;
        for run in colours.chunk_by(|a, b| a == b) {
            let end = begin + run.len();
            canvas.fill((x(begin), y), (x(end), y + 15.0), run[0], 1.0)?;
            begin = end;
        }
        Ok(())
    }

    fn states<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
        name: &str,
        y: f64,
    ) -> Result<(), PlotError> {
        let times = self.axis.scale(frame);
        let samples: Vec<&NodeSample> =
            self.samples.iter().filter(|sample| sample.node == name).collect();
        for pair in samples.windows(2) {
            let colour = match pair[0].state.as_str() {
                "paused" => FAULT,
                "dead" => INK,
                _ => continue,
            };
            let x0 = times.at(since(self.origin, pair[0].at));
            let x1 = times.at(since(self.origin, pair[1].at));
            canvas.fill((x0, y + 16.0), (x1, y + 20.0), colour, 1.0)?;
        }
        Ok(())
    }
}

/// The colour of a share of good operations.
fn shade(share: Option<f64>) -> Colour {
    match share {
        None => NOTHING,
        Some(share) if share >= 0.95 => OK,
        Some(share) if share > 0.05 => FAILED,
        Some(_) => UNKNOWN,
    }
}

impl Plot for Availability<'_> {
    fn height(&self, width: f64) -> f64 {
        self.frame(width).bottom + 38.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let frame = self.frame(canvas.width);
        legend(canvas, (2.0, 9.0), &LEGEND.map(|(name, colour)| (name.to_owned(), colour)))?;
        let title = canvas.fitted("served well, by server asked", canvas.width, TITLE)?;
        canvas.text(&title, (2.0, frame.top - 12.0), Anchor::Start, TITLE)?;
        for (row, node) in self.nodes.iter().enumerate() {
            let y = frame.top + row as f64 * ROW + 2.0;
            let name = canvas.fitted(&node.name, LEFT - 8.0, TICK)?;
            canvas.text(&name, (LEFT - 7.0, y + 7.5), Anchor::End, TICK)?;
            self.cells(canvas, frame, node, y)?;
            self.states(canvas, frame, &node.name, y)?;
        }
        if self.nodes.is_empty() {
            nothing(canvas, frame, "no servers are known")?;
        }
        self.axis.shade(canvas, frame)?;
        self.axis.draw(canvas, frame)
    }
}
