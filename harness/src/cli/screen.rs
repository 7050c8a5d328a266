//! The whole terminal as a live view of one run: drawn on stderr's alternate screen, and given back
//! at the end, whichever way that comes. What there is to see is `progress`'s to say.

use std::io::{self, BufWriter, IsTerminal, Stderr, stderr};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Cell;
use ratatui::crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::crossterm::{cursor, execute};
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{LineGauge, Paragraph, Row, Sparkline, Table};
use ratatui::{Frame, Terminal};

use super::progress::Now;
use crate::run::Stand;

/// What was typed or printed beside the view goes at the latest after this time.
const REPAINTED: Duration = Duration::from_secs(1);
/// Steps of a run, in order, as short as they fit into one line.
const STEPS: [(Stand, &str); 8] = [
    (Stand::Starting, "start"),
    (Stand::Loading, "load"),
    (Stand::Measuring, "measure"),
    (Stand::Healing, "heal"),
    (Stand::Settling, "settle"),
    (Stand::ReadingBack, "read back"),
    (Stand::Stopping, "stop"),
    (Stand::Judging, "judge"),
];
/// Lines of the plot, at most.
const PLOT_LINES: u16 = 8;
/// Lines for faults in force, at most.
const FORCE_LINES: u16 = 8;
/// Seconds that the plot has room for, on the widest terminal.
const PLOT_SECONDS: usize = 1_000;

/// The terminal is on the alternate screen.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// True when stderr is a terminal that can be drawn on.
pub(super) fn is_there() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    stderr().is_terminal() && !is_dumb
}

/// The terminal, while a run is shown on it.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stderr>>>,
    painted: Instant,
    plot: Plot,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// Keys stay with the terminal, so that Ctrl-C goes on being a signal, and nothing has to be
    /// set right behind a harness that was killed but the screen itself.
    pub(super) fn take() -> io::Result<Self> {
        give_back_at_panic();
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(stderr())))?;
        IS_TAKEN.store(true, Ordering::SeqCst);
        // `Terminal::clear` would ask where the cursor is, which only raw mode lets one read.
        let screen = execute!(stderr(), EnterAlternateScreen, Clear(ClearType::All), cursor::Hide)
            .map(|()| Self { terminal, painted: Instant::now(), plot: Plot::default() });
        if screen.is_err() {
            give_back();
        }
        screen
    }

    /// Draws where the run stands. False when the terminal was given back meanwhile.
    pub(super) fn draw(&mut self, now: &Now<'_>) -> io::Result<bool> {
        if !IS_TAKEN.load(Ordering::SeqCst) {
            return Ok(false);
        }
        self.plot.take(now);
        if self.painted.elapsed() >= REPAINTED {
            self.painted = Instant::now();
            self.distrust();
        }
        let plot = &self.plot;
        self.terminal.draw(|frame| paint(frame, now, plot))?;
        Ok(true)
    }

    /// Every cell is written at the next drawing, without clearing the screen before.
    fn distrust(&mut self) {
        let mut never = Cell::new("x");
        never.set_fg(Color::Rgb(1, 2, 3));
        let buffer = self.terminal.current_buffer_mut();
        buffer.content.iter_mut().for_each(|cell| *cell = never.clone());
        self.terminal.swap_buffers();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst)
        && let Err(error) = execute!(stderr(), LeaveAlternateScreen, cursor::Show)
    {
        tracing::warn!(%error, "the terminal could not be given back");
    }
}

/// The message of a panic would be on the alternate screen, and gone with it.
fn give_back_at_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            give_back();
            told(panicked);
        }));
    });
}

/// Acknowledged operations by second of the load.
#[derive(Debug, Default)]
struct Plot {
    rates: Vec<u64>,
}

impl Plot {
    fn take(&mut self, now: &Now<'_>) {
        let second = usize::try_from(now.elapsed().as_secs()).unwrap_or(usize::MAX);
        if now.stand == Stand::Measuring && self.rates.len() < second {
            let rate: f64 = now.classes().map(|(_, recent)| recent.rate).sum();
            self.rates.push(rate.round() as u64);
        }
    }

    /// The last seconds that fit.
    fn last(&self, seconds: usize) -> &[u64] {
        &self.rates[self.rates.len().saturating_sub(seconds.min(PLOT_SECONDS))..]
    }
}

/// Areas from the top down, so that a small terminal shows the first of them whole. What does not
/// fit has no lines.
fn stacked<const N: usize>(area: Rect, heights: [u16; N]) -> [Rect; N] {
    let mut left = area;
    heights.map(|height| {
        let taken = Rect { height: height.min(left.height), ..left };
        left.y += taken.height;
        left.height -= taken.height;
        taken
    })
}

fn paint(frame: &mut Frame<'_>, now: &Now<'_>, plot: &Plot) {
    let classes = u16::try_from(now.classes().count()).unwrap_or(u16::MAX).saturating_add(1);
    let force = u16::try_from(now.in_force.len()).unwrap_or(u16::MAX).clamp(1, FORCE_LINES);
    // All but the plot, with three empty lines and one for the foot.
    let others = classes.saturating_add(force + 10);
    let bars = frame.area().height.saturating_sub(others).min(PLOT_LINES);
    let heights = [1, 1, 1, 1, 1, 1, 1, classes, force, 1, 1, bars, 1];
    let [title, steps, gauge, _, counts, so_far, _, table, force, _, head, bars, foot] =
        stacked(frame.area(), heights);
    let name = Span::raw(now.outline.name.as_str()).bold();
    frame.render_widget(Line::from_iter([name, Span::raw(": "), Span::raw(now.head())]), title);
    frame.render_widget(step_line(now), steps);
    let done = now.elapsed().as_secs_f64() / now.outline.load.as_secs_f64().max(f64::EPSILON);
    let line = LineGauge::default().ratio(done.clamp(0.0, 1.0)).filled_style(Color::Cyan);
    frame.render_widget(line.filled_symbol("━").unfilled_symbol("─"), gauge);
    frame.render_widget(Line::raw(now.counts()), counts);
    let is_late = now.progress.starts_late;
    let style = if is_late { Style::new().yellow().bold() } else { Style::new() };
    frame.render_widget(Line::styled(now.so_far(), style), so_far);
    paint_classes(frame, now, table);
    paint_force(frame, now, force);
    paint_plot(frame, plot, head, bars);
    frame.render_widget(Line::raw(foot_of(now)).dim(), foot);
}

fn step_line(now: &Now<'_>) -> Line<'static> {
    let at = STEPS.iter().position(|(stand, _)| *stand == now.stand).unwrap_or(STEPS.len());
    let step = |(place, (_, name)): (usize, &(Stand, &'static str))| {
        let span = Span::raw(*name);
        let span = match place.cmp(&at) {
            std::cmp::Ordering::Less => span.dim(),
            std::cmp::Ordering::Equal => span.reversed(),
            std::cmp::Ordering::Greater => span,
        };
        [span, Span::raw(" ")]
    };
    let since = Span::raw(format!(" {} s", now.since.as_secs()));
    STEPS.iter().enumerate().flat_map(step).chain([since]).collect()
}

fn paint_classes(frame: &mut Frame<'_>, now: &Now<'_>, area: Rect) {
    let right = |text: String| Line::raw(text).right_aligned();
    let rows = now.classes().map(|(class, recent)| {
        let of = |pick: fn(&crate::drive::Percentiles) -> f64| {
            let none = || "-".to_owned();
            right(recent.response.as_ref().map_or_else(none, |of| format!("{:.1}", pick(of))))
        };
        let rate = right(format!("{:.0}", recent.rate));
        Row::new([Line::raw(class.name()), rate, of(|of| of.p50_ms), of(|of| of.p99_ms)])
    });
    let head = ["in the last second", "ok/s", "p50 ms", "p99 ms"];
    let head = Row::new(head.map(|name| Line::raw(name).dim())).style(Style::new());
    let widths = [
        Constraint::Length(18),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(9),
    ];
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

fn paint_force(frame: &mut Frame<'_>, now: &Now<'_>, area: Rect) {
    if now.in_force.is_empty() {
        return frame.render_widget(Line::raw("no fault in force").dim(), area);
    }
    let shown = usize::from(area.height);
    let mut lines: Vec<Line<'_>> = Vec::new();
    let all = now.in_force.len();
    let fits = if all > shown { shown.saturating_sub(1) } else { all };
    lines.extend(now.in_force.iter().take(fits).map(|name| {
        Line::from_iter([Span::raw("in force: "), Span::raw(name.as_str()).red().bold()])
    }));
    if fits < all {
        lines.push(Line::raw(format!("in force: {} more", all - fits)).red());
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn paint_plot(frame: &mut Frame<'_>, plot: &Plot, head: Rect, bars: Rect) {
    let seen = plot.last(usize::from(bars.width));
    if let Some(most) = seen.iter().max() {
        let said = format!("ok/s, the last {} s, up to {most}/s", seen.len());
        frame.render_widget(Line::raw(said).dim(), head);
        let sparkline = Sparkline::default().data(seen.iter().copied()).style(Color::Green);
        frame.render_widget(sparkline, bars);
    }
}

fn foot_of(now: &Now<'_>) -> &'static str {
    match now.asked_to_stop {
        0 => "Ctrl-C: heal, stop and report; twice: stop at once",
        1 => "stopping: faults are healed, then comes the report; Ctrl-C again: stop at once",
        _ => "stopping at once",
    }
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::progress::{moment, outline};

    /// What is on a screen of this size, without what is empty at the ends of lines.
    fn painted(columns: u16, lines: u16, now: &Now<'_>) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        let plot = Plot { rates: vec![100, 200, 400, 0] };
        let painted = terminal.draw(|frame| paint(frame, now, &plot)).unwrap();
        let cells = painted.buffer.content.chunks(usize::from(columns));
        let line = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect::<String>();
        cells.map(|cells| line(cells).trim_end().to_owned()).collect()
    }

    #[test]
    fn everything_is_on_a_usual_terminal() {
        let outline = outline();
        let screen = painted(80, 24, &moment(&outline, Stand::Measuring));
        assert_eq!(screen[0], "baseline: measuring, 5 of 11 s, the report in at most 21 s");
        assert_eq!(screen[1], "start load measure heal settle read back stop judge  5 s");
        assert!(screen[2].contains("45%"), "{screen:?}");
        assert_eq!(screen[4], "398/s, 1990 ok, 3 failed, 0 unknown, 4 in flight");
        let so_far = "sound so far: operations start 41 µs late (p99); safety is judged at the end";
        assert_eq!(screen[5], so_far);
        assert_eq!(screen[7], "in the last second ok/s     p50 ms    p99 ms");
        assert_eq!(screen[8], "read_majority             0         -         -");
        assert_eq!(screen[9], "update                  199       1.2       3.4");
        assert_eq!(screen[10], "in force: cut (n2)");
        assert_eq!(screen[12], "ok/s, the last 4 s, up to 400/s");
        assert_eq!((screen[13].as_str(), screen[20].as_str()), ("  █", "███"));
        assert_eq!(screen[21], "Ctrl-C: heal, stop and report; twice: stop at once");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_the_head_stays() {
        let outline = outline();
        let mut now = moment(&outline, Stand::Measuring);
        now.in_force = (0..30).map(|number| format!("cut-{number} ({})", "n".repeat(90))).collect();
        for (columns, lines) in [(60, 20), (20, 5), (3, 1), (200, 50)] {
            let screen = painted(columns, lines, &now);
            let head = "baseline: measuring, 5 of 11 s, the report in at most 21 s";
            let seen = head.get(..usize::from(columns)).unwrap_or(head);
            assert_eq!(screen[0], seen.trim_end());
        }
        let screen = painted(80, 30, &now);
        assert!(screen.contains(&"in force: 23 more".to_owned()), "{screen:?}");
    }

    #[test]
    fn a_late_driver_and_a_stop_are_said() {
        let outline = outline();
        let mut now = moment(&outline, Stand::Healing);
        now.progress.starts_late = true;
        now.asked_to_stop = 1;
        now.in_force.clear();
        let screen = painted(80, 24, &now).join("\n");
        for said in ["baseline: healing", "UNSOUND", "no fault in force", "Ctrl-C again"] {
            assert!(screen.contains(said), "{said}: {screen}");
        }
    }
}
