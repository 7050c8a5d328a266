//! Vertices and edges over HTTP: both ends in one transaction, whichever way they come and go.

use quorate_api::{ClusterKey, ItemId, OpKind};
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
    let kinds: Vec<OpKind> = setup.fake.last_submitted().iter().map(|p| p.kind.clone()).collect();
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
async fn only_classes_of_edges_make_links_of_fields() {
    let setup = people().await;
    let body = r##"{"@class":"Person","in_stock":5,"out_of":["#19:0"],"in_Knows":["#19:9"]}"##;
    let made = setup.send("POST", "/document/bench", body).await.expect(201).json();
    let expected = json!({"@type": "d", "@rid": "#16:3", "@version": 1, "@class": "Person",
        "in_stock": 5, "out_of": ["#19:0"]});
    assert_eq!(made, expected);
    setup.sql("CREATE EDGE Knows FROM #16:0 TO #16:3").await;
    setup.sql("UPDATE #16:3 SET in_stock = 6").await;
    let read = record(&setup, "16:3").await;
    assert_eq!((&read["in_stock"], &read["in_Knows"]), (&json!(6), &json!(["#19:0"])));
    assert_eq!(read["@fieldTypes"], "in_Knows=g");
    let put = setup.send("PUT", "/document/bench/16:3", r#"{"in_Person":1}"#).await;
    let put = put.expect(200).json();
    assert_eq!((put.get("in_stock"), &put["in_Knows"]), (None, &json!(["#19:0"])));
    assert_eq!(put["in_Person"], 1);
    // A field that is called like a link and names something else takes nothing along.
    setup.sql("UPDATE #16:3 SET out_of = ['#16:1', '#19:0', 'x']").await;
    setup.sql("CREATE CLASS of EXTENDS E").await;
    setup.sql("DELETE VERTEX #16:3").await;
    assert_eq!(setup.sql("SELECT FROM Person").await.len(), 3);
    assert_eq!(setup.sql("SELECT FROM E").await, [] as [Value; 0]);
}

#[tokio::test]
async fn an_edge_made_and_taken_along_in_one_batch_never_was() {
    let setup = people().await;
    let body = r##"{"transaction":true,"operations":[
        {"type":"c","record":{"@rid":"#-1:-2","@class":"Person"}},
        {"type":"c","record":{"@class":"Knows","out":"#16:0","in":"#16:1"}},
        {"type":"c","record":{"@class":"Knows","out":"#-1:-2","in":"#16:0"}},
        {"type":"c","record":{"@class":"Knows","out":"#16:0","in":"#16:0"}},
        {"type":"d","record":{"@rid":"#16:0"}},
        {"type":"u","record":{"@rid":"#16:1","name":"Bo"}}]}"##;
    let answer = setup.send("POST", "/batch/bench", body).await.expect(200).json();
    assert_eq!(answer["operations"][1]["@version"], 0);
    assert_eq!(setup.fake.last_submitted().len(), 3, "the vertices");
    assert_eq!(setup.sql("SELECT FROM E").await, [] as [Value; 0]);
    assert_symmetric(&setup).await;
    // What was made and removed again is not there for the rest of the batch.
    let body = r##"{"transaction":true,"operations":[
        {"type":"c","record":{"@rid":"#-1:-2","@class":"Knows","out":"#16:1","in":"#16:2"}},
        {"type":"d","record":{"@rid":"#16:1"}},
        {"type":"u","record":{"@rid":"#-1:-2","w":1}}]}"##;
    setup.send("POST", "/batch/bench", body).await.fails(404, "not_found", "failed");
}

#[tokio::test]
async fn what_only_an_outdated_vertex_lists_is_looked_up_again() {
    let setup = people().await;
    setup.sql("CREATE EDGE Knows FROM #16:0 TO #16:1").await;
    let key = ClusterKey { database: 1, cluster: 16 };
    setup.fake.freeze(&ItemId::record(key, 0));
    setup.sql("DELETE EDGE #19:0").await;
    setup.send("DELETE", "/document/bench/16:0", "").await.expect(204);
    // Through a query that still sees a vertex that is gone.
    setup.fake.freeze(&ItemId::record(key, 1));
    setup.sql("DELETE VERTEX #16:1").await;
    assert_symmetric(&setup).await;
    let gone = "CREATE EDGE Knows FROM #16:1 TO #16:2";
    setup.send("POST", "/command/bench/sql", gone).await.fails(404, "not_found", "failed");
}

#[tokio::test]
async fn a_graph_class_is_dropped_when_empty_or_by_force() {
    let setup = people().await;
    setup.sql("CREATE CLASS Likes EXTENDS E").await;
    setup.sql("CREATE EDGE Knows FROM #16:0 TO #16:1").await;
    setup.sql("CREATE EDGE Likes FROM #16:1 TO #16:0").await;
    for (class, words) in [("Knows", "DELETE EDGE"), ("Person", "DELETE VERTEX")] {
        let drop = format!("DROP CLASS {class} IF EXISTS");
        let kept = setup.send("POST", "/command/bench/sql", &drop).await;
        let text = kept.fails(400, "bad_request", "failed");
        assert!(text.contains(words) && text.contains("UNSAFE"), "{text}");
        let path = format!("/class/bench/{class}");
        setup.send("DELETE", &path, "").await.fails(400, "bad_request", "failed");
    }
    // Records of other classes go with theirs.
    setup.sql("CREATE CLASS Item").await;
    setup.sql("INSERT INTO Item SET a = 1").await;
    setup.sql("DROP CLASS Item").await;
    // By force, and then the vertices that listed the edges are as good as before.
    setup.sql("DROP CLASS Knows UNSAFE").await;
    setup.sql("CREATE CLASS Knows EXTENDS E").await;
    setup.sql("CREATE EDGE Knows FROM #16:0 TO #16:2").await;
    assert_eq!(setup.sql("DELETE VERTEX #16:0").await, [json!({"count": 1})]);
    assert_eq!(setup.sql("SELECT FROM E").await, [] as [Value; 0]);
    // An edge that an end of is gone.
    setup.sql("CREATE VERTEX V SET name = 'Zoe'").await;
    setup.sql("CREATE EDGE Knows FROM #10:0 TO #16:1").await;
    setup.sql("DROP CLASS Person IF EXISTS UNSAFE").await;
    assert_eq!(setup.sql("DELETE EDGE Knows").await, [json!({"count": 1})]);
    assert_eq!(record(&setup, "10:0").await.get("out_Knows"), None);
    setup.sql("DROP CLASS Knows").await;
}

#[tokio::test]
async fn edges_between_vertices_are_found_however_many_there_are_elsewhere() {
    let setup = people().await;
    setup.sql("CREATE CLASS Likes EXTENDS Knows").await;
    let crowd: Vec<String> = (0..36).map(|_| "('crowd')".to_owned()).collect();
    setup.sql(&format!("INSERT INTO Person (name) VALUES {}", crowd.join(","))).await;
    let crowd = "(SELECT FROM Person WHERE name = 'crowd' LIMIT 28)";
    setup.sql(&format!("CREATE EDGE Knows FROM {crowd} TO {crowd}")).await;
    let rest = "(SELECT FROM Person WHERE name = 'crowd' SKIP 20)";
    setup.sql(&format!("CREATE EDGE Knows FROM {rest} TO {rest}")).await;
    setup.sql("CREATE EDGE Knows FROM #16:0 TO [#16:1, #16:2]").await;
    setup.sql("CREATE EDGE Likes FROM #16:0 TO [#16:1, #16:1] SET much = 7").await;
    let count = setup.sql("SELECT count(*) FROM E").await[0]["count(*)"].as_u64().unwrap();
    assert!(count > 1001, "{count}");
    for (statement, deleted) in [
        ("DELETE EDGE Likes FROM #16:0 TO #16:2", 0),
        ("DELETE EDGE Likes FROM #16:1", 0),
        ("DELETE EDGE Likes TO #16:1 WHERE much = 8", 0),
        ("DELETE EDGE FROM #16:99", 0),
        ("DELETE EDGE FROM #16:0 TO [#16:1, #16:1] WHERE much = 7 LIMIT 1", 1),
        ("DELETE EDGE FROM #16:0 TO (SELECT FROM Person WHERE name = 'Bob') LIMIT 5", 2),
        ("DELETE EDGE Knows TO #16:2", 1),
        ("DELETE EDGE FROM #16:0", 0),
    ] {
        assert_eq!(setup.sql(statement).await, [json!({"count": deleted})], "{statement}");
    }
    let left = setup.sql("SELECT count(*) FROM E").await[0]["count(*)"].as_u64().unwrap();
    assert_eq!(left, count - 4);
    let many = setup.send("POST", "/command/bench/sql", "DELETE EDGE Knows").await;
    many.fails(413, "too_large", "failed");
    setup.sql("DELETE EDGE Knows LIMIT 300").await;
    assert_symmetric(&setup).await;
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
    setup.sql("DELETE VERTEX Child").await;
    setup.sql("DROP CLASS Child").await;
    setup.sql("DROP CLASS Child IF EXISTS").await;
}
