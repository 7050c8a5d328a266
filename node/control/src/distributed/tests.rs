//! Tests of the distributed configuration: every field with what is legal and what is not, the
//! templates of all versions, which value counts where, servers that join and leave.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::data_centers::DataCenter;

const TEMPLATE_1_6: &str = r#"{
  "replication": true, "autoDeploy": true, "hotAlignment": true, "resyncEvery": 15,
  "clusters": {
    "internal": {"replication": false},
    "index": {"replication": false},
    "*": {
      "replication": true, "readQuorum": 1, "writeQuorum": 2,
      "failureAvailableNodesLessQuorum": false, "readYourWrites": true,
      "partitioning": {"strategy": "round-robin", "default": 0, "partitions": [["<NEW_NODE>"]]}
    }
  }
}"#;
const TEMPLATE_2_0: &str = r#"{
  "autoDeploy": true, "hotAlignment": false, "executionMode": "undefined",
  "readQuorum": 1, "writeQuorum": 2, "failureAvailableNodesLessQuorum": false,
  "readYourWrites": true,
  "clusters": {"internal": {}, "index": {}, "*": {"servers": ["<NEW_NODE>"]}}
}"#;
const TEMPLATE_2_1: &str = r#"{
  "autoDeploy": true, "hotAlignment": false, "executionMode": "undefined",
  "readQuorum": 1, "writeQuorum": 2, "failureAvailableNodesLessQuorum": false,
  "readYourWrites": true, "servers": {"*": "master"},
  "clusters": {"internal": {}, "index": {}, "*": {"servers": ["<NEW_NODE>"]}}
}"#;

pub(super) fn parse(text: &str) -> Parsed {
    DistributedConfig::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub(super) fn warnings(found: &[Warning]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

fn refused(text: &str) -> String {
    match DistributedConfig::parse(text.as_bytes()) {
        Ok(parsed) => panic!("accepted: {text} as {parsed:?}"),
        Err(error) => error.to_string(),
    }
}

/// FEATURES: S9
#[test]
fn the_shipped_templates_of_all_versions_are_read() {
    let shipped = parse(SHIPPED_TEMPLATE);
    assert_eq!(warnings(&shipped.warnings), Vec::<String>::new());
    let config = shipped.config;
    assert_eq!((config.version, config.auto_deploy), (1, true));
    assert_eq!(config.new_node_strategy, NewNodeStrategy::Static);
    assert_eq!(config.write_quorum("item"), Quorum::Majority);
    assert_eq!(config.read_quorum("item"), Quorum::Count(1));
    assert!(config.clusters[ANY].servers.grows() && config.servers("internal").is_empty());

    for (template, obsolete) in [
        (TEMPLATE_2_0, &["hotAlignment", "failureAvailableNodesLessQuorum"][..]),
        (TEMPLATE_2_1, &["hotAlignment", "failureAvailableNodesLessQuorum"]),
        (
            TEMPLATE_1_6,
            &[
                "resyncEvery",
                "hotAlignment",
                "replication",
                "clusters.internal.replication",
                "clusters.index.replication",
                "clusters.*.failureAvailableNodesLessQuorum",
                "clusters.*.replication",
                "clusters.*.partitioning",
            ],
        ),
    ] {
        let parsed = parse(template);
        let paths: Vec<&str> = parsed
            .warnings
            .iter()
            .map(|warning| match warning {
                Warning::Obsolete { path, .. } => path.as_str(),
                Warning::Absent { .. } | Warning::NoEffect { .. } => panic!("{warning}"),
            })
            .collect();
        assert_eq!(paths, obsolete);
        assert_eq!(parsed.config.write_quorum("item"), Quorum::Count(2));
        let entries: Vec<&str> = parsed.config.clusters[ANY].servers.entries().collect();
        assert_eq!(entries, [NEW_NODE]);
        assert!(parsed.config.servers("index").is_empty());
    }
}

/// A document with one setting of the database, or of cluster `c`, beside what it needs.
fn with(setting: &str) -> String {
    match setting.strip_prefix("c: ") {
        Some(own) => format!(r#"{{"clusters":{{"c":{{{own}}},"*":{{}}}}}}"#),
        None => format!(r#"{{{setting},"clusters":{{"*":{{}}}}}}"#),
    }
}

/// Settings, and what is said of them.
const ILLEGAL: &[(&str, &str)] = &[
    (r#""version":-1"#, "version: -1 is not legal; legal are whole numbers from 0 to 900"),
    (r#""version":1.5"#, "version: 1.5 is not legal"),
    (r#""version":"1""#, r#"version: "1" is not legal"#),
    (r#""autoDeploy":"yes""#, r#"autoDeploy: "yes" is not legal; legal are true and false"#),
    (r#""autoDeploy":null"#, "autoDeploy: null is not legal"),
    (r#""readYourWrites":1"#, "readYourWrites: 1 is not legal; legal are true and false"),
    (r#""writeQuorum":0"#, "writeQuorum: 0 is not legal; legal are whole numbers from 1, \"m"),
    (r#""writeQuorum":4294967296"#, "writeQuorum: 4294967296 is not legal"),
    (r#""writeQuorum":"2""#, r#"writeQuorum: "2" is not legal"#),
    (r#""readQuorum":"most""#, r#"readQuorum: "most" is not legal"#),
    (r#""readQuorum":"localDataCenter""#, "with `dataCenters` also \"localDataCenter\""),
    (r#""executionMode":"async""#, r#"executionMode: "async" is not legal; legal are "undef"#),
    (r#""newNodeStrategy":"none""#, r#"legal are "static" and "dynamic""#),
    (r#""servers":["n1"]"#, "servers: a list is not legal; legal are an object with a role"),
    (r#""servers":{"n1":"slave"}"#, r#"servers.n1: "slave" is not legal; legal are "master""#),
    (r#""servers":{"":"master"}"#, r#"servers.: "" is not legal; legal are "*" and names"#),
    (r#""servers":{"<NEW_NODE>":"master"}"#, r#""<NEW_NODE>" is not legal"#),
    (r#""servers":{"n1":"master","n1":"replica"}"#, "servers.n1: given twice"),
    (r#""hotAlignment":0"#, "hotAlignment: 0 is not legal"),
    (r#""resyncEvery":"15""#, r#"resyncEvery: "15" is not legal; legal are whole numbers"#),
    (r#""offlineMsgQueueSize":-1"#, "offlineMsgQueueSize: -1 is not legal; legal are whole"),
    (r#""failureAvailableNodesLessQuorum":2"#, "failureAvailableNodesLessQuorum: 2 is not"),
    (r#""replication":"on""#, r#"replication: "on" is not legal"#),
    (r#""synchronization":1"#, "synchronization: 1 is not legal"),
    (r#""synch-replicas":-1"#, "synch-replicas: -1 is not legal; legal are whole numbers fro"),
    (r#""asynch-replicas":"101%""#, r#"asynch-replicas: "101%" is not legal"#),
    (r#""master":1"#, "master: 1 is not legal"),
    (r#""writequorom":1"#, "writequorom: there is no such setting; the nearest is 'writeQuo"),
    (r#""colour":1"#, "colour: there is no such setting; legal are version, autoDeploy, readQ"),
    (r#""autoDeploy":true,"autoDeploy":true"#, "autoDeploy: given twice"),
    (r#""dataCenters":{"r":{"servers":["a"]}}"#, "dataCenters.r.writeQuorum: missing"),
    (r#""dataCenters":{"r":{"writeQuorum":1}}"#, "dataCenters.r.servers: missing"),
    (
        r#""dataCenters":{"r":{"writeQuorum":1,"servers":[]}}"#,
        "dataCenters.r.servers: a list is not legal; legal are a list with one server",
    ),
    (
        r#""dataCenters":{"r":{"writeQuorum":"localDataCenter","servers":["a"]}}"#,
        r#"dataCenters.r.writeQuorum: "localDataCenter" is not legal"#,
    ),
    (
        r#""dataCenters":{"r":{"writeQuorum":1,"servers":["a"]},
            "s":{"writeQuorum":1,"servers":["b","a"]}}"#,
        "dataCenters.s.servers[1]: given twice",
    ),
    (r#"c: "servers":"n1""#, r#"clusters.c.servers: "n1" is not legal; legal are a list"#),
    (r#"c: "servers":["n1",""]"#, r#"clusters.c.servers[1]: "" is not legal; legal are "<N"#),
    (r#"c: "servers":["n 1"]"#, r#"clusters.c.servers[0]: "n 1" is not legal"#),
    (r#"c: "servers":[1]"#, "clusters.c.servers[0]: 1 is not legal"),
    (r#"c: "servers":["n1","n2","n1"]"#, "clusters.c.servers[2]: given twice"),
    (r#"c: "servers":["<NEW_NODE>","n1","<NEW_NODE>"]"#, "clusters.c.servers[2]: given twice"),
    (
        r#"c: "servers":["n1","n2"],"owner":"n3""#,
        "clusters.c.owner: \"n3\" is not legal; legal are the servers of the cluster: n1, n2",
    ),
    (r#"c: "owner":"n1""#, "clusters.c.owner: \"n1\" is not legal; legal are servers of the"),
    (r#"c: "servers":["n1"],"owner":"<NEW_NODE>""#, "clusters.c.owner: \"<NEW_NODE>\" is not"),
    (r#"c: "writeQuorum":"some""#, r#"clusters.c.writeQuorum: "some" is not legal"#),
    (r#"c: "autoDeploy":true"#, "clusters.c.autoDeploy: there is no such setting"),
    (r#"c: "server":["n1"]"#, "clusters.c.server: there is no such setting; the nearest is 's"),
    (
        r#"c: "partitioning":{"strategy":"hash"}"#,
        r#"clusters.c.partitioning.strategy: "hash" is not legal; legal are "round-robin""#,
    ),
    (
        r#"c: "partitioning":{"partitions":[["a"],["b","b"]]}"#,
        "clusters.c.partitioning.partitions[1][1]: given twice",
    ),
    (r#"c: "partitioning":{"default":-1}"#, "clusters.c.partitioning.default: -1 is not"),
    (r#"c: },"C":{"#, "clusters.C: given twice"),
];

/// FEATURES: S9
#[test]
fn what_is_not_legal_is_refused_with_path_value_and_what_is() {
    for (setting, complaint) in ILLEGAL {
        let error = refused(&with(setting));
        assert!(error.contains(complaint), "{complaint:?} in {error:?}");
    }
    for (text, complaint) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        (r#"{"clusters":{}} x"#, "not JSON"),
        ("[]", "document: a list is not legal"),
        ("{}", "clusters: missing; legal are an object with clusters by name"),
        (r#"{"clusters":[]}"#, "clusters: a list is not legal"),
        (r#"{"clusters":{"":{}}}"#, "clusters.: an object is not legal; legal are names of clu"),
        (r#"{"clusters":{"*":1}}"#, "clusters.*: 1 is not legal; legal are an object with settin"),
    ] {
        let error = refused(text);
        assert!(error.contains(complaint), "{complaint:?} in {error:?}");
    }
}

/// FEATURES: S9
#[test]
fn what_is_obsolete_is_accepted_and_says_what_took_its_place() {
    for (setting, warning) in [
        (r#""hotAlignment":true"#, "hotAlignment is obsolete: a server that was away is sent"),
        (r#""resyncEvery":-5"#, "resyncEvery is obsolete: decisions are sent to every server"),
        (r#""offlineMsgQueueSize":100"#, "offlineMsgQueueSize is obsolete: --log-entries-max"),
        (r#""failureAvailableNodesLessQuorum":true"#, "a write always fails"),
        (r#""failureAvailableNodesLessQuorum":false"#, "a quorum is never lowered"),
        (r#""synchronization":true"#, "synchronization is obsolete: `servers` of a cluster"),
        (r#""synch-replicas":1"#, "synch-replicas is obsolete: writeQuorum says"),
        (r#""asynch-replicas":"100%""#, "asynch-replicas is obsolete: every server"),
        (r#""master":"$auto""#, "master is obsolete: the first in `servers`, or `owner`"),
        (r#""replication":true"#, "replication is obsolete: `servers` of a cluster"),
        (r#"c: "replication":false"#, "clusters.c.replication is obsolete: it is read as"),
        (r#"c: "failureAvailableNodesLessQuorum":true"#, "clusters.c.failureAvailableNodesLessQ"),
    ] {
        let found = warnings(&parse(&with(setting)).warnings);
        assert!(found.len() == 1 && found[0].contains(warning), "{warning:?} in {found:?}");
    }
}

/// FEATURES: S9
#[test]
fn partitions_become_lists_of_servers() {
    for (partitions, entries, warning) in [
        (r#"[["a","<NEW_NODE>","b"]]"#, &["a", NEW_NODE, "b"][..], "is read as `servers`"),
        (r#"["a","<NEW_NODE>"]"#, &["a", NEW_NODE], "is read as `servers`"),
        (r#"[["a","<NEW_NODE>"],["b","a","<NEW_NODE>"]]"#, &["a", "b", NEW_NODE], "divide them"),
        (r#"[["b"],["a"]]"#, &["b", "a"], "divide them"),
        ("[]", &[], "is read as `servers`"),
    ] {
        let own = format!(r#"c: "partitioning":{{"partitions":{partitions}}},"writeQuorum":1"#);
        let parsed = parse(&with(&own));
        assert_eq!(parsed.config.clusters["c"].servers.entries().collect::<Vec<_>>(), entries);
        let found = warnings(&parsed.warnings);
        assert!(found[0].contains(warning), "{warning} in {found:?}");
    }
    let both = r#"c: "servers":["a"],"partitioning":{"partitions":[["b"]]},"replication":true"#;
    let parsed = parse(&with(both));
    assert_eq!(parsed.config.servers("c"), ["a"]);
    let found = warnings(&parsed.warnings);
    assert!(found.iter().any(|w| w.contains("`servers` of the same cluster counts")), "{found:?}");
    let off = r#"{"replication":false,"clusters":{"a":{"servers":["n"]},
        "b":{"servers":["n"],"replication":true}}}"#;
    let config = parse(off).config;
    assert!(config.servers("a").is_empty() && config.servers("b") == ["n"]);
}

/// FEATURES: S9
#[test]
fn the_cluster_counts_before_the_database_and_any_only_for_those_not_listed() {
    let config = parse(
        r#"{"writeQuorum":"all","executionMode":"Synchronous","clusters":{
            "own":{"servers":["a","b"],"writeQuorum":1,"readQuorum":"MAJORITY","owner":"b",
                "readYourWrites":false,"executionMode":"asynchronous"},
            "bare":{},
            "tag":{"servers":["<NEW_NODE>","z"]},
            "*":{"servers":["c","<NEW_NODE>"],"writeQuorum":2,"readQuorum":3}}}"#,
    )
    .config;
    for (cluster, write, read, ryw, mode, owner) in [
        ("own", Quorum::Count(1), Quorum::Majority, false, "asynchronous", Some("b")),
        ("OWN", Quorum::Count(1), Quorum::Majority, false, "asynchronous", Some("b")),
        // Listed: nothing of `*`, the database's and the defaults.
        ("bare", Quorum::All, Quorum::Count(1), true, "synchronous", None),
        ("tag", Quorum::All, Quorum::Count(1), true, "synchronous", Some("z")),
        // Not listed: what `*` says counts as the cluster's own.
        ("other", Quorum::Count(2), Quorum::Count(3), true, "synchronous", Some("c")),
    ] {
        assert_eq!(config.write_quorum(cluster), write, "{cluster}");
        assert_eq!(config.read_quorum(cluster), read, "{cluster}");
        assert_eq!(config.read_your_writes(cluster), ryw, "{cluster}");
        assert_eq!(config.execution_mode(cluster).name(), mode, "{cluster}");
        assert_eq!(config.owner(cluster), owner, "{cluster}");
    }
    let nothing = parse(r#"{"clusters":{}}"#).config;
    assert_eq!(nothing.write_quorum("x"), Quorum::Majority);
    assert_eq!(nothing.read_quorum("x"), Quorum::Count(1));
    assert_eq!((nothing.owner("x"), nothing.servers("x").len()), (None, 0));
    assert!(nothing.auto_deploy && nothing.read_your_writes("x"));
    let roles =
        parse(r#"{"servers":{"*":"replica","n1":"MASTER","n3":"witness"},"clusters":{}}"#).config;
    let found = ["n1", "n2", "n3"].map(|server| roles.role(server));
    assert_eq!(found, [Role::Master, Role::Replica, Role::Witness]);
    assert_eq!(nothing.role("n1"), Role::Master);
}

/// FEATURES: S9
#[test]
fn what_a_replicated_cluster_is_left_without_is_said() {
    let parsed = parse(r#"{"readQuorum":1,"clusters":{"internal":{},"*":{"servers":["a"]}}}"#);
    let expected = [
        "writeQuorum is set neither for cluster '*' nor for the database: majority counts",
        "readYourWrites is set neither for cluster '*' nor for the database: true counts",
    ];
    assert_eq!(warnings(&parsed.warnings), expected);
}

mod arbitrary {
    //! Any configuration, as bytes and as a value.

    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    fn quorum(has_centers: bool) -> BoxedStrategy<Quorum> {
        let known = prop_oneof![
            Just(Quorum::Majority),
            Just(Quorum::All),
            (1_u32..).prop_map(Quorum::Count),
        ];
        if has_centers {
            prop_oneof![known, Just(Quorum::LocalDataCenter)].boxed()
        } else {
            known.boxed()
        }
    }

    fn overridable(has_centers: bool) -> impl Strategy<Value = Overridable> {
        let mode = prop_oneof![
            Just(ExecutionMode::Undefined),
            Just(ExecutionMode::Synchronous),
            Just(ExecutionMode::Asynchronous),
        ];
        let quorum = move || option::of(quorum(has_centers));
        (quorum(), quorum(), option::of(mode), option::of(any::<bool>())).prop_map(
            |(read_quorum, write_quorum, execution_mode, read_your_writes)| Overridable {
                read_quorum,
                write_quorum,
                execution_mode,
                read_your_writes,
            },
        )
    }

    fn cluster(has_centers: bool) -> impl Strategy<Value = ClusterConfig> {
        let names = proptest::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4).prop_shuffle();
        let picks = (option::of(0_usize..5), option::of(0_usize..4));
        (names, picks, overridable(has_centers)).prop_map(|(names, (tag, owner), overridable)| {
            let names: Vec<String> = names.into_iter().map(String::from).collect();
            let owner = owner.and_then(|at| names.get(at)).cloned();
            let tag = tag.map(|before| before.min(names.len()));
            ClusterConfig { servers: ServerList::new(names, tag), owner, overridable }
        })
    }

    fn config() -> impl Strategy<Value = DistributedConfig> {
        any::<bool>().prop_flat_map(|has_centers| {
            let role = prop_oneof![Just(Role::Master), Just(Role::Replica)];
            let center = quorum(false).prop_map(|write_quorum| DataCenter {
                write_quorum: write_quorum.into(),
                servers: vec!["a".to_string(), "b".to_string()],
            });
            let strategy = any::<bool>().prop_map(|is_static| {
                if is_static { NewNodeStrategy::Static } else { NewNodeStrategy::Dynamic }
            });
            (
                (0..=VERSION_MAX, any::<bool>(), strategy),
                overridable(has_centers),
                btree_map("[*]|[a-d]", role, 0..5),
                center.prop_map(move |center| has_centers.then_some(center)),
                btree_map("[*]|[a-z\"\\\\ é]{1,5}", cluster(has_centers), 0..5),
            )
                .prop_map(
                    |((version, auto_deploy, strategy), own, roles, center, clusters)| {
                        DistributedConfig {
                            version,
                            auto_deploy,
                            overridable: own,
                            new_node_strategy: strategy,
                            servers: roles,
                            data_centers: center.into_iter().map(|c| ("dc".into(), c)).collect(),
                            chain: auto_deploy.then(Chain::default),
                            clusters,
                        }
                    },
                )
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(config in config()) {
            let text = config.write().unwrap();
            let parsed = DistributedConfig::parse(&text).unwrap();
            prop_assert_eq!(&parsed.config, &config);
            prop_assert_eq!(parsed.config.write().unwrap(), text);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
            prop_assert!(DistributedConfig::parse(&bytes).is_err());
        }

        /// Near a legal text there is more to go wrong than in noise.
        #[test]
        fn no_change_of_a_template_makes_it_panic(
            which in 0_usize..4,
            edits in vec((any::<proptest::sample::Index>(), "[\\[\\]{}:,\"0-9a-z<>*.-]?"), 1..6),
        ) {
            let templates = [TEMPLATE_1_6, TEMPLATE_2_0, TEMPLATE_2_1, SHIPPED_TEMPLATE];
            let mut text: Vec<char> = templates[which].chars().collect();
            for (at, put) in edits {
                let at = at.index(text.len());
                text.splice(at..=at, put.chars());
            }
            let text: String = text.into_iter().collect();
            if let Ok(parsed) = DistributedConfig::parse(text.as_bytes()) {
                let written = parsed.config.write().unwrap();
                prop_assert_eq!(DistributedConfig::parse(&written).unwrap().config, parsed.config);
            }
        }
    }
}
