//! What the driver knows about itself: progress while it runs, validity figures at the end.
//! Counts the measure phase alone; quantiles for reports are made from the files, not here.

use hdrhistogram::Histogram;
use quorate_check::history::{Nanos, Outcome, Phase};
use tokio::sync::watch;

use crate::drive::DriverError;
use crate::drive::cpu;
use crate::drive::recent::{self, Recent};
use crate::drive::recorder::Completion;
use crate::folder::{DriverSummary, SoundnessFinding};
use crate::plan::OpClass;

/// How often progress is published.
const PROGRESS_NS: Nanos = 100_000_000;
/// A start delay up to this is never held against the driver.
const START_DELAY_FREE_US: f64 = 1000.0;
/// The share of the p99 of acknowledged responses that the start delay's p99 may have.
///
/// Of acknowledged ones alone: what hangs until its time-out under a fault would otherwise excuse
/// a late driver, and the figures of the fault rest on it.
const START_DELAY_SHARE: f64 = 0.05;
/// The share of the CPU time that a host may withhold before it is worth a word.
const STOLEN_SHARE: f64 = 0.01;

/// Where the run stands, for people who watch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Progress {
    /// Nanoseconds since the start of the warm-up.
    pub elapsed: Nanos,
    /// True once the measure phase has begun.
    pub measuring: bool,
    /// Completions per second since the last report.
    pub rate: f64,
    /// Operations so far that went well, warm-up included.
    pub ok: u64,
    /// Operations so far that definitely failed.
    pub failed: u64,
    /// Operations so far with unknown outcome.
    pub unknown: u64,
    /// Operations on their way.
    pub in_flight: u64,
    /// Arrivals that wait for a free slot.
    pub backlog: u64,
    /// About the last second by operation class, in the order of [`OpClass::ALL`].
    pub classes: [Recent; OpClass::ALL.len()],
    /// How late operations of the measure phase were started, at p99 in microseconds, where slots
    /// were free; looked at about once a second.
    pub start_delay_p99_us: f64,
    /// It is more than what is tolerated: if that stays so, the figures are unsound.
    pub starts_late: bool,
}

/// Start, middle and end of the load on the run's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) start: Nanos,
    pub(crate) measure: Nanos,
    pub(crate) end: Nanos,
}

impl Window {
    /// The phase of an operation that is due at `at`.
    pub(crate) fn phase(&self, at: Nanos) -> Phase {
        if at < self.measure { Phase::Warmup } else { Phase::Measure }
    }
}

/// Figures of the run in progress.
#[derive(Debug)]
pub(crate) struct Meter {
    window: Window,
    progress: watch::Sender<Progress>,
    now: Progress,
    recent: recent::Window,
    published: Nanos,
    published_count: u64,
    pub(crate) scheduled: u64,
    sent: u64,
    completed: u64,
    malformed: u64,
    last_done: Nanos,
    start_delay_ns: Histogram<u64>,
    response_ok_us: Histogram<u64>,
    backlog_max: u64,
    capped_since: Option<Nanos>,
    capped: Nanos,
    cpu_before: Option<u64>,
    machine_before: Option<cpu::Machine>,
}

impl Meter {
    /// A meter for one load.
    pub(crate) fn new(
        window: Window,
        progress: watch::Sender<Progress>,
    ) -> Result<Self, DriverError> {
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000_000, 3);
        Ok(Self {
            window,
            progress,
            now: Progress::default(),
            recent: recent::Window::new(window.start)?,
            published: window.start,
            published_count: 0,
            scheduled: 0,
            sent: 0,
            completed: 0,
            malformed: 0,
            last_done: 0,
            start_delay_ns: histogram().map_err(DriverError::Histogram)?,
            response_ok_us: histogram().map_err(DriverError::Histogram)?,
            backlog_max: 0,
            capped_since: None,
            capped: 0,
            cpu_before: None,
            machine_before: None,
        })
    }

    /// There will be no arrivals from `end` on, which may be earlier than planned.
    pub(crate) fn cut_short(&mut self, end: Nanos) {
        self.window.end = end.max(self.window.measure);
    }

    /// An operation of `phase` was handed to the client at `now`. `due` is its place in the
    /// schedule, unless it had to wait for a free slot, which is not the driver's fault.
    pub(crate) fn begun(&mut self, phase: Phase, due: Option<Nanos>, now: Nanos) {
        if phase != Phase::Measure {
            return;
        }
        self.sent += 1;
        if let Some(due) = due {
            self.start_delay_ns.saturating_record(now.saturating_sub(due).max(1));
        }
    }

    /// An operation ended.
    pub(crate) fn ended(&mut self, completion: &Completion) {
        match completion.answer.outcome {
            Outcome::Ok => {
                self.now.ok += 1;
                self.recent.acknowledged(completion.call.class, completion.response());
            }
            Outcome::Failed => self.now.failed += 1,
            Outcome::Unknown => self.now.unknown += 1,
        }
        if completion.answer.code.as_deref() == Some("malformed_reply") {
            self.malformed += 1;
        }
        if completion.call.phase != Phase::Measure {
            return;
        }
        if completion.answer.outcome == Outcome::Ok {
            self.response_ok_us.saturating_record((completion.response() / 1000).max(1));
        }
        if !completion.open && completion.answer.code.as_deref() != Some("never_sent") {
            self.completed += 1;
            self.last_done = self.last_done.max(completion.done);
        }
    }

    /// Once a turn: how many arrivals wait for a free slot, and everything that depends on time.
    pub(crate) fn tick(&mut self, now: Nanos, in_flight: usize, backlog: usize) {
        if now >= self.window.measure {
            if self.cpu_before.is_none() {
                self.cpu_before = Some(cpu::thread_ns());
                self.machine_before = cpu::Machine::now();
            }
            self.backlog_max = self.backlog_max.max(backlog as u64);
            match self.capped_since {
                None if backlog > 0 => self.capped_since = Some(now),
                Some(since) if backlog == 0 => {
                    self.capped += now - since;
                    self.capped_since = None;
                }
                None | Some(_) => {}
            }
        }
        if now < self.published + PROGRESS_NS {
            return;
        }
        let count = self.now.ok + self.now.failed + self.now.unknown;
        let seconds = (now - self.published) as f64 / 1e9;
        self.now.rate = (count - self.published_count) as f64 / seconds;
        self.now.elapsed = now - self.window.start;
        self.now.measuring = now >= self.window.measure;
        self.now.in_flight = in_flight as u64;
        self.now.backlog = backlog as u64;
        if let Some(classes) = self.recent.ended(now) {
            self.now.classes = classes;
            self.now.start_delay_p99_us = self.start_delay_us(0.99);
            self.now.starts_late = self.now.start_delay_p99_us > self.start_delay_limit_us();
        }
        self.published = now;
        self.published_count = count;
        self.progress.send_replace(self.now);
    }

    /// The figures at the end, and what they say against the run.
    pub(crate) fn finish(
        mut self,
        now: Nanos,
        asked_rate: f64,
        recorder_cpu_ns: u64,
    ) -> (DriverSummary, Vec<SoundnessFinding>) {
        if let Some(since) = self.capped_since {
            self.capped += now.saturating_sub(since);
        }
        let length = self.window.end.max(self.last_done) - self.window.measure;
        let delay = |q: f64| self.start_delay_us(q);
        let own_cpu = self.cpu_before.map_or(0, |before| cpu::thread_ns().saturating_sub(before));
        let summary = DriverSummary {
            scheduled: self.scheduled,
            sent: self.sent,
            completed: self.completed,
            asked_rate,
            achieved_rate: self.completed as f64 / (length.max(1) as f64 / 1e9),
            start_delay_us: [delay(0.5), delay(0.99), delay(1.0)],
            backlog_max: self.backlog_max,
            capped_ms: self.capped / 1_000_000,
            cpu_seconds: (own_cpu + recorder_cpu_ns) as f64 / 1e9,
        };
        let stolen = match (self.machine_before, cpu::Machine::now()) {
            (Some(before), Some(now)) => now.stolen_since(before),
            _ => 0.0,
        };
        let findings = self.findings(&summary, stolen);
        (summary, findings)
    }

    fn start_delay_us(&self, quantile: f64) -> f64 {
        self.start_delay_ns.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Up to there a start delay's p99 is tolerated.
    fn start_delay_limit_us(&self) -> f64 {
        let response_p99 = self.response_ok_us.value_at_quantile(0.99) as f64;
        START_DELAY_FREE_US.max(START_DELAY_SHARE * response_p99)
    }

    /// `stolen` is the share of the machine's CPU time that its host withheld, 0 to 1.
    fn findings(&self, summary: &DriverSummary, stolen: f64) -> Vec<SoundnessFinding> {
        let mut findings = Vec::new();
        let mut note = |code: &str, fatal, detail| {
            findings.push(SoundnessFinding { code: code.to_owned(), fatal, detail });
        };
        let [_, p99, max] = summary.start_delay_us;
        let limit = self.start_delay_limit_us();
        if p99 > limit {
            let detail = format!(
                "operations started late by {p99:.0} µs at p99 (max {max:.0} µs) with \
                 slots free; up to {limit:.0} µs is tolerated"
            );
            note(SoundnessFinding::DRIVER_SATURATED, true, detail);
        }
        if stolen >= STOLEN_SHARE {
            let detail = format!(
                "the host withheld {:.0} % of this machine's CPU time (steal): late starts and \
                 slow answers may come from there",
                stolen * 100.0
            );
            note(SoundnessFinding::HOST_WITHHELD_CPU, false, detail);
        }
        if summary.backlog_max > 0 {
            let detail = format!(
                "the cap on operations in flight was reached for {} ms; up to {} arrivals waited",
                summary.capped_ms, summary.backlog_max
            );
            note("in_flight_cap_reached", false, detail);
        }
        if summary.sent < summary.scheduled {
            let detail = format!(
                "{} of {} scheduled operations were still waiting when the drain ended",
                summary.scheduled - summary.sent,
                summary.scheduled
            );
            note("backlog_not_drained", false, detail);
        }
        if self.malformed > 0 {
            let detail = format!("{} replies could not be read", self.malformed);
            note("malformed_replies", false, detail);
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::fixture::call;
    use crate::drive::reply::{Answer, ClientFault};

    const MS: Nanos = 1_000_000;

    /// What is said of 1000 operations, all begun `late` and answered after 2 ms, but for every
    /// tenth, which hangs for a second.
    fn findings(late: Nanos) -> Vec<SoundnessFinding> {
        let window = Window { start: 0, measure: 0, end: 1000 * MS };
        let mut meter = Meter::new(window, watch::Sender::new(Progress::default())).unwrap();
        for k in 0..1000 {
            let (due, hangs) = (k * MS, k % 10 == 0);
            meter.begun(Phase::Measure, Some(due), due + late);
            let ok = Answer { outcome: Outcome::Ok, code: None, ..ClientFault::NotSent.answer() };
            let answer = if hangs { ClientFault::ClientTimeout.answer() } else { ok };
            meter.ended(&Completion {
                call: crate::drive::request::Call { intended: due, ..call() },
                sent: due + late,
                done: due + late + if hangs { 1000 * MS } else { 2 * MS },
                open: false,
                answer,
            });
        }
        meter.finish(2000 * MS, 1000.0, 0).1
    }

    #[test]
    fn operations_that_hang_do_not_excuse_a_late_driver() {
        let codes: Vec<String> = findings(5 * MS).into_iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["driver_saturated"]);
        assert_eq!(findings(MS / 2), []);
    }

    /// People who watch are told what the findings will say.
    #[test]
    fn a_late_driver_is_told_of_while_it_runs() {
        for (late, is_late) in [(5 * MS, true), (MS / 2, false)] {
            let window = Window { start: 0, measure: 0, end: 2000 * MS };
            let progress = watch::Sender::new(Progress::default());
            let mut meter = Meter::new(window, progress.clone()).unwrap();
            meter.begun(Phase::Measure, Some(0), late);
            meter.tick(999 * MS, 0, 0);
            assert!(!progress.borrow().starts_late, "not looked at yet");
            meter.tick(1100 * MS, 0, 0);
            let told = *progress.borrow();
            assert_eq!(told.starts_late, is_late, "{told:?}");
            assert!((told.start_delay_p99_us - late as f64 / 1e3).abs() < 10.0, "{told:?}");
        }
    }

    #[test]
    fn a_host_that_withholds_cpu_is_named_beside_what_it_may_explain() {
        let window = Window { start: 0, measure: 0, end: 1000 * MS };
        let meter = Meter::new(window, watch::Sender::new(Progress::default())).unwrap();
        let summary = DriverSummary::default();
        assert_eq!(meter.findings(&summary, 0.009), []);
        let told = meter.findings(&summary, 0.37);
        let [finding] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((finding.code.as_str(), finding.fatal), ("host_withheld_cpu", false));
        assert!(finding.detail.contains("37 %"), "{}", finding.detail);
    }
}
