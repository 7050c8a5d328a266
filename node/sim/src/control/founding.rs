//! How a cluster was founded, in calm and before the run: every server's control plane begins on an
//! empty disk, one is elected, and the first commands are agreed on. May not know faults.

use std::collections::VecDeque;

use quorate_api::{Boot, NodeId};
use quorate_control::plane::{
    ENTRIES_MAX, Effect, Event, Plane, PlaneConfig, RecoveredLog, UnreadableError,
};

use super::{Agreed, Command};
use crate::server::Server;

struct Founding<'a> {
    servers: &'a mut [Server],
    planes: Vec<Plane<Agreed>>,
    /// (sender, receiver, message).
    network: VecDeque<(NodeId, NodeId, Vec<u8>)>,
}

/// Leaves on every server's disk what it knows of the foundation; gives what was agreed on.
///
/// # Errors
/// A server does not understand what another one wrote.
pub(crate) fn found(
    servers: &mut [Server],
    voting: &[usize],
    first: Vec<Command>,
) -> Result<Agreed, UnreadableError> {
    let ids: Vec<NodeId> = servers.iter().map(|server| server.id).collect();
    let founders: Vec<(String, NodeId)> =
        voting.iter().map(|at| (ids[*at].to_string(), ids[*at])).collect();
    let mut founding = Founding { servers, planes: Vec::new(), network: VecDeque::new() };
    for (index, node) in ids.iter().copied().enumerate() {
        let config = PlaneConfig { node, boot: Boot(0), seed: node.0, entries_max: ENTRIES_MAX };
        let founders = if voting.contains(&index) { &founders[..] } else { &[] };
        let mut out = Vec::new();
        let plane = Plane::new(config, &RecoveredLog::default(), founders, &mut out)?;
        founding.planes.push(plane);
        founding.carry_out(index, out)?;
    }
    founding.settle()?;
    for (command, request) in first.into_iter().zip(1..) {
        founding.step(voting[0], Event::Propose { request, command })?;
        founding.settle()?;
    }
    for index in (0..ids.len()).filter(|index| !voting.contains(index)) {
        founding.step(index, Event::Peer { node: ids[voting[0]], up: true })?;
    }
    founding.settle()?;
    let founded = founding.planes.iter().all(|plane| plane.state().cfg > 0);
    assert!(founded, "nothing is lost here, and the first founder stands at once");
    Ok(founding.planes[voting[0]].state().agreement.clone())
}

impl Founding<'_> {
    fn step(&mut self, index: usize, event: Event<Command>) -> Result<(), UnreadableError> {
        let mut out = Vec::new();
        self.planes[index].step(event, &mut out)?;
        self.carry_out(index, out)
    }

    fn carry_out(&mut self, index: usize, out: Vec<Effect>) -> Result<(), UnreadableError> {
        let mut durable = None;
        for effect in out {
            match effect {
                Effect::Persist { number, writes } => {
                    self.servers[index].disk.preload_beside(&writes);
                    durable = Some(number);
                }
                Effect::Send { to, bytes, .. } => {
                    self.network.push_back((self.servers[index].id, to, bytes));
                }
                Effect::Changed | Effect::Answer { .. } | Effect::Led { .. } => {}
            }
        }
        durable.map_or(Ok(()), |number| self.step(index, Event::Persisted(number)))
    }

    fn settle(&mut self) -> Result<(), UnreadableError> {
        while let Some((from, to, bytes)) = self.network.pop_front() {
            if let Some(index) = self.servers.iter().position(|server| server.id == to) {
                self.step(index, Event::Message { from, bytes })?;
            }
        }
        Ok(())
    }
}
