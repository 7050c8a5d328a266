//! Tests of the configuration: what is accepted, and what is refused with which words.

use super::*;

fn file(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.yaml");
    std::fs::write(&path, text).unwrap();
    let arguments = ServeArgs { config: Some(path.clone()), ..ServeArgs::default() };
    Config::load(arguments, None)
        .map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
}

const GOOD: &str = "\
name: n1
data: /tmp/n1
masters: [n1, n2]
dial:
  n2: 127.0.0.1:7002
cluster_password: secret
";

/// A server that joins, and what else its file says.
fn joining(more: &str) -> String {
    let founds = GOOD.replace("masters: [n1, n2]", "join: [127.0.0.1:7002]");
    format!("{founds}{more}")
}

/// How many MASTERs there are is not known before.
#[test]
fn a_server_joins_what_its_file_or_its_flags_name() {
    let config =
        file(&joining("role: REPLICA\nadvertise: n1.example:1\nwrite_quorum: 3\n")).unwrap();
    assert_eq!(
        (&config.join[..], config.members.names()),
        (&["127.0.0.1:7002".into()][..], &["n1".into()][..])
    );
    let links = config.links.unwrap();
    assert_eq!(links.advertise.as_deref(), Some("n1.example:1"));
    assert_eq!(links.dial["n2"], "127.0.0.1:7002", "comes before what n2 says itself");
}

/// By its own flag, file or template, among more than two or where others are already.
///
/// FEATURES: A2
#[test]
fn a_server_is_to_be_a_witness_by_what_is_said_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let template = dir.path().join("template.json");
    let load = |text: &str, named: &str| {
        std::fs::write(&template, named).unwrap();
        let given = format!("default_db_config: {}\n", template.display());
        file(&format!("{text}{given}"))
    };
    let none = r#"{"servers":{"*":"master"},"clusters":{"*":{"servers":["<NEW_NODE>"]}}}"#;
    let of = |name: &str| none.replace("\"*\":\"master\"", &format!("\"{name}\":\"witness\""));
    let three =
        GOOD.replace("[n1, n2]", "[n1, n2, n3]").replace("  n2:", "  n3: 127.0.0.1:9\n  n2:");
    for (text, named, expected) in [
        (joining("role: witness\n"), none.to_owned(), Ok(true)),
        (joining(""), of("n1"), Ok(true)),
        (joining(""), of("n3"), Ok(false)),
        (format!("{three}role: WITNESS\n"), none.to_owned(), Ok(true)),
        (three.clone(), of("n1"), Ok(true)),
        (three.clone(), of("n3"), Ok(false)),
        (format!("{three}role: witness\n"), of("n3"), Err("2 of 3 MASTERs would be witnesses")),
        (format!("{GOOD}role: witness\n"), none.to_owned(), Err("1 of 2 MASTERs would be")),
        (three.clone(), of("*"), Err("servers.*: witnesses have to be named")),
    ] {
        match (load(&text, &named), expected) {
            (Ok(config), Ok(expected)) => assert_eq!(config.witness, expected, "{text}{named}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("{text}{named}: {found:?}, not {expected:?}"),
        }
    }
    let warned = load(&three, &of("n3")).unwrap().template.warnings;
    let warned: Vec<String> = warned.iter().map(ToString::to_string).collect();
    assert!(warned.iter().any(|text| text.starts_with("servers.n3 has no effect")), "{warned:?}");
    let alone = "name: n1\ndata: d\nrole: witness\n";
    let refused = file(alone).unwrap_err().to_string();
    assert!(refused.starts_with("role: 'witness' is not legal"), "{refused}");
}

#[test]
fn a_file_is_enough_and_flags_win() {
    let config = file(GOOD).unwrap();
    let links = config.links.unwrap();
    assert_eq!(links.dial["n2"], "127.0.0.1:7002");
    assert_eq!((links.cluster.as_str(), config.write_quorum), ("quorate", WriteQuorum::Majority));
    let from_file: File = serde_saphyr::from_str(GOOD).unwrap();
    let flags = ServeArgs {
        write_quorum: Some("all".into()),
        dial: vec![("n1".into(), "own:1".into()), ("n2".into(), "h:1".into())],
        ..ServeArgs::default()
    };
    let config = Config::merge(flags, from_file, None).unwrap();
    assert_eq!(config.write_quorum, WriteQuorum::All);
    let dial = config.links.unwrap().dial;
    assert_eq!(dial.into_iter().collect::<Vec<_>>(), [("n2".to_owned(), "h:1".to_owned())]);
}

#[test]
fn without_masters_a_server_stands_alone() {
    let config = file("data: /tmp/n1\n").unwrap();
    assert!(config.links.is_none());
    assert_eq!(config.members.names(), ["n1"]);
}

#[test]
fn errors_name_line_key_and_what_is_legal() {
    let error = file("data: /tmp/n1\nmaster: [n1]\n").unwrap_err();
    for part in ["FILE", "line 2", "master", "masters"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let error = file("data: /tmp/n1\nhttp: here\n").unwrap_err();
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let without = |key: &str| -> String {
        GOOD.lines().filter(|l| !l.trim().starts_with(key)).map(|l| format!("{l}\n")).collect()
    };
    for (text, expected) in [
        (without("data"), "data: missing"),
        (without("cluster_password"), "cluster password: missing"),
        (GOOD.replace("[n1, n2]", "[n1, n2, n3]"), "dial: no address for MASTER 'n3'"),
        (GOOD.replace("  n2:", "  n1:"), "dial: no address for MASTER 'n2'"),
        (
            format!("{GOOD}join: [\"127.0.0.1:7002\"]\n"),
            "`masters:` and `join:` exclude each other",
        ),
        (format!("{GOOD}role: replica\n"), "role: 'replica' is not legal: a server joins as"),
        (joining("role: master\n"), "role: 'master' is not legal: a server joins as replica"),
        (joining("").replace("join: [127.0.0.1:7002]", "join: [x]"), "join: 'x' is no address"),
        (joining("peer: 0.0.0.0:7001\n"), "cannot reach this one at 0.0.0.0:7001"),
        (joining("advertise: x\n"), "advertise: 'x' is no address: it has no port"),
        (GOOD.replace("[n1, n2]", "[n2]"), "masters: server 'n1' is not in the list"),
        (format!("{GOOD}align_items: 0\n"), "align_items: 0 is not legal; from 1 to 65536"),
        (format!("{GOOD}align_items: 65537\n"), "align_items: 65537 is not legal"),
        (format!("{GOOD}align_pause_ms: 0\n"), "align_pause_ms: 0 is not legal; from 1 to 1000"),
        (format!("{GOOD}align_pause_ms: 1001\n"), "align_pause_ms: 1001 is not legal"),
        (format!("{GOOD}log_entries_max: 0\n"), "log_entries_max: 0 is not legal"),
        (format!("{GOOD}log_entries_max: 1000000001\n"), "log_entries_max: 1000000001 is not"),
        (format!("{GOOD}log_age_max_s: 0\n"), "log_age_max_s: 0 is not legal"),
        (
            format!("{GOOD}log_age_max_s: 18446744073709551615\n"),
            "log_age_max_s: 18446744073709551615 is not legal; from 1 to 31536000",
        ),
        (GOOD.replace("127.0.0.1:7002", "foo:99999"), "'foo:99999' of MASTER 'n2'"),
        (
            format!("{GOOD}write_quorum: 3\n"),
            "write_quorum: 3 cannot be reached, there are 2 MASTERs; legal are majority, all \
                 and numbers from 1 to 2",
        ),
        (format!("{GOOD}read_quorum: 3\n"), "read_quorum: 3 cannot be reached"),
        (format!("{GOOD}read_quorum: 0\n"), "line 7"),
        (format!("{GOOD}execution_mode: async\n"), "'async' is not supported for"),
        (format!("{GOOD}suspect_after_ms: 5\n"), "5 is not legal; from 150 to 60000"),
        (format!("{GOOD}retry_count: 1001\n"), "retry_count: 1001 is not legal; from 0 to 1000"),
        (format!("{GOOD}retry_delay_ms: 20000\n"), "retry_delay_ms: 20000 is not legal"),
        (format!("{GOOD}retry_jitter_percent: 101\n"), "retry_jitter_percent: 101"),
        (format!("{GOOD}retry_jitter_percent: 300\n"), "retry_jitter_percent: 300 is not legal"),
        (format!("{GOOD}retry_count: -1\n"), "line 7"),
        (format!("{GOOD}in_flight_max: 0\n"), "in_flight_max: 0 is not legal; from 1 to 65536"),
        (format!("{GOOD}in_flight_max: 65537\n"), "in_flight_max: 65537 is not legal"),
        (format!("{GOOD}connections_max: 0\n"), "connections_max: 0 is not legal; from 1"),
    ] {
        let error = file(&text).unwrap_err();
        assert!(error.contains(expected), "{expected} in {error}");
    }
}

/// FEATURES: S9
#[test]
fn the_template_counts_where_nothing_else_says_what_databases_get() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("template.json");
    let template = r#"{"writeQuorum":"all","readQuorum":"majority","executionMode":"asynchronous",
        "clusters":{"*":{"servers":["<NEW_NODE>"]}}}"#;
    std::fs::write(&path, template).unwrap();
    let text = format!("{GOOD}default_db_config: {}\n", path.display());
    let config = file(&text).unwrap();
    assert_eq!((config.write_quorum, config.read_quorum), (WriteQuorum::All, ReadQuorum::Majority));
    assert_eq!(config.execution_mode, ExecutionMode::Asynchronous);
    assert_eq!(config.template.warnings.len(), 1, "{:?}", config.template.warnings);
    let config = file(&format!("{text}write_quorum: 1\nexecution_mode: undefined\n")).unwrap();
    assert_eq!(config.write_quorum, WriteQuorum::Count(1));
    assert_eq!(config.execution_mode, ExecutionMode::Undefined);
    assert_eq!(config.read_quorum, ReadQuorum::Majority);

    std::fs::write(&path, template.replace("\"all\"", "3")).unwrap();
    let error = file(&text).unwrap_err();
    let expected = "template.json: writeQuorum: 3 cannot be reached, there are 2 MASTERs";
    assert!(error.starts_with("default_db_config: ") && error.contains(expected), "{error}");
    // What is not used does no harm.
    assert!(file(&format!("{text}write_quorum: 2\n")).is_ok());
    std::fs::write(&path, template.replace("writeQuorum", "writeQourum")).unwrap();
    let error = file(&text).unwrap_err();
    assert!(error.contains("template.json: writeQourum: there is no such setting"), "{error}");
}

#[test]
fn what_nobody_sets_is_what_the_machine_and_the_retries_begin_with() {
    let config = file(GOOD).unwrap();
    assert_eq!(config.retry, RetryPolicy::default());
    assert_eq!(config.align, AlignConfig::default());
}

fn named(flag: Option<&str>, env: Option<&str>, text: &str) -> Result<Config, String> {
    let flags = ServeArgs {
        name: flag.map(str::to_owned),
        env_name: env.map(str::to_owned),
        ..ServeArgs::default()
    };
    let file = serde_saphyr::from_str(text).unwrap();
    Config::merge(flags, file, None).map_err(|error| error.to_string())
}

/// FEATURES: S4
#[test]
fn a_name_comes_from_flag_then_environment_then_file_then_folder() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("data: {}\n", dir.path().display());
    let file = format!("{text}name: file\n");
    assert_eq!(named(Some("flag"), Some("env"), &file).unwrap().name, "flag");
    assert_eq!(named(None, Some("env"), &file).unwrap().name, "env");
    assert_eq!(named(None, None, &file).unwrap().name, "file");
    drop(
        crate::runtime::data_dir::DataDir::open(
            dir.path(),
            "saved",
            Versions::ALL,
            crate::runtime::storage::Share::default(),
        )
        .unwrap(),
    );
    assert_eq!(named(None, None, &text).unwrap().name, "saved");
    let masters = format!("{text}masters: [n1]\ncluster_password: x\n");
    let error = named(None, None, &masters).err().unwrap();
    assert!(error.contains("'saved' is not in the list of MASTERs (n1); its name is"), "{error}");
    let error = named(Some("n2"), None, &masters).err().unwrap();
    assert!(error.contains("'n2' is not in the list of MASTERs (n1); give --name"), "{error}");
}

/// The same file starts both: only the list of MASTERs makes the difference.
///
/// FEATURES: S1
#[test]
fn one_file_serves_both_modes() {
    let alone: String = GOOD
        .lines()
        .filter(|line| !["masters", "dial", "n2"].iter().any(|key| line.trim().starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    let (alone, among) = (file(&alone).unwrap(), file(GOOD).unwrap());
    assert!(alone.links.is_none() && among.links.is_some());
    assert_eq!((alone.members.count(), among.members.count()), (1, 2));
    assert_eq!((alone.name, alone.data, alone.http), (among.name, among.data, among.http));
}

/// FEATURES: A14, A17, S9
#[test]
fn the_template_says_where_servers_are_and_resolvers_may_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("template.json");
    let template = r#"{"writeQuorum":"localDataCenter","dataCenters":{
        "oslo":{"writeQuorum":1,"servers":["n2"]},
        "rome":{"writeQuorum":"majority","servers":["n1"]}},
        "clusters":{"*":{"servers":["<NEW_NODE>"]}}}"#;
    std::fs::write(&path, template).unwrap();
    let text = format!("{GOOD}default_db_config: {}\n", path.display());
    let chain = |text: &str, chain| file(&format!("{text}conflict_resolver_chain: '{chain}'\n"));
    let config = chain(&text, "dc{winner:oslo},version").unwrap();
    assert_eq!(config.write_quorum, WriteQuorum::LocalDataCenter);
    assert_eq!(config.data_centers.len(), 2);
    assert_eq!(config.chain.to_string(), "dc{winner:oslo},version");
    assert!(config.quorum_warning().unwrap().contains("MASTERs in 2 data centers, 1 of 2"));
    let error = chain(&text, "dc{winner:bonn}").unwrap_err();
    let words = "conflict_resolver_chain: Cannot find the data center 'bonn' in distributed \
                 database configuration";
    assert!(error.starts_with(words), "{error}");
    let with_chain = template.replacen('{', "{\"conflictResolverRepairerChain\":\"quorum\",", 1);
    std::fs::write(&path, with_chain).unwrap();
    assert_eq!(file(&text).unwrap().chain.to_string(), "quorum");
    assert_eq!(chain(&text, "version").unwrap().chain.to_string(), "version");
    std::fs::write(&path, template).unwrap();
    let error = chain(&text, "dc").unwrap_err();
    assert!(error.contains("DC conflict resolver requires a configuration for the winner"));
    for (from, to, expected) in [
        (r#"["n2"]"#, r#"["n9"]"#, "Data center not specified for server 'n2'"),
        (r#"["n2"]"#, r#"["n1"]"#, "dataCenters.rome.servers[0]: given twice"),
        ("1,", "2,", "dataCenters.oslo.writeQuorum: 2 cannot be reached"),
    ] {
        std::fs::write(&path, template.replace(from, to)).unwrap();
        let error = file(&text).unwrap_err();
        assert!(error.starts_with("default_db_config: ") && error.contains(expected), "{error}");
    }
}

/// The flag comes before the original's variable, and that before the file.
///
/// FEATURES: S3
#[test]
fn the_heap_is_a_setting() {
    let load = |heap: Option<&str>, variable: Option<&str>, more: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.yaml");
        std::fs::write(&path, format!("{GOOD}{more}")).unwrap();
        let arguments = ServeArgs {
            config: Some(path),
            heap: heap.map(str::to_owned),
            env_memory: variable.map(str::to_owned),
            ..ServeArgs::default()
        };
        Config::load(arguments, None).map(|config| config.heap).map_err(|e| e.to_string())
    };
    let mib = |budget: Result<Budget, String>| budget.unwrap().total >> 20;
    let file = "heap: 256m\n";
    assert_eq!(mib(load(Some("64m"), Some("-Xms1g -Xmx1g"), file)), 64);
    assert_eq!(mib(load(None, Some("-Xms1g -Xmx1g"), file)), 1024);
    assert_eq!(mib(load(None, Some("-Xms1g"), file)), 256);
    assert_eq!(mib(load(None, None, "heap: 67108864\n")), 64);
    let found = load(None, None, "").unwrap();
    assert!((32..=4096).contains(&(found.total >> 20)), "{found:?}");
    let asked = load(Some("64m"), None, "connections_max: 8\n").unwrap();
    assert_eq!(asked.connections, 8);
    for (heap, variable, more, expected) in [
        (Some("64mb"), None, "", "heap: '64mb' is no size; legal are whole numbers with k, m or g"),
        (Some("31m"), None, "", "heap: 31m is too small: the least is 32m"),
        (None, Some("-Xmx16m"), "", "heap: 16m is too small: the least is 32m"),
        (None, Some("-server"), "", "ORIENTDB_OPTS_MEMORY: '-server' is not legal; -Xmx"),
        (None, None, "heap: much\n", "'much' is no size"),
        (Some("32m"), None, "connections_max: 1024\n", "the least is 56m with connections_max"),
    ] {
        let refused = load(heap, variable, more).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
}
