//! Processes of harnesses that are dead, for when their guard was killed too. Mounts need no look:
//! disks are mounted in namespaces of their own processes and go with them.

use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::owner::Owner;
use crate::stage::procfs::ProcStat;

/// Longest wait for a killed process to disappear.
const END_MAX: Duration = Duration::from_secs(5);
/// Longest time that a process may be between programs before it is taken for one without a mark.
const EXEC_MAX: Duration = Duration::from_secs(1);
/// Pause between two looks at a process: the kernel tells nobody but its parent of its changes.
const POLL: Duration = Duration::from_millis(5);

/// A process that carries the mark of a harness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Process id.
    pub pid: i32,
    /// Its command line, arguments separated by spaces.
    pub command: String,
    /// The harness that started it.
    pub owner: Owner,
    started: u64,
}

/// Every process that some harness started and that this user may look into.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn strays() -> io::Result<Vec<Stray>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A process may end while it is looked at.
    let mut found: Vec<Stray> = pids.filter_map(Stray::of).collect();
    found.sort_by_key(|stray| stray.pid);
    Ok(found)
}

impl Stray {
    fn of(pid: i32) -> Option<Self> {
        let owner = owner_in(&environment(pid)?)?;
        let stat = ProcStat::read(pid).ok().filter(|stat| !stat.is_dead())?;
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_string();
        Some(Self { pid, command, owner, started: stat.started })
    }

    fn is_there(&self) -> bool {
        ProcStat::read(self.pid).is_ok_and(|stat| stat.started == self.started && !stat.is_dead())
    }

    /// Kills it and waits for its end.
    ///
    /// # Errors
    /// When it may not be killed, or does not end.
    pub fn kill(&self) -> io::Result<()> {
        if self.is_there() {
            kill(Pid::from_raw(self.pid), Signal::SIGKILL).map_err(io::Error::from)?;
        }
        let deadline = Instant::now() + END_MAX;
        while self.is_there() {
            if Instant::now() > deadline {
                let message = format!("{} still runs {END_MAX:?} after SIGKILL", self.pid);
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

/// The variables of a process, separated by zero bytes; nothing when it has none to show.
///
/// While a process takes up a new program, the kernel shows it with no arguments and no variables,
/// and its parent may go on already: such a one is looked at again.
fn environment(pid: i32) -> Option<Vec<u8>> {
    let deadline = Instant::now() + EXEC_MAX;
    loop {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        if !environment.is_empty() {
            return Some(environment);
        }
        let stat = ProcStat::read(pid).ok()?;
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let between = !stat.is_dead() && !stat.is_kernel_thread && arguments.is_empty();
        if !between || Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// The mark among variables that are separated by zero bytes.
fn owner_in(environment: &[u8]) -> Option<Owner> {
    let mut variables = environment.split(|byte| *byte == 0);
    let mark = variables.find_map(|variable| {
        let value = variable.strip_prefix(Owner::VARIABLE.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok()
    });
    mark?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_found_among_other_variables() {
        let own = Owner::current().unwrap();
        let text = format!("A=1\0{}={own}\0QUORATE_HARNESSES=3", Owner::VARIABLE);
        assert_eq!(owner_in(text.as_bytes()), Some(own));
        assert_eq!(owner_in(b"A=QUORATE_HARNESS=1:2\0"), None);
        assert_eq!(owner_in(b""), None);
    }

    #[test]
    fn a_process_that_has_ended_has_no_variables() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while !ProcStat::read(pid).unwrap().is_dead() {
            std::thread::yield_now();
        }
        assert_eq!(environment(pid), None);
        child.wait().unwrap();
    }

    #[test]
    fn a_marked_process_is_found_and_killed() {
        let owner = Owner::current().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .env(Owner::VARIABLE, owner.to_string())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let found = strays().unwrap();
        let stray = found.iter().find(|stray| stray.pid == pid).unwrap();
        assert_eq!((stray.command.as_str(), stray.owner), ("sleep 600", owner));
        stray.kill().unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
