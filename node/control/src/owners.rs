//! Owners of clusters that move when a server is lost, and back home again (FEATURES A7), in the
//! schema. May not know who notices that a server is lost, nor what owners may do.

use alloc::vec::Vec;

use quorate_api::NodeId;

use crate::schema::{Cluster, Database, Schema};

impl Schema {
    /// The schema in which the clusters that `lost` owns have owners among `to`, as far as these
    /// are other MASTERs; `None` when there is nothing to move, or nobody to move it to.
    pub(crate) fn owners_moved(&self, lost: NodeId, to: &[NodeId]) -> Option<Self> {
        let masters = self.masters().map(|server| server.node);
        let heirs: Vec<NodeId> = masters.filter(|n| *n != lost && to.contains(n)).collect();
        if heirs.is_empty() || !self.owns_any(lost) {
            return None;
        }
        let mut next = self.next();
        for database in &mut next.databases {
            let left =
                (0..database.clusters.len()).filter(|at| database.clusters[*at].owner == lost);
            let left: Vec<usize> = left.collect();
            for at in &left {
                database.clusters[*at].owner = database.heir(*at, &heirs).unwrap_or(lost);
            }
            database.version += u64::from(!left.is_empty());
        }
        Some(next)
    }

    /// The schema in which `back` owns the clusters that were made for it; `None` when it does.
    pub(crate) fn owners_returned(&self, back: NodeId) -> Option<Self> {
        if !self.is_missed(back) {
            return None;
        }
        let mut next = self.next();
        for database in &mut next.databases {
            let away = |c: &&mut Cluster| c.home == back && c.owner != back;
            let away = database.clusters.iter_mut().filter(away);
            let returned = away.map(|cluster| cluster.owner = back).count();
            database.version += u64::from(returned > 0);
        }
        Some(next)
    }

    /// True when a server owns some cluster.
    #[must_use]
    pub fn owns_any(&self, node: NodeId) -> bool {
        self.clusters().any(|cluster| cluster.owner == node)
    }

    /// True when some cluster that was made for a server is owned by another.
    #[must_use]
    pub fn is_missed(&self, node: NodeId) -> bool {
        self.clusters().any(|cluster| cluster.home == node && cluster.owner != node)
    }

    fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.databases.iter().flat_map(|database| &database.clusters)
    }
}

impl Database {
    /// Who takes a cluster over: whoever has the fewest of its class, then the fewest of all, then
    /// the first. So each class is spread as evenly as it can be.
    fn heir(&self, at: usize, heirs: &[NodeId]) -> Option<NodeId> {
        let class = self.class_of(self.clusters[at].id);
        let of_class = |c: &Cluster| class.is_some_and(|class| class.clusters.contains(&c.id));
        let load = |node: &NodeId| {
            let owned = || self.clusters.iter().filter(|c| c.owner == *node);
            (owned().filter(|c| of_class(c)).count(), owned().count())
        };
        heirs.iter().copied().min_by_key(load)
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::{format, vec};

    use super::*;
    use crate::members::WriteQuorum;
    use crate::schema::DatabaseKind;
    use crate::settings::NewDatabase;

    /// Three built-in classes and three more, one cluster a server in each.
    fn schema(servers: u64) -> Schema {
        let masters: Vec<_> = (1..=servers).map(|n| (format!("n{n}"), NodeId(n))).collect();
        let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
        let mut schema = Schema::founded_by(&masters).create_database(&new).unwrap();
        for name in ["A", "B", "C"] {
            schema = schema.create_class("bench", name, &[]).unwrap();
        }
        let other = NewDatabase::new("other", DatabaseKind::Plocal, WriteQuorum::All);
        schema.create_database(&other).unwrap()
    }

    fn all(servers: u64) -> Vec<NodeId> {
        (1..=servers).map(NodeId).collect()
    }

    fn owned(database: &Database, clusters: impl Iterator<Item = u32>) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for id in clusters {
            *counts.entry(database.cluster(id).unwrap().owner.0).or_default() += 1;
        }
        counts
    }

    fn spread(counts: &BTreeMap<u64, usize>) -> usize {
        counts.values().max().unwrap() - counts.values().min().unwrap()
    }

    /// FEATURES: A7
    #[test]
    fn what_a_lost_server_owned_is_spread_evenly_and_comes_home() {
        for servers in 2..=5 {
            let before = schema(servers);
            for lost in 1..=servers {
                let moved = before.owners_moved(NodeId(lost), &all(servers)).unwrap();
                assert!(!moved.owns_any(NodeId(lost)) && moved.is_missed(NodeId(lost)));
                assert_eq!(moved.revision, before.revision + 1);
                for (database, old) in moved.databases.iter().zip(&before.databases) {
                    assert_eq!(database.version, old.version + 1);
                    let counts = owned(database, database.clusters.iter().map(|c| c.id));
                    assert_eq!(counts.len() as u64, servers - 1);
                    assert!(spread(&counts) <= 1, "{counts:?}");
                    for class in &database.classes {
                        let counts = owned(database, class.clusters.iter().copied());
                        assert_eq!(counts.len() as u64, servers - 1, "each keeps its own");
                        assert!(spread(&counts) <= 1, "{}: {counts:?}", class.name);
                    }
                    let same = |c: &Cluster, o: &Cluster| c.owner == o.owner || o.owner.0 == lost;
                    assert!(database.clusters.iter().zip(&old.clusters).all(|(c, o)| same(c, o)));
                }
                assert_eq!(moved.owners_moved(NodeId(lost), &all(servers)), None, "once");
                let back = moved.owners_returned(NodeId(lost)).unwrap();
                for (database, old) in back.databases.iter().zip(&before.databases) {
                    assert_eq!(database.clusters, old.clusters);
                    assert_eq!(database.version, old.version + 2);
                }
                assert_eq!(back.owners_returned(NodeId(lost)), None, "once");
            }
        }
    }

    /// FEATURES: A7
    #[test]
    fn several_are_lost_and_come_back_in_any_order() {
        let before = schema(5);
        let one = before.owners_moved(NodeId(4), &[1, 2, 3, 5].map(NodeId)).unwrap();
        let two = one.owners_moved(NodeId(5), &[1, 2, 3].map(NodeId)).unwrap();
        for class in &two.databases[0].classes {
            let counts = owned(&two.databases[0], class.clusters.iter().copied());
            assert_eq!(counts.len(), 3);
            assert!(spread(&counts) <= 1, "{}: {counts:?}", class.name);
        }
        // What came from the fourth and went on from the fifth still belongs to the fourth.
        let back = two.owners_returned(NodeId(4)).unwrap().owners_returned(NodeId(5)).unwrap();
        assert_eq!(back.databases[0].clusters, before.databases[0].clusters);
    }

    #[test]
    fn without_anybody_to_take_over_nothing_moves() {
        let before = schema(3);
        for (lost, to) in [(1, vec![]), (1, vec![1]), (1, vec![9]), (9, vec![1, 2])] {
            let to: Vec<NodeId> = to.into_iter().map(NodeId).collect();
            assert_eq!(before.owners_moved(NodeId(lost), &to), None, "{lost} {to:?}");
        }
        assert_eq!(before.owners_returned(NodeId(1)), None);
        assert_eq!(Schema::default().owners_moved(NodeId(1), &all(3)), None);
        let alone = before.drop_database("other").unwrap();
        let moved = alone.owners_moved(NodeId(2), &[NodeId(3)]).unwrap();
        assert_eq!(moved.databases.len(), 1);
        assert_eq!(moved.database("bench").unwrap().cluster_named("a_n2").unwrap().owner.0, 3);
    }
}
