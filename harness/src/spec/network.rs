//! The tables of published round trips that come with the program, and who is where in one. May not
//! know what distances cost.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::raw::{RawLatencies, RawNetwork};
use super::validate::Findings;
use crate::plan::{Network, Topology};

/// A table as its file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    source: String,
    date: String,
    within_ms: f64,
    regions: Vec<String>,
    /// Each pair once, whichever way.
    #[serde(default)]
    round_trips_ms: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Table {
    fn read(latencies: RawLatencies) -> Result<Self, String> {
        let text = match latencies {
            RawLatencies::Lan => include_str!("../../assets/networks/lan.yaml"),
            RawLatencies::OneRegion => include_str!("../../assets/networks/one-region.yaml"),
            RawLatencies::FiveRegions => include_str!("../../assets/networks/five-regions.yaml"),
        };
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// Microseconds from one region to another and back.
    fn round_trip(&self, one: &str, other: &str) -> Option<u64> {
        let way = |from: &str, to: &str| self.round_trips_ms.get(from)?.get(to).copied();
        let within = (one == other).then_some(self.within_ms);
        let ms = within.or_else(|| way(one, other)).or_else(|| way(other, one))?;
        Some((ms * 1_000.0).round() as u64)
    }

    fn matrix(&self) -> Option<Vec<Vec<u64>>> {
        let row = |one: &String| {
            let ways = self.regions.iter().map(|other| self.round_trip(one, other));
            ways.collect()
        };
        self.regions.iter().map(row).collect()
    }
}

/// The network of a spec, if it names one.
pub(super) fn network(
    raw: Option<&RawNetwork>,
    topology: &Topology,
    findings: &mut Findings<'_>,
) -> Option<Network> {
    let raw = raw?;
    let table = Table::read(raw.latencies).map_err(|error| {
        findings.wrong("network.latencies", error);
    });
    let table = table.ok()?;
    let Some(round_trips_us) = table.matrix() else {
        findings.wrong("network.latencies", "the table lacks a pair of regions");
        return None;
    };
    let mut place = |key: &str, region: &String| {
        let found = table.regions.iter().position(|known| known == region);
        if found.is_none() {
            let legal = table.regions.join(", ");
            findings.wrong(key, format!("there is no region {region}; legal: {legal}"));
        }
        found
    };
    let clients = raw.clients.as_ref().and_then(|region| place("network.clients", region));
    // In turn over the regions, MASTERs and REPLICAs each from the first one on.
    let turns = (0..topology.masters.len()).chain(0..topology.replicas.len());
    let mut places: Vec<usize> = turns.map(|turn| turn % table.regions.len()).collect();
    let servers = topology.servers();
    let mut strangers = Vec::new();
    for (server, region) in &raw.places {
        let key = format!("network.places.{server}");
        match servers.iter().position(|name| name == server) {
            Some(index) => places[index] = place(&key, region).unwrap_or_default(),
            None => strangers.push((key, format!("there is no server {server}"))),
        }
    }
    for (key, what) in strangers {
        findings.wrong(&key, what);
    }
    let name = raw.latencies.to_string();
    let Table { source, date, regions, .. } = table;
    Some(Network { name, source, date, regions, round_trips_us, places, clients })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_all_its_pairs_once_and_says_where_it_is_from() {
        for latencies in [RawLatencies::Lan, RawLatencies::OneRegion, RawLatencies::FiveRegions] {
            let table = Table::read(latencies).unwrap();
            let matrix = table.matrix().unwrap();
            let count = table.regions.len();
            let pairs: usize = table.round_trips_ms.values().map(BTreeMap::len).sum();
            assert_eq!(pairs, count * (count - 1) / 2, "{latencies}");
            assert!(table.source.len() > 20 && table.date.len() == 10, "{latencies}");
            for (one, row) in matrix.iter().enumerate() {
                assert!((0..count).all(|other| row[other] == matrix[other][one]), "{latencies}");
                assert!((0..count).all(|other| row[other] >= row[one]), "{latencies}");
            }
        }
        let far = Table::read(RawLatencies::FiveRegions).unwrap();
        assert_eq!(far.round_trip("sydney", "tokyo"), Some(115_000));
    }
}
