//! Puts the page together: verdicts, five numbers, plots and tables into the template.

use minijinja::{AutoEscape, Environment, context};
use quorate_check::verdict::Verdict;
use serde::Serialize;
use serde_json::json;

use super::error::ReportError;
use super::figure::{Figure, Plots, inline};
use super::load::Run;
use super::plot::{self, FONT, since};
use super::summary::Summary;
use super::words::{self, NONE};
use super::{availability, sections, summary};
use crate::figures::{Bound, Figures, Timeline};
use crate::plan::LoadMode;

const TEMPLATE: &str = include_str!("../../assets/report.html");
const CSS: &str = include_str!("../../assets/report.css");
const SCRIPT: &str = include_str!("../../assets/report.js");
static REGULAR: &[u8] = include_bytes!("../../assets/fonts/Inter-Regular.woff2");
static SEMI_BOLD: &[u8] = include_bytes!("../../assets/fonts/Inter-SemiBold.woff2");

/// A verdict of the first screen.
#[derive(Debug, Serialize)]
pub(super) struct Badge {
    pub(super) word: String,
    /// `good`, `bad` or `open`.
    pub(super) tone: &'static str,
    pub(super) detail: String,
}

/// One of the five numbers.
#[derive(Debug, Serialize)]
pub(super) struct Number {
    label: &'static str,
    value: String,
    note: String,
    /// True if an unsound run makes it worthless.
    measured: bool,
}

/// A plot in the page.
#[derive(Debug, Serialize)]
struct Drawn {
    id: String,
    wide: String,
    narrow: String,
}

impl Drawn {
    fn new(figure: &Figure, label: &str) -> Self {
        Self {
            id: figure.id.clone(),
            wide: inline(&figure.wide, label),
            narrow: inline(&figure.narrow, label),
        }
    }
}

/// What a checker says, in the table.
#[derive(Debug, Serialize)]
struct CheckerRow {
    name: &'static str,
    verdict: Verdict,
    tone: &'static str,
    expected: String,
    met: bool,
    explanation: String,
    counts: String,
    lines: Vec<String>,
}

/// Fills in the page.
pub(super) fn page(
    run: &Run,
    figures: &Figures,
    summary: &Summary,
    plots: &Plots,
) -> Result<String, ReportError> {
    let line = &figures.timeline;
    let [by_class, by_outcome] = [plot::by_class(figures), plot::by_outcome(figures)];
    let values = context! {
        title => summary.name,
        style => style(),
        script => SCRIPT,
        summary,
        stage_line => stage_line(run, summary),
        badges => badges(summary),
        breaches => summary.availability.as_ref().map(availability::rows),
        stalls => summary.availability.as_ref().map(availability::stalls),
        detection => words::nanos(crate::figures::DETECTION),
        numbers => numbers(summary),
        timeline => Drawn::new(&plots.timeline, &timeline_label(figures, summary)),
        timeline_data => timeline_data(line, plots),
        slot => words::nanos(line.slot),
        by_class => Drawn::new(&plots.by_class, "Percentile curves of each operation class"),
        by_outcome => Drawn::new(&plots.by_outcome, "Percentile curves by outcome"),
        codes => Drawn::new(&plots.codes, "Operations not acknowledged, by code, over time"),
        availability => Drawn::new(&plots.availability, "Share served well, by server, over time"),
        resources => Drawn::new(&plots.resources, "CPU, memory, sync and queue of each server"),
        tables => context! {
            timeline => sections::timeline(line),
            by_class => sections::percentiles(&by_class),
            by_outcome => sections::percentiles(&by_outcome),
            codes => sections::codes_over_time(line),
            nodes => sections::nodes(figures),
            resources => sections::resources(&plots.series),
        },
        operations => sections::operations(figures),
        code_rows => sections::codes(figures),
        faults => sections::faults(run, figures),
        runs => [crate::figures::BAD_RUN, crate::figures::GOOD_RUN],
        interruptions => sections::interruptions(figures),
        staleness => sections::staleness(figures),
        checkers => checkers(run),
        findings => run.soundness,
        manifest => run.manifest,
        driver => driver(run),
        plan => serde_json::to_string_pretty(&run.plan).map_err(ReportError::Summary)?,
        formats => formats(run),
        timeout => words::seconds(run.plan.load.timeout_ms as f64 / 1e3),
    };
    render("report.html", TEMPLATE, values)
}

/// Fills in a template; everything is escaped but what it marks as safe.
pub(super) fn render(
    name: &'static str,
    template: &'static str,
    values: minijinja::Value,
) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template(name, template)?;
    Ok(environment.get_template(name)?.render(values)?)
}

/// The style sheet, the bundled font in it, and the dark twins of the plots' colours.
pub(super) fn style() -> String {
    use base64::Engine as _;
    let face = |weight: &str, bytes: &[u8]| {
        let bytes = base64::engine::general_purpose::STANDARD.encode(bytes);
        format!(
            "@font-face{{font-family:{FONT};font-weight:{weight};font-display:swap;\
             src:url(data:font/woff2;base64,{bytes}) format(\"woff2\")}}\n"
        )
    };
    let dark = plot::palette::dark_rules();
    format!(
        "{}{}{CSS}\n@media screen and (prefers-color-scheme:dark){{\n{dark}}}\n",
        face("400", REGULAR),
        face("600 700", SEMI_BOLD),
    )
}

/// What ran, and whether the figures are of this world.
fn stage_line(run: &Run, summary: &Summary) -> String {
    let stage = match &run.manifest {
        Some(manifest) => format!("Stage: {} ({}).", manifest.stage, manifest.stage_reason),
        None => "Stage: unknown, the run folder has no manifest.".to_owned(),
    };
    let world = if summary.simulated {
        "The figures are simulated, not measured."
    } else {
        "The figures are measured on real processes, not simulated."
    };
    format!("{stage} {world}")
}

/// The class that colours a verdict.
pub(super) fn tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "good",
        Verdict::Violated => "bad",
        Verdict::Unknown => "open",
    }
}

/// The verdicts: safety, availability, measurement.
fn badges(summary: &Summary) -> Vec<Badge> {
    let available = summary.availability.as_ref().map(availability::badge);
    let badges = [Some(safety(summary)), available, Some(measurement(summary))];
    badges.into_iter().flatten().collect()
}

/// The safety verdict.
pub(super) fn safety(summary: &Summary) -> Badge {
    let safety = &summary.safety;
    let failing = |verdict: Verdict| -> String {
        let names = safety.checkers.iter().filter(|(_, found)| **found == verdict);
        names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let found = match safety.verdict {
        Verdict::Valid => format!("{} checkers found nothing wrong", safety.checkers.len()),
        Verdict::Violated if failing(Verdict::Violated).is_empty() => {
            "the simulator saw a rule of the protocol broken".into()
        }
        Verdict::Violated => format!("violated: {}", failing(Verdict::Violated)),
        Verdict::Unknown if safety.checkers.is_empty() => "no checker has judged this run".into(),
        Verdict::Unknown => format!("could not be judged: {}", failing(Verdict::Unknown)),
    };
    let expected = match (safety.verdict, safety.as_expected) {
        (Verdict::Valid, true) => "",
        (_, true) => "; as the plan expects",
        (Verdict::Valid, false) => "; the plan expects something to be found",
        (_, false) => "; the plan does not expect this",
    };
    Badge {
        word: safety.verdict.to_string(),
        tone: tone(safety.verdict),
        detail: if safety.checkers.is_empty() { found } else { found + expected },
    }
}

/// The measurement verdict.
pub(super) fn measurement(summary: &Summary) -> Badge {
    let measurement = &summary.measurement;
    if measurement.sound {
        let detail = "nothing was found that would spoil the figures".to_owned();
        return Badge { word: "sound".to_owned(), tone: "good", detail };
    }
    Badge {
        word: "unsound".to_owned(),
        tone: "bad",
        detail: format!("figures are struck out: {}", measurement.reasons.join("; ")),
    }
}

/// The five numbers of the first screen.
pub(super) fn numbers(summary: &Summary) -> [Number; 5] {
    let all = &summary.all;
    let with_unknown = |figure: Option<Bound>| match figure {
        Some(figure) if summary.counts.unknown > 0 => {
            format!("{} with unanswered ones", words::bound(figure))
        }
        _ => "from the intended start".to_owned(),
    };
    let gap = summary.gap;
    let open = if gap.open { "≥\u{a0}" } else { "" };
    let writes = summary.gap_writes.map_or_else(
        || "no operation writes".to_owned(),
        |gap| format!("{} for writes", words::seconds(gap.length_s)),
    );
    let records = |count: Option<u64>| count.map_or_else(|| NONE.to_owned(), words::count);
    let safety = &summary.safety;
    [
        Number {
            label: "acknowledged per second",
            value: words::rate(summary.achieved_rate),
            note: summary.asked_rate.map_or_else(
                || "closed loop, as fast as it goes".to_owned(),
                |asked| format!("of {} asked for", words::rate(asked)),
            ),
            measured: true,
        },
        Number {
            label: "p50 response, ok",
            value: words::bound_or_none(all.response_ok.p50),
            note: with_unknown(all.response_waiting.p50),
            measured: true,
        },
        Number {
            label: "p99 response, ok",
            value: words::bound_or_none(all.response_ok.p99),
            note: with_unknown(all.response_waiting.p99),
            measured: true,
        },
        Number {
            label: "longest gap without a success",
            value: format!("{open}{}", words::seconds(gap.length_s)),
            note: writes,
            measured: true,
        },
        Number {
            label: "records lost / diverged",
            value: format!(
                "{} / {}",
                records(safety.records_lost),
                records(safety.records_diverged)
            ),
            note: format!("{} operations of unknown outcome", words::count(summary.counts.unknown)),
            measured: false,
        },
    ]
}

/// The time line in words.
fn timeline_label(figures: &Figures, summary: &Summary) -> String {
    let faults: Vec<String> = figures
        .faults
        .iter()
        .map(|fault| format!("{} at {:.1} s", fault.name, since(figures.window.from, fault.effect)))
        .collect();
    let faults = if faults.is_empty() {
        "no faults".to_owned()
    } else {
        format!("faults: {}", faults.join(", "))
    };
    format!(
        "Time line of throughput and response time; {} ok, {} failed, {} unknown; {faults}",
        summary.counts.ok, summary.counts.failed, summary.counts.unknown
    )
}

/// What the script needs to read the time line out under the pointer.
fn timeline_data(line: &Timeline, plots: &Plots) -> String {
    let shown = |figure: Option<Bound>| figure.map(words::bound);
    let slots: Vec<_> = line
        .slots
        .iter()
        .map(|slot| {
            let counts = slot.counts;
            let at = (since(line.origin, slot.from) * 1000.0).round() / 1000.0;
            let figures = [shown(slot.p50), shown(slot.p99), shown(slot.max)];
            json!([at, counts.ok, counts.failed, counts.unknown, figures])
        })
        .collect();
    let frame = |geometry: &plot::Geometry| {
        json!([geometry.left, geometry.right, geometry.top, geometry.bottom])
    };
    let data = json!({
        "slot": crate::figures::seconds(line.slot),
        "from": plots.span.0,
        "to": plots.span.1,
        "frames": [frame(&plots.geometry[0]), frame(&plots.geometry[1])],
        "colours": plot::timeline_colours(),
        "slots": slots,
    });
    // Inside a script element, only this could end it early.
    data.to_string().replace("</", "<\\/")
}

fn checkers(run: &Run) -> Vec<CheckerRow> {
    let judgements = run.verdicts.iter().flat_map(|report| &report.judgements);
    let row = |judgement: &quorate_check::Judgement| {
        let name = judgement.checker.name();
        let expected = match run.plan.expect.get(name).copied().unwrap_or(Verdict::Valid) {
            Verdict::Unknown => "any".to_owned(),
            named @ (Verdict::Valid | Verdict::Violated) => named.to_string(),
        };
        let counts = judgement.counts.iter();
        let counts: Vec<String> =
            counts.map(|(what, n)| format!("{what}\u{a0}{}", words::count(*n))).collect();
        let example = judgement.counterexample.as_ref();
        CheckerRow {
            name,
            verdict: judgement.verdict,
            tone: tone(judgement.verdict),
            expected,
            met: run.plan.accepts(name, judgement.verdict),
            explanation: judgement.explanation.clone(),
            counts: counts.join(", "),
            lines: example.map(|example| example.lines.clone()).unwrap_or_default(),
        }
    };
    judgements.map(row).collect()
}

/// The driver about itself: what, figure.
fn driver(run: &Run) -> Vec<[String; 2]> {
    let Some(driver) = &run.driver else {
        return Vec::new();
    };
    let micros = |micros: f64| words::seconds(micros / 1e6);
    let delay = driver.start_delay_us.map(micros).join(" / ");
    let asked = match run.plan.load.mode {
        LoadMode::Open { .. } => words::rate(driver.asked_rate),
        LoadMode::Closed => "closed loop".to_owned(),
    };
    [
        ("operations scheduled", words::count(driver.scheduled)),
        ("operations sent", words::count(driver.sent)),
        ("operations completed", words::count(driver.completed)),
        ("rate asked for", asked),
        ("rate completed", words::rate(driver.achieved_rate)),
        ("start delay outside back-pressure: p50 / p99 / max", delay),
        ("longest backlog", words::count(driver.backlog_max)),
        ("time at the in-flight cap", words::seconds(driver.capped_ms as f64 / 1e3)),
        ("CPU time of the driver", words::seconds(driver.cpu_seconds)),
    ]
    .map(|(what, figure)| [what.to_owned(), figure])
    .to_vec()
}

/// Format versions of everything read and written.
fn formats(run: &Run) -> Vec<[String; 2]> {
    let manifest = run.manifest.as_ref();
    [
        ("plan.json", run.plan.format.to_string()),
        ("manifest.json", manifest.map_or_else(|| NONE.to_owned(), |m| m.format.to_string())),
        ("history.jsonl", run.history.header.version.to_string()),
        ("summary.json", summary::SUMMARY_FORMAT.to_string()),
    ]
    .map(|(file, version)| [file.to_owned(), version])
    .to_vec()
}
