//! A figure over the points of a sweep: means as dots on a line, their intervals as a band, and a
//! law fitted to them.

use plotters::prelude::DrawingBackend;

use super::axes::{Frame, Scale, TICK, nothing, round_top, tick_number, vertical};
use super::canvas::{Anchor, Canvas, Plot, PlotError};
use super::palette::{FAINT, OK, P99};
use super::{LEFT, RIGHT};

const HEIGHT: f64 = 300.0;

/// A point: place on the axis, mean, interval.
pub(crate) type Mark = (f64, f64, Option<(f64, f64)>);

/// One figure over one axis.
pub(crate) struct Lines {
    /// What is drawn, with its unit.
    pub(crate) title: String,
    /// What stands below.
    pub(crate) axis: String,
    /// Place and label of each point.
    pub(crate) ticks: Vec<(f64, String)>,
    /// In the order of their places.
    pub(crate) marks: Vec<Mark>,
    /// A law through them; empty without.
    pub(crate) law: Vec<(f64, f64)>,
}

impl Plot for Lines {
    fn height(&self, _width: f64) -> f64 {
        HEIGHT
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let (right, bottom) = (canvas.width - RIGHT - 10.0, HEIGHT - 42.0);
        let frame = Frame { left: LEFT, top: 28.0, right, bottom };
        let highs = self.marks.iter().map(|(_, mean, band)| band.map_or(*mean, |(_, high)| high));
        let top = round_top(highs.chain(self.law.iter().map(|(_, y)| *y)).fold(0.0, f64::max));
        let y = Scale::linear(0.0, top, frame.bottom, frame.top);
        let ticks: Vec<_> = y.ticks(4.0).iter().map(|t| (y.at(*t), tick_number(*t))).collect();
        vertical(canvas, frame, &self.title, &ticks)?;
        if self.marks.is_empty() {
            return nothing(canvas, frame, "no good run");
        }
        let places = || self.ticks.iter().map(|(place, _)| *place);
        let (low, high) = (places().fold(f64::MAX, f64::min), places().fold(f64::MIN, f64::max));
        let x = Scale::linear(low, high, frame.left + 14.0, frame.right);
        self.draw_below(canvas, frame, x)?;
        self.draw_data(canvas, x, y)
    }
}

impl Lines {
    /// Labels that would overlap are left out.
    fn draw_below<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
        x: Scale,
    ) -> Result<(), PlotError> {
        canvas.line([(frame.left, frame.bottom), (frame.right, frame.bottom)], FAINT, 1.0)?;
        let mut free = 0.0;
        for (place, label) in &self.ticks {
            let (at, half) = (x.at(*place), canvas.text_width(label, TICK)? / 2.0);
            canvas.line([(at, frame.bottom), (at, frame.bottom + 4.0)], FAINT, 1.0)?;
            if at - half >= free {
                canvas.text(label, (at, frame.bottom + 13.0), Anchor::Middle, TICK)?;
                free = at + half + 6.0;
            }
        }
        let below = (frame.right, frame.bottom + 30.0);
        let name = canvas.fitted(&self.axis, frame.right - frame.left, TICK)?;
        canvas.text(&name, below, Anchor::End, TICK)
    }

    fn draw_data<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        x: Scale,
        y: Scale,
    ) -> Result<(), PlotError> {
        let edge = |of: fn((f64, f64)) -> f64| {
            let at = move |(place, mean, band): &Mark| (x.at(*place), y.at(band.map_or(*mean, of)));
            self.marks.iter().map(at)
        };
        if self.marks.len() > 1 {
            let around: Vec<_> = edge(|band| band.0).chain(edge(|band| band.1).rev()).collect();
            canvas.polygon(around, OK, 0.18)?;
        }
        for (place, _, band) in &self.marks {
            if let Some((low, high)) = band {
                canvas.line([(x.at(*place), y.at(*low)), (x.at(*place), y.at(*high))], OK, 1.0)?;
            }
        }
        canvas.line(
            self.marks.iter().map(|(place, mean, _)| (x.at(*place), y.at(*mean))),
            OK,
            2.0,
        )?;
        for (place, mean, _) in &self.marks {
            let (at, up) = (x.at(*place), y.at(*mean));
            canvas.fill((at - 3.0, up - 3.0), (at + 3.0, up + 3.0), OK, 1.0)?;
        }
        if self.law.is_empty() {
            return Ok(());
        }
        canvas.line(self.law.iter().map(|(place, value)| (x.at(*place), y.at(*value))), P99, 1.0)
    }
}
