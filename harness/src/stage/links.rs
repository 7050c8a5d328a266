//! Names of the directed links and of the proxy entries that stand for them.
//! Which of them have one is decided here. Pure: no sockets.

use std::collections::BTreeMap;
use std::fmt;

use super::extension::Streams;
use crate::plan::Topology;
use crate::plan::shape::Unheard;

/// The name that stands for all clients.
pub const CLIENT: &str = "client";

/// A directed link: the connection that `from` dials to `to`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Who dials; [`CLIENT`] for the clients.
    pub from: String,
    /// Who is dialled.
    pub to: String,
}

impl Link {
    /// Names a link.
    #[must_use]
    pub fn new(from: &str, to: &str) -> Self {
        Self { from: from.to_string(), to: to.to_string() }
    }

    /// True when a client dials.
    #[must_use]
    pub fn is_client(&self) -> bool {
        self.from == CLIENT
    }

    /// Every directed link between two servers.
    #[must_use]
    pub fn between(servers: &[String]) -> Vec<Self> {
        let ordered = |from: &String| {
            let others = servers.iter().filter(|to| *to != from).cloned();
            let from = from.clone();
            others.map(move |to| Self { from: from.clone(), to }).collect::<Vec<_>>()
        };
        servers.iter().flat_map(ordered).collect()
    }

    /// The links of the clients.
    #[must_use]
    pub fn of_clients(servers: &[String]) -> Vec<Self> {
        servers.iter().map(|to| Self::new(CLIENT, to)).collect()
    }

    /// The links that have a proxy where links are proxied: those of clients always, those between
    /// servers as far as the topology proxies them.
    #[must_use]
    pub fn proxied(topology: &Topology) -> Vec<Self> {
        let servers = topology.servers();
        let linked = if topology.proxies_replicas() { &servers } else { &topology.masters };
        let mut links = Self::between(linked);
        links.extend(Self::of_clients(&servers));
        links
    }

    /// The directions of links on which somebody must not be heard; a link on which nobody is
    /// silenced is left out. What `from` sends travels up the link that it dials and down the one
    /// that is dialled to it.
    #[must_use]
    pub fn silencing(servers: &[String], unheard: &[Unheard]) -> BTreeMap<Self, Streams> {
        let is_unheard = |from: &String, to: &String| {
            unheard.iter().any(|(speaker, listener)| speaker == from && listener == to)
        };
        let directed = Self::between(servers).into_iter().filter_map(|link| {
            let streams = match (is_unheard(&link.from, &link.to), is_unheard(&link.to, &link.from))
            {
                (true, true) => Streams::Both,
                (true, false) => Streams::Upstream,
                (false, true) => Streams::Downstream,
                (false, false) => return None,
            };
            Some((link, streams))
        });
        directed.collect()
    }

    /// The links between servers that begin or end at one of these.
    #[must_use]
    pub fn touching(servers: &[String], some: &[String]) -> Vec<Self> {
        let mut links = Self::between(servers);
        links.retain(|link| some.contains(&link.from) || some.contains(&link.to));
        links
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Shape;

    fn names(links: &[Link]) -> Vec<String> {
        links.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_cut_crosses_and_a_delay_touches() {
        let servers: Vec<String> = ["n1", "n2", "n3"].map(String::from).to_vec();
        let side = vec!["n3".to_string()];
        assert_eq!(Link::between(&servers).len(), 6);
        let cut = |shape: Shape, hit| Link::silencing(&servers, &shape.unheard(&servers, hit));
        let crossing: Vec<Link> = cut(Shape::Sides, &side).into_keys().collect();
        assert_eq!(names(&crossing), ["n1->n3", "n2->n3", "n3->n1", "n3->n2"]);
        assert_eq!(Link::touching(&servers, &side), crossing);
        assert!(cut(Shape::Sides, &servers).is_empty());
        let deaf: Vec<Streams> = cut(Shape::OneWayIn, &side).into_values().collect();
        let (up, down) = (Streams::Upstream, Streams::Downstream);
        assert_eq!(deaf, [up, up, down, down], "what n3 dials brings nothing back");
        let mute: Vec<Streams> = cut(Shape::OneWayOut, &side).into_values().collect();
        assert_eq!(mute, [down, down, up, up]);
        assert_eq!(names(&Link::of_clients(&side)), ["client->n3"]);
    }

    #[test]
    fn with_many_replicas_only_masters_are_linked_through_proxies() {
        let mut topology = Topology {
            masters: ["n1", "n2"].map(String::from).to_vec(),
            replicas: vec!["r1".to_string()],
            standalone: false,
            write_quorum: "majority".to_string(),
            proxied: true,
            limits: crate::plan::Limits::default(),
            heap_bytes: None,
        };
        assert_eq!(Link::proxied(&topology).len(), 6 + 3);
        topology.replicas = (1..Topology::PROXIED_MAX).map(|n| format!("r{n}")).collect();
        let links = Link::proxied(&topology);
        assert_eq!(links.len(), 2 + Topology::PROXIED_MAX + 1);
        assert_eq!(names(&links[..3]), ["n1->n2", "n2->n1", "client->n1"]);
    }
}
