//! What the sides of a comparison look like over each other: their time lines, in slots of one
//! length, and their percentile curves. Reads the runs' histories, one after the other.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::error::ReportError;
use super::super::load;
use super::super::plot::{Band, Curve, Over, Overlay, Percentiles, Side, TimeAxis, palette};
use super::super::sections::Table;
use super::super::words::{self, NONE};
use super::CompareSide;
use crate::compare::bootstrap::{NEVER, Sparse, quantile};
use crate::compare::words::letter;
use crate::compare::{Run, median};
use crate::figures::{Bound, Timeline, curve_quantiles, slot_length, timeline_in};
use crate::report::figure::{NARROW, WIDE};

/// A slot of a run: acknowledged per second, and p99 in microseconds.
type Figures = (f64, Option<f64>);

/// Longer names of sides are cut off in plots.
const NAME_MAX: usize = 36;

/// A side in the legend of a plot.
fn short(at: usize, name: &str) -> String {
    let cut: String = name.chars().take(NAME_MAX).collect();
    let dots = if cut.len() < name.len() { "…" } else { "" };
    format!("{}: {cut}{dots}", letter(at))
}

/// All time lines.
pub(super) struct Lines {
    pub(super) plot: Overlay,
    /// Length of a slot in seconds.
    pub(super) slot: f64,
    /// Runs that are in no time line, and why.
    pub(super) missing: Vec<String>,
}

/// Reads the runs of all sides.
pub(super) fn lines(sides: &[CompareSide<'_>]) -> Result<Lines, ReportError> {
    let runs = || sides.iter().flat_map(|side| side.runs.iter().copied());
    let wanted = |run: &Run| {
        slot_length(run.summary.counts.total(), (run.summary.measured_s * 1e9).max(0.0) as u64)
    };
    let slot = runs().map(wanted).max().unwrap_or(1_000_000_000);
    let mut missing = Vec::new();
    let mut drawn = Vec::new();
    for (at, side) in sides.iter().enumerate() {
        let mut slots: BTreeMap<i64, Vec<Figures>> = BTreeMap::new();
        for run in &side.runs {
            let read = load::load(&run.folder)?;
            let line = timeline_in(&read.input(), slot);
            if read.history.operations.is_empty() {
                missing.push(format!("{} has no history", run.name));
            }
            add(&mut slots, &line);
        }
        let seconds = slot as f64 / 1e9;
        let over = |(number, runs): (&i64, &Vec<Figures>)| {
            let from = *number as f64 * seconds;
            let rate = middle(runs.iter().map(|run| run.0).collect()).unwrap_or_default();
            let p99 = middle(runs.iter().filter_map(|run| run.1).collect());
            Over { from, to: from + seconds, rate, p99 }
        };
        drawn.push(Side {
            name: short(at, &side.name),
            colour: palette::side(at),
            slots: slots.iter().map(over).collect(),
        });
    }
    let ends = || drawn.iter().flat_map(|side| &side.slots);
    let axis = TimeAxis {
        from: ends().map(|slot| slot.from).fold(0.0, f64::min),
        to: ends().map(|slot| slot.to).fold(0.0, f64::max),
        faults: faults(runs()),
        phases: Vec::new(),
    };
    Ok(Lines { plot: Overlay { axis, sides: drawn }, slot: slot as f64 / 1e9, missing })
}

fn add(slots: &mut BTreeMap<i64, Vec<Figures>>, line: &Timeline) {
    for slot in &line.slots {
        let since = slot.from as i64 - line.origin as i64;
        let figures = (line.rate(slot.counts.ok), slot.p99.map(|bound| bound.micros));
        slots.entry(since / line.slot.max(1) as i64).or_default().push(figures);
    }
}

/// The lowest, the median and the highest.
fn middle(values: Vec<f64>) -> Option<[f64; 3]> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    median(values).map(|middle| [low, middle, high])
}

/// Each fault for as long as it was in force in any run.
fn faults<'a>(runs: impl Iterator<Item = &'a Run>) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    for run in runs {
        for fault in &run.summary.faults {
            let (from, to) = (fault.effect_s, fault.healed_s.unwrap_or(run.summary.measured_s));
            match bands.iter_mut().find(|band| band.label == fault.name) {
                Some(band) => {
                    band.from = band.from.min(from);
                    band.to = band.to.max(to);
                }
                None => bands.push(Band { from, to, label: fault.name.clone() }),
            }
        }
    }
    bands
}

impl Lines {
    /// What the script needs to read the time lines out under the pointer.
    pub(super) fn data(&self) -> String {
        let frame = |width: f64| {
            let of = self.plot.geometry(width);
            json!([of.left, of.right, of.top, of.bottom])
        };
        let slots: Vec<_> = self
            .numbers()
            .into_iter()
            .map(|number| json!([number.0, self.told(number.1)]))
            .collect();
        let sides = self.plot.sides.iter().enumerate();
        let colours: Vec<_> =
            sides.map(|(at, side)| json!([letter(at), side.colour.hex()])).collect();
        let data = json!({
            "frames": [frame(WIDE), frame(NARROW)],
            "from": self.plot.axis.from,
            "to": self.plot.axis.to,
            "slot": self.slot,
            "colours": colours,
            "slots": slots,
        });
        // Inside a script element, only this could end it early.
        data.to_string().replace("</", "<\\/")
    }

    /// Begin and number of every slot, without holes.
    fn numbers(&self) -> Vec<(f64, i64)> {
        let slots = self.plot.sides.iter().flat_map(|side| &side.slots);
        let all: Vec<i64> = slots.map(|slot| self.number(slot)).collect();
        let (Some(first), Some(last)) = (all.iter().min(), all.iter().max()) else {
            return Vec::new();
        };
        (*first..=*last).map(|number| (number as f64 * self.slot, number)).collect()
    }

    fn number(&self, slot: &Over) -> i64 {
        (slot.from / self.slot).round() as i64
    }

    fn figures(&self, number: i64) -> impl Iterator<Item = Option<&Over>> {
        self.plot.sides.iter().map(move |side| {
            let found = side.slots.binary_search_by_key(&number, |slot| self.number(slot));
            found.ok().map(|at| &side.slots[at])
        })
    }

    fn told(&self, number: i64) -> String {
        let side = |(at, slot): (usize, Option<&Over>)| {
            let slot = slot?;
            let p99 = slot.p99.map_or(NONE.to_owned(), |p99| words::seconds(p99[1] / 1e6));
            Some(format!("{} {}, p99 {p99}", letter(at), words::rate(slot.rate[1])))
        };
        self.figures(number).enumerate().filter_map(side).collect::<Vec<_>>().join("; ")
    }

    /// What the time lines show: medians over the runs of a side.
    pub(super) fn table(&self) -> Table {
        let mut head = vec!["from (s)".to_owned()];
        for at in 0..self.plot.sides.len() {
            head.extend([format!("{} per second", letter(at)), format!("{} p99", letter(at))]);
        }
        let row = |(from, number): (f64, i64)| {
            let cells = self.figures(number).flat_map(|slot| {
                let rate = slot.map_or(NONE.to_owned(), |slot| words::rate(slot.rate[1]));
                let p99 = slot.and_then(|slot| slot.p99).map(|p99| words::seconds(p99[1] / 1e6));
                [rate, p99.unwrap_or(NONE.to_owned())]
            });
            std::iter::once(format!("{from:.2}").replace('-', "−")).chain(cells).collect()
        };
        Table { head, rows: self.numbers().into_iter().map(row).collect() }
    }
}

/// A strong curve of all of a side's runs together, thin ones of each where there are several.
pub(super) fn percentiles(sides: &[CompareSide<'_>]) -> Percentiles {
    let mut curves = Vec::new();
    for (at, side) in sides.iter().enumerate() {
        let (name, colour) = (short(at, &side.name), palette::side(at));
        let each: Vec<BTreeMap<u64, u64>> = side.runs.iter().map(|run| counts(run)).collect();
        let mut all = BTreeMap::new();
        for (value, count) in each.iter().flatten() {
            *all.entry(*value).or_insert(0) += count;
        }
        curves.push(Curve::new(name, colour, false, curve(all)));
        if each.len() > 1 {
            curves.extend(each.into_iter().zip(1..).map(|(run, number)| {
                Curve::new(format!("{}, run {number}", letter(at)), colour, true, curve(run))
            }));
        }
    }
    curves.retain(|curve| !curve.points.is_empty());
    Percentiles { title: "all acknowledged and unanswered operations: response time", curves }
}

/// How often each duration occurred in a run.
fn counts(run: &Run) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for (value, count) in run.figures.latencies.get(&None).into_iter().flatten().flatten() {
        *counts.entry(*value).or_insert(0) += count;
    }
    counts
}

/// Points of a curve. Where operations begin that were never acknowledged, it ends in a lower
/// bound.
fn curve(counts: BTreeMap<u64, u64>) -> Vec<(f64, Bound)> {
    let counts: Sparse = counts.into_iter().collect();
    let all = counts.iter().map(|(_, count)| *count).sum();
    let mut points: Vec<(f64, Bound)> = Vec::new();
    for q in if all == 0 { Vec::new() } else { curve_quantiles(all) } {
        // Just above q, so that the last point is the longest duration.
        let Some(micros) = quantile(&counts, q + 1e-7 * (1.0 - q)) else { break };
        if micros == NEVER {
            let last = points.last().map(|(_, bound)| bound.micros);
            points.extend(last.map(|micros| (q, Bound { micros, at_least: true })));
            break;
        }
        points.push((q, Bound { micros: micros as f64, at_least: false }));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FEATURES: H9
    #[test]
    fn a_curve_ends_in_a_lower_bound_where_nobody_knows_how_long() {
        let whole = curve(BTreeMap::from([(10, 90), (20, 10)]));
        assert_eq!(whole.last(), Some(&(0.99, Bound { micros: 20.0, at_least: false })));
        let open = curve(BTreeMap::from([(10, 90), (NEVER, 10)]));
        assert!(open.iter().rev().skip(1).all(|(_, bound)| !bound.at_least), "{open:?}");
        let (q, bound) = *open.last().unwrap();
        assert!((0.9..0.95).contains(&q) && bound.at_least && bound.micros == 10.0, "{open:?}");
        assert!(curve(BTreeMap::new()).is_empty());
    }

    #[test]
    fn a_middle_has_its_edges() {
        assert_eq!(middle(vec![3.0, 1.0, 2.0, 9.0]), Some([1.0, 2.5, 9.0]));
        assert_eq!(middle(Vec::new()), None);
    }
}
