//! The budget of memory: what a server may use, and which of its parts how much of it. Pure
//! arithmetic; may not know how a part keeps to its share.
//!
//! The budget is about what the server allocates. The program itself, and files that the system
//! maps or caches for it, can be read again, so no system kills for them.

pub mod allocator;
pub mod limit;
pub mod size;

use size::Size;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Least budget of a server that nobody gave a number of connections.
pub const LEAST: u64 = 32 * MIB;
/// Below it a server among others is warned: it serves, but refuses what larger ones do not.
pub const ADVISED: u64 = 128 * MIB;
/// Most that a server takes of itself: what the original advises for a server among others.
const DEFAULT_MOST: u64 = 4 << 30;

/// Threads, schema, tables of transactions, what the store takes beside its cache.
const GROUND: u64 = 8 * MIB;
/// Buffers of one client's connection.
const CONNECTION: u64 = 32 * KIB;
/// Connections of a server whose budget does not hold it back.
const CONNECTIONS: u64 = 1_024;
/// Budget a connection, where that gives less.
const BUDGET_A_CONNECTION: u64 = 256 * KIB;
/// Least that is left beside ground and connections.
const REST_LEAST: u64 = 16 * MIB;
/// Messages waiting for the loop: more would only make them old.
const INBOX_MOST: u64 = 64 * MIB;
/// Messages waiting for peers: the same.
const LINKS_MOST: u64 = 256 * MIB;
/// Memtables: what is in them is read again from the log at the next start.
const MEMTABLES_MOST: u64 = 64 * MIB;

/// A budget that is too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} is too small: the least is {}{}", Size(*.total), Size(*.least), because(*.connections))]
pub struct TooSmall {
    total: u64,
    least: u64,
    connections: Option<usize>,
}

fn because(connections: Option<usize>) -> String {
    connections.map(|n| format!(" with connections_max {n}")).unwrap_or_default()
}

/// A budget and its parts, in bytes. They add up to the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// All of it.
    pub total: u64,
    /// What no other part counts, connections included.
    pub ground: u64,
    /// Cache of the store, its memtables included.
    pub store: u64,
    /// The share of these in it.
    pub memtables: u64,
    /// Bodies of requests, and results until they are sent.
    pub requests: u64,
    /// Messages waiting for the loop.
    pub inbox: u64,
    /// Messages waiting for peers.
    pub links: u64,
    /// Connections of clients, counted in `ground`.
    pub connections: usize,
}

impl Budget {
    /// Of a server that works for another one in its process.
    pub const LITTLE: Self = Self {
        total: 16 * MIB,
        ground: 4 * MIB,
        store: 8 * MIB,
        memtables: 4 * MIB,
        requests: MIB,
        inbox: 2 * MIB,
        links: MIB,
        connections: 1,
    };

    /// Divides a budget; `connections` is how many somebody asked for.
    ///
    /// # Errors
    /// It is too small.
    pub fn divide(total: u64, connections: Option<usize>) -> Result<Self, TooSmall> {
        let ground_of = |connections: u64| GROUND + connections * CONNECTION;
        let least = connections.map_or(LEAST, |n| LEAST.max(ground_of(n as u64) + REST_LEAST));
        if total < least {
            return Err(TooSmall { total, least, connections });
        }
        let fitting = (total / BUDGET_A_CONNECTION).min(CONNECTIONS);
        let connections = connections.map_or(fitting, |n| n as u64);
        let ground = ground_of(connections);
        let rest = total - ground;
        let requests = rest / 8 * 3;
        let (inbox, links) = ((rest / 8).min(INBOX_MOST), (rest / 8).min(LINKS_MOST));
        let store = rest - requests - inbox - links;
        let memtables = (store / 2).min(MEMTABLES_MOST);
        // Fits: at most CONNECTIONS, or what came as a usize.
        let connections = connections as usize;
        Ok(Self { total, ground, store, memtables, requests, inbox, links, connections })
    }

    /// What a server takes that nobody gave a budget: half of what it can have.
    #[must_use]
    pub fn by_default(available: Option<u64>) -> u64 {
        available.map_or(DEFAULT_MOST, |bytes| (bytes / 2).clamp(LEAST, DEFAULT_MOST))
    }

    /// What an operator should know of it; `among_others`: the server is one of a cluster.
    #[must_use]
    pub fn warning(&self, among_others: bool, available: Option<u64>) -> Option<String> {
        let total = Size(self.total);
        if let Some(available) = available.filter(|bytes| self.total > *bytes) {
            let available = Size(available);
            return Some(format!(
                "heap: {total} is more than the {available} that this server can have: the \
                 system may end it before it refuses anything"
            ));
        }
        (among_others && self.total < ADVISED).then(|| {
            let advised = Size(ADVISED);
            format!(
                "heap: {total} is below the {advised} advised for a server among others: it will \
                 refuse requests (503 overload) that larger ones serve"
            )
        })
    }

    /// Largest piece of a budget that one process can address.
    #[must_use]
    pub fn bytes(part: u64) -> usize {
        usize::try_from(part).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn mib(budget: &Budget) -> [u64; 6] {
        let Budget { ground, store, memtables, requests, inbox, links, .. } = *budget;
        [ground, store, memtables, requests, inbox, links].map(|part| part / MIB)
    }

    #[test]
    fn a_budget_is_divided_without_a_rest() {
        for (total, connections, parts) in [
            (32 * MIB, 128, [12, 7, 3, 7, 2, 2]),
            (64 * MIB, 256, [16, 18, 9, 18, 6, 6]),
            (128 * MIB, 512, [24, 39, 19, 39, 13, 13]),
            (256 * MIB, 1_024, [40, 81, 40, 81, 27, 27]),
            (512 * MIB, 1_024, [40, 177, 64, 177, 59, 59]),
            (2 * GIB, 1_024, [40, 940, 64, 753, 64, 251]),
            (64 * GIB, 1_024, [40, 40_615, 64, 24_561, 64, 256]),
        ] {
            let budget = Budget::divide(total, None).unwrap();
            assert_eq!((budget.connections, mib(&budget)), (connections, parts), "{total}");
            let Budget { ground, store, requests, inbox, links, .. } = budget;
            assert_eq!(ground + store + requests + inbox + links, total);
        }
    }

    #[test]
    fn more_never_means_less() {
        let budgets = (0..11).map(|n| Budget::divide(LEAST << n, None).unwrap());
        let budgets: Vec<Budget> = budgets.collect();
        for pair in budgets.windows(2) {
            let grows = |part: fn(&Budget) -> u64| part(&pair[0]) <= part(&pair[1]);
            assert!(grows(|b| b.store) && grows(|b| b.requests) && grows(|b| b.memtables));
            assert!(grows(|b| b.inbox) && grows(|b| b.links) && grows(|b| b.ground));
        }
    }

    #[test]
    fn too_small_is_refused_with_what_would_do() {
        let text = Budget::divide(LEAST - 1, None).unwrap_err().to_string();
        assert_eq!(text, "33554431 bytes is too small: the least is 32m");
        let text = Budget::divide(LEAST, Some(1_024)).unwrap_err().to_string();
        assert_eq!(text, "32m is too small: the least is 56m with connections_max 1024");
        let asked = Budget::divide(56 * MIB, Some(1_024)).unwrap();
        assert_eq!((asked.connections, asked.ground), (1_024, 40 * MIB));
        assert_eq!(Budget::divide(LEAST, Some(1)).unwrap().ground, GROUND + CONNECTION);
    }

    #[test]
    fn without_a_word_half_of_what_there_is_is_taken() {
        assert_eq!(Budget::by_default(Some(512 * MIB)), 256 * MIB);
        assert_eq!(Budget::by_default(Some(48 * MIB)), LEAST);
        assert_eq!(Budget::by_default(Some(256 * GIB)), DEFAULT_MOST);
        assert_eq!(Budget::by_default(None), DEFAULT_MOST);
    }

    #[test]
    fn operators_are_warned_of_what_is_little_and_of_what_is_not_there() {
        let small = Budget::divide(64 * MIB, None).unwrap();
        let told = small.warning(true, None).unwrap();
        assert!(told.contains("64m is below the 128m advised"), "{told}");
        assert_eq!(small.warning(false, None), None);
        let advised = Budget::divide(ADVISED, None).unwrap();
        assert_eq!(advised.warning(true, Some(ADVISED)), None);
        let told = advised.warning(false, Some(ADVISED - MIB)).unwrap();
        assert!(told.contains("128m is more than the 127m"), "{told}");
    }
}
