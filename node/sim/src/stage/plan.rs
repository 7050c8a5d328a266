//! What a simulated run reads of the harness's `plan.json`, and the world that it asks for. May not
//! know operations: the harness hands them over one by one.

use serde::Deserialize;

use super::network::{Network, Places};
use crate::options::{Options, Shape};
use crate::workload::Kind;

/// Version of `plan.json` that this program reads.
const PLAN_FORMAT: u32 = 1;

/// Control planes tick as those of real servers (`quorate_control::plane::TICK`).
const PLANE_TICK: u64 = quorate_control::plane::TICK;

/// A plan cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Cause.
        source: std::io::Error,
    },
    /// It is no plan.
    #[error("{path}: {source}")]
    Json {
        /// Which.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It has another format version.
    #[error("the plan has format version {0}; this program reads version {PLAN_FORMAT}")]
    Version(u32),
    /// It asks for something that is not simulated.
    #[error("not simulated: {0}")]
    NotSimulated(String),
}

/// The parts of a plan that matter here.
#[derive(Debug, Deserialize)]
pub(super) struct Plan {
    format: u32,
    pub(super) seed: u64,
    topology: Topology,
    workload: Workload,
    #[serde(default)]
    network: Option<Places>,
}

#[derive(Debug, Deserialize)]
struct Topology {
    masters: Vec<String>,
    #[serde(default)]
    replicas: Vec<String>,
    write_quorum: String,
}

#[derive(Debug, Deserialize)]
struct Workload {
    value_bytes: u32,
}

impl Plan {
    /// Reads a plan.
    pub(super) fn read(path: &str) -> Result<Self, PlanError> {
        let file = |source| PlanError::File { path: path.to_owned(), source };
        let json = |source| PlanError::Json { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(file)?;
        let plan: Self = serde_json::from_str(&text).map_err(json)?;
        if plan.format == PLAN_FORMAT { Ok(plan) } else { Err(PlanError::Version(plan.format)) }
    }

    /// Bytes of padding beside the unique id of a value.
    pub(super) const fn value_bytes(&self) -> usize {
        self.workload.value_bytes as usize
    }

    /// Links between the servers, and to their clients.
    pub(super) fn network(&self) -> Result<Network, PlanError> {
        let servers = self.topology.masters.len() + self.topology.replicas.len();
        let places = self.network.clone().unwrap_or_else(|| Places::lan(servers));
        match places.problem(servers) {
            None => Ok(Network::new(self.seed, places)),
            Some(problem) => Err(PlanError::NotSimulated(problem)),
        }
    }

    /// Servers that all keep every cluster, a cluster for each MASTER, and nothing that goes wrong.
    pub(super) fn options(&self) -> Result<Options, PlanError> {
        let (masters, replicas) = (self.topology.masters.len(), self.topology.replicas.len());
        let servers = masters + replicas;
        let majority = masters / 2 + 1;
        let write_quorum = match self.topology.write_quorum.as_str() {
            "majority" => majority,
            "all" => masters,
            number => {
                number.parse().ok().filter(|w| (1..=masters).contains(w)).ok_or_else(|| {
                    PlanError::NotSimulated(format!("write quorum {number} of {masters} MASTERs"))
                })?
            }
        };
        let shape = |number| {
            let replicas = (masters..servers).collect();
            Shape { replicas, ..Shape::new(number, (0..masters).collect(), write_quorum) }
        };
        let count = u32::try_from(masters).unwrap_or(u32::MAX);
        let clusters: Vec<Shape> = (0..count).map(shape).collect();
        Ok(Options {
            servers,
            keyed: clusters.len(),
            clusters,
            low_quorums: write_quorum < majority,
            ..calm()
        })
    }
}

/// Nothing happens by itself.
fn calm() -> Options {
    Options {
        servers: 0,
        clusters: Vec::new(),
        workload: Kind::Registers,
        keys: 0,
        pairs: 0,
        clients: 0,
        think_max: 0,
        duration: u64::MAX / 2,
        changes: 0,
        loss: 0,
        duplication: 0,
        straggling: 0,
        delay_max: 0,
        sync_max: 0,
        cut_every: 0,
        crash_every: 0,
        blackouts: 0,
        pause_every: 0,
        slow_every: 0,
        jump_every: 0,
        drift: 0,
        entry_every: 0,
        change_every: 0,
        drops: 0,
        plane_tick: PLANE_TICK,
        plane_entries: quorate_control::plane::ENTRIES_MAX,
        bit_flip: false,
        detect_max: 100_000,
        housekeeping: 0,
        log_entries: 0,
        log_age: 0,
        journal: 0,
        takeovers: 0,
        purge: false,
        fan_out: 0,
        relay_kept: 0,
        replicas_write: true,
        low_quorums: false,
        crossing: false,
        decisive: false,
        centers: Vec::new(),
        local_quorums: false,
        keyed: 0,
        membership: None,
        witnesses: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Plan {
        /// A plan of so many servers on a LAN.
        pub(in crate::stage) fn of(masters: usize, replicas: usize, quorum: &str) -> Self {
            plan(masters, replicas, quorum)
        }
    }

    fn plan(masters: usize, replicas: usize, quorum: &str) -> Plan {
        let names = |letter: &str, count| (1..=count).map(|n| format!("{letter}{n}")).collect();
        let (masters, replicas) = (names("n", masters), names("r", replicas));
        let topology = Topology { masters, replicas, write_quorum: quorum.to_owned() };
        let (workload, network) = (Workload { value_bytes: 0 }, None);
        Plan { format: PLAN_FORMAT, seed: 1, topology, workload, network }
    }

    #[test]
    fn every_server_keeps_a_cluster_for_each_master() {
        for (quorum, wanted, low) in [("majority", 2, false), ("all", 3, false), ("1", 1, true)] {
            let options = plan(3, 2, quorum).options().unwrap();
            assert_eq!((options.servers, options.clusters.len()), (5, 3));
            assert_eq!((options.clusters[0].write_quorum, options.low_quorums), (wanted, low));
            assert!((0..5).all(|server| options.holds_all(server)));
        }
    }

    #[test]
    fn a_quorum_that_cannot_be_is_refused() {
        for quorum in ["0", "4", "some"] {
            assert!(plan(3, 0, quorum).options().unwrap_err().to_string().contains(quorum));
        }
    }
}
