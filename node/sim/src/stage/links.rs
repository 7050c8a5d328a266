//! Who is linked with whom where a plan is simulated: as the servers' own links are, those that the
//! tree of REPLICAs asks for, and those that some server has asked for since (`runtime/link/need`).
//! May not know whether a link works.

use std::collections::BTreeSet;

use quorate_api::NodeId;
use quorate_protocol::io::RelayConfig;
use quorate_protocol::topology::Topology;

use crate::options::Options;
use crate::server::{server_id, server_index};

/// Links by server.
#[derive(Debug)]
pub(crate) struct Linked(Vec<BTreeSet<usize>>);

impl Linked {
    /// Those that are there always.
    pub(super) fn of(options: &Options) -> Self {
        let masters = options.voting();
        let replicas = (0..options.servers).filter(|server| !masters.contains(server));
        let roots = masters.iter().map(|server| server_id(*server)).collect();
        let fan_out = RelayConfig::new().fan_out;
        let tree = Topology::over(roots, replicas.map(server_id), fan_out);
        let of = |server| tree.links(server_id(server)).into_iter().map(server_index).collect();
        Self((0..options.servers).map(of).collect())
    }

    /// The servers that one is linked with.
    pub(crate) fn of_server(&self, server: usize) -> Vec<usize> {
        self.0[server].iter().copied().collect()
    }

    /// A server needs links with others; both ends keep them from now on.
    pub(crate) fn needs(&mut self, server: usize, others: impl IntoIterator<Item = NodeId>) {
        for other in others.into_iter().map(server_index) {
            if other != server && self.0[server].insert(other) {
                self.0[other].insert(server);
            }
        }
    }
}
