//! Finding the programs that a stage runs: the node, the fault proxy, the guard, the disk, the
//! simulator.
//! May not start anything.

use std::path::PathBuf;

use super::StageError;

/// A program of the project that runs as a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The database server.
    Node,
    /// The fault proxy.
    Proxy,
    /// The process that outlives the harness and kills what is left.
    Guard,
    /// A disk that can lose power, be slow and full.
    Disk,
    /// The simulator.
    Sim,
}

impl Program {
    /// File name of the executable.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Node => "quorate-node",
            Self::Proxy => "quorate-proxy",
            Self::Guard => "quorate-guard",
            Self::Disk => "quorate-disk",
            Self::Sim => "quorate-sim",
        }
    }

    /// Environment variable that overrides where the executable is.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Node => "QUORATE_NODE_BIN",
            Self::Proxy => "QUORATE_PROXY_BIN",
            Self::Guard => "QUORATE_GUARD_BIN",
            Self::Disk => "QUORATE_DISK_BIN",
            Self::Sim => "QUORATE_SIM_BIN",
        }
    }

    /// The executable: `given`, else the environment variable, else beside the running executable.
    ///
    /// # Errors
    /// When there is no such file; the message says where it was looked for and how to get it.
    pub fn find(self, given: Option<PathBuf>) -> Result<PathBuf, StageError> {
        let candidates = given
            .or_else(|| std::env::var_os(self.variable()).map(PathBuf::from))
            .map_or_else(|| self.beside(), |path| vec![path]);
        match candidates.iter().find(|path| path.is_file()) {
            Some(path) => Ok(path.clone()),
            None => Err(StageError::ProgramMissing {
                program: self.file_name(),
                variable: self.variable(),
                looked: candidates,
            }),
        }
    }

    fn beside(self) -> Vec<PathBuf> {
        let Ok(running) = std::env::current_exe() else {
            return Vec::new();
        };
        // Cargo puts test executables and examples one folder below the programs.
        running.ancestors().skip(1).take(2).map(|dir| dir.join(self.file_name())).collect()
    }
}
