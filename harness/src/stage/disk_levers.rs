//! How the process stage does what faults of disks ask. Which server, and when, is decided
//! elsewhere.

use quorate_check::history::Nanos;

use super::StageError;
use super::cluster::Cluster;
use super::disk_process::DiskProcess;
use crate::disk::control::Command;
use crate::fault::{Effect, Until};
use crate::plan::DiskFault;

/// Bytes that still fit on a disk that is said to be full: the write that does not fit is cut, as
/// on a real one.
const LAST_BYTES: u64 = 1000;

/// Acknowledged when, and what was seen by which servers.
struct Seen {
    acknowledged: Nanos,
    proven: bool,
    evidence: Vec<String>,
}

impl Cluster {
    fn disk(&self, server: &str) -> Result<&DiskProcess, StageError> {
        self.disks.get(server).ok_or_else(|| StageError::Start {
            process: format!("disk of {server}"),
            source: std::io::Error::other("this run has no disks that can fail"),
        })
    }

    pub(crate) async fn hurt_disk(
        &self,
        until: &Until<'_>,
        fault: DiskFault,
    ) -> Result<Effect, StageError> {
        match fault {
            DiskFault::PowerCut { survives } => {
                // Disks first: a kill waits for a sync under way, which a power cut does not. A
                // server that lives on for a moment is told EIO for everything.
                let mut evidence = Vec::new();
                for server in until.servers {
                    let survival = survives.of_fault(self.seed, &until.fault.name);
                    let answer = self.disk(server)?.tell(Command::Cut(survival)).await?;
                    let report = answer.cut.unwrap_or_default();
                    evidence.push(format!(
                        "{server}: {} files cut, {} bytes lost, {} kept, {} names lost, {} kept",
                        report.files,
                        report.lost_bytes,
                        report.kept_bytes,
                        report.lost_names,
                        report.kept_names
                    ));
                }
                let killed = self.kill(until.servers).await?;
                evidence.push(killed.evidence);
                let acknowledged = self.clock.now();
                let proven = killed.proven.is_some();
                Ok(self.effect(Seen { acknowledged, proven, evidence }))
            }
            DiskFault::Slow { delay_us } => {
                let slow = Command::Slow { write_us: 0, sync_us: delay_us };
                self.tell_and_watch(until, &slow, "held up", |counts| counts.delayed).await
            }
            DiskFault::Full => {
                self.disturb(until.servers);
                let full = Command::Limit { free: Some(LAST_BYTES) };
                self.tell_and_watch(until, &full, "refused", |counts| counts.refused).await
            }
        }
    }

    pub(crate) async fn heal_disk(
        &self,
        until: &Until<'_>,
        fault: DiskFault,
    ) -> Result<Effect, StageError> {
        let good = match fault {
            DiskFault::PowerCut { .. } => Command::PowerOn,
            DiskFault::Slow { .. } => Command::Slow { write_us: 0, sync_us: 0 },
            DiskFault::Full => Command::Limit { free: None },
        };
        for server in until.servers {
            self.disk(server)?.tell(good.clone()).await?;
        }
        match fault {
            // Whoever ended for want of room is started again too.
            DiskFault::PowerCut { .. } | DiskFault::Full => self.start_again(until.servers).await,
            DiskFault::Slow { .. } => {
                Ok(self.done(true, &["every disk answered that it obeys".to_owned()]))
            }
        }
    }

    /// Tells the disks, then waits until each has done to a request what it was told.
    async fn tell_and_watch(
        &self,
        until: &Until<'_>,
        command: &Command,
        done: &str,
        count: impl Fn(&crate::disk::Counts) -> u64 + Copy,
    ) -> Result<Effect, StageError> {
        let mut before = Vec::new();
        for server in until.servers {
            before.push(count(&self.disk(server)?.tell(command.clone()).await?.counts));
        }
        let (acknowledged, deadline) = (self.clock.now(), until.deadline());
        let mut seen = Seen { acknowledged, proven: true, evidence: Vec::new() };
        for (server, before) in until.servers.iter().zip(before) {
            let disk = self.disk(server)?;
            let (counts, reached) = disk.watch(|counts| count(counts) > before, deadline).await?;
            seen.proven &= reached;
            seen.evidence.push(format!("{server}: {} requests {done}", count(&counts) - before));
        }
        Ok(self.effect(seen))
    }

    fn effect(&self, seen: Seen) -> Effect {
        let Seen { acknowledged, proven, evidence } = seen;
        let proven = proven.then(|| self.clock.now());
        Effect { acknowledged, proven, evidence: evidence.join("; ") }
    }
}
