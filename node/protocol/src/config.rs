//! Settings of the machine. Data and default values only.

use quorate_api::{Boot, NodeId};

use crate::chain::Chain;
use crate::io::Tick;

/// Settings of the machine.
#[derive(Debug, Clone)]
pub struct Config {
    /// This server.
    pub node: NodeId,
    /// This boot, already durable.
    pub boot: Boot,
    /// Seed of its random stream (back-off, retry jitter).
    pub seed: u64,
    /// How long a Prepare of an older transaction waits for a lock.
    pub lock_wait: Tick,
    /// How long a Prepare waits for missing decisions or configuration before it is dropped.
    pub lag_wait: Tick,
    /// Lower and upper bound of the wait for the last votes once W said Yes.
    pub fast_wait: (Tick, Tick),
    /// How long an undecided vote waits for its coordinator before others look after it.
    pub orphan_after: Tick,
    /// Resend interval of unanswered messages.
    pub resend: Tick,
    /// How often low-water marks, the decision log's length, tombstones and ended boots are looked
    /// after.
    pub housekeeping: Tick,
    /// Automatic retries after `Busy`.
    pub retries: u32,
    /// Delay before the first retry; doubles up to 32 times with every further one.
    pub retry_delay: Tick,
    /// Share of the delay that chance decides, in percent: half of it either way.
    pub retry_jitter: u8,
    /// Takeovers of other coordinators' transactions led at once; the rest waits its turn, so that
    /// the many transactions of a dead coordinator do not fill every queue.
    pub takeovers_max: usize,
    /// Transactions in flight here beyond which requests are refused with `Overload`.
    pub in_flight_max: usize,
    /// When the log is cut past a server that is behind, and how fast servers align.
    pub align: AlignConfig,
    /// How REPLICAs are fed.
    pub relay: RelayConfig,
    /// How what diverged is merged.
    pub merge: MergeConfig,
    /// A wrong rule to follow; for the simulator's own tests.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<crate::planted::Bug>,
}

impl Config {
    /// Default settings for a server.
    #[must_use]
    pub fn new(node: NodeId, boot: Boot, seed: u64) -> Self {
        Self {
            node,
            boot,
            seed,
            lock_wait: 20_000,
            lag_wait: 200_000,
            fast_wait: (1_000, 10_000),
            orphan_after: 150_000,
            resend: 100_000,
            housekeeping: 500_000,
            retries: 10,
            retry_delay: 2_000,
            retry_jitter: 100,
            takeovers_max: 1_024,
            in_flight_max: 4_096,
            align: AlignConfig::new(),
            relay: RelayConfig::new(),
            merge: MergeConfig::default(),
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

/// When the decision log is cut past a server that is behind, and how fast servers align.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignConfig {
    /// Entries of the own decision log that a server may be behind before it is not waited for.
    pub log_entries: u64,
    /// How long a server may be behind with an entry before it is not waited for.
    pub log_age: Tick,
    /// Time between two pieces of alignment work, at both ends.
    pub pause: Tick,
    /// Items read in one piece of work.
    pub items: usize,
    /// Items a leaf of the tree stands for.
    pub leaf: usize,
    /// Decisions kept for a server that aligns; with more, that server begins again.
    pub journal: usize,
    /// How long a tombstone is kept once every MASTER and REPLICA has it.
    pub retention: Tick,
    /// Items looked at for tombstones to drop, at each housekeeping.
    pub sweep: usize,
}

impl AlignConfig {
    /// Default settings: a million decisions or an hour.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            log_entries: 1_000_000,
            log_age: 3_600_000_000,
            pause: 2_000,
            items: 512,
            leaf: 32,
            journal: 65_536,
            retention: 600_000_000,
            sweep: 512,
        }
    }
}

impl Default for AlignConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// How what diverged in clusters with W below a majority is merged (PROTOCOL.md 3.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeConfig {
    /// Who names the winner where the control plane does not say.
    pub chain: Chain,
    /// Items looked at in one go.
    pub items: usize,
    /// How long a difference that may be mere lag has to stay as it is before it is merged.
    pub settle: Tick,
    /// How long MASTERs that are not reachable are waited for since one last came or went; then a
    /// majority merges without them.
    pub patience: Tick,
    /// How long an item without a winner is left alone unless something of it changes.
    pub rest: Tick,
    /// Contents that have lost which a server keeps to be looked at; above, the oldest go.
    pub lost_max: usize,
    /// The same in bytes.
    pub lost_bytes_max: usize,
}

impl Default for MergeConfig {
    fn default() -> Self {
        Self {
            chain: Chain::default(),
            items: 64,
            settle: 2_000_000,
            patience: 10_000_000,
            rest: 30_000_000,
            lost_max: 10_000,
            lost_bytes_max: 64 << 20,
        }
    }
}

/// How REPLICAs are fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    /// REPLICAs that one server feeds while everybody is there. The same on all servers.
    pub fan_out: usize,
    /// Entries of every other server's log that a relay can still serve; of what is before them it
    /// knows no order.
    pub kept: usize,
}

impl RelayConfig {
    /// Default settings.
    #[must_use]
    pub const fn new() -> Self {
        Self { fan_out: 4, kept: 8_192 }
    }
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self::new()
    }
}
