//! Which harness something outside of it belongs to: written on containers and processes, read by
//! whoever removes what dead harnesses left. May not know what is marked.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::stage::procfs::ProcStat;

/// A process of this machine, beyond reuse of its id. Written as `PID:START`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pid: i32,
    /// Clock ticks since boot.
    started: u64,
}

impl Owner {
    /// Environment variable that marks processes.
    pub const VARIABLE: &str = "QUORATE_HARNESS";

    /// This process.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn current() -> io::Result<Self> {
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        Ok(Self { pid, started: ProcStat::read(pid)?.started })
    }

    /// Process id.
    #[must_use]
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Clock ticks from boot to its start.
    #[must_use]
    pub fn started(self) -> u64 {
        self.started
    }

    /// Whether it still runs (a zombie does not).
    #[must_use]
    pub fn is_alive(self) -> bool {
        ProcStat::read(self.pid).is_ok_and(|stat| stat.started == self.started && !stat.is_dead())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pid, self.started)
    }
}

impl FromStr for Owner {
    type Err = NoOwner;

    fn from_str(text: &str) -> Result<Self, NoOwner> {
        let parts = text.split_once(':');
        let parsed = parts.and_then(|(pid, started)| {
            Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
        });
        parsed.ok_or_else(|| NoOwner(text.to_string()))
    }
}

/// A mark that names no process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not PID:START")]
pub struct NoOwner(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_one_process_for_ever() {
        let own = Owner::current().unwrap();
        assert!(own.is_alive());
        assert_eq!(own.to_string().parse(), Ok(own));
        let reused = Owner { started: own.started + 1, ..own };
        assert!(!reused.is_alive());
        assert_eq!("7".parse::<Owner>(), Err(NoOwner("7".to_string())));
        assert!("7:x".parse::<Owner>().is_err());
    }
}
