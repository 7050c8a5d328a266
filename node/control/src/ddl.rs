//! DDL: each function takes the schema and gives the one that follows, or says why not. May not
//! wait, retry or talk to anybody: servers agree on the order of changes (`plane`).

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_api::NodeId;

pub use crate::ddl_error::DdlError;

use crate::reconfigure::check_chain;
use crate::schema::{Class, Cluster, Database, FIRST_CLUSTER, Schema, first_version};
use crate::settings::NewDatabase;

/// Longest legal name of a database or class, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Classes that every database has from its creation: vertices and edges.
pub const BUILT_IN_CLASSES: [&str; 2] = ["V", "E"];

impl Schema {
    /// Adds a database with its built-in classes.
    ///
    /// # Errors
    /// Name illegal or taken, W above N, no MASTER.
    pub fn create_database(&self, new: &NewDatabase) -> Result<Self, DdlError> {
        if !is_database_name(&new.name) {
            return Err(DdlError::Name(new.name.clone()));
        }
        if self.databases.iter().any(|other| other.name == new.name) {
            return Err(DdlError::DatabaseExists(new.name.clone()));
        }
        let masters = self.owners();
        if masters.is_empty() {
            return Err(DdlError::NoMasters);
        }
        let quorums = (new.write_quorum, new.read_quorum);
        self.check_quorums(quorums, &new.data_centers)?;
        check_chain(new.chain.as_ref(), &new.data_centers)?;
        let mut next = self.next();
        next.next_database =
            self.next_database.checked_add(1).ok_or(DdlError::Exhausted("database"))?;
        let mut database = Database {
            id: self.next_database,
            name: new.name.clone(),
            kind: new.kind,
            version: first_version(),
            write_quorum: new.write_quorum,
            read_quorum: new.read_quorum,
            execution_mode: new.execution_mode,
            data_centers: new.data_centers.clone(),
            new_nodes: new.new_nodes.clone(),
            chain: new.chain.clone(),
            next_cluster: FIRST_CLUSTER,
            classes: Vec::new(),
            clusters: Vec::new(),
            indexes: Vec::new(),
            origin: None,
            arriving: None,
            offline: BTreeSet::new(),
        };
        for class in BUILT_IN_CLASSES {
            database.add_class(class, &[], &masters)?;
        }
        next.databases.push(database);
        Ok(next)
    }

    /// Removes a database, be it one that is only coming. Its number and its records' ids are never
    /// used again. Another one of its name that a server has on its disk may come then.
    ///
    /// # Errors
    /// There is no such database.
    pub fn drop_database(&self, name: &str) -> Result<Self, DdlError> {
        let mut next = self.next();
        let dropped = next.databases.extract_if(.., |d| d.name == name);
        let origins: Vec<_> = dropped.filter_map(|database| database.origin).collect();
        next.dropped.extend(origins);
        if next.databases.len() == self.databases.len() {
            return Err(DdlError::UnknownDatabase(name.to_string()));
        }
        next.strays.retain(|stray| stray.database != name);
        next.close_what_left(self);
        Ok(next)
    }

    /// Adds a class with one cluster a MASTER, each owned by that MASTER.
    ///
    /// # Errors
    /// Name illegal or taken, database or a super class unknown.
    pub fn create_class(
        &self,
        database: &str,
        class: &str,
        super_classes: &[String],
    ) -> Result<Self, DdlError> {
        let mut next = self.next();
        let masters = self.owners();
        let database = next.database_mut(database)?;
        if !is_class_name(class) {
            return Err(DdlError::Name(class.to_string()));
        }
        if database.class(class).is_some() {
            return Err(DdlError::ClassExists(class.to_string()));
        }
        let mut supers: Vec<String> = Vec::new();
        for name in super_classes {
            let known = database.class(name).ok_or_else(|| DdlError::UnknownClass(name.clone()))?;
            if !supers.contains(&known.name) {
                supers.push(known.name.clone());
            }
        }
        database.add_class(class, &supers, &masters)?;
        database.version += 1;
        Ok(next)
    }

    /// Removes a class and its clusters with all their records, and the indexes on it.
    ///
    /// # Errors
    /// Database or class unknown, class built in or extended by another.
    pub fn drop_class(&self, database: &str, class: &str) -> Result<Self, DdlError> {
        let mut next = self.next();
        let database = next.database_mut(database)?;
        let found = database
            .class(class)
            .cloned()
            .ok_or_else(|| DdlError::UnknownClass(class.to_string()))?;
        let refuse = |reason: String| Err(DdlError::InUse { class: found.name.clone(), reason });
        if BUILT_IN_CLASSES.contains(&found.name.as_str()) {
            return refuse("it is built in".to_string());
        }
        let child = database.classes.iter().find(|c| c.super_classes.contains(&found.name));
        if let Some(child) = child {
            return refuse(alloc::format!("class '{}' extends it", child.name));
        }
        database.classes.retain(|c| c.name != found.name);
        database.clusters.retain(|c| !found.clusters.contains(&c.id));
        database.indexes.retain(|i| i.class != found.name);
        database.version += 1;
        next.close_what_left(self);
        Ok(next)
    }

    /// Adds a cluster of this name to a class, for a MASTER that creates records in it from now
    /// on, in turn with the others that it owns (FEATURES A4).
    ///
    /// # Errors
    /// Name illegal or taken, database or class unknown, no MASTER to own it.
    pub fn add_named_cluster(
        &self,
        database: &str,
        class: &str,
        name: &str,
        owner: NodeId,
    ) -> Result<Self, DdlError> {
        if !self.masters().any(|master| master.node == owner) {
            return Err(DdlError::NoMasters);
        }
        let mut next = self.next();
        let database = next.database_mut(database)?;
        let found = database.classes.iter().position(|c| c.name.eq_ignore_ascii_case(class));
        let at = found.ok_or_else(|| DdlError::UnknownClass(class.to_string()))?;
        if !is_class_name(name) {
            return Err(DdlError::Name(name.to_string()));
        }
        let name = name.to_ascii_lowercase();
        if database.cluster_named(&name).is_some() {
            return Err(DdlError::ClusterExists(name));
        }
        let id = database.add_cluster(&name, owner)?;
        database.clusters.iter_mut().filter(|c| c.id == id).for_each(|c| c.named = true);
        database.classes[at].clusters.push(id);
        database.version += 1;
        Ok(next)
    }

    /// Names and identities of those who own clusters.
    fn owners(&self) -> Vec<(String, NodeId)> {
        self.masters().map(|server| (server.name.clone(), server.node)).collect()
    }

    /// A copy that counts as the next revision.
    pub(crate) fn next(&self) -> Self {
        Self { revision: self.revision + 1, ..self.clone() }
    }

    pub(crate) fn database_mut(&mut self, name: &str) -> Result<&mut Database, DdlError> {
        let found = self.databases.iter_mut().find(|d| d.name == name);
        let found = found.ok_or_else(|| DdlError::UnknownDatabase(name.to_string()))?;
        if found.brought_by().is_some() {
            return Err(DdlError::Coming(name.to_string()));
        }
        Ok(found)
    }
}

impl Database {
    fn add_class(
        &mut self,
        class: &str,
        super_classes: &[String],
        masters: &[(String, NodeId)],
    ) -> Result<(), DdlError> {
        let base = class.to_ascii_lowercase();
        let mut clusters = Vec::with_capacity(masters.len());
        for (index, (server, owner)) in masters.iter().enumerate() {
            let wanted = if index == 0 {
                base.clone()
            } else {
                alloc::format!("{base}_{}", server.to_ascii_lowercase())
            };
            clusters.push(self.add_cluster(&wanted, *owner)?);
        }
        self.classes.push(Class {
            name: class.to_string(),
            super_classes: super_classes.to_vec(),
            clusters,
        });
        Ok(())
    }

    /// Makes a cluster for a server, of a name like the wanted one; gives its number.
    pub(crate) fn add_cluster(&mut self, wanted: &str, owner: NodeId) -> Result<u32, DdlError> {
        let id = self.next_cluster;
        self.next_cluster = id.checked_add(1).ok_or(DdlError::Exhausted("cluster"))?;
        let name = self.free_cluster_name(wanted, id);
        let (home, static_owner, named) = (owner, false, false);
        self.clusters.push(Cluster { id, name, owner, home, static_owner, named });
        Ok(id)
    }

    /// The wanted name, or one with the cluster's number behind it when a class named like
    /// `item_n2` took it.
    fn free_cluster_name(&self, wanted: &str, id: u32) -> String {
        let mut name = wanted.to_string();
        while self.cluster_named(&name).is_some() {
            name = alloc::format!("{name}_{id}");
        }
        name
    }
}

pub(crate) fn is_database_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

pub(crate) fn is_class_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use quorate_api::ErrorCode;

    use super::*;
    use crate::indexes::{IndexKind, NewIndex};
    use crate::members::WriteQuorum;
    use crate::schema::DatabaseKind;
    use crate::settings::ReadQuorum;
    use alloc::vec;
    use quorate_api::ClusterKey;

    fn masters() -> Vec<(String, NodeId)> {
        vec![("n1".into(), NodeId(11)), ("n2".into(), NodeId(22)), ("n3".into(), NodeId(33))]
    }

    fn new(name: &str, write_quorum: WriteQuorum) -> NewDatabase {
        NewDatabase::new(name, DatabaseKind::Plocal, write_quorum)
    }

    fn bench() -> Schema {
        Schema::founded_by(&masters())
            .create_database(&new("bench", WriteQuorum::Majority))
            .unwrap()
    }

    #[test]
    fn a_class_has_one_cluster_a_master_owned_by_it() {
        let schema = bench().create_class("bench", "Item", &[]).unwrap();
        let database = schema.database("bench").unwrap();
        let class = database.class("ITEM").unwrap();
        assert_eq!((class.name.as_str(), &class.clusters[..]), ("Item", &[16, 17, 18][..]));
        let clusters: Vec<(&str, u64)> = class
            .clusters
            .iter()
            .map(|id| database.cluster(*id).unwrap())
            .map(|c| (c.name.as_str(), c.owner.0))
            .collect();
        assert_eq!(clusters, [("item", 11), ("item_n2", 22), ("item_n3", 33)]);
        let own: Vec<u32> = database.clusters_owned(class, NodeId(22)).map(|c| c.id).collect();
        assert_eq!(own, [17]);
        assert_eq!(database.class_of(18).unwrap().name, "Item");
        assert_eq!(
            database.classes.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["V", "E", "Item"]
        );
        assert_eq!(Schema::decode(&schema.encode().unwrap()).unwrap(), schema);
    }

    /// FEATURES: A4
    #[test]
    fn a_class_gets_further_clusters_for_a_server() {
        let before = bench().create_class("bench", "Item", &[]).unwrap();
        let add = |class, name, owner| before.add_named_cluster("bench", class, name, owner);
        let after = add("ITEM", "Item_USA", NodeId(22)).unwrap();
        let database = after.database("bench").unwrap();
        let class = database.class("Item").unwrap();
        let own: Vec<&Cluster> = database.clusters_owned(class, NodeId(22)).collect();
        assert_eq!(
            own.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["item_n2", "item_usa"]
        );
        assert!(own[1].named && !own[0].named && own[1].home == NodeId(22));
        assert_eq!(database.version, before.database("bench").unwrap().version + 1);
        let again = after.add_named_cluster("bench", "Item", "ITEM_usa", NodeId(11)).unwrap_err();
        assert_eq!(again, DdlError::ClusterExists("item_usa".into()));
        assert_eq!(add("Nope", "x", NodeId(22)), Err(DdlError::UnknownClass("Nope".into())));
        assert_eq!(add("Item", "a-b", NodeId(22)), Err(DdlError::Name("a-b".into())));
        assert_eq!(add("Item", "x", NodeId(99)), Err(DdlError::NoMasters));
    }

    #[test]
    fn the_same_ddl_twice_says_it_exists() {
        let schema = bench().create_class("bench", "Item", &[]).unwrap();
        let again = schema.create_class("bench", "item", &[]).unwrap_err();
        assert_eq!(again, DdlError::ClassExists("item".into()));
        assert_eq!(again.code(), ErrorCode::ClassExists);
        let again = schema.create_database(&new("bench", WriteQuorum::All)).unwrap_err();
        assert_eq!(again.code(), ErrorCode::DatabaseExists);
    }

    #[test]
    fn numbers_are_never_reused() {
        let first = bench().create_class("bench", "Item", &[]).unwrap();
        let dropped = first.drop_class("bench", "Item").unwrap();
        assert!(dropped.database("bench").unwrap().cluster(16).is_none());
        let second = dropped.create_class("bench", "Item", &[]).unwrap();
        let class = second.database("bench").unwrap().class("Item").unwrap();
        assert_eq!(class.clusters, [19, 20, 21]);
        let gone = second.drop_database("bench").unwrap();
        assert_eq!(gone.drop_database("bench").unwrap_err().code(), ErrorCode::UnknownDatabase);
        let back = gone.create_database(&new("bench", WriteQuorum::Majority)).unwrap();
        assert_eq!(back.database("bench").unwrap().id, 2);
    }

    #[test]
    fn refusals() {
        let schema = bench();
        let quorum = schema.create_database(&new("x", WriteQuorum::Count(4)));
        let too_large = |key| DdlError::QuorumTooLarge { key, quorum: 4, masters: 3 };
        assert_eq!(quorum.unwrap_err(), too_large("writeQuorum"));
        let read_quorum = ReadQuorum::Count(4);
        let reads = NewDatabase { read_quorum, ..new("x", WriteQuorum::All) };
        let quorum = schema.create_database(&reads);
        assert_eq!(quorum.unwrap_err(), too_large("readQuorum"));
        let read_quorum = ReadQuorum::Count(3);
        let reads = NewDatabase { read_quorum, ..new("x", WriteQuorum::All) };
        assert!(schema.create_database(&reads).is_ok());
        let nobody = Schema::default().create_database(&new("x", WriteQuorum::All));
        assert_eq!(nobody.unwrap_err(), DdlError::NoMasters);
        for bad in ["", "a/b", "a b", "ä", "a:b"] {
            let refused = schema.create_database(&new(bad, WriteQuorum::All));
            assert_eq!(refused.unwrap_err(), DdlError::Name(bad.into()));
        }
        for bad in ["", "1a", "a-b", "a.b", "@x"] {
            let refused = schema.create_class("bench", bad, &[]).unwrap_err();
            assert_eq!(refused, DdlError::Name(bad.into()));
        }
        let unknown = schema.create_class("bench", "A", &["Nope".into()]).unwrap_err();
        assert_eq!(unknown.code(), ErrorCode::UnknownClass);
        assert_eq!(
            schema.create_class("none", "A", &[]).unwrap_err().code(),
            ErrorCode::UnknownDatabase
        );
        let mut full = schema.clone();
        full.databases[0].next_cluster = u32::MAX - 1;
        assert_eq!(
            full.create_class("bench", "A", &[]).unwrap_err(),
            DdlError::Exhausted("cluster")
        );
    }

    #[test]
    fn classes_extend_classes() {
        let schema = bench()
            .create_class("bench", "Animal", &["v".into(), "V".into()])
            .unwrap()
            .create_class("bench", "Dog", &["Animal".into()])
            .unwrap();
        let database = schema.database("bench").unwrap();
        assert_eq!(database.class("Animal").unwrap().super_classes, ["V"]);
        assert!(database.is_a("dog", "v") && !database.is_a("V", "Dog"));
        assert_eq!(database.clusters_of("Animal"), [16, 17, 18, 19, 20, 21]);
        assert!(matches!(
            schema.drop_class("bench", "Animal").unwrap_err(),
            DdlError::InUse { .. }
        ));
        assert!(matches!(schema.drop_class("bench", "V").unwrap_err(), DdlError::InUse { .. }));
        assert!(schema.drop_class("bench", "Dog").is_ok());
    }

    #[test]
    fn cluster_names_stay_unique() {
        let schema = bench()
            .create_class("bench", "item_n2", &[])
            .unwrap()
            .create_class("bench", "Item", &[])
            .unwrap();
        let database = schema.database("bench").unwrap();
        let mut names: Vec<&str> = database.clusters.iter().map(|c| c.name.as_str()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    /// Whatever is dropped, transactions under way on it are decided by the same MASTERs.
    #[test]
    fn dropped_clusters_stay_placed_and_take_nothing_new() {
        let with_class = bench().create_class("bench", "Item", &[]).unwrap();
        let index = NewIndex {
            name: "Item.k".into(),
            class: "Item".into(),
            field: "k".into(),
            kind: IndexKind::Unique,
        };
        let full = with_class.create_index("bench", &index).unwrap();
        let key = ClusterKey { database: 1, cluster: 19 };
        let failed = full.index_failed(key, Vec::new()).unwrap();
        let drops = [
            (full.drop_index("bench", "Item.k").unwrap(), 1),
            (failed.create_index("bench", &index).unwrap(), 1),
            (full.drop_class("bench", "Item").unwrap(), 4),
            (full.drop_database("bench").unwrap(), 11),
        ];
        let before = full.placements();
        for (after, count) in drops {
            let placed = after.placements();
            assert_eq!(after.closed.len(), count);
            for (key, was) in &before {
                let is = &placed[key];
                assert_eq!((&is.masters, is.write_quorum), (&was.masters, was.write_quorum));
            }
            let closed = placed.values().filter(|placement| placement.is_closed()).count();
            assert_eq!(closed, count);
            assert_eq!(Schema::decode(&after.encode().unwrap()).unwrap(), after);
            let later = after.create_database(&new("later", WriteQuorum::All)).unwrap();
            assert_eq!(later.closed, after.closed);
        }
    }

    #[test]
    fn placements_follow_the_schema() {
        let schema = bench()
            .create_class("bench", "Item", &[])
            .unwrap()
            .create_database(&new("loose", WriteQuorum::Count(1)))
            .unwrap();
        let nodes: Vec<NodeId> = masters().iter().map(|(_, id)| *id).collect();
        let placements = schema.placements();
        // Each database has a cluster for retry tokens.
        assert_eq!(placements.len(), 9 + 6 + 2);
        let item = &placements[&ClusterKey { database: 1, cluster: 17 }];
        assert_eq!(item.masters, nodes);
        assert_eq!((item.generation, item.write_quorum, item.owner), (1, 2, Some(NodeId(22))));
        let loose = &placements[&ClusterKey { database: 2, cluster: 10 }];
        assert!(!loose.is_safe());
        assert_eq!(loose.owner, Some(NodeId(11)));
    }
}
