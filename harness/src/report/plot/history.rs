//! A figure of every run of an experiment in order of time, the level of each stretch between
//! changes, and what changed with it.

use plotters::prelude::DrawingBackend;

use super::axes::{Frame, Scale, TICK, nothing, tick_number, vertical};
use super::canvas::{Anchor, Canvas, Plot, PlotError};
use super::palette::{FAINT, INK, OK, UNKNOWN};
use super::{LEFT, RIGHT};

const HEIGHT: f64 = 240.0;

/// A figure over runs.
pub(crate) struct HistoryPlot {
    /// What is drawn, with its unit.
    pub(crate) title: String,
    /// One a run.
    pub(crate) values: Vec<Option<f64>>,
    /// Below each run.
    pub(crate) labels: Vec<String>,
    /// First run, last run and level of each stretch.
    pub(crate) levels: Vec<(usize, usize, f64)>,
    /// First run behind each change, and what it is called.
    pub(crate) changes: Vec<(usize, String)>,
}

impl HistoryPlot {
    /// Both ends of the axis, which does not begin at 0: changes are to be seen.
    fn span(&self) -> Option<(f64, f64)> {
        let known = || self.values.iter().flatten().copied();
        let (low, high) = (known().reduce(f64::min)?, known().reduce(f64::max)?);
        let room = (0.15 * (high - low)).max(0.05 * high.abs());
        let room = if room > 0.0 { room } else { 1.0 };
        // Nothing that is measured is negative.
        Some(((low - room).max(0.0), high + room))
    }

    /// Labels that would overlap are left out.
    fn draw_below<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
        x: Scale,
    ) -> Result<(), PlotError> {
        canvas.line([(frame.left, frame.bottom), (frame.right, frame.bottom)], FAINT, 1.0)?;
        let mut free = 0.0;
        for (run, label) in self.labels.iter().enumerate() {
            let (at, half) = (x.at(run as f64), canvas.text_width(label, TICK)? / 2.0);
            canvas.line([(at, frame.bottom), (at, frame.bottom + 4.0)], FAINT, 1.0)?;
            if at - half >= free && at + half <= canvas.width {
                canvas.text(label, (at, frame.bottom + 13.0), Anchor::Middle, TICK)?;
                free = at + half + 8.0;
            }
        }
        let title = canvas.fitted("runs in order of time", frame.right - frame.left, TICK)?;
        canvas.text(&title, (frame.right, frame.bottom + 30.0), Anchor::End, TICK)
    }

    fn draw_changes<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
        x: Scale,
    ) -> Result<(), PlotError> {
        let mut free = frame.left;
        for (run, label) in &self.changes {
            let at = x.at(*run as f64 - 0.5);
            canvas.dashes((at, frame.top), (at, frame.bottom), UNKNOWN)?;
            let label = canvas.fitted(label, frame.right - frame.left, TICK)?;
            let from = (at + 4.0).min(frame.right - canvas.text_width(&label, TICK)?);
            if from >= free {
                canvas.text(&label, (from, frame.top + 6.0), Anchor::Start, TICK)?;
                free = from + canvas.text_width(&label, TICK)? + 8.0;
            }
        }
        Ok(())
    }
}

impl Plot for HistoryPlot {
    fn height(&self, _width: f64) -> f64 {
        HEIGHT
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let (right, bottom) = (canvas.width - RIGHT - 10.0, HEIGHT - 42.0);
        let frame = Frame { left: LEFT, top: 28.0, right, bottom };
        let Some((low, high)) = self.span() else {
            vertical(canvas, frame, &self.title, &[])?;
            return nothing(canvas, frame, "no run has this figure");
        };
        let y = Scale::linear(low, high, frame.bottom, frame.top + 14.0);
        let ticks: Vec<_> = y.ticks(4.0).iter().map(|t| (y.at(*t), tick_number(*t))).collect();
        vertical(canvas, frame, &self.title, &ticks)?;
        let last = self.values.len().saturating_sub(1) as f64;
        let x = Scale::linear(-0.5, last + 0.5, frame.left, frame.right);
        self.draw_below(canvas, frame, x)?;
        for (from, to, level) in &self.levels {
            let ends = [*from as f64 - 0.4, *to as f64 + 0.4];
            canvas.line(ends.map(|run| (x.at(run), y.at(*level))), INK, 2.0)?;
        }
        for (run, value) in self.values.iter().enumerate() {
            let Some(value) = value else { continue };
            let (at, up) = (x.at(run as f64), y.at(*value));
            canvas.fill((at - 3.0, up - 3.0), (at + 3.0, up + 3.0), OK, 1.0)?;
        }
        self.draw_changes(canvas, frame, x)
    }
}
