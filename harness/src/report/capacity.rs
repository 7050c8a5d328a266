//! The report of a search for the highest rate: the answer, every run against its rate, and links
//! to the runs. What was found comes from `crate::capacity`. Draws and writes; decides nothing.

use std::path::{Path, PathBuf};

use minijinja::context;

use super::error::ReportError;
use super::figure::{index_figure, inline};
use super::index::percent;
use super::page::{render, style};
use super::plot::{Mark, Rates, Unit};
use super::{words, write_file};
use crate::capacity::{Figures, Outcome, Probe, Said, Search, Step};

const TEMPLATE: &str = include_str!("../../assets/capacity.html");

/// Writes `index.html` and the plots into the folder of a search; gives the page.
///
/// # Errors
/// The folder can't be written, or a plot can't be drawn.
pub fn capacity(folder: &Path, search: &Search) -> Result<PathBuf, ReportError> {
    let definition = &search.definition;
    let objective = definition.objective;
    let p99 = rates(search, "p99 from the intended start", Unit::Millis, objective.p99_ms);
    let refused = rates(search, "refused or unanswered", Unit::Share, objective.refused);
    let mut shown = Vec::new();
    for (id, plot, label) in [
        ("p99", p99, "p99 of every run against its rate, with the objective"),
        ("refused", refused, "Share refused or unanswered against the rate, with the objective"),
    ] {
        let figure = index_figure(id, &plot)?;
        figure.write(folder)?;
        shown.push(context! {
            id,
            wide => inline(&figure.wide, label),
            narrow => inline(&figure.narrow, label),
            missing => search.runs.len() - plot.marks.len(),
        });
    }
    let violated = search.runs.iter().filter(|run| run.violated).count();
    let values = context! {
        style => style(),
        definition,
        objective => objective.to_string(),
        simulated => definition.means.is_simulated(),
        told => search.told(),
        violated,
        figures => shown,
        rows => search.runs.iter().map(row).collect::<Vec<_>>(),
    };
    let page = folder.join("index.html");
    write_file(&page, render("capacity.html", TEMPLATE, values)?.as_bytes())?;
    Ok(page)
}

/// One figure of all runs that have it.
fn rates(search: &Search, title: &str, unit: Unit, limit: f64) -> Rates {
    let value = |figures: &Figures| match unit {
        Unit::Millis => figures.p99_ms,
        Unit::Share => Some(figures.refused),
    };
    let mark = |run: &Probe| {
        let value = run.figures.as_ref().and_then(value)?;
        Some(Mark { rate: run.rate, value, said: run.said })
    };
    let answer = match search.next() {
        Step::Done(Outcome::Found { rate, .. } | Outcome::AtLeast { rate, .. }) => Some(rate),
        Step::Done(Outcome::Never { .. } | Outcome::Unusable { .. }) | Step::Run { .. } => None,
    };
    // A plot may be looked at by itself: it says what its page does.
    let simulated = if search.definition.means.is_simulated() { ", simulated" } else { "" };
    let marks = search.runs.iter().filter_map(mark).collect();
    Rates { title: format!("{title}{simulated}"), unit, marks, limit, answer }
}

fn row(run: &Probe) -> minijinja::Value {
    let told = |of: &dyn Fn(&Figures) -> Option<String>| {
        run.figures.as_ref().and_then(of).unwrap_or_else(|| words::NONE.to_owned())
    };
    context! {
        href => format!("{}/report.html", percent(&run.folder)),
        rate => words::count(run.rate),
        said => run.said.word(),
        tone => match run.said {
            Said::Met => "good",
            Said::Missed => "bad",
            Said::Nothing => "open",
        },
        achieved => told(&|figures| Some(words::rate(figures.achieved))),
        p99 => told(&|figures| figures.p99_ms.map(|ms| words::seconds(ms / 1e3))),
        refused => told(&|figures| Some(format!("{:.3}\u{a0}%", figures.refused * 100.0))),
        violated => run.violated,
        remark => run.remark,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::tests::{definition, probe};

    fn run(rate: u64, said: Said, figures: Option<Figures>) -> Probe {
        let folder = format!("run {rate}");
        Probe { folder, figures, ..probe(rate, said) }
    }

    /// 50/s is found; 100/s was missed twice, and could not be used before.
    fn search() -> Search {
        let figures = |p99_ms, refused| Some(Figures { achieved: 49.5, p99_ms, refused });
        let mut search = Search::new(definition(1));
        search.definition.bounds.within = 1.0;
        search.runs = vec![
            run(100, Said::Nothing, None),
            run(100, Said::Missed, figures(Some(700.0), 0.25)),
            run(100, Said::Missed, figures(None, 1.0)),
            run(50, Said::Met, figures(Some(4.0), 0.0)),
            run(50, Said::Met, figures(Some(5.0), 0.0)),
        ];
        search.runs[0].remark = "late <b>driver</b>".to_owned();
        search
    }

    fn page_of(folder: &Path, search: &Search) -> String {
        let page = capacity(folder, search).unwrap();
        // The template writes a slash as a character reference.
        std::fs::read_to_string(page).unwrap().replace("&#x2f;", "/")
    }

    #[test]
    fn the_page_has_the_answer_the_objective_and_every_run() {
        let folder = tempfile::tempdir().unwrap();
        let html = page_of(folder.path(), &search());
        for wanted in [
            "50/s; 2 of 2 runs of it met the objective",
            "p99 at most 20 ms, at most 0.100 % refused or unanswered",
            "<a href=\"run%20100/report.html\">",
            "<td class=\"num\">700\u{a0}ms</td><td class=\"num\">25.000\u{a0}%</td>",
            "late &lt;b&gt;driver",
            "2 runs without this figure are in the table alone.",
            "1 run without this figure is in the table alone.",
        ] {
            assert!(html.contains(wanted), "{wanted}");
        }
        assert_eq!(html.matches("/report.html").count(), 5);
        assert!(!html.contains("http://") && !html.contains("https://"), "self-contained");
        assert!(!html.contains("violated") && !html.contains("simulated"));
        for plot in ["p99.svg", "p99.png", "refused.svg", "refused.png"] {
            assert!(folder.path().join(plot).is_file(), "{plot}");
        }
    }

    /// FEATURES: H11
    #[test]
    fn what_is_simulated_or_violates_safety_is_told_before_the_answer() {
        let folder = tempfile::tempdir().unwrap();
        let mut search = search();
        search.definition.means.stage = "sim".to_owned();
        search.runs[3].violated = true;
        let html = page_of(folder.path(), &search);
        let place = |of: &str| html.find(of).unwrap_or_else(|| panic!("{of}"));
        assert!(place("simulated, not measured") < place("50/s; 2 of 2"));
        assert!(place("Safety was violated in 1 of 5 runs") < place("50/s; 2 of 2"));
        let svg = std::fs::read_to_string(folder.path().join("p99.svg")).unwrap();
        assert!(svg.contains(", simulated"));
    }

    #[test]
    fn a_search_under_way_says_so_from_its_first_moment_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut search = search();
        search.runs.clear();
        let html = page_of(folder.path(), &search);
        assert!(html.contains("did not get to its end; the same command goes on"));
        assert!(html.contains("no run has this figure"));
    }
}
