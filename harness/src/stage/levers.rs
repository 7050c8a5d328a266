//! How a stage does what faults ask: signals and starts for servers, rules of the
//! proxy for links; disks are in `disk_levers.rs`, the traffic of whole links in
//! `traffic_levers.rs`. The order and times of faults are
//! `crate::fault`'s business.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use quorate_check::history::Nanos;

use super::canary::{self, Seen};
use super::cluster::Cluster;
use super::extension::{Cut, CutKind, Delay};
use super::network::Network;
use super::node::Node;
use super::rules::Rule;
use super::{Link, StageError};
use crate::fault::{Effect, Happened, Levers, Until};
use crate::plan::{self, Event, FaultKind, Shape};

/// Time between two looks at a process's state.
const POLL: Duration = Duration::from_millis(1);

impl Levers for Cluster {
    fn now(&self) -> Nanos {
        self.clock.now()
    }

    async fn happened(&self, event: &Event) -> Happened {
        self.await_event(event).await
    }

    async fn inject(&self, until: Until<'_>) -> Result<Effect, StageError> {
        match until.fault.kind {
            FaultKind::Kill { .. } => self.kill(until.servers).await,
            FaultKind::Restart { .. } => self.terminate(until.servers).await,
            FaultKind::Pause { .. } => self.stop_or_continue(&until, Signal::SIGSTOP).await,
            FaultKind::Partition { cut, shape, .. } => self.cut(&until, kind_of(cut), shape).await,
            FaultKind::Latency { delay_us, jitter_us, distribution, .. } => {
                self.delay(&until, Delay { latency_us: delay_us, jitter_us, distribution }).await
            }
            FaultKind::Traffic { traffic, .. } => self.hurt_traffic(&until, traffic).await,
            FaultKind::Disk { disk, .. } => self.hurt_disk(&until, disk).await,
            FaultKind::Reconfigure { ref write_quorum, .. } => {
                self.set_write_quorum(&until, write_quorum).await
            }
        }
    }

    async fn heal(&self, until: Until<'_>) -> Result<Effect, StageError> {
        match until.fault.kind {
            FaultKind::Kill { .. } | FaultKind::Restart { .. } => {
                self.start_again(until.servers).await
            }
            FaultKind::Pause { .. } => self.stop_or_continue(&until, Signal::SIGCONT).await,
            FaultKind::Partition { cut, shape, .. } => self.mend(&until, kind_of(cut), shape).await,
            FaultKind::Latency { .. } => self.undelay(&until).await,
            FaultKind::Traffic { traffic, .. } => self.heal_traffic(&until, traffic).await,
            FaultKind::Disk { disk, .. } => self.heal_disk(&until, disk).await,
            FaultKind::Reconfigure { ref before, .. } => {
                self.set_write_quorum(&until, before).await
            }
        }
    }
}

fn kind_of(cut: plan::Cut) -> CutKind {
    match cut {
        plan::Cut::Silent => CutKind::Silent,
        plan::Cut::Closed => CutKind::Closed,
        plan::Cut::HalfOpen => CutKind::HalfOpen,
    }
}

/// Process faults.
impl Cluster {
    pub(super) async fn kill(&self, servers: &[String]) -> Result<Effect, StageError> {
        self.disturb(servers);
        let mut evidence = Vec::new();
        // All get the signal before any is waited for.
        for name in servers {
            self.node(name)?.shoot().await?;
        }
        for name in servers {
            let node = self.node(name)?;
            node.kill().await?;
            evidence.push(exit_of(node));
        }
        Ok(self.done(true, &evidence))
    }

    async fn terminate(&self, servers: &[String]) -> Result<Effect, StageError> {
        self.disturb(servers);
        let mut evidence = Vec::new();
        let mut clean = true;
        for name in servers {
            let node = self.node(name)?;
            let begun = Instant::now();
            // A clean stop may take longer than a proof may: its end is the proof all the same.
            clean &= node.terminate(self.options.stop_limit).await?;
            evidence.push(format!("{} after {:.1?}", exit_of(node), begun.elapsed()));
        }
        Ok(self.done(clean, &evidence))
    }

    pub(super) async fn start_again(&self, servers: &[String]) -> Result<Effect, StageError> {
        self.disturb(servers);
        let mut evidence = Vec::new();
        let mut proven = true;
        for name in servers {
            let ends = self.node(name)?.ends();
            match self.revive(name).await {
                Ok(line) => evidence.push(line),
                // Whose fault that is brings it back.
                Err(StageError::NotReady { .. }) if self.node(name)?.ends() != ends => {
                    evidence.push(format!("{name}: another fault ended it while it started"));
                }
                // A server that does not come back is a result, not a failure of the harness.
                Err(error @ StageError::NotReady { .. }) => {
                    proven = false;
                    evidence.push(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.done(proven, &evidence))
    }

    async fn revive(&self, name: &str) -> Result<String, StageError> {
        let node = self.node(name)?;
        if node.running().is_some() {
            self.await_ready(name).await?;
            return Ok(format!("{name}: runs already"));
        }
        let former = node.life();
        self.launch(name).await?;
        self.await_ready(name).await?;
        let (Some(former), Some(life)) = (former, node.life()) else {
            return Ok(format!("{name}: started for the first time"));
        };
        let (old, new) = (former.said, life.said);
        if old.node_id != new.node_id {
            return Err(StageError::NotReady {
                process: name.to_string(),
                what: format!("came back as {} instead of {}", new.node_id, old.node_id),
                last_words: life.process.last_words(),
            });
        }
        let pid = life.process.pid();
        Ok(format!("{name}: ready as {} in boot {} (pid {pid})", new.node_id, new.boot))
    }

    async fn stop_or_continue(
        &self,
        until: &Until<'_>,
        signal: Signal,
    ) -> Result<Effect, StageError> {
        for name in until.servers {
            if let Some(process) = self.node(name)?.process().await {
                process.signal(signal).await?;
            }
        }
        let acknowledged = self.clock.now();
        let (deadline, wants_stopped) = (until.deadline(), signal == Signal::SIGSTOP);
        let mut evidence = Vec::new();
        let mut proven = true;
        for name in until.servers {
            let (seen, state) = watch_state(self.node(name)?, wants_stopped, deadline).await;
            proven &= seen;
            evidence.push(format!("{name}: {state}"));
        }
        let proven = proven.then(|| self.clock.now());
        Ok(Effect { acknowledged, proven, evidence: evidence.join("; ") })
    }

    pub(super) fn disturb(&self, servers: &[String]) {
        if let Some(network) = &self.network {
            network.disturb(&Link::touching(&self.names, servers));
        }
    }

    pub(super) fn done(&self, proven: bool, evidence: &[String]) -> Effect {
        let now = self.clock.now();
        let evidence = evidence.join("; ");
        Effect { acknowledged: now, proven: proven.then_some(now), evidence }
    }
}

fn exit_of(node: &Node) -> String {
    let status = node.latest().and_then(|process| process.exit_status());
    match status {
        Some(status) => format!("{}: exit observed ({status})", node.name()),
        None => format!("{}: no exit observed", node.name()),
    }
}

/// Reads the process's state until it is as wanted.
async fn watch_state(node: &Node, wants_stopped: bool, deadline: Instant) -> (bool, String) {
    loop {
        let Some(look) = node.latest().and_then(|process| process.look()) else {
            // A dead process needs no waking, and cannot be stopped.
            return (!wants_stopped, "does not run".to_string());
        };
        let text = format!("{} read back", look.state);
        if look.is_stopped == wants_stopped {
            return (true, text);
        }
        if Instant::now() >= deadline {
            return (false, text);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Link faults.
impl Cluster {
    pub(super) fn network(&self, until: &Until<'_>) -> Result<&Network, StageError> {
        self.network.as_ref().ok_or_else(|| {
            let instead = "set topology.proxied";
            StageError::cannot(until.fault, "links are not proxied", instead)
        })
    }

    fn cuts(&self, until: &Until<'_>, kind: CutKind, shape: Shape) -> BTreeMap<Link, Cut> {
        let unheard = shape.unheard(&self.names, until.servers);
        let links = Link::silencing(&self.names, &unheard).into_iter();
        links.map(|(link, stream)| (link, Cut { kind, stream })).collect()
    }

    async fn cut(
        &self,
        until: &Until<'_>,
        kind: CutKind,
        shape: Shape,
    ) -> Result<Effect, StageError> {
        let network = self.network(until)?;
        let cuts = self.cuts(until, kind, shape);
        let before = if network.is_own() { network.states().await? } else { Default::default() };
        let (fault, clock) = (&until.fault.name, self.clock);
        let rules = cuts.iter().map(|(link, cut)| (link.clone(), Rule::Cut(*cut))).collect();
        let acknowledged = network.apply(fault, rules, clock).await?;
        let seen = canary::cut_bites(network, &cuts, &before, clock, until.deadline()).await?;
        Ok(effect(acknowledged, seen))
    }

    async fn mend(
        &self,
        until: &Until<'_>,
        kind: CutKind,
        shape: Shape,
    ) -> Result<Effect, StageError> {
        let network = self.network(until)?;
        let links: Vec<Link> = self.cuts(until, kind, shape).into_keys().collect();
        let acknowledged = network.lift(&until.fault.name, &links, self.clock).await?;
        let seen = canary::cut_is_gone(network, &links, kind, self.clock, until.deadline()).await?;
        Ok(effect(acknowledged, seen))
    }

    async fn delay(&self, until: &Until<'_>, delay: Delay) -> Result<Effect, StageError> {
        let network = self.network(until)?;
        let links = Link::touching(&self.names, until.servers);
        let rules = links.iter().map(|link| (link.clone(), Rule::Delay(delay))).collect();
        let acknowledged = network.apply(&until.fault.name, rules, self.clock).await?;
        let read_back = network.delays_of(&links, delay).await?;
        // A round trip of our own under the same rule, or else real bytes held back on every link.
        let deadline = until.deadline();
        let seen = match network.through_delay(delay, deadline).await? {
            Some(trips) => {
                Seen { proven: trips.as_asked.then(|| self.clock.now()), evidence: trips.told }
            }
            None => canary::delay_holds(network, &links, self.clock, deadline).await?,
        };
        let evidence = format!("{read_back}; {}", seen.evidence);
        Ok(effect(acknowledged, Seen { evidence, ..seen }))
    }

    async fn undelay(&self, until: &Until<'_>) -> Result<Effect, StageError> {
        let network = self.network(until)?;
        let links = Link::touching(&self.names, until.servers);
        let acknowledged = network.lift(&until.fault.name, &links, self.clock).await?;
        let evidence = network.no_delay_on(&links).await?;
        Ok(Effect { acknowledged, proven: Some(self.clock.now()), evidence })
    }
}

fn effect(acknowledged: Nanos, seen: Seen) -> Effect {
    Effect { acknowledged, proven: seen.proven, evidence: seen.evidence }
}
