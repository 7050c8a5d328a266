//! Axes: scales, ticks, grid, legends, and the bands that mark faults and phases.

use plotters::prelude::DrawingBackend;

use super::canvas::{Anchor, Canvas, Look, PlotError, TITLE};
use super::palette::{Colour, FAINT, FAULT, GRID, INK};

/// Text at ticks.
pub(crate) const TICK: Look = Look::new(11.0, FAINT);
/// Text of legends.
pub(crate) const LEGEND: Look = Look::new(11.5, INK);
/// Text at faults.
const FAULT_LABEL: Look = Look::new(11.0, FAULT).bold();

/// A rectangle in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Frame {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

/// Maps values to pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Scale {
    /// Equal steps; a span without length is widened.
    pub(crate) fn linear(low: f64, high: f64, from: f64, to: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, logarithmic: false, from, to }
    }

    /// Equal factors; both ends must be above 0.
    pub(crate) fn log(low: f64, high: f64, from: f64, to: f64) -> Self {
        Self { low, high, logarithmic: true, from, to }
    }

    /// The pixel of `value`. Values outside are kept at the edge, which only rounding makes happen:
    /// scales are made from the data.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values for ticks, about `wanted` of them (a linear scale).
    pub(crate) fn ticks(&self, wanted: f64) -> Vec<f64> {
        let step = round_step((self.high - self.low) / wanted.max(1.0));
        let first = (self.low / step - 1e-9).ceil();
        let count = ((self.high - first * step) / step + 1e-9).floor();
        (0..=count.max(0.0) as u32).map(|n| (first + f64::from(n)) * step).collect()
    }

    /// Powers of ten inside (a logarithmic scale).
    pub(crate) fn decades(&self) -> Vec<f64> {
        let first = (self.low.log10() - 1e-9).ceil() as i32;
        let last = (self.high.log10() + 1e-9).floor() as i32;
        (first..=last).map(|power| 10f64.powi(power)).collect()
    }
}

/// The next of 1, 2, 5, 10, … at or above `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

/// The top of an axis from 0 that holds `max` and ends at a tick.
pub(crate) fn round_top(max: f64) -> f64 {
    if max <= 0.0 {
        return 1.0;
    }
    let step = round_step(max / 4.0);
    (max / step).ceil() * step
}

/// The decades, as (low, high), that hold all positive `values`; `None` if there are none.
pub(crate) fn decades_of(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values
        .filter(|value| *value > 0.0)
        .fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    if high == 0.0 {
        return None;
    }
    let low = 10f64.powf(low.log10().floor());
    let high = 10f64.powf(high.log10().ceil());
    Some((low, if high > low { high } else { low * 10.0 }))
}

/// Microseconds for people, short: `10 ms`.
pub(crate) fn tick_micros(micros: f64) -> String {
    let (value, unit) = match micros {
        micros if micros >= 1e6 => (micros / 1e6, "s"),
        micros if micros >= 1e3 => (micros / 1e3, "ms"),
        micros => (micros, "µs"),
    };
    format!("{value} {unit}")
}

/// A number at a tick, with as many digits as it needs.
pub(crate) fn tick_number(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    if rounded.abs() >= 10_000.0 {
        format!("{}k", rounded / 1000.0)
    } else {
        format!("{rounded}").replace('-', "−")
    }
}

/// A shaded span of time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Band {
    /// Seconds.
    pub(crate) from: f64,
    /// Seconds.
    pub(crate) to: f64,
    /// What it is.
    pub(crate) label: String,
}

/// The time axis that all plots over time share: seconds since measuring began.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TimeAxis {
    /// First second shown.
    pub(crate) from: f64,
    /// Last second shown.
    pub(crate) to: f64,
    /// Faults in force.
    pub(crate) faults: Vec<Band>,
    /// Phases.
    pub(crate) phases: Vec<Band>,
}

impl TimeAxis {
    /// Its scale in a frame.
    pub(crate) fn scale(&self, frame: Frame) -> Scale {
        Scale::linear(self.from, self.to, frame.left, frame.right)
    }

    /// Shades the faults behind the data.
    pub(crate) fn shade<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
    ) -> Result<(), PlotError> {
        let scale = self.scale(frame);
        for band in &self.faults {
            let (x0, x1) = (scale.at(band.from), scale.at(band.to));
            canvas.fill((x0, frame.top), (x1.max(x0 + 1.0), frame.bottom), FAULT, 0.13)?;
        }
        Ok(())
    }

    /// Writes the names of the faults above a frame, in rows where they would overlap.
    pub(crate) fn name_faults<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
        top: f64,
    ) -> Result<(), PlotError> {
        let scale = self.scale(frame);
        let mut ends: Vec<f64> = Vec::new();
        for band in &self.faults {
            let (x0, x1) = (scale.at(band.from), scale.at(band.to).max(scale.at(band.from) + 1.0));
            let width = canvas.text_width(&band.label, FAULT_LABEL)? + 4.0;
            let left = x0.min(canvas.width - width).max(frame.left);
            let row = ends.iter().position(|end| *end <= left).unwrap_or(ends.len());
            let row_kept = row.min(FAULT_ROWS - 1);
            let (y, end) = (top + 7.0 + row_kept as f64 * FAULT_ROW, left + width + 4.0);
            match ends.get_mut(row_kept) {
                // The last row is full: the band stays, its name is in the fault table.
                Some(kept) if row >= FAULT_ROWS => *kept = kept.max(x1),
                Some(kept) => *kept = end,
                None => ends.push(end),
            }
            if row < FAULT_ROWS {
                canvas.text(&band.label, (left, y), Anchor::Start, FAULT_LABEL)?;
            }
            canvas.line([(x0, frame.top - 1.5), (x1, frame.top - 1.5)], FAULT, 3.0)?;
        }
        Ok(())
    }

    /// Ticks and labels below a frame.
    pub(crate) fn draw<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        frame: Frame,
    ) -> Result<(), PlotError> {
        let scale = self.scale(frame);
        for tick in scale.ticks((frame.right - frame.left) / 80.0) {
            let x = scale.at(tick);
            canvas.line([(x, frame.bottom), (x, frame.bottom + 4.0)], FAINT, 1.0)?;
            let at = (x, frame.bottom + 13.0);
            canvas.text(&format!("{} s", tick_number(tick)), at, Anchor::Middle, TICK)?;
        }
        canvas.line([(frame.left, frame.bottom), (frame.right, frame.bottom)], FAINT, 1.0)?;
        let title = "seconds since measuring began, by intended start";
        let fitted = canvas.fitted(title, frame.right - frame.left, TICK)?;
        canvas.text(&fitted, (frame.right, frame.bottom + 29.0), Anchor::End, TICK)
    }
}

/// Rows for names of faults.
pub(crate) const FAULT_ROWS: usize = 3;
/// Height of such a row.
pub(crate) const FAULT_ROW: f64 = 15.0;

/// Grid lines and labels of a vertical axis, and its title above it.
pub(crate) fn vertical<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    frame: Frame,
    title: &str,
    ticks: &[(f64, String)],
) -> Result<(), PlotError> {
    for (y, label) in ticks {
        canvas.line([(frame.left, *y), (frame.right, *y)], GRID, 1.0)?;
        canvas.text(label, (frame.left - 7.0, *y), Anchor::End, TICK)?;
    }
    let fitted = canvas.fitted(title, canvas.width - 2.0, TITLE)?;
    canvas.text(&fitted, (2.0, frame.top - 14.0), Anchor::Start, TITLE)
}

/// Draws legend entries from `left`, in rows from `top` down; returns the rows used.
pub(crate) fn legend<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    (left, top): (f64, f64),
    entries: &[(String, Colour)],
) -> Result<(), PlotError> {
    let mut x = left;
    let mut y = top;
    for (name, colour) in entries {
        let width = 18.0 + canvas.text_width(name, LEGEND)? + 14.0;
        if x + width > canvas.width && x > left {
            x = left;
            y += LEGEND_ROW;
        }
        canvas.fill((x, y - 4.5), (x + 12.0, y + 4.5), *colour, 1.0)?;
        canvas.text(name, (x + 17.0, y), Anchor::Start, LEGEND)?;
        x += width;
    }
    Ok(())
}

/// Height of a legend row.
pub(crate) const LEGEND_ROW: f64 = 17.0;

/// How many rows a legend of these names takes, before anything can be measured.
pub(crate) fn legend_rows<'a>(width: f64, names: impl Iterator<Item = &'a str>) -> f64 {
    let mut rows = 1.0;
    let mut x = 0.0;
    for name in names {
        let entry = 32.0 + name.chars().count() as f64 * 6.9;
        if x + entry > width && x > 0.0 {
            rows += 1.0;
            x = 0.0;
        }
        x += entry;
    }
    rows
}

/// Says in the middle of a frame that there is nothing to draw.
pub(crate) fn nothing<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    frame: Frame,
    why: &str,
) -> Result<(), PlotError> {
    let middle = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
    canvas.text(why, middle, Anchor::Middle, LEGEND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Scale::linear(-5.0, 60.0, 0.0, 100.0);
        assert_eq!(scale.ticks(7.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(Scale::linear(0.0, 0.3, 0.0, 1.0).ticks(3.0).len(), 4);
    }

    #[test]
    fn scales_map_ends_to_ends() {
        let scale = Scale::log(100.0, 1e6, 200.0, 0.0);
        assert_eq!((scale.at(100.0), scale.at(1e6)), (200.0, 0.0));
        assert!((scale.at(1e4) - 100.0).abs() < 1e-9);
        assert_eq!(scale.decades(), [100.0, 1e3, 1e4, 1e5, 1e6]);
        assert_eq!(Scale::linear(3.0, 3.0, 0.0, 10.0).at(3.0), 0.0);
    }

    #[test]
    fn tops_hold_the_data() {
        for max in [0.0, 0.07, 1.0, 99.0, 101.0, 5_321.0] {
            assert!(round_top(max) >= max);
        }
        assert_eq!(decades_of([350.0, 12_000.0].into_iter()), Some((100.0, 100_000.0)));
        assert_eq!(decades_of([0.0].into_iter()), None);
        assert_eq!(decades_of([100.0].into_iter()), Some((100.0, 1000.0)));
    }

    #[test]
    fn labels_carry_units() {
        assert_eq!(tick_micros(100.0), "100 µs");
        assert_eq!(tick_micros(1e4), "10 ms");
        assert_eq!(tick_micros(1e6), "1 s");
        assert_eq!(tick_number(-5.0), "−5");
        assert_eq!(tick_number(20_000.0), "20k");
    }
}
