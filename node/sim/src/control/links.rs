//! Who is linked with whom where servers come and go: links follow the list that was agreed on, at
//! both ends (`link/arrange`), and whoever was removed is told so when it asks for one
//! (`link/accept`). May not know how the list comes about.

use std::collections::BTreeSet;

use quorate_api::{ClusterKey, NodeId};

use crate::world::World;

/// What a server knows of who is in the cluster.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Whom it has links with: those on the list, or those that it was told of when it was taken
    /// in.
    pub(crate) listed: BTreeSet<NodeId>,
    /// Those that were removed.
    pub(crate) gone: BTreeSet<NodeId>,
    /// It has read that it is one of them.
    pub(crate) is_member: bool,
    /// Clusters in which it creates records.
    pub(crate) owned: Vec<ClusterKey>,
}

impl World {
    /// A server that clients may ask, which knows where others are: this one, or the next that is
    /// there, where servers come and go.
    pub(crate) fn there_or_next(&self, index: usize) -> usize {
        let all = self.servers.len();
        let mut from_there = (index..index + all).map(|at| at % all);
        let there = from_there.find(|at| !self.servers[*at].dead);
        there.filter(|_| self.options.membership.is_some()).unwrap_or(index)
    }

    /// True when a server may have a link with another one, as both see it.
    pub(crate) fn may_link(&self, index: usize, peer: usize) -> bool {
        let lists =
            |from: usize, to: usize| self.servers[from].place.listed.contains(&self.servers[to].id);
        self.options.membership.is_none() || (lists(index, peer) && lists(peer, index))
    }

    /// True when a server asks another one for a link that knows it was removed.
    pub(crate) fn is_turned_away(&self, index: usize, by: usize) -> bool {
        let (server, other) = (&self.servers[index], &self.servers[by]);
        let lists = server.place.listed.contains(&other.id);
        lists && other.is_awake() && other.place.gone.contains(&server.id)
    }

    /// A server takes over what it has read of who there is. False when it is not one of them: one
    /// that was is not one any more, and ends.
    pub(super) fn takes_its_place(&mut self, index: usize) -> bool {
        let server = &mut self.servers[index];
        let Some(plane) = &server.plane else { return false };
        let Some(agreement) = plane.state().agreement.agreement() else {
            // The state of a stranger: nothing was agreed on yet.
            return self.options.membership.is_none();
        };
        let schema = &agreement.schema;
        if schema.server(server.id).is_none() {
            if server.place.is_member {
                self.end(index);
            }
            return false;
        }
        let placements = agreement.placements();
        let own = placements.iter().filter(|(_, p)| p.owner == Some(server.id) && !p.is_closed());
        let known = |cluster: &ClusterKey| {
            self.options.clusters.iter().any(|shape| shape.cluster == *cluster)
        };
        server.place = Place {
            listed: schema.servers.iter().map(|member| member.node).collect(),
            gone: schema.gone.iter().map(|gone| gone.node).collect(),
            is_member: true,
            owned: own.map(|(cluster, _)| *cluster).filter(known).collect(),
        };
        true
    }
}
