//! What can happen to the traffic of links that stay whole. May not know proxies.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What happens to everything sent between the target and the other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "traffic")]
pub enum Traffic {
    /// Every connection, also a new one, is reset.
    Reset {
        /// Milliseconds from its first bytes under the fault.
        after_ms: u64,
    },
    /// No more than so much passes in each direction of each link.
    Bandwidth {
        /// Thousands of bytes a second.
        kilobytes: u64,
    },
    /// What is sent arrives in small pieces with pauses between them.
    Slice {
        /// Bytes of a piece, half of them more or less.
        bytes: u64,
        /// Microseconds from one piece to the next.
        pause_us: u64,
    },
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset { after_ms } => write!(f, "reset after {after_ms} ms"),
            Self::Bandwidth { kilobytes } => write!(f, "bandwidth {kilobytes} kB/s"),
            Self::Slice { bytes, pause_us } => write!(f, "slice {bytes} bytes, {pause_us} µs"),
        }
    }
}
