//! Progress while a run goes on, on stderr: lines that move on a terminal, lines now and then
//! elsewhere, or events for programs. May not influence the run.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::drive::{Progress, Recent};
use crate::plan::{OpClass, Plan, estimate};
use crate::run::{Stand, Watched};

/// How often lines that move are drawn.
const DRAWN: Duration = Duration::from_millis(200);
/// How often a line is printed where lines cannot move.
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
    pub(super) fn start(plan: &Plan, manner: Manner) -> Self {
        let watched = Watched::default();
        let task = (manner != Manner::Quiet).then(|| {
            let seen = Seen {
                stands: watched.stand.subscribe(),
                progress: watched.progress.subscribe(),
                in_force: watched.in_force.subscribe(),
            };
            tokio::spawn(show(View::new(plan, manner), seen))
        });
        Self { watched, task }
    }

    /// Takes the lines away.
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
}

/// Where a run stands at a moment.
struct Now<'a> {
    name: &'a str,
    stand: Stand,
    progress: Progress,
    in_force: Vec<String>,
    /// Length of warm-up and measure phase.
    load: Duration,
    /// What comes behind them, at most.
    rest: Duration,
}

/// Lines that move, lines, or events.
struct View {
    name: String,
    load: Duration,
    rest: Duration,
    bar: Option<ProgressBar>,
    manner: Manner,
    said: Option<(Stand, Instant)>,
}

impl View {
    fn new(plan: &Plan, manner: Manner) -> Self {
        let moves = manner == Manner::People && std::io::stderr().is_terminal();
        let bar = moves.then(|| {
            let bar = ProgressBar::new_spinner();
            // The template is a constant; the default style does where it is refused.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        let load = Duration::from_millis(plan.phases.warmup_ms + plan.phases.measure_ms);
        let mut parts = estimate::parts(plan).into_iter();
        let behind = parts.by_ref().skip_while(|(part, _)| *part != "measure").skip(1);
        let rest = behind.map(|(_, duration)| duration).sum();
        Self { name: plan.name.clone(), load, rest, bar, manner, said: None }
    }

    fn update(&mut self, seen: &mut Seen) {
        let now = Now {
            name: &self.name,
            stand: *seen.stands.borrow_and_update(),
            progress: *seen.progress.borrow(),
            in_force: seen.in_force.borrow().clone(),
            load: self.load,
            rest: self.rest,
        };
        if let Some(bar) = &self.bar {
            bar.set_message(now.lines().join("\n       "));
            bar.tick();
            return;
        }
        let often = if self.manner == Manner::Json { REPORTED } else { PRINTED };
        let news = self.said.is_none_or(|(last, at)| {
            last != now.stand || (now.stand == Stand::Measuring && at.elapsed() >= often)
        });
        if news {
            match self.manner {
                Manner::Json => eprintln!("{}", now.event()),
                Manner::People | Manner::Quiet => eprintln!("{}", now.lines().join("; ")),
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
    if let Some(bar) = &view.bar {
        bar.finish_and_clear();
    }
}

impl Now<'_> {
    /// For people: the head, the counts, a line a kind of operation, what is in force.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{}: {}", self.name, self.head())];
        if self.stand != Stand::Measuring {
            return lines;
        }
        let Progress { rate, ok, failed, unknown, in_flight, .. } = self.progress;
        lines.push(format!(
            "{rate:.0}/s, {ok} ok, {failed} failed, {unknown} unknown, {in_flight} in flight"
        ));
        lines.extend(self.classes().map(|(class, recent)| {
            let Recent { rate, p50_ms, p99_ms } = recent;
            format!("{} {rate:.0}/s, p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms", class.name())
        }));
        if !self.in_force.is_empty() {
            lines.push(format!("in force: {}", self.in_force.join(", ")));
        }
        lines
    }

    fn head(&self) -> String {
        match self.stand {
            Stand::Starting => "starting the servers".to_owned(),
            Stand::Loading => "creating the records".to_owned(),
            Stand::Measuring => {
                let part = if self.progress.measuring { "measuring" } else { "warming up" };
                let (elapsed, load) = (self.elapsed().as_secs_f64(), self.load.as_secs_f64());
                let left = self.left().as_secs_f64();
                format!("{part}, {elapsed:.0} of {load:.0} s, the report in at most {left:.0} s")
            }
            Stand::Healing => "healing".to_owned(),
            Stand::Settling => "waiting for the servers to hold the same".to_owned(),
            Stand::ReadingBack => "reading every record back".to_owned(),
            Stand::Stopping => "stopping the servers".to_owned(),
            Stand::Judging => "judging the history and drawing the report".to_owned(),
        }
    }

    /// For programs: one object.
    fn event(&self) -> Value {
        let Progress { rate, ok, failed, unknown, in_flight, backlog, measuring, .. } =
            self.progress;
        let classes = self.classes().map(|(class, recent)| {
            json!({
                "name": class.name(), "rate": recent.rate,
                "p50_ms": recent.p50_ms, "p99_ms": recent.p99_ms,
            })
        });
        json!({
            "event": "progress", "name": self.name, "stand": self.stand.name(),
            "measuring": measuring, "elapsed_s": self.elapsed().as_secs_f64(),
            "left_s": self.left().as_secs_f64(), "rate": rate, "ok": ok, "failed": failed,
            "unknown": unknown, "in_flight": in_flight, "backlog": backlog,
            "classes": classes.collect::<Vec<_>>(), "in_force": self.in_force,
        })
    }

    /// Kinds of which something was acknowledged in the last second.
    fn classes(&self) -> impl Iterator<Item = (OpClass, Recent)> {
        let all = OpClass::ALL.into_iter().zip(self.progress.classes);
        all.filter(|(_, recent)| recent.rate > 0.0)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.progress.elapsed)
    }

    /// Until the report, at most, while the load goes on.
    fn left(&self) -> Duration {
        self.load.saturating_sub(self.elapsed()) + self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::build;
    use crate::spec::{Overrides, workload};

    fn now(stand: Stand) -> Now<'static> {
        let mut progress = Progress {
            elapsed: 5_000_000_000,
            measuring: true,
            rate: 398.0,
            ok: 1990,
            failed: 3,
            in_flight: 4,
            ..Progress::default()
        };
        let update = Recent { rate: 199.0, p50_ms: 1.21, p99_ms: 3.44 };
        progress.classes[OpClass::Update as usize] = update;
        let in_force = vec!["cut (n2)".to_owned()];
        let (load, rest) = (Duration::from_secs(11), Duration::from_secs(15));
        Now { name: "baseline", stand, progress, in_force, load, rest }
    }

    #[test]
    fn people_see_time_left_rates_percentiles_and_what_is_in_force() {
        assert_eq!(
            now(Stand::Measuring).lines(),
            [
                "baseline: measuring, 5 of 11 s, the report in at most 21 s",
                "398/s, 1990 ok, 3 failed, 0 unknown, 4 in flight",
                "update 199/s, p50 1.2 ms, p99 3.4 ms",
                "in force: cut (n2)",
            ]
        );
        assert_eq!(now(Stand::Healing).lines(), ["baseline: healing"]);
    }

    #[test]
    fn what_comes_behind_the_load_is_counted() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../workloads/baseline.yaml");
        let spec = workload(path.as_ref(), &Overrides::default()).unwrap();
        let plan = build(&spec, 1).unwrap();
        let view = View::new(&plan, Manner::Quiet);
        let before = estimate::parts(&plan).into_iter().take(2).map(|(_, duration)| duration);
        assert_eq!(before.sum::<Duration>() + view.load + view.rest, estimate::longest(&plan));
    }

    #[test]
    fn programs_get_one_object_a_line() {
        let event = now(Stand::Measuring).event();
        assert_eq!((&event["stand"], &event["left_s"]), (&json!("measuring"), &json!(21.0)));
        assert_eq!(event["classes"][0]["name"], "update");
        assert_eq!(event["classes"].as_array().unwrap().len(), 1);
        assert_eq!(event["in_force"], json!(["cut (n2)"]));
        assert!(!event.to_string().contains('\n'));
    }
}
