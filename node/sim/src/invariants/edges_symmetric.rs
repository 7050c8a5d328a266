//! An edge is listed at both of its ends and has a live record, or none of the three, in any
//! server's snapshot (FEATURES: edges are made in one transaction with both directions).

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{Committed, ItemId, ItemKey};

use crate::options::Options;
use crate::workload::graph::{edge_item, ends};

pub(super) fn check(items: &BTreeMap<ItemId, Committed>, options: &Options) -> Option<String> {
    let (mut out, mut into) = (BTreeSet::new(), BTreeSet::new());
    for vertex in 0..options.keys {
        let Some(ends) = ends(items.get(&options.record_of(vertex))) else {
            return Some(format!("vertex {vertex} is gone"));
        };
        for end in ends {
            if end.out {
                out.insert((end.edge, vertex, end.other));
            } else {
                into.insert((end.edge, end.other, vertex));
            }
        }
    }
    if let Some((edge, from, to)) = out.symmetric_difference(&into).next() {
        return Some(format!("edge {edge} from {from} to {to} is listed at one end only"));
    }
    let records: BTreeSet<ItemId> =
        out.iter().map(|(edge, from, _)| edge_item(options, *from, *edge)).collect();
    let is_edge =
        |item: &ItemId| matches!(item.key, ItemKey::Record(position) if position >= options.keys);
    let live = items.iter().filter(|(item, committed)| committed.live && is_edge(item));
    let live: BTreeSet<ItemId> = live.map(|(item, _)| item.clone()).collect();
    let odd = records.symmetric_difference(&live).next();
    odd.map(|item| format!("edge record {item} is live without ends, or the other way round"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{Image, Stamp};

    fn live(body: &[u8]) -> Committed {
        let mut bytes = 7_u64.to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        Committed {
            stamp: Stamp::ABSENT,
            live: true,
            image: Some(Image::from(bytes)),
            elsewhere: None,
        }
    }

    fn end(edge: u64, other: u64, out: u8) -> Vec<u8> {
        let mut body = edge.to_be_bytes().to_vec();
        body.extend_from_slice(&other.to_be_bytes());
        body.push(out);
        body
    }

    #[test]
    fn half_an_edge_is_caught() {
        let options = Options { keys: 2, ..Options::of_seed(1) };
        let mut items = BTreeMap::new();
        items.insert(options.record_of(0), live(&end(1_000, 1, 1)));
        items.insert(options.record_of(1), live(&[]));
        assert!(check(&items, &options).is_some());
        items.insert(options.record_of(1), live(&end(1_000, 0, 0)));
        assert!(check(&items, &options).is_some());
        items.insert(edge_item(&options, 0, 1_000), live(&[]));
        assert_eq!(check(&items, &options), None);
    }
}
