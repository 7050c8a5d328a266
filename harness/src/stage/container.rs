//! One life of a container, from a start to an exit: first line of output read, output logged,
//! signalled and frozen through the engine, looked at through this machine's `/proc` and control
//! groups. Knows nothing about servers or proxies.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use nix::sys::signal::Signal;
use testcontainers::bollard::container::LogOutput;
use testcontainers::bollard::errors::Error as ApiError;
use testcontainers::bollard::query_parameters::{
    AttachContainerOptionsBuilder, KillContainerOptionsBuilder, StartContainerOptions,
    WaitContainerOptions,
};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::StageError;
use super::cgroup::Groups;
use super::child::{Recipe, exit_within, open_log, tail};
use super::containers::{Berth, Containers};
use super::procfs::ProcStat;
use crate::engine::EngineError;
use crate::plan::Limits;

/// Exit codes from here on stand for signals, as in shells.
const SIGNAL_CODES: i64 = 128;

/// The largest page of any machine, in bytes.
const PAGE_MAX: u64 = 64 << 10;
/// Engines hand the kernel whole microseconds of a tenth of a second.
const CPUS_OFF_MAX: f64 = 1e-4;

/// A started container.
#[derive(Debug)]
pub(crate) struct Container {
    containers: Arc<Containers>,
    /// At the engine.
    id: String,
    name: String,
    /// Of its process, as this machine counts.
    pid: i32,
    started: u64,
    groups: Groups,
    log: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Container {
    /// Starts the container of a recipe, which is made at the first time, and hands back the first
    /// line of its standard output when it comes.
    pub(crate) async fn start(
        containers: &Arc<Containers>,
        berth: &Berth,
        recipe: Recipe,
    ) -> Result<(Self, oneshot::Receiver<String>), StageError> {
        let failed = |source| StageError::Start { process: recipe.name.clone(), source };
        let id = containers.container(&recipe, berth).await?;
        let mut log = open_log(&recipe.log).map_err(failed)?;
        writeln!(log, "--- start of {} ---", recipe.name).map_err(failed)?;
        let api = containers.engine.api();
        // Attached before it starts, so that nothing of its output is missed, nor seen twice.
        let options = AttachContainerOptionsBuilder::new().stdout(true).stderr(true).stream(true);
        let attached = api.attach_container(&id, Some(options.build())).await;
        let attached = attached.map_err(EngineError::failed(format!("attach to {id}")))?;
        // Whoever waits for the start may give up at any moment from here on.
        let mut kill = KillOnDrop(Some((Arc::clone(containers), id.clone())));
        let started = api.start_container(&id, None::<StartContainerOptions>).await;
        started.map_err(EngineError::failed(format!("start of {id}")))?;
        let (first, first_line) = oneshot::channel();
        let output = tokio::spawn(follow(attached.output, log, first));
        let (report, exit) = watch::channel(None);
        tokio::spawn(await_exit(Arc::clone(containers), id.clone(), output, report));
        let (pid, started, groups) = seen(containers, &id, &exit).await?;
        hold(berth.limits, &groups, &id)?;
        kill.0 = None;
        let (containers, log) = (Arc::clone(containers), recipe.log);
        let name = recipe.name;
        Ok((Self { containers, id, name, pid, started, groups, log, exit }, first_line))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Its control groups on this machine.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// What `/proc` says, if its process is still there.
    pub(crate) fn stat(&self) -> Option<ProcStat> {
        let stat = ProcStat::read(self.pid).ok()?;
        (stat.started == self.started && !stat.is_dead()).then_some(stat)
    }

    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Does what the signal stands for: SIGSTOP and SIGCONT freeze and thaw all of it. What has
    /// ended is no error.
    pub(crate) async fn signal(&self, signal: Signal) -> Result<(), StageError> {
        send(&self.containers, &self.id, signal).await.map_err(|error| StageError::Signal {
            process: self.name.clone(),
            signal: signal.as_str(),
            source: std::io::Error::other(error),
        })
    }

    /// Kills it without waiting, where nobody can wait.
    pub(crate) fn abandon(&self) {
        drop(KillOnDrop(Some((Arc::clone(&self.containers), self.id.clone()))));
    }

    /// Waits until it has ended and all its output is in the log; `None` when the time is over.
    pub(crate) async fn exited(&self, limit: Duration) -> Option<ExitStatus> {
        exit_within(&self.exit, limit).await
    }

    /// The end of its log, for error messages.
    pub(crate) fn last_words(&self) -> String {
        tail(&self.log)
    }
}

/// A container by its name, killed on drop without waiting.
struct KillOnDrop(Option<(Arc<Containers>, String)>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let Some((containers, id)) = self.0.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // The guard removes it with the run.
            return;
        };
        runtime.spawn(async move {
            if let Err(error) = send(&containers, &id, Signal::SIGKILL).await {
                tracing::warn!(%error, "cannot kill a container whose start was given up");
            }
        });
    }
}

async fn send(containers: &Containers, id: &str, signal: Signal) -> Result<(), ApiError> {
    let api = containers.engine.api();
    let sent = if signal == Signal::SIGSTOP {
        api.pause_container(id).await
    } else if signal == Signal::SIGCONT {
        api.unpause_container(id).await
    } else {
        let options = KillContainerOptionsBuilder::new().signal(signal.as_str()).build();
        api.kill_container(id, Some(options)).await
    };
    match sent {
        // It does not run, is frozen already, or was not frozen.
        Err(ApiError::DockerResponseServerError { status_code: 409, .. }) => Ok(()),
        Err(ApiError::DockerResponseServerError { status_code: 500, message })
            if signal == Signal::SIGCONT && message.contains("not paused") =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Its process as this machine sees it.
async fn seen(
    containers: &Containers,
    id: &str,
    exit: &watch::Receiver<Option<ExitStatus>>,
) -> Result<(i32, u64, Groups), StageError> {
    let found = containers.engine.api().inspect_container(id, None).await;
    let found = found.map_err(EngineError::failed(format!("look at {id}")))?;
    let pid = found.state.and_then(|state| state.pid).unwrap_or_default();
    let pid = i32::try_from(pid).unwrap_or_default();
    let full = found.id.unwrap_or_default();
    let read = ProcStat::read(pid).and_then(|stat| Ok((stat, Groups::of(pid)?)));
    match read {
        Ok((stat, groups)) if groups.belong_to(&full) => Ok((pid, stat.started, groups)),
        // It may end as soon as it has started: that is told as an exit, not as this.
        _ if pid == 0 || exit.borrow().is_some() => Ok((0, 0, Groups::default())),
        Ok(_) | Err(_) => {
            let reason = "its process cannot be seen here; the engine must run on this machine";
            let request = format!("look at {id}");
            Err(EngineError::Failed { request, reason: reason.to_string() }.into())
        }
    }
}

/// Makes sure that the kernel holds the limits: of memory, with no swap beside it, and processors.
fn hold(limits: Limits, groups: &Groups, id: &str) -> Result<(), StageError> {
    // One that has ended at once has no groups left to read.
    let memory = limits.memory_bytes.zip(groups.memory_limits());
    let processors = limits.cpus.zip(groups.processors());
    let reason = if let Some((asked, (memory, swap))) = memory
        && (!is_held(asked, memory) || swap.is_some_and(|swap| swap > 0))
    {
        let swap = swap.unwrap_or_default();
        format!(
            "asked for {asked} bytes of memory and no swap, the control group has {memory} bytes \
             and {swap} of swap"
        )
    } else if let Some((asked, found)) = processors
        && (found - asked).abs() > CPUS_OFF_MAX
    {
        format!("asked for {asked} processors, the control group has {found}")
    } else {
        return Ok(());
    };
    let request = format!("limit of {id}");
    Err(EngineError::Failed { request, reason }.into())
}

/// The kernel counts whole pages, and leaves out a part of one.
fn is_held(asked: u64, memory: u64) -> bool {
    memory <= asked && asked - memory < PAGE_MAX
}

/// Writes output to the log as it comes; the first line of standard output goes to the caller.
async fn follow(
    mut output: impl Stream<Item = Result<LogOutput, ApiError>> + Unpin + Send,
    mut log: File,
    first: oneshot::Sender<String>,
) {
    let (mut first, mut begun) = (Some(first), Vec::new());
    while let Some(Ok(part)) = output.next().await {
        if let LogOutput::StdOut { message } = &part
            && first.is_some()
        {
            begun.extend_from_slice(message);
            if let Some(end) = begun.iter().position(|byte| *byte == b'\n')
                && let Some(first) = first.take()
            {
                drop(first.send(String::from_utf8_lossy(&begun[..end]).trim_end().to_string()));
            }
        }
        if let Err(error) = log.write_all(&part.into_bytes()) {
            tracing::warn!(%error, "cannot write a log");
        }
    }
}

/// Tells the exit once it is there, and the log is whole.
async fn await_exit(
    containers: Arc<Containers>,
    id: String,
    output: JoinHandle<()>,
    report: watch::Sender<Option<ExitStatus>>,
) {
    let api = containers.engine.api();
    let mut waiting = Box::pin(api.wait_container(&id, None::<WaitContainerOptions>));
    let code = match waiting.next().await {
        Some(Ok(ended)) => ended.status_code,
        Some(Err(ApiError::DockerContainerWaitError { code, .. })) => code,
        Some(Err(error)) => {
            tracing::warn!(id, %error, "cannot await a container");
            return;
        }
        None => return,
    };
    if let Err(error) = output.await {
        tracing::warn!(id, %error, "the log of a container is not whole");
    }
    report.send_modify(|status| *status = Some(status_of(code)));
}

/// An exit code of the engine as the system's own.
fn status_of(code: i64) -> ExitStatus {
    let raw = if code > SIGNAL_CODES { code - SIGNAL_CODES } else { code << 8 };
    ExitStatus::from_raw(i32::try_from(raw).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_above_128_are_signals() {
        assert_eq!(status_of(137).signal(), Some(9));
        assert_eq!(status_of(3).code(), Some(3));
        assert!(status_of(0).success());
    }

    #[test]
    fn a_limit_is_held_to_a_page() {
        let asked = (64 << 20) + 3 * 1024;
        assert!(is_held(asked, asked) && is_held(asked, 64 << 20));
        assert!(!is_held(asked, 63 << 20) && !is_held(asked, u64::MAX));
    }
}
