//! A figure of every run of a search against the rate that was asked for, with the limit that it
//! has to keep to. What a run said of its rate is told by the shape of its mark.

use plotters::prelude::DrawingBackend;

use super::axes::{
    Frame, LEGEND, LEGEND_ROW, Scale, TICK, decades_of, legend_rows, nothing, tick_micros,
    tick_number, vertical,
};
use super::canvas::{Anchor, Canvas, Plot, PlotError};
use super::palette::{FAINT, INK, MAX, MET, MISSED};
use super::{LEFT, RIGHT};
use crate::capacity::Said;

/// Room below the logarithmic part of the axis, for what is 0.
const ZERO: f64 = 22.0;
/// Half of a mark.
const MARK: f64 = 4.5;

/// What the figure is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds.
    Millis,
    /// A share, from 0 to 1.
    Share,
}

/// A run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mark {
    /// Arrivals per second that were asked for.
    pub(crate) rate: u64,
    pub(crate) value: f64,
    pub(crate) said: Said,
}

/// One figure of all runs.
pub(crate) struct Rates {
    /// What is drawn.
    pub(crate) title: String,
    pub(crate) unit: Unit,
    pub(crate) marks: Vec<Mark>,
    /// No greater value keeps to the objective.
    pub(crate) limit: f64,
    /// The rate that was found.
    pub(crate) answer: Option<u64>,
}

/// Values in equal factors, and 0 at the bottom.
struct Axis {
    scale: Scale,
    bottom: f64,
    has_zero: bool,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        if value > 0.0 { self.scale.at(value) } else { self.bottom }
    }
}

fn name(said: Said) -> &'static str {
    match said {
        Said::Met => "objective met",
        Said::Missed => "missed",
        Said::Nothing => "figures cannot be used",
    }
}

const ALL: [Said; 3] = [Said::Met, Said::Missed, Said::Nothing];

impl Rates {
    fn frame(width: f64) -> Frame {
        let top = legend_rows(width, ALL.into_iter().map(name)) * LEGEND_ROW + 30.0;
        Frame { left: LEFT, top, right: width - RIGHT - 10.0, bottom: top + 200.0 }
    }

    fn axis(&self, frame: Frame) -> Axis {
        let values = || self.marks.iter().map(|mark| mark.value).chain([self.limit]);
        let has_zero = values().any(|value| value <= 0.0);
        let bottom = frame.bottom - if has_zero { ZERO } else { 0.0 };
        // Where nothing is above 0, any scale does.
        let (low, high) = decades_of(values()).unwrap_or((0.001, 1.0));
        Axis { scale: Scale::log(low, high, bottom, frame.top), bottom: frame.bottom, has_zero }
    }

    fn tick(&self, value: f64) -> String {
        match self.unit {
            Unit::Millis => tick_micros(value * 1e3),
            Unit::Share => format!("{} %", tick_number(value * 100.0)),
        }
    }

    /// Every rate that was tried; labels that would overlap are left out.
    fn draw_below<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
        x: Scale,
    ) -> Result<(), PlotError> {
        canvas.line([(frame.left, frame.bottom), (frame.right, frame.bottom)], FAINT, 1.0)?;
        let mut rates: Vec<u64> = self.marks.iter().map(|mark| mark.rate).collect();
        rates.sort_unstable();
        rates.dedup();
        let mut free = 0.0;
        for rate in rates {
            let label = rate.to_string();
            let (at, half) = (x.at(rate as f64), canvas.text_width(&label, TICK)? / 2.0);
            canvas.line([(at, frame.bottom), (at, frame.bottom + 4.0)], FAINT, 1.0)?;
            if at - half >= free && at + half <= canvas.width {
                canvas.text(&label, (at, frame.bottom + 13.0), Anchor::Middle, TICK)?;
                free = at + half + 6.0;
            }
        }
        let below = (frame.right, frame.bottom + 30.0);
        let title = canvas.fitted("arrivals per second, asked for", below.0 - frame.left, TICK)?;
        canvas.text(&title, below, Anchor::End, TICK)
    }

    /// The objective, and the rate that was found.
    fn draw_lines<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
        (x, y): (Scale, &Axis),
    ) -> Result<(), PlotError> {
        let at = y.at(self.limit);
        canvas.dashes((frame.left, at), (frame.right, at), INK)?;
        let label = format!("objective: {} at most", self.tick(self.limit));
        // Runs of low rates lie below the line, those of high rates above it.
        canvas.text(&label, (frame.left + 4.0, at - 9.0), Anchor::Start, LEGEND)?;
        let Some(rate) = self.answer else { return Ok(()) };
        let at = x.at(rate as f64);
        canvas.dashes((at, frame.top), (at, frame.bottom), FAINT)?;
        let label = format!("{rate}/s");
        let is_near_the_edge = at + canvas.text_width(&label, LEGEND)? + 6.0 > frame.right;
        let anchor = if is_near_the_edge { Anchor::End } else { Anchor::Start };
        let beside = if is_near_the_edge { at - 5.0 } else { at + 5.0 };
        canvas.text(&label, (beside, frame.top + 9.0), anchor, LEGEND)
    }
}

impl Plot for Rates {
    fn height(&self, width: f64) -> f64 {
        Self::frame(width).bottom + 42.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let frame = Self::frame(canvas.width);
        if self.marks.is_empty() {
            vertical(canvas, frame, &self.title, &[])?;
            return nothing(canvas, frame, "no run has this figure");
        }
        let y = self.axis(frame);
        let mut ticks: Vec<(f64, String)> =
            y.scale.decades().into_iter().map(|value| (y.at(value), self.tick(value))).collect();
        if y.has_zero {
            ticks.push((y.at(0.0), self.tick(0.0)));
        }
        vertical(canvas, frame, &self.title, &ticks)?;
        let rates = || self.marks.iter().map(|mark| mark.rate as f64);
        let (low, high) = (rates().fold(f64::MAX, f64::min), rates().fold(0.0, f64::max));
        // Wider than the data, so that a single rate has an axis, too.
        let x = Scale::log(low / 1.1, high * 1.1, frame.left, frame.right);
        self.draw_below(canvas, frame, x)?;
        self.draw_lines(canvas, frame, (x, &y))?;
        legend(canvas)?;
        // Full shapes first, so that none of them hides another.
        for said in ALL {
            for mark in self.marks.iter().filter(|mark| mark.said == said) {
                shape(canvas, (x.at(mark.rate as f64), y.at(mark.value)), said)?;
            }
        }
        Ok(())
    }
}

fn legend<DB: DrawingBackend>(canvas: &Canvas<DB>) -> Result<(), PlotError> {
    let (mut x, mut y) = (2.0, 9.0);
    for said in ALL {
        let width = 32.0 + canvas.text_width(name(said), LEGEND)?;
        if x + width > canvas.width && x > 2.0 {
            (x, y) = (2.0, y + LEGEND_ROW);
        }
        shape(canvas, (x + 6.0, y), said)?;
        canvas.text(name(said), (x + 17.0, y), Anchor::Start, LEGEND)?;
        x += width;
    }
    Ok(())
}

/// A full square, a cross, or the outline of a triangle.
fn shape<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    (x, y): (f64, f64),
    said: Said,
) -> Result<(), PlotError> {
    let at = |right: f64, down: f64| (x + right * MARK, y + down * MARK);
    match said {
        Said::Met => canvas.fill(at(-1.0, -1.0), at(1.0, 1.0), MET, 1.0),
        Said::Missed => {
            canvas.line([at(-1.0, -1.0), at(1.0, 1.0)], MISSED, 2.0)?;
            canvas.line([at(-1.0, 1.0), at(1.0, -1.0)], MISSED, 2.0)
        }
        Said::Nothing => {
            let corners = [at(0.0, -1.2), at(1.2, 1.0), at(-1.2, 1.0), at(0.0, -1.2)];
            canvas.line(corners, MAX, 1.5)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::svg;
    use super::*;

    fn drawn(unit: Unit, limit: f64, values: &[f64]) -> String {
        let mark = |value: &f64| Mark { rate: 100, value: *value, said: Said::Met };
        let marks = values.iter().map(mark).collect();
        let plot = Rates { title: "x".to_owned(), unit, marks, limit, answer: Some(100) };
        svg(&plot, 380.0).unwrap()
    }

    /// All texts of a plot.
    fn texts(svg: &str) -> Vec<&str> {
        let after = svg.split("</text>").filter_map(|text| text.rsplit_once('>'));
        after.map(|(_, text)| text.trim()).collect()
    }

    #[test]
    fn what_is_nothing_has_a_place_of_its_own_and_what_is_not_there_none() {
        let plot = drawn(Unit::Share, 0.001, &[0.0, 0.02]);
        for wanted in ["0 %", "0.1 %", "1 %", "10 %", "objective: 0.1 % at most", "100/s"] {
            assert!(texts(&plot).contains(&wanted), "{wanted}: {:?}", texts(&plot));
        }
        let plot = drawn(Unit::Millis, 20.0, &[3.0]);
        for wanted in ["1 ms", "10 ms", "100 ms", "objective: 20 ms at most"] {
            assert!(texts(&plot).contains(&wanted), "{wanted}: {:?}", texts(&plot));
        }
        assert!(!texts(&plot).contains(&"0 µs"), "{:?}", texts(&plot));
        let plot = drawn(Unit::Share, 0.0, &[0.0]);
        assert!(texts(&plot).contains(&"objective: 0 % at most"), "{:?}", texts(&plot));
        assert!(drawn(Unit::Millis, 20.0, &[]).contains("no run has this figure"));
    }

    #[test]
    fn shapes_differ_without_their_colours() {
        let of = |said| {
            let marks = vec![Mark { rate: 100, value: 3.0, said }];
            let (title, unit) = ("x".to_owned(), Unit::Millis);
            let plot = Rates { title, unit, marks, limit: 20.0, answer: None };
            let svg = svg(&plot, 380.0).unwrap();
            [MET, MISSED, MAX].map(|colour| svg.matches(&colour.hex()).count())
        };
        // Beside those of the legend: one rectangle, two lines, one outline.
        let [met, missed, nothing] = [Said::Met, Said::Missed, Said::Nothing].map(of);
        assert!(met[0] == 2 * missed[0] && missed[1] == 2 * met[1] && nothing[2] == 2 * met[2]);
    }
}
