//! Data centers of a run: which servers are where, what their quorums come to, how long messages
//! travel between them. May not know what servers do.

use std::collections::BTreeMap;

use quorate_api::NodeId;
use quorate_control::data_centers::{DataCenter, DataCenters, Rule, rule};
use quorate_control::members::WriteQuorum;
use quorate_protocol::io::{LocalQuorum, Tick};

use crate::options::{Options, Shape};
use crate::regions;
use crate::rng::Stream;
use crate::server::server_id;
use crate::workload::Kind;

/// One data center.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Center {
    /// Where it is (`regions`).
    pub region: usize,
    /// Who is there.
    pub servers: Vec<usize>,
    /// Of the MASTERs there.
    pub write_quorum: WriteQuorum,
}

impl Options {
    /// The options of a seed in which servers are in data centers that are far apart. In most of
    /// them each data center decides by itself: then MASTERs and quorums stay what they are, as
    /// wherever W is below a majority.
    #[must_use]
    pub fn with_data_centers(self, seed: u64) -> Self {
        let rng = &mut Stream::new(seed, "data centers");
        let masters = *rng.pick(&[2, 3, 4, 5, 6, 6, 7, 9]);
        let mut drawn = self.with_servers(rng, masters);
        let count = (2 + rng.index(2)).min(masters);
        let mut left: Vec<usize> = (0..regions::NAMES.len()).collect();
        for _ in 0..count {
            let region = left.swap_remove(rng.index(left.len()));
            let quorums = [WriteQuorum::Majority, WriteQuorum::All, WriteQuorum::Count(1)];
            let write_quorum = *rng.pick(&quorums);
            drawn.centers.push(Center { region, servers: Vec::new(), write_quorum });
        }
        for server in 0..drawn.servers {
            let at = if server < count { server } else { rng.index(count) };
            drawn.centers[at].servers.push(server);
        }
        if rng.chance(700) { drawn.with_local_quorums(rng.chance(500)) } else { drawn.far_apart() }
    }

    /// Every data center decides by itself.
    #[must_use]
    pub fn with_local_quorums(mut self, decisive: bool) -> Self {
        self.local_quorums = true;
        let rules: Vec<Rule> = self.clusters.iter().map(|shape| self.rule_of(shape)).collect();
        for (shape, rule) in self.clusters.iter_mut().zip(rules) {
            shape.write_quorum = rule.write_quorum;
        }
        let (change_every, entry_every, drops, bit_flip) = (0, 0, 0, false);
        let (low_quorums, workload) = (true, Kind::Registers);
        let with = Self { change_every, entry_every, drops, bit_flip, low_quorums, ..self };
        Self { decisive, workload, ..with }.far_apart()
    }

    /// Elections outlast the longest round trip, and there is time for more than a few operations.
    fn far_apart(self) -> Self {
        Self { plane_tick: 40_000, duration: 3_000_000, think_max: 5_000, ..self }
    }

    /// What a cluster's quorum comes to where data centers decide.
    #[must_use]
    pub fn rule_of(&self, shape: &Shape) -> Rule {
        let names: Vec<String> = shape.masters.iter().map(ToString::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let center = |center: &Center| {
            let servers = center.servers.iter().map(ToString::to_string).collect();
            (
                regions::NAMES[center.region].to_owned(),
                DataCenter { write_quorum: center.write_quorum, servers },
            )
        };
        let centers: DataCenters = self.centers.iter().map(center).collect();
        rule(WriteQuorum::LocalDataCenter, &centers, &names)
    }

    /// The quorums of data centers that decide by themselves; none where they do not.
    pub(crate) fn local_quorums_of(&self, shape: &Shape) -> Vec<LocalQuorum> {
        let local = if self.local_quorums { self.rule_of(shape).local } else { Vec::new() };
        let local = local.into_iter().map(|(places, write_quorum)| LocalQuorum {
            masters: places.into_iter().map(|at| server_id(shape.masters[at])).collect(),
            write_quorum,
        });
        local.collect()
    }

    /// Who votes on what a server coordinates, and how many Yes it takes.
    pub(crate) fn voters(&self, shape: &Shape, coordinator: NodeId) -> (Vec<usize>, usize) {
        let all = || (shape.masters.clone(), shape.write_quorum);
        if !self.local_quorums {
            return all();
        }
        let own = shape.masters.iter().position(|server| server_id(*server) == coordinator);
        let (places, quorum) = self.rule_of(shape).seen_from(own, shape.masters.len());
        (places.into_iter().map(|at| shape.masters[at]).collect(), quorum)
    }

    /// The data center of every server.
    pub(crate) fn places(&self) -> BTreeMap<NodeId, String> {
        let all = self.centers.iter().flat_map(|center| {
            let name = regions::NAMES[center.region];
            center.servers.iter().map(move |server| (*server, name))
        });
        all.map(|(server, name)| (server_id(server), name.to_owned())).collect()
    }

    /// How long a message is on its way at least.
    #[must_use]
    pub(crate) fn distance(&self, from: usize, to: usize) -> Tick {
        let region = |server| {
            let found = self.centers.iter().find(|center| center.servers.contains(&server));
            found.map(|center| center.region)
        };
        match (region(from), region(to)) {
            (Some(from), Some(to)) => regions::round_trip(from, to) / 2,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_draws_data_centers_that_can_decide() {
        let (mut alone, mut shared) = (0, 0);
        for seed in 0..1_000 {
            let options = Options::of_seed(seed).with_data_centers(seed);
            let mut all: Vec<usize> =
                options.centers.iter().flat_map(|c| c.servers.iter().copied()).collect();
            all.sort_unstable();
            assert!(all.iter().copied().eq(0..options.servers), "seed {seed}");
            for shape in options.clusters.iter().filter(|_| options.local_quorums) {
                let rule = options.rule_of(shape);
                assert_eq!(rule.write_quorum, shape.write_quorum, "seed {seed}");
                let within = |(places, w): &(Vec<usize>, usize)| (1..=places.len()).contains(w);
                assert!(rule.local.iter().all(within), "seed {seed}");
                let counter = if rule.local.is_empty() { &mut alone } else { &mut shared };
                *counter += 1;
            }
        }
        assert!(alone > 100 && shared > 300, "{alone} of one data center, {shared} of several");
    }
}
