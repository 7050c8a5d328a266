//! Which clusters have which indexes, and what a committed record is filed under: the schema
//! prepared for the thread that applies commits. May not know the store.

use std::collections::BTreeMap;

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, Rid};
use quorate_control::indexes::IndexKind;
use quorate_control::schema::Schema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::key;

/// Derived indexes by the clusters they cover.
#[derive(Debug, Default)]
pub(crate) struct IndexTable {
    by_cluster: BTreeMap<ClusterKey, Vec<(ClusterKey, String)>>,
    covered: BTreeMap<ClusterKey, Vec<ClusterKey>>,
}

/// An entry: in which index, under which key.
pub(crate) type Entry = (ClusterKey, Vec<u8>);

impl IndexTable {
    /// The derived indexes of a schema.
    pub(crate) fn of(schema: &Schema) -> Self {
        let mut table = Self::default();
        for database in &schema.databases {
            let derived = |i: &&quorate_control::indexes::Index| {
                i.kind == IndexKind::NotUnique && i.is_maintained()
            };
            for index in database.indexes.iter().filter(derived) {
                let key = |cluster| ClusterKey { database: database.id, cluster };
                let of = key(index.cluster);
                let covered: Vec<ClusterKey> =
                    database.clusters_of(&index.class).into_iter().map(key).collect();
                for cluster in &covered {
                    let list = table.by_cluster.entry(*cluster).or_default();
                    list.push((of, index.field.clone()));
                }
                table.covered.insert(of, covered);
            }
        }
        table
    }

    /// All derived indexes with the clusters they cover.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = (ClusterKey, &[ClusterKey])> {
        self.covered.iter().map(|(index, covered)| (*index, covered.as_slice()))
    }

    /// True when records of the item's cluster are filed anywhere.
    pub(crate) fn covers(&self, item: &ItemId) -> bool {
        matches!(item.key, ItemKey::Record(_)) && self.by_cluster.contains_key(&item.cluster)
    }

    /// What the committed state of an item is filed under.
    pub(crate) fn entries(&self, item: &ItemId, committed: Option<&Committed>) -> Vec<Entry> {
        let Some(list) = self.by_cluster.get(&item.cluster) else { return Vec::new() };
        let Some(fields) = committed.filter(|c| c.live).and_then(fields) else { return Vec::new() };
        let entry = |(index, field): &(ClusterKey, String)| {
            Some((*index, key::encode(fields.get(field)?)?))
        };
        list.iter().filter_map(entry).collect()
    }
}

/// The record's id in its database.
pub(crate) fn rid_of(item: &ItemId) -> Option<Rid> {
    match item.key {
        ItemKey::Record(position) => Some(Rid { cluster: item.cluster.cluster, position }),
        ItemKey::Key(_) | ItemKey::Token(_) => None,
    }
}

/// A stored image that is no record is filed nowhere; whoever reads it says that it is corrupt.
pub(crate) fn fields(committed: &Committed) -> Option<Map<String, Value>> {
    Map::deserialize(&mut serde_json::Deserializer::from_slice(&committed.image.as_ref()?.0)).ok()
}
