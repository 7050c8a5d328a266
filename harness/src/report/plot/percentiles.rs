//! Percentile curves on an axis that gives every further nine the same room.

use plotters::prelude::DrawingBackend;

use super::axes::{
    self, Frame, LEGEND_ROW, Scale, TICK, legend, legend_rows, nothing, tick_micros, vertical,
};
use super::canvas::{Anchor, Canvas, Plot, PlotError};
use super::palette::{self, Colour, FAILED, FAINT, GRID, OK, UNKNOWN};
use super::{LEFT, RIGHT};
use crate::figures::{Bound, Distribution, Figures};

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    pub(crate) name: String,
    colour: Colour,
    /// Thin lines are for comparison.
    thin: bool,
    pub(crate) points: Vec<(f64, Bound)>,
}

impl Curve {
    /// A curve through points in order; thin lines stand back behind strong ones.
    pub(crate) fn new(name: String, colour: Colour, thin: bool, points: Vec<(f64, Bound)>) -> Self {
        Self { name, colour, thin, points }
    }
}

/// Curves over quantiles.
pub(crate) struct Percentiles {
    pub(crate) title: &'static str,
    pub(crate) curves: Vec<Curve>,
}

fn curve(name: &str, colour: Colour, thin: bool, of: &Distribution) -> Option<Curve> {
    let points = of.curve();
    (!points.is_empty()).then(|| Curve { name: name.to_owned(), colour, thin, points })
}

/// Acknowledged operations of each class: response as a strong line, service as a thin one.
pub(crate) fn by_class(figures: &Figures) -> Percentiles {
    let curves = figures.classes.iter().flat_map(|class| {
        let colour = palette::class(&class.name);
        let service = format!("{}, service", class.name);
        [
            curve(&class.name, colour, false, &class.response_ok),
            curve(&service, colour, true, &class.service_ok),
        ]
    });
    Percentiles {
        title: "acknowledged operations by class: time",
        curves: curves.flatten().collect(),
    }
}

/// All classes together, by outcome.
pub(crate) fn by_outcome(figures: &Figures) -> Percentiles {
    let all = &figures.all;
    let curves = [
        curve("ok", OK, false, &all.response_ok),
        curve("failed", FAILED, false, &all.response_failed),
        curve("unknown (≥)", UNKNOWN, false, &all.response_unknown),
        curve("ok and unknown together", palette::P99, true, &all.response_waiting),
    ];
    Percentiles {
        title: "all operations by outcome: response time",
        curves: curves.into_iter().flatten().collect(),
    }
}

/// Position on the axis: 0 for the median and below, one more for each further nine.
fn nines(q: f64) -> f64 {
    (-(1.0 - q).log10()).max(0.0)
}

impl Percentiles {
    /// Curves that the legend names: the first of each colour.
    fn named(&self) -> impl Iterator<Item = &Curve> {
        let earlier =
            |index: usize, colour| self.curves[..index].iter().any(|c| c.colour == colour);
        let all = self.curves.iter().enumerate();
        all.filter(move |(index, curve)| !earlier(*index, curve.colour)).map(|(_, curve)| curve)
    }

    fn frame(&self, width: f64) -> Frame {
        let names = self.named().map(|curve| curve.name.as_str());
        let top = legend_rows(width, names) * LEGEND_ROW + 30.0;
        Frame { left: LEFT, top, right: width - RIGHT, bottom: top + 220.0 }
    }
}

impl Plot for Percentiles {
    fn height(&self, width: f64) -> f64 {
        self.frame(width).bottom + 38.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let frame = self.frame(canvas.width);
        let points = self.curves.iter().flat_map(|curve| &curve.points);
        let Some((low, high)) = axes::decades_of(points.clone().map(|(_, bound)| bound.micros))
        else {
            vertical(canvas, frame, self.title, &[])?;
            return nothing(canvas, frame, "no operations");
        };
        let entries: Vec<(String, Colour)> =
            self.named().map(|curve| (curve.name.clone(), curve.colour)).collect();
        legend(canvas, (2.0, 9.0), &entries)?;
        let scale = Scale::log(low, high, frame.bottom, frame.top);
        let ticks = scale.decades().into_iter().map(|v| (scale.at(v), tick_micros(v)));
        vertical(canvas, frame, self.title, &ticks.collect::<Vec<_>>())?;
        let most = points.map(|(q, _)| nines(*q)).fold(1.0, f64::max);
        let across = Scale::linear(0.0, most, frame.left, frame.right);
        horizontal(canvas, frame, across, most)?;
        for curve in &self.curves {
            let line = curve
                .points
                .iter()
                .map(|(q, bound)| (across.at(nines(*q)), scale.at(bound.micros)));
            canvas.line(line, curve.colour, if curve.thin { 1.0 } else { 2.0 })?;
            if let Some((q, bound)) = curve.points.last().filter(|(_, bound)| bound.at_least) {
                let (x, y) = (across.at(nines(*q)), scale.at(bound.micros));
                canvas.text("≥", (x - 3.0, y - 8.0), Anchor::End, TICK)?;
            }
        }
        Ok(())
    }
}

fn horizontal<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    frame: Frame,
    across: Scale,
    most: f64,
) -> Result<(), PlotError> {
    let ticks = [
        (0.0, "0"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
        (0.999999, "99.9999 %"),
    ];
    let mut free_from = f64::NEG_INFINITY;
    for (q, label) in ticks.into_iter().filter(|(q, _)| nines(*q) <= most + 1e-9) {
        let x = across.at(nines(q));
        let half = canvas.text_width(label, TICK)? / 2.0;
        canvas.line([(x, frame.top), (x, frame.bottom)], GRID, 1.0)?;
        if x - half > free_from && x + half < canvas.width {
            canvas.text(label, (x, frame.bottom + 13.0), Anchor::Middle, TICK)?;
            free_from = x + half + 6.0;
        }
    }
    canvas.line([(frame.left, frame.bottom), (frame.right, frame.bottom)], FAINT, 1.0)?;
    let title = "share of operations that took no longer";
    canvas.text(title, (frame.right, frame.bottom + 29.0), Anchor::End, TICK)
}
