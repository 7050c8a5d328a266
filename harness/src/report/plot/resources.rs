//! What the servers used, one frame a resource over the same seconds.

use plotters::prelude::DrawingBackend;
use quorate_check::history::Nanos;

use super::axes::{
    self, Frame, LEGEND_ROW, Scale, TimeAxis, legend, legend_rows, nothing, tick_number, vertical,
};
use super::canvas::{Canvas, Plot, PlotError};
use super::palette::{self, Colour};
use super::{LEFT, RIGHT, since};
use crate::figures::{Resource, ResourceSeries};

const FRAME: f64 = 92.0;
const PITCH: f64 = FRAME + 34.0;

/// All resources.
pub(crate) struct Resources<'a> {
    pub(crate) series: Vec<(Resource, Vec<ResourceSeries>)>,
    pub(crate) axis: &'a TimeAxis,
    /// Begin of the measure phase.
    pub(crate) origin: Nanos,
}

impl Resources<'_> {
    fn entries(&self) -> Vec<(String, Colour)> {
        let nodes = self.series.first().map_or(&[][..], |(_, nodes)| nodes);
        let named = nodes.iter().enumerate();
        named.map(|(index, node)| (node.node.clone(), palette::series(index))).collect()
    }

    fn frame(&self, width: f64, index: usize) -> Frame {
        let entries = self.entries();
        let legend = legend_rows(width, entries.iter().map(|(name, _)| name.as_str()));
        let top = legend * LEGEND_ROW + 30.0 + index as f64 * PITCH;
        Frame { left: LEFT, top, right: width - RIGHT, bottom: top + FRAME }
    }

    fn one<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
        resource: Resource,
        nodes: &[ResourceSeries],
    ) -> Result<(), PlotError> {
        let inside = |at: Nanos| {
            let at = since(self.origin, at);
            self.axis.from <= at && at <= self.axis.to
        };
        let points = nodes.iter().flat_map(ResourceSeries::points).filter(|point| inside(point.at));
        let most = points.map(|point| point.value).reduce(f64::max);
        let scale =
            Scale::linear(0.0, axes::round_top(most.unwrap_or(0.0)), frame.bottom, frame.top);
        let ticks = scale.ticks(4.0).into_iter().map(|v| (scale.at(v), tick_number(v)));
        vertical(canvas, frame, resource.label(), &ticks.collect::<Vec<_>>())?;
        self.axis.shade(canvas, frame)?;
        if most.is_none() {
            return nothing(canvas, frame, "not sampled");
        }
        let times = self.axis.scale(frame);
        for (index, node) in nodes.iter().enumerate() {
            for run in &node.runs {
                let line = run
                    .iter()
                    .filter(|point| inside(point.at))
                    .map(|point| (times.at(since(self.origin, point.at)), scale.at(point.value)));
                canvas.line(line, palette::series(index), 1.5)?;
            }
        }
        Ok(())
    }
}

impl Plot for Resources<'_> {
    fn height(&self, width: f64) -> f64 {
        self.frame(width, self.series.len().max(1) - 1).bottom + 38.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        legend(canvas, (2.0, 9.0), &self.entries())?;
        for (index, (resource, nodes)) in self.series.iter().enumerate() {
            self.one(canvas, self.frame(canvas.width, index), *resource, nodes)?;
        }
        let last = self.frame(canvas.width, self.series.len().max(1) - 1);
        self.axis.draw(canvas, last)
    }
}
