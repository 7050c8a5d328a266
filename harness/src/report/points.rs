//! The report of a sweep: every point with its mean and interval, plots, the law of scaling where
//! there is one to be fitted, and links to the runs. Figures come from `figures/`, runs from
//! `crate::sweep`. Draws and writes; decides nothing.

use std::path::{Path, PathBuf};

use minijinja::context;
use serde::Serialize;

use super::error::ReportError;
use super::figure::{Figure, index_figure, inline};
use super::index::percent;
use super::page::{render, style};
use super::plot::{Heat, HeatCell, Lines};
use super::{ladder, words, write_file};
use crate::figures::bootstrap::Estimate;
use crate::figures::usl::{self, Course, UslFit};
use crate::sweep::{Definition, Ledger, RunFigures, is_unsound, mean_of};

const TEMPLATE: &str = include_str!("../../assets/sweep.html");
/// Steps in which a law is drawn.
const LAW_STEPS: u32 = 60;

/// A point with its means.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct PointFigures {
    /// One an axis.
    labels: Vec<String>,
    /// Why it was not run; `None` if it could be.
    refused: Option<String>,
    /// True if a run was found unsound for a reason of its own: the law leaves the point out.
    unsound: bool,
    /// Acknowledged operations per second.
    rate: Option<Estimate>,
    /// Median time until acknowledged, in milliseconds.
    p50_ms: Option<Estimate>,
    /// The same of 99 %.
    p99_ms: Option<Estimate>,
    /// Share of the operations that were not acknowledged.
    refused_share: Option<Estimate>,
}

/// `points.json`.
#[derive(Debug, Serialize)]
struct PointsFile<'a> {
    format: u32,
    name: &'a str,
    /// The figures are of virtual time.
    simulated: bool,
    axes: Vec<&'a str>,
    points: &'a [PointFigures],
    /// The law of scaling over the axis; `None` where there is none.
    law: Option<UslFit>,
}

/// Writes `index.html`, `points.json` and the plots into the folder of a sweep; gives the page.
///
/// # Errors
/// The folder can't be written, or a plot can't be drawn.
pub fn sweep(folder: &Path, ledger: &Ledger) -> Result<PathBuf, ReportError> {
    let definition = &ledger.definition;
    let points: Vec<PointFigures> =
        (0..definition.points.len()).map(|point| point_figures(ledger, point)).collect();
    let sizes = sizes(definition);
    let law = sizes.as_ref().and_then(|sizes| fitted(ledger, sizes));
    let file = PointsFile {
        format: 1,
        name: &definition.name,
        simulated: definition.means.is_simulated(),
        axes: definition.axes.iter().map(|axis| axis.name.as_str()).collect(),
        points: &points,
        law,
    };
    let json = serde_json::to_string_pretty(&file).map_err(ReportError::Summary)?;
    write_file(&folder.join("points.json"), json.as_bytes())?;
    let figures = match definition.axes.as_slice() {
        [_, _] => vec![index_figure("map", &heat(definition, &points))?],
        _ => vec![
            index_figure("rate", &rate(definition, &points, law))?,
            index_figure("p99", &p99(definition, &points))?,
        ],
    };
    for figure in &figures {
        figure.write(folder)?;
    }
    let rows: Vec<_> = (0..points.len()).map(|at| row(ledger, at, &points[at])).collect();
    let shown: Vec<_> = figures.iter().map(shown).collect();
    let values = context! {
        style => style(),
        definition,
        simulated => definition.means.is_simulated(),
        done => ledger.runs.len(),
        finished => ledger.finished,
        figures => shown,
        rows,
        memory => ladder::told(ledger),
        law => law.zip(sizes).map(|(law, sizes)| law_words(&law, &sizes)),
    };
    let page = folder.join("index.html");
    write_file(&page, render("sweep.html", TEMPLATE, values)?.as_bytes())?;
    Ok(page)
}

fn point_figures(ledger: &Ledger, point: usize) -> PointFigures {
    let of = &ledger.definition.points[point];
    PointFigures {
        labels: of.labels.clone(),
        refused: of.refused.clone(),
        unsound: is_unsound(ledger, point),
        rate: mean_of(ledger, point, |run| Some(run.rate)),
        p50_ms: mean_of(ledger, point, |run| run.p50_ms),
        p99_ms: mean_of(ledger, point, |run| run.p99_ms),
        refused_share: mean_of(ledger, point, |run| Some(run.refused)),
    }
}

/// Numbers at the only axis; `None` if there are two, or what stands there is no number.
fn places(definition: &Definition) -> Option<Vec<f64>> {
    let [axis] = definition.axes.as_slice() else { return None };
    axis.labels.iter().map(|label| label.parse().ok()).collect()
}

/// The sizes that a law of scaling is about; `None` where something else differs, or clients don't
/// ask for all that can be done.
fn sizes(definition: &Definition) -> Option<Vec<f64>> {
    let is_scaling = definition.closed_loop && definition.axes.iter().all(|axis| axis.is_size);
    places(definition).filter(|_| is_scaling)
}

fn fitted(ledger: &Ledger, sizes: &[f64]) -> Option<UslFit> {
    let of = |(point, size): (usize, &f64)| {
        let rates: Vec<f64> = ledger.good(point).map(|run: &RunFigures| run.rate).collect();
        (!rates.is_empty() && !is_unsound(ledger, point)).then_some((*size, rates))
    };
    let runs: Vec<_> = sizes.iter().enumerate().filter_map(of).collect();
    usl::fit(&runs, ledger.definition.seed)
}

fn lines(
    definition: &Definition,
    points: &[PointFigures],
    title: &str,
    of: fn(&PointFigures) -> Option<Estimate>,
) -> Lines {
    let order = (0..points.len()).map(|at| at as f64).collect();
    let places = places(definition).unwrap_or(order);
    let label = |of: &PointFigures| of.labels.join(", ");
    let mut ticks: Vec<_> = places.iter().copied().zip(points.iter().map(label)).collect();
    let mark = |(place, point): (&f64, &PointFigures)| {
        of(point).map(|found| (*place, found.mean, found.interval))
    };
    let mut marks: Vec<_> = places.iter().zip(points).filter_map(mark).collect();
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    marks.sort_by(|a, b| a.0.total_cmp(&b.0));
    let axis = definition.axes.first().map(|axis| axis.name.clone()).unwrap_or_default();
    Lines { title: titled(definition, title), axis, ticks, marks, law: Vec::new() }
}

/// A plot may be looked at by itself: it says what its page does.
fn titled(definition: &Definition, title: &str) -> String {
    let simulated = if definition.means.is_simulated() { ", simulated" } else { "" };
    format!("{title}{simulated}")
}

fn rate(definition: &Definition, points: &[PointFigures], law: Option<UslFit>) -> Lines {
    let mut drawn = lines(definition, points, "acknowledged per second", |point| point.rate);
    if let (Some(fit), Some((low, _)), Some((high, _))) =
        (law, drawn.ticks.first(), drawn.ticks.last())
    {
        let step = (high - low) / f64::from(LAW_STEPS);
        let at = |index: u32| low + step * f64::from(index);
        drawn.law = (0..=LAW_STEPS).map(|index| (at(index), fit.law.at(at(index)))).collect();
    }
    drawn
}

fn p99(definition: &Definition, points: &[PointFigures]) -> Lines {
    lines(definition, points, "99 % acknowledged within (ms)", |point| point.p99_ms)
}

fn heat(definition: &Definition, points: &[PointFigures]) -> Heat {
    let most = points.iter().filter_map(|point| point.rate).map(|rate| rate.mean);
    let most = most.fold(0.0, f64::max);
    let cell = |point: &PointFigures| match (&point.refused, point.rate, point.p99_ms) {
        (Some(_), _, _) => {
            HeatCell { figure: String::new(), below: "cannot be run".to_owned(), share: 0.0 }
        }
        (None, None, _) => {
            HeatCell { figure: String::new(), below: "no good run".to_owned(), share: 0.0 }
        }
        (None, Some(rate), p99) => HeatCell {
            figure: words::rate(rate.mean),
            below: match p99 {
                Some(p99) => format!("p99 {}", words::seconds(p99.mean / 1e3)),
                None => "nothing acknowledged".to_owned(),
            },
            share: if most > 0.0 { rate.mean / most } else { 0.0 },
        },
    };
    let axis = |index: usize| {
        let axis = definition.axes.get(index);
        axis.map(|axis| (axis.name.clone(), axis.labels.clone())).unwrap_or_default()
    };
    Heat {
        title: titled(definition, "acknowledged per second, and p99"),
        rows: axis(0),
        columns: axis(1),
        cells: points.iter().map(cell).collect(),
    }
}

fn shown(figure: &Figure) -> minijinja::Value {
    let label = match figure.id.as_str() {
        "map" => "Acknowledged per second and p99 of every point",
        "rate" => "Acknowledged per second over the points, with 95 % intervals",
        _ => "p99 over the points, with 95 % intervals",
    };
    context! {
        id => figure.id.clone(),
        wide => inline(&figure.wide, label),
        narrow => inline(&figure.narrow, label),
    }
}

fn row(ledger: &Ledger, at: usize, point: &PointFigures) -> minijinja::Value {
    let ms = |of: Option<Estimate>| told(of, |ms| words::seconds(ms / 1e3));
    let runs: Vec<_> = ledger
        .runs
        .iter()
        .filter(|run| run.point == at)
        .map(|run| {
            context! {
                href => format!("{}/report.html", percent(&run.folder)),
                number => run.repeat + 1,
                remark => run.remark,
            }
        })
        .collect();
    context! {
        labels => point.labels,
        refused => point.refused,
        unsound => point.unsound,
        rate => told(point.rate, words::rate),
        p50 => ms(point.p50_ms),
        p99 => ms(point.p99_ms),
        share => told(point.refused_share, |share| format!("{:.1} %", share * 100.0)),
        runs,
    }
}

/// `123/s [120/s, 126/s]`, or a dash.
fn told(of: Option<Estimate>, word: impl Fn(f64) -> String) -> String {
    let Some(found) = of else { return words::NONE.to_owned() };
    let interval = found.interval.map(|(low, high)| format!(" [{}, {}]", word(low), word(high)));
    format!("{}{}", word(found.mean), interval.unwrap_or_default())
}

/// The law and its coefficients, as a sentence each.
fn law_words(fit: &UslFit, sizes: &[f64]) -> Vec<String> {
    let share = |share: f64| format!("{:.3} %", share * 100.0).replace('-', "−");
    let with = |mean: f64, interval: Option<(f64, f64)>| {
        let interval = interval.map(|(low, high)| format!(" [{}, {}]", share(low), share(high)));
        format!("{}{}", share(mean), interval.unwrap_or_default())
    };
    let first = sizes.iter().copied().fold(f64::INFINITY, f64::min);
    let last = sizes.iter().copied().fold(0.0, f64::max);
    let course = match fit.law.course(first, last) {
        Course::Peak(peak) if peak > last => {
            format!("By this law the most is done at {peak:.1}, beyond the largest size measured.")
        }
        Course::Peak(peak) => format!("By this law the most is done at {peak:.1}."),
        Course::Trough(least) => {
            format!("By this law the least is done at {least:.1}, and more beyond it.")
        }
        Course::Falls => "By this law throughput falls from the first size on.".to_owned(),
        Course::Grows => {
            "By this law throughput only grows up to the largest size measured.".to_owned()
        }
    };
    vec![
        format!("One does {}.", words::rate(fit.law.lambda)),
        format!("Contention σ = {}: what is done one at a time.", with(fit.law.sigma, fit.sigma)),
        format!("Coherency κ = {}: what each pair costs.", with(fit.law.kappa, fit.kappa)),
        course,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::usl::Usl;
    use crate::spec::{Axis, Measure};
    use crate::sweep::{Done, Means, PointOfSweep};

    const LAW: Usl = Usl { lambda: 900.0, sigma: 0.1, kappa: 0.01 };

    /// Three runs at each size of a cluster that follows the law; the host spoilt the last of 5.
    fn scaling() -> Ledger {
        let labels: Vec<String> = ["1", "2", "3", "5", "7"].map(str::to_owned).to_vec();
        let point = |label: &String| PointOfSweep {
            labels: vec![label.clone()],
            set: Vec::new(),
            refused: (label == "7").then(|| "too many <b>servers</b>".to_owned()),
        };
        let mut ledger = Ledger::new(Definition {
            name: "scaling".to_owned(),
            description: "made by hand".to_owned(),
            harness: String::new(),
            seed: 1,
            axes: vec![Axis { name: "MASTERs".to_owned(), labels: labels.clone(), is_size: true }],
            points: labels.iter().map(point).collect(),
            repeats: 3,
            narrow: 0.0,
            figure: Measure::Rate,
            closed_loop: true,
            plans: String::new(),
            means: Means::default(),
        });
        for (point, size) in [1.0, 2.0, 3.0, 5.0].into_iter().enumerate() {
            for repeat in 0..3 {
                let is_late = (point, repeat) == (3, 2);
                let rate = if is_late { 1.0 } else { LAW.at(size) };
                let figures = RunFigures { rate, p50_ms: Some(1.0), p99_ms: None, refused: 0.0 };
                ledger.runs.push(Done {
                    point,
                    repeat,
                    folder: format!("run {point}"),
                    remark: if is_late { "late".to_owned() } else { String::new() },
                    violated: false,
                    spoilt: is_late,
                    failed: false,
                    figures: Some(figures),
                });
            }
        }
        ledger
    }

    /// FEATURES: H7
    #[test]
    fn the_page_has_every_point_its_runs_and_the_law() {
        let folder = tempfile::tempdir().unwrap();
        let page = sweep(folder.path(), &scaling()).unwrap();
        // The template writes a slash as a character reference.
        let html = std::fs::read_to_string(page).unwrap().replace("&#x2f;", "/");
        for wanted in [
            "<a href=\"run%203/report.html\"><s>3</s></a> (late)",
            "cannot be run: too many &lt;b&gt;servers",
            "One does 900/s.",
            "σ = 10.000 %",
            "By this law the most is done at 9.5, beyond the largest size measured.",
            "not finished",
        ] {
            assert!(html.contains(wanted), "{wanted}");
        }
        assert!(!html.contains("http://") && !html.contains("https://"), "self-contained");
        let json = std::fs::read_to_string(folder.path().join("points.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let rate = &json["points"][3]["rate"];
        assert_eq!(rate["runs"], 2, "the late run is in no mean");
        assert!((rate["mean"].as_f64().unwrap() - LAW.at(5.0)).abs() < 1e-6, "{json}");
        assert!((json["law"]["law"]["kappa"].as_f64().unwrap() - LAW.kappa).abs() < 1e-6, "{json}");
        for plot in ["rate.svg", "rate.png", "p99.svg"] {
            assert!(folder.path().join(plot).is_file(), "{plot}");
        }
    }

    /// FEATURES: H11
    #[test]
    fn a_sweep_of_simulated_runs_says_so_on_its_page_and_in_every_plot() {
        for (stage, is_simulated) in [("sim", true), ("process", false)] {
            let folder = tempfile::tempdir().unwrap();
            let mut ledger = scaling();
            ledger.definition.means.stage = stage.to_owned();
            let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
            sweep(folder.path(), &ledger).unwrap();
            assert_eq!(read("index.html").contains("simulated, not measured"), is_simulated);
            for plot in ["rate.svg", "p99.svg"] {
                assert_eq!(read(plot).contains(", simulated"), is_simulated, "{plot}");
            }
            let json: serde_json::Value = serde_json::from_str(&read("points.json")).unwrap();
            assert_eq!(json["simulated"], is_simulated);
        }
    }

    #[test]
    fn a_point_that_is_unsound_for_its_own_reason_is_marked_and_in_no_law() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = scaling();
        for run in &mut ledger.runs {
            run.spoilt = false;
        }
        let html = std::fs::read_to_string(sweep(folder.path(), &ledger).unwrap()).unwrap();
        assert!(!html.contains("Scalability"), "three sizes are left");
        assert_eq!(html.matches("<b>unsound</b>").count(), 1);
    }

    #[test]
    fn a_law_by_which_more_do_less_says_so() {
        let told = |sigma: f64, kappa: f64| {
            let law = Usl { lambda: 900.0, sigma, kappa };
            let fit = UslFit { law, sigma: None, kappa: None };
            law_words(&fit, &[5.0, 1.0]).pop().unwrap()
        };
        assert!(told(1.2, 0.001).contains("falls from the first size on"));
        assert!(told(0.1, -0.001).contains("only grows up to the largest size measured"));
        assert!(told(0.9, 0.025).ends_with("the most is done at 2.0."));
        assert!(told(1.2, -0.05).contains("the least is done at 2.0"));
    }

    #[test]
    fn an_open_loop_or_no_size_has_no_law_and_two_axes_make_a_map() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = scaling();
        ledger.definition.closed_loop = false;
        let page = sweep(folder.path(), &ledger).unwrap();
        assert!(!std::fs::read_to_string(&page).unwrap().contains("Scalability"));
        (ledger.definition.closed_loop, ledger.definition.axes[0].is_size) = (true, false);
        let page = sweep(folder.path(), &ledger).unwrap();
        assert!(!std::fs::read_to_string(&page).unwrap().contains("Scalability"), "no size");
        let other = Axis { name: "W".to_owned(), labels: vec!["2".to_owned()], is_size: false };
        ledger.definition.axes.push(other);
        for point in &mut ledger.definition.points {
            point.labels.push("2".to_owned());
        }
        sweep(folder.path(), &ledger).unwrap();
        let map = std::fs::read_to_string(folder.path().join("map.svg")).unwrap();
        assert!(map.contains("W: 2") && map.contains("cannot be run"), "{map}");
    }
}
