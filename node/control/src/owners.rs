//! Owners of clusters that move when a server is lost, and back home again (FEATURES A7), clusters
//! for those who came later, and owners that people chose, which stay (A6), in the schema. May not
//! know who notices that a server is lost, nor what owners may do.
//!
//! Nothing of it concerns a database that a server is bringing along: that server creates all of
//! its records, wherever they are to be made later. It gets its other clusters once it is there.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_api::NodeId;

use crate::ddl::DdlError;
use crate::distributed::ANY;
use crate::schema::{Cluster, Database, Schema};
use crate::servers::Member;

impl Schema {
    /// The schema in which the clusters that `lost` owns have owners among `to`, as far as these
    /// are other MASTERs; `None` when there is nothing to move, or nobody to move it to.
    pub(crate) fn owners_moved(&self, lost: NodeId, to: &[NodeId]) -> Option<Self> {
        let heirs = self.masters().filter(|heir| heir.node != lost && to.contains(&heir.node));
        let heirs: Vec<&Member> = heirs.collect();
        if heirs.is_empty() || !self.has_to_move(lost) {
            return None;
        }
        let mut next = self.next();
        for database in next.databases.iter_mut().filter(|database| !database.is_coming()) {
            database.hand_over(lost, &heirs);
        }
        Some(next)
    }

    /// The schema in which `back` owns the clusters that were made for it, wherever it is not
    /// OFFLINE; `None` when it does.
    pub(crate) fn owners_returned(&self, back: NodeId) -> Option<Self> {
        if !self.is_missed(back) {
            return None;
        }
        let mut next = self.next();
        let name = self.server_name(back).unwrap_or_default();
        let settled = next.databases.iter_mut().filter(|database| !database.is_coming());
        for database in settled.filter(|database| !database.is_offline_at(name)) {
            let away = database.clusters.iter_mut().filter(|cluster| cluster.is_missed(back));
            let returned = away.map(|cluster| cluster.owner = back).count();
            database.version += u64::from(returned > 0);
        }
        Some(next)
    }

    /// The schema in which a MASTER has a cluster in every class; `None` when it has, or is none.
    /// Where a server left, another one has two: the new one gets the second of these, so that
    /// servers that come and go leave no more clusters than there are servers.
    ///
    /// # Errors
    /// There is no number for another cluster.
    pub(crate) fn clusters_added(&self, to: NodeId) -> Result<Option<Self>, DdlError> {
        let Some(server) = self.masters().find(|server| server.node == to) else { return Ok(None) };
        if !self.lacks_clusters(to) {
            return Ok(None);
        }
        let mut next = self.next();
        for database in next.databases.iter_mut().filter(|database| !database.is_coming()) {
            database.version += u64::from(database.lacks_clusters(to));
            for at in 0..database.classes.len() {
                if !database.has_cluster_for(at, to) {
                    database.make_room(at, server)?;
                }
            }
        }
        Ok(Some(next))
    }

    /// True when some class has no cluster that is a server's home.
    #[must_use]
    pub fn lacks_clusters(&self, node: NodeId) -> bool {
        self.settled().any(|database| database.lacks_clusters(node))
    }

    /// The schema in which these clusters of a database are owned by these servers and stay so, and
    /// the owners of all others may move.
    ///
    /// # Errors
    /// Database or cluster unknown, or no MASTER of that name.
    pub(crate) fn owned_by(
        mut self,
        database: &str,
        owners: &BTreeMap<String, String>,
    ) -> Result<Self, DdlError> {
        let masters: Vec<Member> = self.masters().cloned().collect();
        let found = self.database_mut(database)?;
        let is_there = |name: &&String| found.clusters.iter().any(|c| c.name == **name);
        if let Some(unknown) = owners.keys().find(|name| !is_there(name)) {
            return Err(DdlError::UnknownCluster(unknown.clone()));
        }
        for cluster in &mut found.clusters {
            let chosen = owners.get(&cluster.name);
            cluster.static_owner = chosen.is_some();
            if let Some(server) = chosen {
                cluster.owner = one_of(&masters, &cluster.name, server)?;
            }
        }
        Ok(self)
    }

    /// The schema in which a cluster, or with [`ANY`] every one whose owner nobody chose, is owned
    /// by this server and stays so; `None` when it is.
    ///
    /// # Errors
    /// Database or cluster unknown, no MASTER of that name, or another server was chosen before.
    pub(crate) fn with_owner(
        &self,
        database: &str,
        cluster: &str,
        server: &str,
    ) -> Result<Option<Self>, DdlError> {
        let masters: Vec<Member> = self.masters().cloned().collect();
        let mut next = self.next();
        let found = next.database_mut(database)?;
        let owner = one_of(&masters, cluster, server)?;
        let mut changed = false;
        if cluster == ANY {
            for free in found.clusters.iter_mut().filter(|cluster| !cluster.static_owner) {
                (free.owner, free.static_owner, changed) = (owner, true, true);
            }
        } else {
            let named =
                found.clusters.iter_mut().find(|one| one.name.eq_ignore_ascii_case(cluster));
            let named = named.ok_or_else(|| DdlError::UnknownCluster(cluster.to_string()))?;
            if named.static_owner && named.owner != owner {
                let (cluster, server) = (cluster.to_string(), server.to_string());
                let owner = self.server_name(named.owner).unwrap_or("?").to_string();
                return Err(DdlError::OwnerChosen { cluster, server, owner });
            }
            changed = !named.static_owner;
            (named.owner, named.static_owner) = (owner, true);
        }
        found.version += u64::from(changed);
        Ok(changed.then_some(next))
    }

    /// True when a server owns some cluster that another would own were it lost.
    #[must_use]
    pub fn has_to_move(&self, node: NodeId) -> bool {
        self.clusters().any(|cluster| cluster.moves_from(node))
    }

    /// True when some cluster that was made for a server is owned by another, and the server may
    /// have it.
    #[must_use]
    pub fn is_missed(&self, node: NodeId) -> bool {
        let name = self.server_name(node).unwrap_or_default();
        let served = self.settled().filter(|database| !database.is_offline_at(name));
        served.flat_map(|database| &database.clusters).any(|cluster| cluster.is_missed(node))
    }

    fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.settled().flat_map(|database| &database.clusters)
    }

    fn settled(&self) -> impl Iterator<Item = &Database> {
        self.databases.iter().filter(|database| !database.is_coming())
    }
}

/// The MASTER of this name: who keeps a cluster can own it.
fn one_of(masters: &[Member], cluster: &str, server: &str) -> Result<NodeId, DdlError> {
    let master = masters.iter().find(|master| master.name == server);
    master.map(|master| master.node).ok_or_else(|| DdlError::OwnerWithoutCluster {
        cluster: cluster.to_string(),
        server: server.to_string(),
        servers: masters.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

impl Cluster {
    /// Whether it may become the cluster of a server that came later.
    const fn may_move_home(&self) -> bool {
        !self.static_owner && !self.named
    }

    fn moves_from(&self, node: NodeId) -> bool {
        self.owner == node && !self.static_owner
    }

    /// True when it was made for a server and is on its way back to it.
    #[must_use]
    pub fn is_missed(&self, node: NodeId) -> bool {
        self.home == node && self.owner != node && !self.static_owner
    }
}

impl Database {
    fn lacks_clusters(&self, node: NodeId) -> bool {
        (0..self.classes.len()).any(|at| !self.has_cluster_for(at, node))
    }

    fn has_cluster_for(&self, class: usize, node: NodeId) -> bool {
        self.of_class(class).any(|cluster| cluster.home == node)
    }

    fn of_class(&self, class: usize) -> impl Iterator<Item = &Cluster> {
        let clusters = &self.classes[class].clusters;
        self.clusters.iter().filter(|cluster| clusters.contains(&cluster.id))
    }

    /// A cluster of a class for a server that has none of it.
    fn make_room(&mut self, class: usize, server: &Member) -> Result<(), DdlError> {
        let homes: Vec<NodeId> = self.of_class(class).map(|cluster| cluster.home).collect();
        let is_second = |home: NodeId| homes.iter().filter(|other| **other == home).count() > 1;
        let spare = self.of_class(class).filter(|c| c.may_move_home() && is_second(c.home));
        if let Some(id) = spare.map(|cluster| cluster.id).max() {
            let found = self.clusters.iter_mut().filter(|cluster| cluster.id == id);
            found.for_each(|cluster| cluster.home = server.node);
            return Ok(());
        }
        let base = self.classes[class].name.to_ascii_lowercase();
        let wanted = alloc::format!("{base}_{}", server.name.to_ascii_lowercase());
        let id = self.add_cluster(&wanted, server.node)?;
        self.classes[class].clusters.push(id);
        Ok(())
    }

    /// Gives the clusters that a server owns to some of these, best to those who serve the
    /// database, except those that people chose it for.
    pub(crate) fn hand_over(&mut self, from: NodeId, heirs: &[&Member]) {
        let serves = |heir: &&&Member| !self.is_offline_at(&heir.name);
        let mut to: Vec<NodeId> = heirs.iter().filter(serves).map(|heir| heir.node).collect();
        if to.is_empty() {
            to = heirs.iter().map(|heir| heir.node).collect();
        }
        let clusters = self.clusters.iter().enumerate();
        let left = clusters.filter(|(_, cluster)| cluster.moves_from(from));
        let left: Vec<usize> = left.map(|(at, _)| at).collect();
        for at in &left {
            self.clusters[*at].owner = self.heir(*at, &to).unwrap_or(from);
        }
        self.version += u64::from(!left.is_empty());
    }

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
                assert!(!moved.has_to_move(NodeId(lost)) && moved.is_missed(NodeId(lost)));
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

    /// FEATURES: A6
    #[test]
    fn a_chosen_owner_stays_when_it_is_lost_and_others_move() {
        let chosen = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(c, s)| (String::from(*c), String::from(*s)));
            schema(3).owned_by("bench", &owned.collect())
        };
        let before = chosen(&[("a_n2", "n2"), ("b_n3", "n2")]).unwrap();
        let lost = before.owners_moved(NodeId(2), &all(3)).unwrap();
        let owner = |schema: &Schema, name: &str| {
            let database = schema.database("bench").unwrap();
            database.clusters.iter().find(|c| c.name == name).unwrap().owner
        };
        assert_eq!((owner(&lost, "a_n2"), owner(&lost, "b_n3")), (NodeId(2), NodeId(2)));
        assert_ne!(owner(&lost, "c_n2"), NodeId(2));
        assert!(!lost.has_to_move(NodeId(2)), "what stays is not asked for again and again");
        assert!(!lost.is_missed(NodeId(3)), "nor is what another was given");
        let back = lost.owners_returned(NodeId(2)).unwrap();
        assert_eq!(owner(&back, "c_n2"), NodeId(2));
        // Nobody's choice any more: home it goes.
        let free = back.owned_by("bench", &BTreeMap::new()).unwrap();
        assert!(free.is_missed(NodeId(3)));
        assert_eq!(owner(&free.owners_returned(NodeId(3)).unwrap(), "b_n3"), NodeId(3));
        for (cluster, server, told) in [
            ("a_n9", "n2", "Cluster 'a_n9' does not exist"),
            ("a_n2", "n9", "Servers with the cluster are [n1, n2, n3]"),
        ] {
            let error = chosen(&[("b_n2", "n2"), (cluster, server)]).unwrap_err();
            assert!(format!("{error}").contains(told), "{error}");
        }
    }

    /// FEATURES: A6, A20
    #[test]
    fn a_cluster_or_all_that_are_free_are_given_to_a_server_for_good() {
        let before = schema(3);
        let version = |schema: &Schema| schema.database("bench").unwrap().version;
        let one = before.with_owner("bench", "A_n2", "n1").unwrap().unwrap();
        let chosen = |schema: &Schema, name: &str| {
            let found = schema.database("bench").unwrap().cluster_named(name).unwrap().clone();
            (found.owner.0, found.static_owner)
        };
        assert_eq!((chosen(&one, "a_n2"), version(&one)), ((1, true), version(&before) + 1));
        assert_eq!(chosen(&one, "b_n2"), (2, false), "no other one");
        assert_eq!(one.with_owner("bench", "a_n2", "n1"), Ok(None), "it is so");
        let kept = before.with_owner("bench", "b_n2", "n2").unwrap().unwrap();
        assert_eq!(chosen(&kept, "b_n2"), (2, true), "it was there, and stays from now on");
        let error = one.with_owner("bench", "a_n2", "n3").unwrap_err();
        let told = "Cannot overwrite ownership of cluster 'a_n2' to the server 'n3', because \
                    server 'n1' was already configured as owner";
        assert_eq!(format!("{error}"), told);
        let all = one.with_owner("bench", ANY, "n3").unwrap().unwrap();
        assert_eq!(version(&all), version(&one) + 1);
        for cluster in &all.database("bench").unwrap().clusters {
            let owner = if cluster.name == "a_n2" { 1 } else { 3 };
            assert_eq!((cluster.owner.0, cluster.static_owner), (owner, true), "{}", cluster.name);
        }
        assert_eq!(all.databases[1], before.databases[1], "no business of another database");
        assert_eq!(all.with_owner("bench", ANY, "n3"), Ok(None));
        for (database, cluster, server, told) in [
            ("none", "a_n2", "n1", "none"),
            ("bench", "a_n9", "n1", "Cluster 'a_n9' does not exist"),
            ("bench", ANY, "n9", "Servers with the cluster are [n1, n2, n3]"),
        ] {
            let error = before.with_owner(database, cluster, server).unwrap_err();
            assert!(format!("{error}").contains(told), "{error}");
        }
    }

    fn homes(schema: &Schema, class: &str) -> Vec<NodeId> {
        let database = schema.database("bench").unwrap();
        let clusters = &database.class(class).unwrap().clusters;
        clusters.iter().map(|id| database.cluster(*id).unwrap().home).collect()
    }

    /// FEATURES: A4
    #[test]
    fn a_master_that_came_later_gets_a_cluster_of_every_class_once() {
        let before = schema(2);
        let masters: Vec<_> = (1..=3).map(|n| (format!("n{n}"), NodeId(n))).collect();
        let mut came = Schema::founded_by(&masters);
        came.databases.clone_from(&before.databases);
        assert_eq!(before.clusters_added(NodeId(3)), Ok(None), "it is no MASTER");
        assert!(came.lacks_clusters(NodeId(3)) && !came.lacks_clusters(NodeId(1)));
        let after = came.clusters_added(NodeId(3)).unwrap().unwrap();
        for class in ["V", "E", "A", "B", "C"] {
            assert_eq!(homes(&after, class), all(3));
        }
        let database = after.database("bench").unwrap();
        let version = came.database("bench").unwrap().version;
        assert_eq!(database.version, version + 1);
        let new = database.cluster_named("a_n3").unwrap();
        assert_eq!((new.owner, new.static_owner), (NodeId(3), false));
        assert_eq!(after.clusters_added(NodeId(3)), Ok(None));
        let ids: alloc::collections::BTreeSet<u32> =
            database.clusters.iter().map(|cluster| cluster.id).collect();
        assert_eq!(ids.len(), database.clusters.len());
        // One that left made room: its clusters are at home elsewhere.
        let mut left = after.clone();
        let clusters = left.databases.iter_mut().flat_map(|database| &mut database.clusters);
        clusters.filter(|c| c.home == NodeId(3)).for_each(|c| c.home = NodeId(1));
        let again = left.clusters_added(NodeId(3)).unwrap().unwrap();
        assert_eq!(again.database("bench").unwrap().clusters.len(), database.clusters.len());
        assert_eq!(homes(&again, "A"), all(3));
    }
}
