//! Whom a fault hits: symbolic targets resolved to servers, purely from the seed and the fault's
//! name.
//! May not know what the fault does.

use rand_chacha::rand_core::RngCore;

use super::stream;
use super::{Target, Topology};

/// How many of the servers `target` means.
#[must_use]
pub fn size(target: &Target, topology: &Topology) -> usize {
    let masters = topology.masters.len();
    match target {
        Target::One => masters.min(1),
        Target::Minority => masters.saturating_sub(1) / 2,
        Target::Majority => masters / 2 + 1,
        Target::All => masters,
        Target::Replicas => topology.replicas.len(),
        Target::Names(names) => names.len(),
    }
}

/// The servers that `target` means for the fault named `fault`, in the order of the topology's.
/// Words without a name in them mean MASTERs, as quorums do.
///
/// Same arguments, same answer; another fault's presence never changes it.
#[must_use]
pub fn resolve(target: &Target, topology: &Topology, seed: u64, fault: &str) -> Vec<String> {
    let masters = &topology.masters;
    let chosen = match target {
        Target::Names(names) => {
            let mut servers = topology.servers();
            servers.retain(|server| names.contains(server));
            return servers;
        }
        Target::Replicas => return topology.replicas.clone(),
        Target::One | Target::Minority | Target::Majority | Target::All => {
            draw(size(target, topology), masters.len(), seed, fault)
        }
    };
    chosen.into_iter().filter_map(|index| masters.get(index).cloned()).collect()
}

/// `count` of these servers, in their order, drawn for the fault apart from its target.
pub(super) fn some_of(servers: &[String], count: usize, seed: u64, fault: &str) -> Vec<String> {
    let order = shuffled(servers, seed, fault);
    let chosen = &order[..count.min(order.len())];
    servers.iter().filter(|server| chosen.contains(server)).cloned().collect()
}

/// These servers in an order drawn for the fault apart from its target.
pub(super) fn shuffled(servers: &[String], seed: u64, fault: &str) -> Vec<String> {
    let numbers = draws(servers.len(), servers.len(), seed, &format!("fault/{fault}/shape"));
    numbers.into_iter().filter_map(|number| servers.get(number).cloned()).collect()
}

/// `count` of the numbers below `of`, ascending.
fn draw(count: usize, of: usize, seed: u64, fault: &str) -> Vec<usize> {
    let mut numbers = draws(count, of, seed, &format!("fault/{fault}/target"));
    numbers.sort_unstable();
    numbers
}

/// `count` of the numbers below `of`, as they are drawn.
fn draws(count: usize, of: usize, seed: u64, stream: &str) -> Vec<usize> {
    let mut rng = stream::rng(seed, stream);
    let mut numbers: Vec<usize> = (0..of).collect();
    // The head of a Fisher-Yates shuffle. The modulo's bias is below 2^-60 for up to nine servers.
    for i in 0..count.min(of) {
        let left = u64::try_from(of - i).unwrap_or(u64::MAX);
        let step = usize::try_from(rng.next_u64() % left).unwrap_or(0);
        numbers.swap(i, i + step);
    }
    numbers.truncate(count);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masters(count: usize) -> Topology {
        Topology {
            masters: (1..=count).map(|i| format!("n{i}")).collect(),
            replicas: vec!["r1".to_owned(), "r2".to_owned()],
            standalone: false,
            write_quorum: "majority".to_owned(),
            proxied: true,
            limits: crate::plan::Limits::default(),
            heap_bytes: None,
        }
    }

    #[test]
    fn sizes_follow_the_quorum_arithmetic() {
        for (masters, minority, majority) in [(1, 0, 1), (2, 0, 2), (3, 1, 2), (4, 1, 3), (5, 2, 3)]
        {
            let topology = self::masters(masters);
            assert_eq!(size(&Target::Minority, &topology), minority);
            assert_eq!(size(&Target::Majority, &topology), majority);
        }
    }

    #[test]
    fn one_is_any_server_and_repeats() {
        let all = masters(3);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let hit = resolve(&Target::One, &all, seed, "cut");
            assert_eq!(hit, resolve(&Target::One, &all, seed, "cut"));
            assert_eq!(hit.len(), 1);
            seen.extend(hit);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), all.masters);
    }

    #[test]
    fn groups_are_distinct_and_in_order() {
        for seed in 0..50 {
            let hit = resolve(&Target::Majority, &masters(5), seed, "cut");
            assert_eq!(hit.len(), 3);
            assert!(hit.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn names_stay_in_the_order_of_the_servers() {
        let target = Target::Names(["r2", "n3", "n1"].map(str::to_owned).to_vec());
        assert_eq!(resolve(&target, &masters(3), 1, "x"), ["n1", "n3", "r2"]);
        assert_eq!(resolve(&Target::Replicas, &masters(3), 1, "x"), ["r1", "r2"]);
        assert_eq!(size(&Target::Replicas, &masters(3)), 2);
    }
}
