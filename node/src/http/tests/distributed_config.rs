//! `/distributed/database`.

use quorate_control::distributed::DistributedConfig;
use quorate_control::settings::{self, ExecutionMode};
use quorate_protocol::io::ReadQuorum;

use serde_json::{Value, json};

use super::{Setup, config};
use crate::http::context::{HttpConfig, Limits};

/// FEATURES: S6, A21
#[tokio::test]
async fn a_database_shows_its_distributed_configuration() {
    let path = "/distributed/database/bench";
    let setup = Setup::bench().await;
    let answer = setup.send("GET", path, "").await.expect(200);
    assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
    let shown = answer.json();
    assert_eq!((&shown["version"], &shown["writeQuorum"]), (&json!(2), &json!("majority")));
    assert_eq!(
        shown["servers"],
        json!({"*": "master", "n1": "master", "n2": "master", "n3": "master"})
    );
    let servers = json!({"servers": ["n2", "n1", "n3", "<NEW_NODE>"]});
    assert_eq!(shown["clusters"]["item_n2"], servers);
    let parsed = DistributedConfig::parse(&answer.body).unwrap();
    assert_eq!(parsed.config.write().unwrap(), answer.body);
    assert_eq!(parsed.warnings, []);

    setup.send("POST", "/class/bench/Other", "").await.expect(201);
    assert_eq!(setup.send("GET", path, "").await.expect(200).json()["version"], 3);
    let unknown = setup.send("GET", "/distributed/database/none", "").await;
    unknown.fails(404, "unknown_database", "failed");
    let stranger = setup.send_with("GET", path, &[("authorization", "Basic eDp5")], "").await;
    stranger.fails(401, "unauthorized", "failed");
}

/// FEATURES: S9
#[tokio::test]
async fn a_database_that_does_not_say_gets_what_the_server_says() {
    let setup = Setup::configured(HttpConfig {
        read_quorum: settings::ReadQuorum::All,
        execution_mode: ExecutionMode::Synchronous,
        ..config(Limits::default())
    });
    setup.send("POST", "/database/as-said/plocal", "").await.expect(200);
    let own = r#"{"writeQuorum":3,"readQuorum":1,"executionMode":"undefined"}"#;
    setup.send("POST", "/database/own/plocal", own).await.expect(200);
    for (name, write, read, mode) in [
        ("as-said", json!("majority"), json!("all"), "synchronous"),
        ("own", json!(3), json!(1), "undefined"),
    ] {
        let shown = setup.send("GET", &format!("/distributed/database/{name}"), "").await;
        let shown = shown.expect(200).json();
        assert_eq!((&shown["writeQuorum"], &shown["readQuorum"]), (&write, &read));
        assert_eq!(shown["executionMode"], mode);
    }
}

/// FEATURES: A17, S9
#[tokio::test]
async fn data_centers_are_given_with_a_database_and_shown() {
    let setup = Setup::new();
    let centers = json!({
        "oslo": {"writeQuorum": 1, "servers": ["n3"]},
        "rome": {"writeQuorum": "majority", "servers": ["n1", "n2"]},
    });
    let create = |quorum: &str, centers: &Value| {
        json!({"writeQuorum": quorum, "readQuorum": quorum, "dataCenters": centers}).to_string()
    };
    for (centers, text) in [
        (json!({}), "writeQuorum: \"localDataCenter\" is legal with dataCenters only"),
        (
            json!({"rome": {"writeQuorum": 1, "servers": ["n1", "n3"]}}),
            "Data center not specified for server 'n2' in distributed configuration",
        ),
        (
            json!({"rome": {"writeQuorum": 1, "servers": []}}),
            "Data center 'rome' does not contain any server in distributed database configuration",
        ),
        (json!({"rome": {"servers": ["n1"]}}), "writeQuorum"),
    ] {
        let body = create("localDataCenter", &centers);
        let refused = setup.send("POST", "/database/bench/plocal", &body).await;
        let refused = refused.fails(400, "bad_request", "failed");
        assert!(refused.contains(text), "{refused}");
    }
    let body = create("localDataCenter", &centers);
    let made = setup.send("POST", "/database/bench/plocal", &body).await.expect(200).json();
    let warning = made.to_string();
    assert!(warning.contains("MASTERs in 2 data centers, 1 of 3, is below"), "{warning}");
    let path = "/distributed/database/bench";
    let now = setup.send("GET", path, "").await.expect(200);
    let parsed = DistributedConfig::parse(&now.body).unwrap().config;
    assert_eq!(parsed.write().unwrap(), now.body);
    let now = now.json();
    assert_eq!((&now["dataCenters"], &now["readQuorum"]), (&centers, &json!("localDataCenter")));

    let rows = setup.sql("HA STATUS -db -output=text").await;
    let shown = rows[0]["value"].as_str().unwrap();
    assert_eq!((shown.matches("DC(rome)").count(), shown.matches("DC(oslo)").count()), (2, 1));
    let table = "DATA CENTER CONFIGURATION\n\
        +------+---------+-------------+\n\
        | NAME | SERVERS | writeQuorum |\n\
        +==============================+\n\
        | oslo | n3      | 1           |\n\
        | rome | n1, n2  | majority    |\n\
        +------+---------+-------------+";
    assert!(shown.ends_with(table), "{shown}");
    let rows = setup.sql("HA STATUS -db").await;
    assert_eq!(rows[0]["database"]["dataCenters"], centers);

    // Who reads asks so many of its own data center.
    setup.send("POST", "/class/bench/Item", "").await.expect(201);
    let before = setup.fake.quorums().len();
    setup.send("GET", "/document/bench/16:0", "").await.expect(404);
    assert_eq!(setup.fake.quorums()[before..], [ReadQuorum::Near(2)]);

    let mut other = setup.send("GET", path, "").await.expect(200).json();
    other["dataCenters"]["oslo"]["servers"] = json!(["n3", "n4"]);
    let next = setup.send("PUT", path, &other.to_string()).await.expect(200).json();
    assert_eq!(next["dataCenters"]["oslo"]["servers"], json!(["n3", "n4"]));
    other["version"] = 3.into();
    other["dataCenters"]["oslo"]["servers"] = json!(["n1"]);
    let refused = setup.send("PUT", path, &other.to_string()).await;
    refused.fails(400, "bad_request", "failed");
}

/// FEATURES: L7
#[tokio::test]
async fn quorums_change_by_putting_the_document_back() {
    let setup = Setup::bench().await;
    let path = "/distributed/database/bench";
    let now = setup.send("GET", path, "").await.expect(200).json();
    let version = now["version"].as_u64().unwrap();
    let with = |changes: &[(&str, Value)]| {
        let mut document = now.clone();
        for (key, value) in changes {
            document[*key] = value.clone();
        }
        document.to_string()
    };
    let roles =
        |any: &str, third: &str| json!({"*": any, "n1": "master", "n2": "master", "n3": third});
    for (changes, text) in [
        // Nobody has raised the level here.
        (("writeQuorum", json!(1)), "once every server speaks version 9"),
        (("writeQuorum", json!(4)), "cannot be reached"),
        (("writeQuorum", json!("most")), "writeQuorum"),
        (("servers", json!({"*": "master", "n1": "replica"})), "go with HA REMOVE SERVER"),
        (("servers", roles("replica", "master")), "roles are changed of servers that are there"),
        (("autoDeploy", json!(false)), "only writeQuorum"),
    ] {
        let refused = setup.send("PUT", path, &with(&[changes])).await;
        let refused = refused.fails(400, "bad_request", "failed");
        assert!(refused.contains(text), "{refused}");
    }
    let both = [("writeQuorum", json!("all")), ("servers", roles("master", "replica"))];
    let both = setup.send("PUT", path, &with(&both)).await.fails(400, "bad_request", "failed");
    assert!(both.contains("and with nothing else: change one after the other"), "{both}");
    let changes = [("writeQuorum", json!("all")), ("readQuorum", json!("majority"))];
    let next = setup.send("PUT", path, &with(&changes)).await.expect(200).json();
    assert_eq!((&next["writeQuorum"], &next["readQuorum"]), (&json!("all"), &json!("majority")));
    assert_eq!(next["version"], version + 1);
    let stale = setup.send("PUT", path, &with(&changes)).await;
    stale.fails(409, "version_conflict", "failed");
    let again = next.to_string().replace("\"all\"", "\"majority\"");
    let busy = setup.send("PUT", path, &again).await;
    let busy = busy.fails(423, "busy", "failed");
    assert!(busy.contains("another change"), "{busy}");
    setup.send("PUT", "/distributed/database/none", &again).await.expect(404);
}

/// FEATURES: A14, S9
#[tokio::test]
async fn who_decides_between_contents_stands_in_the_document() {
    let setup = Setup::new();
    let chain = |name: &str, chain: &str| {
        let body = json!({"conflictResolverRepairerChain": chain}).to_string();
        let path = format!("/database/{name}/plocal");
        let setup = &setup;
        async move { setup.send("POST", &path, &body).await }
    };
    let refused = chain("bench", "newest").await.fails(400, "bad_request", "failed");
    let words = "conflictResolverRepairerChain: Cannot find 'newest' conflict resolver";
    assert!(refused.contains(words), "{refused}");
    let refused = chain("bench", "dc{winner:oslo}").await.fails(400, "bad_request", "failed");
    assert!(refused.contains("conflictResolverRepairerChain: Cannot find the data center 'oslo'"));
    chain("bench", "version").await.expect(200);
    let path = "/distributed/database/bench";
    let now = setup.send("GET", path, "").await.expect(200).json();
    assert_eq!(now["conflictResolverRepairerChain"], "version");
    let mut other = now.clone();
    other["conflictResolverRepairerChain"] = "content,quorum".into();
    let next = setup.send("PUT", path, &other.to_string()).await.expect(200).json();
    assert_eq!(next["conflictResolverRepairerChain"], "content,quorum");
    let rows = setup.sql("HA STATUS -db").await;
    assert_eq!(rows[0]["database"]["conflictResolverRepairerChain"], "content,quorum");
    // A document from before there was one changes something else and leaves it.
    let mut older = next.clone();
    older.as_object_mut().unwrap().remove("conflictResolverRepairerChain");
    older["readQuorum"] = "majority".into();
    let next = setup.send("PUT", path, &older.to_string()).await.expect(200).json();
    let shown = (&next["conflictResolverRepairerChain"], &next["readQuorum"]);
    assert_eq!(shown, (&json!("content,quorum"), &json!("majority")));
    let mut both = next.clone();
    both["conflictResolverRepairerChain"] = "majority".into();
    both["servers"]["n3"] = "replica".into();
    let both = setup.send("PUT", path, &both.to_string()).await.fails(400, "bad_request", "failed");
    assert!(both.contains("change one after the other"), "{both}");
    let mut unknown = next;
    unknown["conflictResolverRepairerChain"] = "dc{winner:oslo}".into();
    let refused = setup.send("PUT", path, &unknown.to_string()).await;
    let refused = refused.fails(400, "bad_request", "failed");
    assert!(refused.contains("Cannot find the data center 'oslo'"), "{refused}");
}

/// FEATURES: A6 L7
#[tokio::test]
async fn owners_are_chosen_by_putting_the_document_back() {
    let setup = Setup::bench().await;
    let path = "/distributed/database/bench";
    let now = setup.send("GET", path, "").await.expect(200).json();
    let with = |document: &Value, cluster: &str, owner: &str| {
        let mut document = document.clone();
        document["clusters"][cluster]["owner"] = owner.into();
        document.to_string()
    };
    for (cluster, owner, text) in [
        ("*", "n1", "owner of a named cluster"),
        ("item_n2", "n9", "clusters.item_n2.owner"),
        ("nowhere", "n1", "clusters.nowhere"),
    ] {
        let refused = setup.send("PUT", path, &with(&now, cluster, owner)).await;
        let refused = refused.fails(400, "bad_request", "failed");
        assert!(refused.contains(text), "{refused}");
    }
    let next = setup.send("PUT", path, &with(&now, "item_n2", "n1")).await.expect(200).json();
    let cluster = json!({"servers": ["n1", "n2", "n3", "<NEW_NODE>"], "owner": "n1"});
    assert_eq!(next["clusters"]["item_n2"], cluster);
    setup
        .send("POST", "/command/bench/sql", "INSERT INTO Item CLUSTER item_n2 SET v = 1")
        .await
        .expect(200);
    let given = setup.send("PUT", path, &with(&next, "item_n2", "n3")).await.expect(200).json();
    assert_eq!(given["clusters"]["item_n2"]["servers"][0], "n3");
    let insert = "INSERT INTO Item CLUSTER item_n2 SET v = 2";
    let refused = setup.send("POST", "/command/bench/sql", insert).await;
    let refused = refused.fails(500, "not_owner", "failed");
    assert!(refused.contains("(it is 'n3', its static owner)"), "{refused}");
}

/// FEATURES: A6 A20
#[tokio::test]
async fn owners_are_chosen_by_a_statement() {
    let setup = Setup::bench().await;
    let path = "/distributed/database/bench";
    let set = async |what: &str| {
        let text = format!("HA SET OWNER {what}");
        setup.send("POST", "/command/bench/sql", &text).await
    };
    let done = set("item_n2=n3").await.expect(200).json();
    assert_eq!(done["result"][0], json!({"operation": "ha set owner", "result": "OK"}));
    set("item_n2=n3").await.expect(200);
    let shown = setup.send("GET", path, "").await.expect(200).json();
    let cluster = json!({"servers": ["n3", "n1", "n2", "<NEW_NODE>"], "owner": "n3"});
    assert_eq!((&shown["clusters"]["item_n2"], &shown["version"]), (&cluster, &json!(3)));
    for (what, code, text) in [
        ("item_n2=n1", "bad_request", "because server 'n3' was already configured as owner"),
        ("item=n9", "bad_request", "Servers with the cluster are [n1, n2, n3]"),
        ("nowhere=n1", "unknown_cluster", "nowhere"),
    ] {
        let refused = set(what).await.json();
        assert_eq!(refused["errors"][0]["errorCode"], code, "{refused}");
        assert!(refused["errors"][0]["content"].as_str().unwrap().contains(text), "{refused}");
    }
    set("`*`=n1").await.expect(200);
    let shown = setup.send("GET", path, "").await.expect(200).json();
    let owner = |cluster: &str| shown["clusters"][cluster]["owner"].clone();
    assert_eq!(["item", "item_n3", "v_n2", "item_n2"].map(owner), ["n1", "n1", "n1", "n3"]);
}
