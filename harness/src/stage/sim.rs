//! The stage that simulates: `quorate-sim` executes the plan in virtual time, with the servers' own
//! protocol and control plane over a network and disks of the simulator's. May not know how.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use quorate_check::history::Nanos;
use tokio_util::sync::CancellationToken;

use super::{Program, StageError, StageOptions, feasible};
use crate::folder::{FaultRecord, RunFolder, SoundnessFinding};
use crate::guard::Guard;
use crate::plan::{Network, Plan};
use crate::run::parts::{Endpoint, Stage};
use crate::sim::{End, Simulator, Start};

/// Longest silence of the simulator, which answers after a bounded number of events: it takes a
/// second or two for them.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a reader of the figures has to know.
const SIMULATED: &str = "figures are of virtual time: the servers' protocol and control plane run \
     over a simulated network and simulated disks; HTTP, SQL, RocksDB and CPU time are left out";

/// A simulated cluster.
#[derive(Debug)]
pub struct SimStage {
    simulator: Simulator,
    servers: Vec<String>,
    nodes: PathBuf,
    /// For people: how far servers are from each other.
    network: String,
}

impl SimStage {
    /// Starts the simulator on the plan that is saved in the run folder.
    ///
    /// # Errors
    /// When it cannot be started, or cannot do what the plan wants.
    pub fn start_with(
        plan: &Plan,
        folder: &RunFolder,
        options: StageOptions,
    ) -> Result<Self, StageError> {
        feasible::simulator_can_do(plan, &options)?;
        let program = Program::Sim.find(options.sim)?;
        let logs = folder.logs();
        std::fs::create_dir_all(&logs).map_err(StageError::file(&logs))?;
        let guard = Guard::start(&Program::Guard.find(options.guard)?, &logs.join("guard.log"))?;
        let simulator = Simulator::start(Start {
            program: &program,
            plan: &folder.plan(),
            log: &logs.join("sim.log"),
            guard,
            patience: PATIENCE,
        })?;
        let network = plan.network.as_ref().map_or_else(default_network, Network::describe);
        let (servers, nodes) = (plan.topology.servers(), folder.nodes());
        Ok(Self { simulator, servers, nodes, network })
    }
}

/// What the simulator takes where the plan says nothing.
fn default_network() -> String {
    "of one data center (as lan), clients beside the server that they ask".to_owned()
}

impl Stage for SimStage {
    type Error = StageError;

    fn endpoints(&self) -> Vec<Endpoint> {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let endpoint =
            |node: &String| Endpoint { node: node.clone(), client: nowhere, direct: nowhere };
        self.servers.iter().map(endpoint).collect()
    }

    fn simulator(&self) -> Option<Simulator> {
        Some(self.simulator.clone())
    }

    async fn run_faults(
        &self,
        _plan: &Plan,
        _measure_start: Nanos,
        _cancel: CancellationToken,
    ) -> Result<Vec<FaultRecord>, StageError> {
        // A plan with faults was refused.
        Ok(Vec::new())
    }

    fn in_force(&self) -> Vec<String> {
        Vec::new()
    }

    async fn heal_all(&self) -> Result<(), StageError> {
        Ok(())
    }

    async fn sample(&self, _cancel: CancellationToken) -> Result<(), StageError> {
        // Simulated servers use no resources of a machine that could be looked at.
        std::fs::write(&self.nodes, "").map_err(StageError::file(&self.nodes))
    }

    async fn stop(self) -> Result<Vec<SoundnessFinding>, StageError> {
        let end = self.simulator.end()?;
        let note =
            |code: &str, fatal, detail| SoundnessFinding { code: code.to_owned(), fatal, detail };
        let End { assumed, violations, events, trace_hash } = end;
        let network = self.network;
        let assumed = format!(
            "{SIMULATED}; network {network}; {assumed} ({events} events, trace {trace_hash:016x})"
        );
        let broken = violations.into_iter();
        let broken =
            broken.map(|violation| note(SoundnessFinding::INVARIANT_BROKEN, true, violation));
        Ok(std::iter::once(note("simulated", false, assumed)).chain(broken).collect())
    }
}
