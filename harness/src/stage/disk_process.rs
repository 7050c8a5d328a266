//! `quorate-disk` as a child process, one a server, and what the stage tells it. What a disk does
//! with that is `crate::disk`'s business.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::child::{ChildProcess, Nest, Recipe};
use super::{Program, StageError, StageOptions};
use crate::disk::Counts;
use crate::disk::control::{self, Announcement, Answer, Command};
use crate::folder::RunFolder;

/// Longest wait for a disk's first line, and for its end.
const LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks at a disk's counts.
const POLL: Duration = Duration::from_millis(5);
/// Where FUSE file systems come from.
const DEVICE: &str = "/dev/fuse";

/// Why this machine cannot have disks that fail; `None` when it can.
#[must_use]
pub fn unavailable() -> Option<&'static str> {
    if !Path::new(DEVICE).exists() {
        return Some("this machine has no /dev/fuse");
    }
    (!nix::unistd::geteuid().is_root()).then_some("only root may mount the disk")
}

/// A running disk.
#[derive(Debug)]
pub(crate) struct DiskProcess {
    process: ChildProcess,
    control: SocketAddr,
    /// The mounted disk, for any process.
    path: PathBuf,
}

impl DiskProcess {
    /// Starts the disk of a server; its synced content lies below `data`.
    pub(crate) async fn start(
        nest: &Nest,
        options: &StageOptions,
        folder: &RunFolder,
        data: &Path,
        server: &str,
    ) -> Result<Self, StageError> {
        let name = format!("disk of {server}");
        let mountpoint = std::path::absolute(data).map_err(StageError::file(data))?.join("mount");
        std::fs::create_dir_all(&mountpoint).map_err(StageError::file(&mountpoint))?;
        let objects = data.join("objects");
        let program = Program::Disk.find(options.disk.clone())?;
        let recipe = Recipe {
            name: name.clone(),
            arguments: [&objects, &mountpoint].map(|p| p.display().to_string()).to_vec(),
            environment: Vec::new(),
            log: folder.logs().join(format!("disk-{server}.log")),
        };
        let (process, first_line) = ChildProcess::start(nest, &program, recipe).await?;
        let Ok(Ok(line)) = tokio::time::timeout(LIMIT, first_line).await else {
            let what = "did not say where it takes commands".to_string();
            let last_words = process.last_words();
            return Err(StageError::NotReady { process: name, what, last_words });
        };
        let said: Announcement = serde_json::from_str(&line).map_err(|error| {
            StageError::FirstLine { process: name, line, reason: error.to_string() }
        })?;
        let root = PathBuf::from(format!("/proc/{}/root", said.pid));
        let below = mountpoint.strip_prefix("/").unwrap_or(&mountpoint);
        Ok(Self { process, control: said.control, path: root.join(below) })
    }

    /// Where the disk is mounted, as everybody sees it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Tells the disk something.
    pub(crate) async fn tell(&self, command: Command) -> Result<Answer, StageError> {
        let control = self.control;
        let told = tokio::task::spawn_blocking(move || control::command(control, &command)).await;
        let answer = told.map_err(std::io::Error::other).and_then(|answer| answer);
        answer.map_err(|source| StageError::Disk { control, source })
    }

    /// Looks at the counts until they are as wanted; the last ones, and whether they were.
    pub(crate) async fn watch(
        &self,
        wanted: impl Fn(&Counts) -> bool,
        deadline: Instant,
    ) -> Result<(Counts, bool), StageError> {
        loop {
            let counts = self.tell(Command::Count).await?.counts;
            let reached = wanted(&counts);
            if reached || Instant::now() >= deadline {
                return Ok((counts, reached));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends it; true when it unmounted in time.
    pub(crate) async fn stop(&self) -> Result<bool, StageError> {
        self.process.signal(Signal::SIGTERM)?;
        if let Some(status) = self.process.exited(LIMIT).await {
            return Ok(status.success());
        }
        self.process.signal(Signal::SIGKILL)?;
        self.process.exited(LIMIT).await;
        Ok(false)
    }
}
