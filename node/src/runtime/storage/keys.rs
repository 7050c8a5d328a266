//! Keys as bytes, so that the engine's order is the order of the numbers. May not know values.

use quorate_api::{Boot, ClusterKey, ItemId, ItemKey, NodeId, Rid, TxId};
use quorate_protocol::message::LogPosition;

/// Committed items.
pub(crate) const ITEMS: &str = "items";
/// Votes and acceptor state.
pub(crate) const TX: &str = "tx";
/// Outcomes.
pub(crate) const OUTCOMES: &str = "outcomes";
/// The own decision log.
pub(crate) const LOG: &str = "log";
/// Owner, marks, what is known of the peers.
pub(crate) const META: &str = "meta";
/// Entries of derived indexes; the keys are everything.
pub(crate) const ENTRIES: &str = "entries";
/// The control plane's log.
pub(crate) const CONTROL: &str = "control";
/// What items were built on, where W is below a majority.
pub(crate) const ANCESTORS: &str = "ancestors";
/// Contents of items beside the committed ones, where W is below a majority.
pub(crate) const RIVALS: &str = "rivals";
/// All column families.
pub(crate) const FAMILIES: [&str; 9] =
    [ITEMS, TX, OUTCOMES, LOG, META, ENTRIES, CONTROL, ANCESTORS, RIVALS];

/// Node id and last boot of the server that the store belongs to.
pub(crate) const META_OWNER: &[u8] = b"owner";
/// Number of the last batch of writes.
pub(crate) const META_LAST: &[u8] = b"last";
/// Position up to which the own log is dropped.
pub(crate) const META_LOG_START: &[u8] = b"log_start";
/// Present while the server aligns.
pub(crate) const META_ALIGNING: &[u8] = b"aligning";
/// Prefix of the commits that an alignment has begun with.
pub(crate) const META_BEGUN: &[u8] = b"begun/";
/// Prefix of the keys up to which clusters are copied, by cluster.
pub(crate) const META_COPIED: &[u8] = b"copied/";
/// Prefix of the positions up to which decision logs had told those aligned with.
pub(crate) const META_SHOWN: &[u8] = b"shown/";
/// Prefix of the positions up to which decision logs are applied.
pub(crate) const META_APPLIED: &[u8] = b"applied/";
/// Prefix of where ended boots' parts of decision logs stop.
pub(crate) const META_BOOT_END: &[u8] = b"boot_end/";
/// Prefix of the generations up to which this server votes no more, by cluster.
pub(crate) const META_SEALED: &[u8] = b"sealed/";
/// Prefix of the generations for which this server has all before them, by cluster.
pub(crate) const META_ENTERED: &[u8] = b"entered/";
/// Prefix of the low-water marks.
pub(crate) const META_LOW: &[u8] = b"low/";
/// Prefix of the commits that no decision log has told of.
pub(crate) const META_OUT_OF_LOG: &[u8] = b"out_of_log/";
/// Prefix of the places of contents that have lost.
pub(crate) const META_LOST: &[u8] = b"lost/";
/// Prefix of what is known of the peers.
pub(crate) const META_PEER: &[u8] = b"peer/";
/// Prefix of the marks of derived indexes, per covered cluster.
pub(crate) const META_FILLED: &[u8] = b"filled/";

/// Term and vote of the control plane.
pub(crate) const CONTROL_HARD_STATE: &[u8] = b"hard_state";
/// Its last snapshot.
pub(crate) const CONTROL_SNAPSHOT: &[u8] = b"snapshot";
/// Prefix of its entries.
pub(crate) const CONTROL_ENTRY: &[u8] = b"entry/";

const KIND_RECORD: u8 = 0;
const KIND_KEY: u8 = 1;
const KIND_TOKEN: u8 = 2;

/// Length of what comes before the key bytes of an item.
const ITEM_PREFIX: usize = 9;

/// Key of an item.
pub(crate) fn item(item: &ItemId) -> Vec<u8> {
    let (kind, number, bytes): (u8, [u8; 8], Option<&[u8]>) = match &item.key {
        ItemKey::Record(position) => (KIND_RECORD, position.to_be_bytes(), None),
        ItemKey::Key(key) => (KIND_KEY, [0; 8], Some(key)),
        ItemKey::Token(token) => (KIND_TOKEN, [0; 8], Some(token)),
    };
    let bytes = bytes.unwrap_or(&number);
    let mut key = Vec::with_capacity(ITEM_PREFIX + bytes.len());
    key.extend_from_slice(&cluster(item.cluster));
    key.push(kind);
    key.extend_from_slice(bytes);
    key
}

/// The key of an item of this cluster; `None` for any other key.
pub(crate) fn parse_item(in_cluster: ClusterKey, key: &[u8]) -> Option<ItemKey> {
    let (kind, bytes) = key.strip_prefix(&cluster(in_cluster))?.split_first()?;
    match *kind {
        KIND_RECORD => Some(ItemKey::Record(u64::from_be_bytes(bytes.try_into().ok()?))),
        KIND_KEY => Some(ItemKey::Key(bytes.to_vec())),
        KIND_TOKEN => Some(ItemKey::Token(bytes.to_vec())),
        _ => None,
    }
}

/// The item of a key; `None` for a key of anything else.
pub(crate) fn parse_any_item(key: &[u8]) -> Option<ItemId> {
    let cluster = parse_cluster(key.get(..8)?)?;
    Some(ItemId { cluster, key: parse_item(cluster, key)? })
}

/// Prefix of a cluster's items.
pub(crate) fn cluster(cluster: ClusterKey) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&cluster.database.to_be_bytes());
    key[4..].copy_from_slice(&cluster.cluster.to_be_bytes());
    key
}

/// Back again.
pub(crate) fn parse_cluster(bytes: &[u8]) -> Option<ClusterKey> {
    let (database, cluster) = bytes.split_at_checked(4)?;
    let number = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.try_into().ok()?));
    Some(ClusterKey { database: number(database)?, cluster: number(cluster)? })
}

/// Position in the key of a record of this cluster; `None` for any other key.
pub(crate) fn record_position(in_cluster: ClusterKey, key: &[u8]) -> Option<u64> {
    let rest = key.strip_prefix(&cluster(in_cluster))?.strip_prefix(&[KIND_RECORD])?;
    Some(u64::from_be_bytes(rest.try_into().ok()?))
}

/// Key of a transaction in `tx` and `outcomes`.
pub(crate) fn tx(tx: TxId) -> [u8; 20] {
    let mut key = [0; 20];
    key[..12].copy_from_slice(&node_boot(tx.node, tx.boot));
    key[12..].copy_from_slice(&tx.seq.to_be_bytes());
    key
}

/// The transaction of a key of `tx` or `outcomes`.
pub(crate) fn parse_tx(key: &[u8]) -> Option<TxId> {
    let (head, seq) = key.split_at_checked(12)?;
    let (node, boot) = parse_node_boot(head)?;
    Some(TxId { node, boot, seq: u64::from_be_bytes(seq.try_into().ok()?) })
}

/// Key of an entry of the control plane's log.
pub(crate) fn control_entry(index: u64) -> Vec<u8> {
    meta(CONTROL_ENTRY, &index.to_be_bytes())
}

/// Twelve bytes of a server in one of its boots.
pub(crate) fn node_boot(node: NodeId, boot: Boot) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&node.0.to_be_bytes());
    key[8..].copy_from_slice(&boot.0.to_be_bytes());
    key
}

/// Back again.
pub(crate) fn parse_node_boot(bytes: &[u8]) -> Option<(NodeId, Boot)> {
    let (node, boot) = bytes.split_at_checked(8)?;
    Some((
        NodeId(u64::from_be_bytes(node.try_into().ok()?)),
        Boot(u32::from_be_bytes(boot.try_into().ok()?)),
    ))
}

/// Key of a log entry.
pub(crate) fn log(position: LogPosition) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&position.boot.0.to_be_bytes());
    key[4..].copy_from_slice(&position.index.to_be_bytes());
    key
}

/// Back again.
pub(crate) fn parse_log(key: &[u8]) -> Option<LogPosition> {
    let (boot, index) = key.split_at_checked(4)?;
    Some(LogPosition {
        boot: Boot(u32::from_be_bytes(boot.try_into().ok()?)),
        index: u64::from_be_bytes(index.try_into().ok()?),
    })
}

/// Key of an index entry.
pub(crate) fn entry(index: ClusterKey, key: &[u8], rid: Rid) -> Vec<u8> {
    let of = cluster(index);
    [&of[..], key, &rid.cluster.to_be_bytes(), &rid.position.to_be_bytes()].concat()
}

/// The record of an entry, from what is behind its key.
pub(crate) fn parse_rid(rest: &[u8]) -> Option<Rid> {
    let (cluster, position) = rest.split_at_checked(4)?;
    Some(Rid {
        cluster: u32::from_be_bytes(cluster.try_into().ok()?),
        position: u64::from_be_bytes(position.try_into().ok()?),
    })
}

/// First key behind all items or entries of a cluster.
pub(crate) fn after(of: ClusterKey) -> Vec<u8> {
    match of.cluster.checked_add(1) {
        Some(next) => cluster(ClusterKey { cluster: next, ..of }).to_vec(),
        None => vec![0xff; 9],
    }
}

/// Mark that an index holds everything of a cluster.
pub(crate) fn filled(index: ClusterKey, from: ClusterKey) -> Vec<u8> {
    meta(META_FILLED, &[cluster(index), cluster(from)].concat())
}

/// Back again.
pub(crate) fn parse_filled(key: &[u8]) -> Option<(ClusterKey, ClusterKey)> {
    let numbers = key.strip_prefix(META_FILLED)?;
    let number = |at: usize| Some(u32::from_be_bytes(numbers.get(at..at + 4)?.try_into().ok()?));
    let key = |at| Some(ClusterKey { database: number(at)?, cluster: number(at + 4)? });
    Some((key(0)?, key(8)?))
}

/// A key of `meta` with a prefix.
pub(crate) fn meta(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
    [prefix, rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_order_like_the_numbers(a: (u32, u32, u64), b: (u32, u32, u64)) {
            let key = |(database, cluster, position)| {
                item(&ItemId::record(ClusterKey { database, cluster }, position))
            };
            prop_assert_eq!(a.cmp(&b), key(a).cmp(&key(b)));
            let c = ClusterKey { database: a.0, cluster: a.1 };
            prop_assert_eq!(record_position(c, &key(a)), Some(a.2));
        }

        #[test]
        fn tx_and_log_keys_come_back(node: u64, boot: u32, seq: u64) {
            let id = TxId { node: NodeId(node), boot: Boot(boot), seq };
            prop_assert_eq!(parse_tx(&tx(id)), Some(id));
            let position = LogPosition { boot: Boot(boot), index: seq };
            prop_assert_eq!(parse_log(&log(position)), Some(position));
        }
    }

    #[test]
    fn marks_and_entries_come_back() {
        let key = |cluster| ClusterKey { database: 1, cluster };
        assert_eq!(parse_filled(&filled(key(7), key(9))), Some((key(7), key(9))));
        let rid = Rid { cluster: 9, position: 300 };
        let entry = entry(key(7), b"k", rid);
        assert_eq!(
            parse_rid(entry.strip_prefix(&[0, 0, 0, 1, 0, 0, 0, 7, b'k']).unwrap()),
            Some(rid)
        );
        assert!(after(key(7)) > entry && after(key(u32::MAX)) > cluster(key(u32::MAX)).to_vec());
    }

    #[test]
    fn items_of_any_cluster_come_back() {
        let cluster = ClusterKey { database: 1, cluster: 10 };
        for key in [ItemKey::Record(7), ItemKey::Key(vec![1]), ItemKey::Token(vec![])] {
            let id = ItemId { cluster, key };
            assert_eq!(parse_any_item(&item(&id)), Some(id));
        }
        assert_eq!(parse_any_item(b"short"), None);
    }

    #[test]
    fn a_key_of_an_index_is_no_record() {
        let cluster = ClusterKey { database: 1, cluster: 10 };
        let key = item(&ItemId { cluster, key: ItemKey::Key(vec![0; 8]) });
        assert_eq!(record_position(cluster, &key), None);
    }
}
