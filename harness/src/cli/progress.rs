//! Progress while a run goes on, on stderr: a line that moves on a terminal, lines now and then
//! elsewhere. May not influence the run.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::drive::Progress;
use crate::plan::Plan;
use crate::run::{Stand, Watched};

/// How often a line that moves is drawn.
const DRAWN: Duration = Duration::from_millis(200);
/// How often a line is printed where lines cannot move.
const PRINTED: Duration = Duration::from_secs(5);

/// Channels for a run, and the task that shows what they carry.
pub(super) struct Shown {
    pub(super) watched: Watched,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Shown {
    /// Starts showing; `quiet` shows nothing.
    pub(super) fn start(plan: &Plan, quiet: bool) -> Self {
        let (stand, stands) = watch::channel(Stand::default());
        let (progress, progresses) = watch::channel(Progress::default());
        let task = (!quiet).then(|| {
            let total = plan.phases.warmup_ms + plan.phases.measure_ms;
            let view = View::new(plan.name.clone(), Duration::from_millis(total));
            tokio::spawn(show(view, stands, progresses))
        });
        Self { watched: Watched { stand, progress }, task }
    }

    /// Takes the line away.
    pub(super) async fn finish(self) {
        // The task ends when both channels are closed.
        drop(self.watched);
        if let Some(task) = self.task
            && let Err(error) = task.await
        {
            tracing::warn!(%error, "progress was not shown to its end");
        }
    }
}

/// A line that moves, or lines.
struct View {
    name: String,
    total: Duration,
    bar: Option<ProgressBar>,
    said: Option<(Stand, Instant)>,
}

impl View {
    fn new(name: String, total: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            // The template is a constant; the default style does where it is refused.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { name, total, bar, said: None }
    }

    fn update(&mut self, stand: Stand, progress: &Progress) {
        let text = format!("{}: {}", self.name, told(stand, progress, self.total));
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            None => {
                let news = self.said.is_none_or(|(last, at)| {
                    last != stand || (stand == Stand::Measuring && at.elapsed() >= PRINTED)
                });
                if news {
                    eprintln!("{text}");
                    self.said = Some((stand, Instant::now()));
                }
            }
        }
    }
}

async fn show(
    mut view: View,
    mut stands: watch::Receiver<Stand>,
    progresses: watch::Receiver<Progress>,
) {
    let mut ticks = tokio::time::interval(DRAWN);
    loop {
        let stand = *stands.borrow_and_update();
        let progress = *progresses.borrow();
        view.update(stand, &progress);
        tokio::select! {
            changed = stands.changed() => if changed.is_err() { break },
            _ = ticks.tick() => {}
        }
    }
    if let Some(bar) = &view.bar {
        bar.finish_and_clear();
    }
}

fn told(stand: Stand, progress: &Progress, total: Duration) -> String {
    match stand {
        Stand::Starting => "starting the servers".to_owned(),
        Stand::Loading => "creating the records".to_owned(),
        Stand::Measuring => {
            let part = if progress.measuring { "measuring" } else { "warming up" };
            let elapsed = Duration::from_nanos(progress.elapsed).as_secs_f64();
            format!(
                "{part}, {elapsed:.0} of {:.0} s, {:.0}/s, {} ok, {} failed, {} unknown, \
                 {} in flight",
                total.as_secs_f64(),
                progress.rate,
                progress.ok,
                progress.failed,
                progress.unknown,
                progress.in_flight,
            )
        }
        Stand::Healing => "healing".to_owned(),
        Stand::Settling => "waiting for the servers to hold the same".to_owned(),
        Stand::ReadingBack => "reading every record back".to_owned(),
        Stand::Stopping => "stopping the servers".to_owned(),
        Stand::Judging => "judging the history and drawing the report".to_owned(),
    }
}
