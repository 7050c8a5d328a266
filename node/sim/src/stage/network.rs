//! How long messages travel and disks sync where a harness's plan is simulated. Links keep the
//! order of what they carry, as connections do. May not know what travels.

use std::collections::BTreeMap;

use quorate_protocol::io::Tick;
use serde::Deserialize;

use crate::rng::Stream;

/// Microseconds there and back within one data center, where the plan names no network. Source:
/// Jeff Dean, "Designs, Lessons and Advice from Building Large Distributed Systems", LADIS 2009.
const LAN: Tick = 500;

/// What a way takes longer at most, as a share of it.
const JITTER: Tick = 50;

/// Shortest and longest sync of a disk, in microseconds.
const SYNC: (Tick, Tick) = (300, 700);

/// Where servers and clients are, as a plan says it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Places {
    /// Microseconds there and back, by place and place; within one, too.
    pub(super) round_trips_us: Vec<Vec<Tick>>,
    /// The place of each server.
    pub(super) places: Vec<usize>,
    /// The place of all clients; none: beside the server that they ask.
    pub(super) clients: Option<usize>,
}

impl Places {
    /// All servers, and their clients, in one data center.
    pub(super) fn lan(servers: usize) -> Self {
        Self { round_trips_us: vec![vec![LAN]], places: vec![0; servers], clients: None }
    }

    /// Why it cannot be.
    pub(super) fn problem(&self, servers: usize) -> Option<String> {
        let count = self.round_trips_us.len();
        let square = self.round_trips_us.iter().all(|row| row.len() == count);
        let known = self.places.iter().chain(&self.clients).all(|place| *place < count);
        let fits = square && known && self.places.len() == servers;
        (!fits).then(|| format!("a network of {count} places does not fit {servers} servers"))
    }
}

/// Links and disks.
#[derive(Debug)]
pub(crate) struct Network {
    of: Places,
    travel: Stream,
    clients: Stream,
    disks: Stream,
    /// When what was sent last on a link arrives.
    last: BTreeMap<(usize, usize), Tick>,
}

impl Network {
    pub(super) fn new(seed: u64, of: Places) -> Self {
        Self {
            of,
            travel: Stream::new(seed, "stage/travel"),
            clients: Stream::new(seed, "stage/clients"),
            disks: Stream::new(seed, "stage/disks"),
            last: BTreeMap::new(),
        }
    }

    fn one_way(&self, from: usize, to: usize) -> Tick {
        self.of.round_trips_us[from][to] / 2
    }

    /// When a message that is sent now arrives: not before the one before it.
    pub(crate) fn arrival(&mut self, now: Tick, from: usize, to: usize) -> Tick {
        let way = self.one_way(self.of.places[from], self.of.places[to]);
        let at = now + way + self.travel.below(way / JITTER + 1);
        let last = self.last.entry((from, to)).or_default();
        *last = at.max(*last);
        *last
    }

    /// How long a client's request to a server, or the answer to it, is on its way.
    pub(super) fn client_way(&mut self, server: usize) -> Tick {
        let place = self.of.places[server];
        let way = self.one_way(self.of.clients.unwrap_or(place), place);
        way + self.clients.below(way / JITTER + 1)
    }

    /// How long a sync takes.
    pub(crate) fn sync(&mut self) -> Tick {
        self.disks.between(SYNC.0, SYNC.1)
    }

    /// For people who read the figures.
    pub(super) fn describe(&self) -> String {
        format!(
            "a message takes half of its round trip, and up to 1/{JITTER} of that longer; a sync \
             of a disk takes {} to {} µs",
            SYNC.0, SYNC.1
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_order_of_what_it_carries() {
        let mut network = Network::new(1, Places::lan(2));
        let arrivals: Vec<Tick> = (0..1_000).map(|now| network.arrival(now, 0, 1)).collect();
        assert!(arrivals.is_sorted());
        let took: Vec<Tick> = arrivals.iter().zip(0..).map(|(at, now)| at - now).collect();
        assert!(took.iter().all(|took| (250..=255).contains(took)), "{took:?}");
        assert!(took.iter().any(|one| *one != took[0]), "{took:?}");
    }

    #[test]
    fn ways_are_those_of_the_places() {
        let round_trips_us = vec![vec![500, 90_000], vec![90_000, 500]];
        let places = Places { round_trips_us, places: vec![0, 1], clients: Some(0) };
        assert_eq!(places.problem(2), None);
        assert!(places.problem(3).is_some());
        let mut network = Network::new(1, places);
        assert!((45_000..=45_900).contains(&network.arrival(0, 0, 1)));
        assert!((250..=255).contains(&network.client_way(0)));
        assert!((45_000..=45_900).contains(&network.client_way(1)));
    }
}
