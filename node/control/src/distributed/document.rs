//! The configuration that a database has, as its schema says: the same on every server that has the
//! same schema. What cannot be chosen yet is written as it is: every MASTER keeps every cluster.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_api::NodeId;

use super::{ANY, ClusterConfig, DistributedConfig, Overridable, Quorum, Role, ServerList};
use crate::members::WriteQuorum;
use crate::schema::{Database, Schema};
use crate::servers::Member;

/// The distributed configuration of one of a schema's databases.
#[must_use]
pub fn document(schema: &Schema, database: &Database) -> DistributedConfig {
    let everybody = listed(masters_first(schema));
    let any = ClusterConfig { servers: everybody, ..ClusterConfig::default() };
    let named = database.clusters.iter().map(|cluster| {
        let servers = owner_first(schema, cluster.owner);
        let owner = servers.names().first().filter(|_| cluster.static_owner).cloned();
        (cluster.name.clone(), ClusterConfig { servers, owner, ..ClusterConfig::default() })
    });
    let enlisted = schema.servers.iter();
    let enlisted = enlisted.filter(|server| database.enlists(&server.name, server.role));
    let roles = enlisted.map(|server| (server.name.clone(), server.role));
    let any_role = [(ANY.to_string(), Role::Master)].into_iter();
    DistributedConfig {
        version: database.version,
        auto_deploy: true,
        overridable: Overridable {
            read_quorum: Some(WriteQuorum::from(database.read_quorum).into()),
            write_quorum: Some(Quorum::from(database.write_quorum)),
            execution_mode: Some(database.execution_mode),
            read_your_writes: Some(true),
        },
        new_node_strategy: database.new_nodes.strategy(),
        servers: any_role.chain(roles).collect(),
        data_centers: database.data_centers.clone(),
        chain: database.chain.clone(),
        clusters: named.chain([(ANY.to_string(), any)]).collect(),
    }
}

/// All servers in their order, those that vote before the others, and behind those that may own.
fn masters_first(schema: &Schema) -> Vec<&Member> {
    let of = |role| schema.servers.iter().filter(move |server| server.role == role);
    let witnesses = of(Role::Witness).filter(|server| !server.leaving);
    schema.masters().chain(witnesses).chain(of(Role::Replica)).collect()
}

/// The owner before all others.
fn owner_first(schema: &Schema, owner: NodeId) -> ServerList {
    let (first, others): (Vec<_>, Vec<_>) =
        masters_first(schema).into_iter().partition(|server| server.node == owner);
    listed(first.into_iter().chain(others).collect())
}

/// Their names, and behind them the place of servers that join.
fn listed(servers: Vec<&Member>) -> ServerList {
    let names: Vec<String> = servers.into_iter().map(|server| server.name.clone()).collect();
    let before = names.len();
    ServerList::new(names, Some(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::NewNodeStrategy;
    use crate::dynamic::NewNodes;
    use crate::schema::DatabaseKind;
    use crate::settings::{ExecutionMode, NewDatabase, ReadQuorum};

    fn text(schema: &Schema) -> String {
        let database = schema.database("bench").unwrap();
        String::from_utf8(document(schema, database).write().unwrap()).unwrap()
    }

    fn bench() -> Schema {
        let masters = [("n1", 11), ("n2", 22), ("n3", 33)];
        let masters = masters.map(|(name, id)| (String::from(name), NodeId(id)));
        let new = NewDatabase {
            read_quorum: ReadQuorum::Count(2),
            execution_mode: ExecutionMode::Asynchronous,
            ..NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority)
        };
        Schema::founded_by(&masters).create_database(&new).unwrap()
    }

    /// FEATURES: S6
    #[test]
    fn a_database_says_who_keeps_what_with_the_owner_first() {
        let schema = bench();
        let document = document(&schema, schema.database("bench").unwrap());
        assert_eq!(document.owner("v_n2"), Some("n2"));
        let text = text(&schema);
        assert!(
            text.starts_with(
                r#"{
  "version": 1,
  "autoDeploy": true,
  "readQuorum": 2,
  "writeQuorum": "majority",
  "executionMode": "asynchronous",
  "readYourWrites": true,
  "newNodeStrategy": "static",
  "servers": {
    "*": "master",
    "n1": "master",
    "n2": "master",
    "n3": "master"
  },
  "clusters": {
    "*": {
      "servers": [
        "n1",
        "n2",
        "n3",
        "<NEW_NODE>"
      ]
    },"#
            ),
            "{text}"
        );
        let n2 = r#"    "v_n2": {
      "servers": [
        "n2",
        "n1",
        "n3",
        "<NEW_NODE>"
      ]
    },"#;
        assert!(text.contains(n2), "{text}");
        let parsed = DistributedConfig::parse(text.as_bytes()).unwrap();
        assert_eq!((parsed.config, parsed.warnings), (document, Vec::new()));
    }

    /// FEATURES: S6, S9
    #[test]
    fn masters_that_count_only_while_they_are_there_are_not_listed() {
        let masters = [("n1", 1), ("n2", 2)].map(|(name, n)| (name.to_string(), NodeId(n)));
        let new_nodes = NewNodes::Dynamic(["n2".to_string()].into());
        let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
        let schema =
            Schema::founded_by(&masters).create_database(&NewDatabase { new_nodes, ..new });
        let schema = schema.unwrap().enlisted("n4", NodeId(4), "d:1").unwrap().unwrap();
        let document = document(&schema, schema.database("bench").unwrap());
        assert_eq!(document.new_node_strategy, NewNodeStrategy::Dynamic);
        let listed: Vec<_> = document.servers.iter().map(|(n, r)| (n.as_str(), *r)).collect();
        let roles = [("*", Role::Master), ("n2", Role::Master), ("n4", Role::Replica)];
        assert_eq!((listed.as_slice(), document.role("n1")), (roles.as_slice(), Role::Master));
        let any = document.clusters[ANY].servers.names();
        assert_eq!(any, ["n1", "n2", "n4"], "all keep everything");
        let parsed = DistributedConfig::parse(text(&schema).as_bytes()).unwrap();
        assert_eq!(parsed.config, document);
    }

    /// FEATURES: A14, S9
    #[test]
    fn who_decides_between_contents_is_said_and_read_back() {
        let new = NewDatabase {
            chain: "version, majority".parse().ok(),
            ..NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority)
        };
        let masters = [(String::from("n1"), NodeId(11))];
        let schema = Schema::founded_by(&masters).create_database(&new).unwrap();
        let text = text(&schema);
        let line = "  \"conflictResolverRepairerChain\": \"version,majority\",\n";
        assert!(text.contains(line), "{text}");
        let document = document(&schema, schema.database("bench").unwrap());
        let read = |text: &str| DistributedConfig::parse(text.as_bytes()).map(|read| read.config);
        assert_eq!(read(&text).unwrap(), document);
        for (chain, expected) in [
            ("\"newest\"", "Cannot find 'newest' conflict resolver implementation"),
            ("\"version,,quorum\"", "has an empty step"),
            ("\"dc{winner:rome}\"", "Cannot find the data center 'rome'"),
            ("7", "7 is not legal; legal are quorum, content, majority and version"),
        ] {
            let error = read(&text.replace("\"version,majority\"", chain)).unwrap_err().to_string();
            assert!(error.starts_with("conflictResolverRepairerChain: "), "{error}");
            assert!(error.contains(expected) && error.contains("each once"), "{error}");
        }
    }

    /// FEATURES: S6
    #[test]
    fn the_version_rises_with_every_change_of_what_is_said() {
        let schema = bench();
        let class = schema.create_class("bench", "Internal", &[]).unwrap();
        let gone = class.drop_class("bench", "Internal").unwrap();
        let version = |schema: &Schema| schema.database("bench").unwrap().version;
        assert_eq!([&schema, &class, &gone].map(version), [1, 2, 3]);
        assert!(text(&class).contains("\"internal_n3\""));
        assert_eq!(text(&gone).replace("\"version\": 3", "\"version\": 1"), text(&schema));
        let other = NewDatabase::new("other", DatabaseKind::Plocal, WriteQuorum::All);
        let beside = gone.create_database(&other).unwrap();
        assert_eq!(text(&beside), text(&gone), "no business of this database");
        let joined = schema.enlisted("n4", NodeId(44), "d:1").unwrap().unwrap();
        let (told, n4) = (text(&joined), "\"n4\": \"replica\"");
        assert!(version(&joined) == 2 && told.contains(n4), "{told}");
        let last = "\"n3\",\n        \"n4\",\n        \"<NEW_NODE>\"";
        assert_eq!(told.matches(last).count(), 1 + 2 * 2, "a REPLICA owns nothing: {told}");
    }
}
