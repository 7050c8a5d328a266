//! Effects with their intervals, a row a metric, and shaded behind each the margin within which a
//! difference is none. An arrow ends an interval that goes on beyond the plot.

use plotters::prelude::DrawingBackend;

use super::axes::{Frame, LEGEND, Scale, TICK, nothing, tick_number};
use super::canvas::{Anchor, Canvas, Plot, PlotError, TITLE};
use super::palette::{Colour, FAINT, GRID, INK, NOTHING};

/// Below this width texts stand above their rows.
const NARROW: f64 = 600.0;
/// Room for texts beside the rows of a wide plot, left and right.
const ASIDE: [f64; 2] = [210.0, 290.0];
/// An interval may be so many times as long as everything else before it is cut off.
const STRETCH: f64 = 3.0;
/// Ratios that an axis may name, those above 1; the others are their inverses.
const RATIOS: [f64; 10] = [1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 100.0];

/// What the axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Natural logarithms of ratios.
    Ratio,
    /// Differences as multiples of the row's margin, since units differ.
    Margins,
}

/// An effect with its interval, in the colour of whom it is of.
pub(crate) type Effect = (Colour, f64, Option<(f64, f64)>);

/// A metric.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ForestRow {
    /// Its name.
    pub(crate) label: String,
    /// The effect and what is said of it.
    pub(crate) told: String,
    /// The margin on either side.
    pub(crate) band: Option<f64>,
    /// One an effect, on the scale of the axis.
    pub(crate) effects: Vec<Effect>,
}

/// All metrics of one kind of axis.
pub(crate) struct Forest {
    pub(crate) title: String,
    /// What stands below.
    pub(crate) axis: String,
    pub(crate) measure: Measure,
    pub(crate) rows: Vec<ForestRow>,
}

impl Forest {
    fn row_height(&self, width: f64) -> f64 {
        let effects = self.rows.iter().map(|row| row.effects.len()).max().unwrap_or(1);
        let own = 18.0 + 8.0 * effects as f64;
        if width < NARROW { own + 20.0 } else { own }
    }

    fn frame(&self, width: f64) -> Frame {
        let [left, right] = if width < NARROW { [8.0, 8.0] } else { ASIDE };
        let bottom = 26.0 + self.row_height(width) * self.rows.len().max(2) as f64;
        Frame { left, top: 26.0, right: width - right, bottom }
    }

    /// How far the axis reaches on either side.
    fn half(&self) -> f64 {
        let bands = self.rows.iter().filter_map(|row| row.band);
        let means = self.rows.iter().flat_map(|row| &row.effects).map(|(_, mean, _)| mean.abs());
        let half = bands.map(|band| 2.0 * band).chain(means.map(|mean| 1.2 * mean));
        let half = half.fold(0.0, f64::max);
        let half = if half > 0.0 { half } else { 1.0 };
        let ends = self.rows.iter().flat_map(|row| &row.effects).filter_map(|(_, _, range)| *range);
        let ends = ends.flat_map(|(low, high)| [low.abs(), high.abs()]).filter(|of| of.is_finite());
        ends.fold(half, f64::max).min(STRETCH * half)
    }

    fn ticks(&self, x: Scale) -> Vec<(f64, String)> {
        match self.measure {
            Measure::Margins => {
                x.ticks(6.0).into_iter().map(|value| (value, tick_number(value))).collect()
            }
            Measure::Ratio => {
                let both = RATIOS.iter().flat_map(|ratio| [*ratio, 1.0 / ratio]);
                let named = |ratio: f64| (ratio.ln(), format!("{}", (ratio * 1e3).round() / 1e3));
                std::iter::once(1.0).chain(both).map(named).collect()
            }
        }
    }

    /// Labels that would overlap those of greater weight are left out.
    fn draw_axis<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
        (x, half): (Scale, f64),
    ) -> Result<(), PlotError> {
        let mut taken: Vec<(f64, f64)> = Vec::new();
        for (value, label) in self.ticks(x).into_iter().filter(|(value, _)| value.abs() <= half) {
            let (at, wide) = (x.at(value), canvas.text_width(&label, TICK)? / 2.0 + 4.0);
            let (from, to) = (at - wide, at + wide);
            let is_free = taken.iter().all(|(low, high)| to < *low || from > *high);
            if !is_free || from < 0.0 || to > canvas.width {
                continue;
            }
            taken.push((from, to));
            canvas.line([(at, frame.top), (at, frame.bottom)], GRID, 1.0)?;
            canvas.text(&label, (at, frame.bottom + 13.0), Anchor::Middle, TICK)?;
        }
        canvas.line([(frame.left, frame.bottom), (frame.right, frame.bottom)], FAINT, 1.0)?;
        let below = canvas.fitted(&self.axis, canvas.width - 4.0, TICK)?;
        canvas.text(&below, (canvas.width - 2.0, frame.bottom + 30.0), Anchor::End, TICK)
    }

    fn draw_row<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        (frame, top): (Frame, f64),
        (x, half): (Scale, f64),
        row: &ForestRow,
    ) -> Result<(), PlotError> {
        let height = self.row_height(canvas.width);
        let is_narrow = canvas.width < NARROW;
        let bars = if is_narrow { top + 20.0 } else { top };
        let middle = (bars + top + height) / 2.0;
        if let Some(band) = row.band {
            let corners = ((x.at(-band), bars + 2.0), (x.at(band), top + height - 2.0));
            canvas.fill(corners.0, corners.1, NOTHING, 1.0)?;
        }
        for (at, effect) in row.effects.iter().enumerate() {
            let offset = at as f64 - (row.effects.len() - 1) as f64 / 2.0;
            draw_effect(canvas, (x, half), middle + 9.0 * offset, *effect)?;
        }
        if is_narrow {
            let told = canvas.text_width(&row.told, LEGEND)?;
            let label = canvas.fitted(&row.label, canvas.width - told - 14.0, TITLE)?;
            canvas.text(&label, (2.0, top + 11.0), Anchor::Start, TITLE)?;
            return canvas.text(&row.told, (canvas.width - 2.0, top + 11.0), Anchor::End, LEGEND);
        }
        let label = canvas.fitted(&row.label, ASIDE[0] - 14.0, LEGEND)?;
        canvas.text(&label, (2.0, middle), Anchor::Start, LEGEND)?;
        let told = canvas.fitted(&row.told, ASIDE[1] - 12.0, LEGEND)?;
        canvas.text(&told, (frame.right + 10.0, middle), Anchor::Start, LEGEND)
    }
}

fn draw_effect<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    (x, half): (Scale, f64),
    y: f64,
    (colour, mean, interval): Effect,
) -> Result<(), PlotError> {
    if let Some((low, high)) = interval {
        let (from, to) = (x.at(low), x.at(high));
        canvas.line([(from, y), (to, y)], colour, 2.0)?;
        // A cap where the interval ends, an arrow where it goes on.
        for (at, is_cut, inwards) in [(from, low < -half, 5.0), (to, high > half, -5.0)] {
            if is_cut {
                canvas.line([(at + inwards, y - 4.0), (at, y)], colour, 2.0)?;
                canvas.line([(at + inwards, y + 4.0), (at, y)], colour, 2.0)?;
            } else {
                canvas.line([(at, y - 4.0), (at, y + 4.0)], colour, 1.5)?;
            }
        }
    }
    let at = x.at(mean);
    canvas.fill((at - 4.0, y - 4.0), (at + 4.0, y + 4.0), colour, 1.0)
}

impl Plot for Forest {
    fn height(&self, width: f64) -> f64 {
        self.frame(width).bottom + 40.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let frame = self.frame(canvas.width);
        let title = canvas.fitted(&self.title, canvas.width - 2.0, TITLE)?;
        canvas.text(&title, (2.0, 10.0), Anchor::Start, TITLE)?;
        if self.rows.is_empty() {
            return nothing(canvas, frame, "no metric has a figure on both sides");
        }
        let half = self.half();
        let x = Scale::linear(-half, half, frame.left, frame.right);
        let height = self.row_height(canvas.width);
        // Grid lines first: texts stand on them.
        self.draw_axis(canvas, frame, (x, half))?;
        for (at, row) in self.rows.iter().enumerate() {
            let top = frame.top + at as f64 * height;
            self.draw_row(canvas, (frame, top), (x, half), row)?;
        }
        canvas.dashes((x.at(0.0), frame.top), (x.at(0.0), frame.bottom), INK)
    }
}

#[cfg(test)]
mod tests {
    use super::super::palette::side;
    use super::super::svg;
    use super::*;

    fn row(label: &str, mean: f64, interval: Option<(f64, f64)>) -> ForestRow {
        let effects = vec![(side(1), mean, interval)];
        ForestRow { label: label.to_owned(), told: "told".to_owned(), band: Some(0.1), effects }
    }

    fn forest(rows: Vec<ForestRow>) -> Forest {
        let (title, axis) = ("effects".to_owned(), "B / A".to_owned());
        Forest { title, axis, measure: Measure::Ratio, rows }
    }

    /// FEATURES: H9
    #[test]
    fn what_goes_on_beyond_the_plot_ends_in_an_arrow_and_flattens_nobody() {
        let plain = forest(vec![row("p99", 0.2, Some((0.15, 0.25)))]);
        let wild =
            forest(vec![row("p99", 0.2, Some((0.15, 0.25))), row("p50", 0.0, Some((-9.0, 9.0)))]);
        assert!(wild.half() <= STRETCH * plain.half() + 1e-12);
        let lines = |of: &Forest| {
            let drawn = svg(of, 1000.0).unwrap();
            drawn.matches(&side(1).hex()).count()
        };
        // An interval, two caps and a square; then an interval, two arrows of two lines, a square.
        assert_eq!((lines(&plain), lines(&wild)), (4, 10));
    }

    /// FEATURES: H9
    #[test]
    fn the_axis_names_ratios_and_says_where_nothing_is_drawn() {
        let drawn = svg(&forest(vec![row("p99", 0.3, None)]), 1000.0).unwrap();
        for wanted in ["p99", "told", "1.25", "0.8", "B / A"] {
            assert!(drawn.contains(wanted), "{wanted}");
        }
        assert!(svg(&forest(Vec::new()), 380.0).unwrap().contains("no metric has a figure"));
    }
}
