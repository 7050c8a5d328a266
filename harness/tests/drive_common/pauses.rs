//! When the machine withheld a core: a test that measures the driver takes that for no fault of it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use quorate::run::parts::Clock;
use quorate_check::history::Operation;

/// When the machine stood still, for 5 ms and more; in order, and none touches the next.
pub(crate) struct Pauses(pub(crate) Vec<(u64, u64)>);

impl Pauses {
    /// Seconds of them between two times.
    pub(crate) fn within(&self, from: u64, to: u64) -> f64 {
        let part = |(begun, ended): &(u64, u64)| (*ended).min(to).saturating_sub(from.max(*begun));
        self.0.iter().map(part).map(seconds).sum()
    }

    /// The length in seconds of each that is not, even in part, between two times.
    pub(crate) fn outside(&self, from: u64, to: u64) -> Vec<f64> {
        let apart = self.0.iter().filter(|(begun, ended)| *ended < from || to < *begun);
        apart.map(|(begun, ended)| seconds(ended - begun)).collect()
    }

    /// Whether an operation was under way during one.
    pub(crate) fn touch(&self, op: &Operation) -> bool {
        self.within(op.sent, op.done.unwrap()) > 0.0
    }
}

/// A thread on each core that wants to wake up every millisecond, and knows nothing of the driver.
pub(crate) struct Witnesses {
    end: Vec<SyncSender<()>>,
    threads: Vec<JoinHandle<Vec<(u64, u64)>>>,
}

impl Witnesses {
    pub(crate) fn start(clock: Clock) -> Self {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap());
        let (mut end, mut threads) = (Vec::new(), Vec::new());
        for core in cores {
            let (sender, ended) = sync_channel(0);
            end.push(sender);
            threads.push(std::thread::spawn(move || witness(core, clock, &ended)));
        }
        Self { end, threads }
    }

    pub(crate) fn pauses(self) -> Pauses {
        drop(self.end);
        let seen = self.threads.into_iter().map(|thread| thread.join().unwrap());
        let mut seen: Vec<(u64, u64)> = seen.flatten().collect();
        seen.sort_unstable();
        let mut pauses: Vec<(u64, u64)> = Vec::new();
        for (from, to) in seen {
            match pauses.last_mut() {
                Some((_, ended)) if from <= *ended => *ended = to.max(*ended),
                _ => pauses.push((from, to)),
            }
        }
        Pauses(pauses)
    }
}

fn witness(core: usize, clock: Clock, ended: &Receiver<()>) -> Vec<(u64, u64)> {
    const TURN: Duration = Duration::from_millis(1);
    const LATE: u64 = 5_000_000;
    let mut only = CpuSet::new();
    only.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &only).unwrap();
    let mut pauses = Vec::new();
    let mut last = clock.now();
    while ended.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
        let now = clock.now();
        if now - last >= LATE {
            pauses.push((last, now));
        }
        last = now;
    }
    pauses
}

pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
