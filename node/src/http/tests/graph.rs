//! Vertices and edges over HTTP: both ends in one transaction, whichever way they come and go.

use quorate_api::OpKind;
use serde_json::{Value, json};

use super::Setup;

/// Person #16 and Knows #19, with Ann #16:0, Bob #16:1 and Eve #16:2.
async fn people() -> Setup {
    let setup = Setup::new();
    setup.send("POST", "/database/bench/plocal", "").await.expect(200);
    setup.sql("CREATE CLASS Person EXTENDS V").await;
    setup.sql("CREATE CLASS Knows EXTENDS E").await;
    for name in ["Ann", "Bob", "Eve"] {
        setup.sql(&format!("CREATE VERTEX Person SET name = '{name}'")).await;
    }
    setup
}

async fn record(setup: &Setup, rid: &str) -> Value {
    setup.send("GET", &format!("/document/bench/{rid}"), "").await.expect(200).json()
}

/// Every edge that a vertex lists names it, and every end of an edge lists it.
async fn assert_symmetric(setup: &Setup) {
    let vertices = setup.sql("SELECT FROM V").await;
    let edges = setup.sql("SELECT FROM E").await;
    let mut listed = 0;
    for vertex in &vertices {
        for (field, list) in vertex.as_object().unwrap() {
            let Some((end, class)) = field.split_once('_') else { continue };
            for rid in list.as_array().unwrap() {
                let edge = edges.iter().find(|e| e["@rid"] == *rid).expect("the edge is there");
                assert_eq!((&edge[end], &edge["@class"]), (&vertex["@rid"], &json!(class)));
                listed += 1;
            }
        }
    }
    assert_eq!(listed, 2 * edges.len());
}

/// FEATURES: A19
#[tokio::test]
async fn an_edge_is_one_transaction_with_both_its_ends() {
    let setup = people().await;
    let made = setup.sql("CREATE EDGE Knows FROM #16:0 TO #16:1 SET since = 7").await;
    let expected = json!([{"@type": "d", "@rid": "#19:0", "@version": 1, "@class": "Knows",
        "since": 7, "out": "#16:0", "in": "#16:1", "@fieldTypes": "out=x,in=x"}]);
    assert_eq!(Value::from(made), expected);
    let kinds: Vec<OpKind> = setup.fake.last_submitted().iter().map(|p| p.kind).collect();
    assert_eq!(kinds, [OpKind::Update, OpKind::Update, OpKind::Create]);
    let ann = record(&setup, "16:0").await;
    assert_eq!(
        (&ann["out_Knows"], &ann["@fieldTypes"]),
        (&json!(["#19:0"]), &json!("out_Knows=g"))
    );
    assert_eq!(record(&setup, "16:1").await["in_Knows"], json!(["#19:0"]));
    // To itself, and from all to all.
    setup.sql("CREATE EDGE Knows FROM #16:2 TO #16:2").await;
    let all = "CREATE EDGE Knows FROM (SELECT FROM Person WHERE name <> 'Eve') TO (SELECT FROM V)";
    assert_eq!(setup.sql(all).await.len(), 6);
    assert_symmetric(&setup).await;
    assert_eq!(setup.sql("SELECT FROM E").await.len(), 8);
}

#[tokio::test]
async fn edges_and_vertices_go_with_what_hangs_on_them() {
    let setup = people().await;
    let all = "CREATE EDGE Knows FROM (SELECT FROM Person) TO (SELECT FROM Person)";
    assert_eq!(setup.sql(all).await.len(), 9);
    let one = "DELETE EDGE Knows FROM #16:0 TO #16:1";
    assert_eq!(setup.sql(one).await, [json!({"count": 1})]);
    assert_eq!(setup.sql(one).await, [json!({"count": 0})]);
    assert_symmetric(&setup).await;
    assert_eq!(setup.sql("DELETE VERTEX #16:0").await, [json!({"count": 1})]);
    assert_symmetric(&setup).await;
    assert_eq!(setup.sql("SELECT FROM E").await.len(), 4);
    // The other doors out take the edges along too.
    setup.send("DELETE", "/document/bench/16:1", "").await.expect(204);
    assert_symmetric(&setup).await;
    assert_eq!(setup.sql("DELETE FROM Knows").await, [json!({"count": 1})]);
    let eve = record(&setup, "16:2").await;
    assert!(eve.get("out_Knows").is_none() && eve.get("@fieldTypes").is_none(), "{eve}");
    let left = "DELETE VERTEX Person WHERE name = 'Eve'";
    assert_eq!(setup.sql(left).await, [json!({"count": 1})]);
    assert_eq!(setup.sql("SELECT FROM V").await, [] as [Value; 0]);
}

#[tokio::test]
async fn documents_and_batches_keep_edges_whole() {
    let setup = people().await;
    let body = r##"{"transaction":true,"operations":[
        {"type":"c","record":{"@rid":"#-1:-2","@class":"Person","name":"Zoe"}},
        {"type":"c","record":{"@class":"Knows","out":"#-1:-2","in":"#16:0"}},
        {"type":"u","record":{"@rid":"#-1:-2","name":"Zoë"}},
        {"type":"u","record":{"@rid":"#16:0","@version":1,"name":"Anna"}}]}"##;
    let answer = setup.send("POST", "/batch/bench", body).await.expect(200).json();
    let rids: Vec<&str> = answer["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["@rid"].as_str().unwrap())
        .collect();
    assert_eq!(rids, ["#16:3", "#19:0", "#16:3", "#16:0"]);
    assert_eq!(setup.fake.last_submitted().len(), 3, "one operation a record");
    assert_symmetric(&setup).await;
    assert_eq!(record(&setup, "16:3").await["name"], "Zoë");
    // A replacement that does not mention the edges, or lies about them, leaves them.
    let body = r##"{"name":"x","in_Knows":["#19:99"]}"##;
    let put = setup.send("PUT", "/document/bench/16:0", body).await.expect(200).json();
    assert_eq!((&put["in_Knows"], &put["name"]), (&json!(["#19:0"]), &json!("x")));
    let put = setup.send("PUT", "/document/bench/19:0", r#"{"w":1}"#).await.expect(200).json();
    assert_eq!((&put["out"], &put["w"]), (&json!("#16:3"), &json!(1)));
    assert_symmetric(&setup).await;
    let loose = setup.send("POST", "/document/bench", r#"{"@class":"Knows"}"#).await;
    loose.fails(400, "bad_request", "failed");
}

#[tokio::test]
async fn what_is_no_graph_is_refused() {
    let setup = people().await;
    setup.sql("CREATE CLASS Item").await;
    setup.sql("INSERT INTO Item SET a = 1").await;
    for (sql, status, code) in [
        ("CREATE VERTEX Item", 400, "bad_request"),
        ("CREATE VERTEX Nope", 404, "unknown_class"),
        ("CREATE EDGE Person FROM #16:0 TO #16:1", 400, "bad_request"),
        ("CREATE EDGE Knows FROM #22:0 TO #16:1", 400, "bad_request"),
        ("CREATE EDGE Knows FROM #16:9 TO #16:1", 404, "not_found"),
        ("CREATE EDGE Knows FROM (SELECT FROM Person WHERE a = 1) TO #16:1", 404, "not_found"),
        ("CREATE EDGE Knows FROM #99:0 TO #16:1", 404, "unknown_cluster"),
        ("DELETE VERTEX Item", 400, "bad_request"),
        ("DELETE EDGE #16:0", 400, "bad_request"),
    ] {
        setup.send("POST", "/command/bench/sql", sql).await.fails(status, code, "failed");
    }
}

#[tokio::test]
async fn classes_inherit_and_queries_see_it() {
    let setup = people().await;
    let made = setup.sql("CREATE CLASS Child EXTENDS Person").await;
    assert_eq!(made[0]["operation"], "create class");
    setup.sql("CREATE CLASS Child IF NOT EXISTS EXTENDS Person").await;
    let again = setup.send("POST", "/command/bench/sql", "CREATE CLASS Child").await;
    again.fails(500, "class_exists", "failed");
    setup.sql("CREATE VERTEX Child SET name = 'Kid'").await;
    for class in ["Person", "V"] {
        let rows = setup.sql(&format!("SELECT FROM {class} WHERE name = 'Kid'")).await;
        assert_eq!(rows[0]["@class"], "Child", "{class}");
    }
    assert_eq!(
        setup.sql("SELECT FROM (SELECT FROM V ORDER BY name DESC LIMIT 1)").await[0]["name"],
        "Kid"
    );
    let in_use = setup.send("POST", "/command/bench/sql", "DROP CLASS Person").await;
    in_use.fails(400, "bad_request", "failed");
    setup.sql("DROP CLASS Child").await;
    setup.sql("DROP CLASS Child IF EXISTS").await;
}
