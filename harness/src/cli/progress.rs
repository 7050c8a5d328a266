//! Progress while a run goes on, on stderr: the whole terminal where there is one (`screen`), lines
//! now and then elsewhere, or events for programs. May not influence the run.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::screen::{self, Screen};
use crate::drive::{Progress, Recent};
use crate::plan::{OpClass, Plan, estimate};
use crate::run::interrupt::Interrupt;
use crate::run::{Stand, Watched};

/// How often the screen is drawn.
const DRAWN: Duration = Duration::from_millis(200);
/// How often a line is printed where there is no screen.
const PRINTED: Duration = Duration::from_secs(5);
/// How often programs get an event.
const REPORTED: Duration = Duration::from_secs(1);

/// For whom progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Nobody.
    Quiet,
    /// People.
    People,
    /// Programs: a line of JSON an event.
    Json,
}

/// Channels for a run, and the task that shows what they carry.
pub(super) struct Shown {
    pub(super) watched: Watched,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Shown {
    /// Starts showing.
    pub(super) fn start(plan: &Plan, manner: Manner, interrupt: &Interrupt) -> Self {
        let watched = Watched::default();
        let task = (manner != Manner::Quiet).then(|| {
            let seen = Seen {
                stands: watched.stand.subscribe(),
                progress: watched.progress.subscribe(),
                in_force: watched.in_force.subscribe(),
                interrupt: interrupt.clone(),
            };
            tokio::spawn(show(View::new(plan, manner), seen))
        });
        Self { watched, task }
    }

    /// Gives the terminal back.
    pub(super) async fn finish(self) {
        // The task ends when the channels are closed.
        drop(self.watched);
        if let Some(task) = self.task
            && let Err(error) = task.await
        {
            tracing::warn!(%error, "progress was not shown to its end");
        }
    }
}

/// What a run tells.
struct Seen {
    stands: watch::Receiver<Stand>,
    progress: watch::Receiver<Progress>,
    in_force: watch::Receiver<Vec<String>>,
    interrupt: Interrupt,
}

/// What the plan says of how a run goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Outline {
    pub(super) name: String,
    /// Kinds of operations in its mix.
    pub(super) classes: Vec<OpClass>,
    /// Length of warm-up and measure phase.
    pub(super) load: Duration,
    /// What comes behind them, at most.
    pub(super) rest: Duration,
}

impl Outline {
    fn of(plan: &Plan) -> Self {
        let load = Duration::from_millis(plan.phases.warmup_ms + plan.phases.measure_ms);
        let mut parts = estimate::parts(plan).into_iter();
        let behind = parts.by_ref().skip_while(|(part, _)| *part != "measure").skip(1);
        let rest = behind.map(|(_, duration)| duration).sum();
        let mix = plan.workload.mix.iter().filter(|(_, weight)| **weight > 0);
        let classes = mix.map(|(class, _)| *class).collect();
        Self { name: plan.name.clone(), classes, load, rest }
    }
}

/// Where a run stands at a moment.
#[derive(Debug, Clone)]
pub(super) struct Now<'a> {
    pub(super) outline: &'a Outline,
    pub(super) stand: Stand,
    /// How long it has stood there.
    pub(super) since: Duration,
    pub(super) progress: Progress,
    pub(super) in_force: Vec<String>,
    /// How often it was asked to stop.
    pub(super) asked_to_stop: u8,
}

/// The screen, lines, or events.
struct View {
    outline: Outline,
    screen: Option<Screen>,
    manner: Manner,
    /// What was printed last, and when.
    said: Option<(Stand, Instant)>,
    /// Where the run stands, and since when.
    stand: (Stand, Instant),
}

impl View {
    fn new(plan: &Plan, manner: Manner) -> Self {
        let taken = (manner == Manner::People && screen::is_there()).then(Screen::take);
        let screen = taken.and_then(|taken| match taken {
            Ok(screen) => Some(screen),
            Err(error) => {
                tracing::warn!(%error, "the terminal cannot be drawn on");
                None
            }
        });
        let stand = (Stand::default(), Instant::now());
        Self { outline: Outline::of(plan), screen, manner, said: None, stand }
    }

    fn update(&mut self, seen: &mut Seen) {
        let stand = *seen.stands.borrow_and_update();
        if stand != self.stand.0 {
            self.stand = (stand, Instant::now());
        }
        let Interrupt { stop, now } = &seen.interrupt;
        let now = Now {
            outline: &self.outline,
            stand,
            since: self.stand.1.elapsed(),
            progress: *seen.progress.borrow(),
            in_force: seen.in_force.borrow().clone(),
            asked_to_stop: u8::from(stop.is_cancelled()) + u8::from(now.is_cancelled()),
        };
        if let Some(screen) = &mut self.screen {
            match screen.draw(&now) {
                Ok(true) => return,
                // A panic somewhere needed the terminal for its message.
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the terminal cannot be drawn on"),
            }
            self.screen = None;
        }
        let often = if self.manner == Manner::Json { REPORTED } else { PRINTED };
        let news = self.said.is_none_or(|(last, at)| {
            last != now.stand || (now.stand == Stand::Measuring && at.elapsed() >= often)
        });
        if news {
            match self.manner {
                Manner::Json => eprintln!("{}", now.event()),
                Manner::People | Manner::Quiet => eprintln!("{}", now.line()),
            }
            self.said = Some((now.stand, Instant::now()));
        }
    }
}

async fn show(mut view: View, mut seen: Seen) {
    let mut ticks = tokio::time::interval(DRAWN);
    loop {
        view.update(&mut seen);
        tokio::select! {
            changed = seen.stands.changed() => if changed.is_err() { break },
            _ = ticks.tick() => {}
        }
    }
}

impl Now<'_> {
    /// For people: the head, the counts, each kind of operation, what is in force.
    fn line(&self) -> String {
        let mut parts = vec![format!("{}: {}", self.outline.name, self.head())];
        if self.stand == Stand::Measuring {
            parts.push(self.counts());
            parts.extend(self.classes().map(|(class, recent)| {
                let rate = format!("{} {:.0}/s", class.name(), recent.rate);
                recent.response.map_or(rate.clone(), |response| {
                    let (p50, p99) = (response.p50_ms, response.p99_ms);
                    format!("{rate}, p50 {p50:.1} ms, p99 {p99:.1} ms")
                })
            }));
            if !self.in_force.is_empty() {
                parts.push(format!("in force: {}", self.in_force.join(", ")));
            }
        }
        parts.join("; ")
    }

    pub(super) fn head(&self) -> String {
        match self.stand {
            Stand::Starting => "starting the servers".to_owned(),
            Stand::Loading => "creating the records".to_owned(),
            Stand::Measuring => {
                let part = if self.progress.measuring { "measuring" } else { "warming up" };
                let elapsed = self.elapsed().as_secs_f64();
                let (load, left) = (self.outline.load.as_secs_f64(), self.left().as_secs_f64());
                format!("{part}, {elapsed:.0} of {load:.0} s, the report in at most {left:.0} s")
            }
            Stand::Healing => "healing".to_owned(),
            Stand::Settling => "waiting for the servers to hold the same".to_owned(),
            Stand::ReadingBack => "reading every record back".to_owned(),
            Stand::Stopping => "stopping the servers".to_owned(),
            Stand::Judging => "judging the history and drawing the report".to_owned(),
        }
    }

    pub(super) fn counts(&self) -> String {
        let Progress { rate, ok, failed, unknown, in_flight, .. } = self.progress;
        format!("{rate:.0}/s, {ok} ok, {failed} failed, {unknown} unknown, {in_flight} in flight")
    }

    /// What can be said before the end: safety is judged from the whole history.
    pub(super) fn so_far(&self) -> String {
        let Progress { start_delay_p99_us: late, backlog, starts_late, .. } = self.progress;
        if !self.progress.measuring {
            return "nothing is measured yet".to_owned();
        }
        let driver = if starts_late {
            format!("UNSOUND if it stays so: operations start {late:.0} µs late (p99)")
        } else {
            format!("sound so far: operations start {late:.0} µs late (p99)")
        };
        let waiting =
            if backlog > 0 { format!(", {backlog} wait for a slot") } else { String::new() };
        format!("{driver}{waiting}; safety is judged at the end")
    }

    /// For programs: one object.
    fn event(&self) -> Value {
        let Progress { rate, ok, failed, unknown, in_flight, backlog, measuring, .. } =
            self.progress;
        let classes = self.classes().map(|(class, recent)| {
            json!({
                "name": class.name(), "rate": recent.rate,
                "p50_ms": recent.response.map(|response| response.p50_ms),
                "p99_ms": recent.response.map(|response| response.p99_ms),
            })
        });
        json!({
            "event": "progress", "name": self.outline.name, "stand": self.stand.name(),
            "measuring": measuring, "elapsed_s": self.elapsed().as_secs_f64(),
            "left_s": self.left().as_secs_f64(), "rate": rate, "ok": ok, "failed": failed,
            "unknown": unknown, "in_flight": in_flight, "backlog": backlog,
            "start_delay_p99_us": self.progress.start_delay_p99_us,
            "starts_late": self.progress.starts_late,
            "classes": classes.collect::<Vec<_>>(), "in_force": self.in_force,
        })
    }

    /// Each kind of operation in the mix, whether anything of it is acknowledged or not.
    pub(super) fn classes(&self) -> impl Iterator<Item = (OpClass, Recent)> {
        self.outline.classes.iter().map(|class| (*class, self.progress.classes[*class as usize]))
    }

    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.progress.elapsed)
    }

    /// Until the report, at most, while the load goes on.
    fn left(&self) -> Duration {
        self.outline.load.saturating_sub(self.elapsed()) + self.outline.rest
    }
}

/// A moment of a run, for tests.
#[cfg(test)]
pub(super) fn moment(outline: &Outline, stand: Stand) -> Now<'_> {
    let mut progress = Progress {
        elapsed: 5_000_000_000,
        measuring: true,
        rate: 398.0,
        ok: 1990,
        failed: 3,
        in_flight: 4,
        start_delay_p99_us: 41.0,
        ..Progress::default()
    };
    let response = crate::drive::Percentiles { p50_ms: 1.21, p99_ms: 3.44 };
    let update = Recent { rate: 199.0, response: Some(response) };
    progress.classes[OpClass::Update as usize] = update;
    let in_force = vec!["cut (n2)".to_owned()];
    let since = Duration::from_secs(5);
    Now { outline, stand, since, progress, in_force, asked_to_stop: 0 }
}

/// The outline that belongs to it.
#[cfg(test)]
pub(super) fn outline() -> Outline {
    Outline {
        name: "baseline".to_owned(),
        classes: vec![OpClass::ReadMajority, OpClass::Update],
        load: Duration::from_secs(11),
        rest: Duration::from_secs(15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::build;
    use crate::spec::{Overrides, workload};

    #[test]
    fn people_see_time_left_rates_percentiles_and_what_is_in_force() {
        assert_eq!(
            moment(&outline(), Stand::Measuring).line(),
            "baseline: measuring, 5 of 11 s, the report in at most 21 s; \
             398/s, 1990 ok, 3 failed, 0 unknown, 4 in flight; \
             read_majority 0/s; update 199/s, p50 1.2 ms, p99 3.4 ms; in force: cut (n2)"
        );
        assert_eq!(moment(&outline(), Stand::Healing).line(), "baseline: healing");
    }

    #[test]
    fn what_comes_behind_the_load_is_counted() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../workloads/baseline.yaml");
        let spec = workload(path.as_ref(), &Overrides::default()).unwrap();
        let plan = build(&spec, 1).unwrap();
        let Outline { load, rest, .. } = Outline::of(&plan);
        let before = estimate::parts(&plan).into_iter().take(2).map(|(_, duration)| duration);
        assert_eq!(before.sum::<Duration>() + load + rest, estimate::longest(&plan));
    }

    #[test]
    fn programs_get_one_object_a_line() {
        let event = moment(&outline(), Stand::Measuring).event();
        assert_eq!((&event["stand"], &event["left_s"]), (&json!("measuring"), &json!(21.0)));
        let names = ["read_majority", "update"].map(|name| json!(name));
        assert_eq!([&event["classes"][0]["name"], &event["classes"][1]["name"]], names.each_ref());
        assert_eq!(event["classes"][0]["p50_ms"], Value::Null, "nothing was acknowledged");
        assert_eq!(event["in_force"], json!(["cut (n2)"]));
        assert!(!event.to_string().contains('\n'));
    }
}
