//! Statements on schema and graph: what they are read as, and where they go wrong.

use quorate_api::Rid;
use quorate_control::indexes::IndexKind;
use serde_json::json;

use super::{AddCluster, DropClass, Params, Statement, Target, parse};

fn read(text: &str) -> Statement {
    parse(text, &Params::None).unwrap_or_else(|error| panic!("{text}: {error}"))
}

const fn rid(position: u64) -> Rid {
    Rid { cluster: 12, position }
}

#[test]
fn vertices_and_edges_are_made() {
    let Statement::CreateVertex(vertex) = read("create vertex") else { panic!("no vertex") };
    assert_eq!((vertex.class.as_str(), vertex.fields.len()), ("V", 0));
    let text = "CREATE VERTEX Person CLUSTER person_n2 SET name = 'Ann', age = 3";
    let Statement::CreateVertex(vertex) = read(text) else { panic!("no vertex") };
    assert_eq!(vertex.cluster.as_deref(), Some("person_n2"));
    assert_eq!(serde_json::Value::from(vertex.fields), json!({"name": "Ann", "age": 3}));
    let text = "CREATE EDGE Knows FROM #12:0 TO [#12:1, #12:2] CONTENT {\"since\": 1}";
    let Statement::CreateEdge(edge) = read(text) else { panic!("no edge") };
    assert_eq!((edge.class.as_str(), &edge.from), ("Knows", &Target::Rids(vec![rid(0)])));
    assert_eq!(edge.to, Target::Rids(vec![rid(1), rid(2)]));
    let text = "CREATE EDGE FROM (SELECT FROM V WHERE a = 1) TO (SELECT @rid FROM #12:1)";
    let Statement::CreateEdge(edge) = read(text) else { panic!("no edge") };
    assert_eq!(edge.class, "E");
    assert!(matches!(&edge.from, Target::Query(select) if select.filter.is_some()));
    assert!(matches!(&edge.to, Target::Query(select) if select.projections.is_empty()));
    let params = Params::Positional(vec![json!("#12:0"), json!(["#12:1"])]);
    let Ok(Statement::CreateEdge(edge)) = parse("CREATE EDGE E FROM ? TO ?", &params) else {
        panic!("no edge")
    };
    assert_eq!((edge.from, edge.to), (Target::Rids(vec![rid(0)]), Target::Rids(vec![rid(1)])));
}

#[test]
fn vertices_and_edges_are_removed() {
    for text in ["DELETE VERTEX #12:0", "DELETE VERTEX Person WHERE a = 1 LIMIT 3"] {
        assert!(matches!(read(text), Statement::DeleteVertex(_)), "{text}");
    }
    let Statement::DeleteEdge(edge) = read("DELETE EDGE Knows FROM #12:0 TO #12:1 WHERE a = 1")
    else {
        panic!("no edge")
    };
    assert_eq!(edge.target, Target::Class("Knows".into()));
    assert!(edge.from.is_some() && edge.to.is_some() && edge.filter.is_some());
    let Statement::DeleteEdge(edge) = read("DELETE EDGE FROM #12:0") else { panic!("no edge") };
    assert_eq!((edge.target, edge.to), (Target::Class("E".into()), None));
    let Statement::DeleteEdge(edge) = read("DELETE EDGE [#12:0, #12:1]") else { panic!("no edge") };
    assert_eq!(edge.target, Target::Rids(vec![rid(0), rid(1)]));
}

#[test]
fn the_schema_is_changed() {
    let Statement::CreateClass(class) = read("CREATE CLASS Dog IF NOT EXISTS EXTENDS Animal, V")
    else {
        panic!("no class")
    };
    assert!(class.if_not_exists);
    assert_eq!(class.super_classes, ["Animal", "V"]);
    for (text, kind) in [
        ("CREATE INDEX Item.k UNIQUE", IndexKind::Unique),
        ("CREATE INDEX Item.k ON Item (k) NOTUNIQUE", IndexKind::NotUnique),
        ("create index Item.k on Item (`k`) unique_hash_index", IndexKind::Unique),
    ] {
        let Statement::CreateIndex(index) = read(text) else { panic!("{text}") };
        let new = index.new;
        assert_eq!(
            (new.name.as_str(), new.class.as_str(), new.field.as_str()),
            ("Item.k", "Item", "k")
        );
        assert_eq!(new.kind, kind, "{text}");
    }
    for (text, if_exists, is_forced) in [
        ("DROP CLASS Item", false, false),
        ("DROP CLASS Item UNSAFE", false, true),
        ("drop class Item if exists unsafe", true, true),
    ] {
        let drop = DropClass { name: "Item".to_owned(), if_exists, is_forced };
        assert_eq!(read(text), Statement::DropClass(drop), "{text}");
    }
    let add = AddCluster { class: "Item".to_owned(), name: "item_usa".to_owned() };
    assert_eq!(read("ALTER CLASS Item ADDCLUSTER item_usa"), Statement::AddCluster(add.clone()));
    assert_eq!(read("alter class Item add_cluster item_usa"), Statement::AddCluster(add));
    for text in [
        "DROP INDEX Item.k IF EXISTS",
        "DROP CLASS Item IF EXISTS",
        "ALTER CLASS Item ADDCLUSTER item_usa",
    ] {
        assert!(read(text).is_ddl() && !read(text).is_idempotent(), "{text}");
    }
    assert!(read("EXPLAIN SELECT FROM Item").is_idempotent());
}

#[test]
fn refusals_say_where_and_what() {
    for (text, expected) in [
        ("CREATE", "character 7: expected CLASS, INDEX, VERTEX or EDGE, found the end"),
        ("CREATE USER x", "character 8: CREATE USER is not supported"),
        ("ALTER", "character 6: expected CLASS, found the end"),
        ("ALTER DATABASE x", "character 7: ALTER DATABASE is not supported"),
        ("ALTER CLASS X NAME Y", "character 15: ALTER CLASS … NAME is not supported"),
        ("ALTER CLASS X ADDCLUSTER", "character 25: expected a cluster, found the end"),
        ("DROP CLUSTER x", "character 6: DROP CLUSTER is not supported"),
        ("CREATE CLASS", "character 13: expected a class, found the end"),
        ("CREATE CLASS X ABSTRACT", "character 16: ABSTRACT is not supported"),
        ("CREATE CLASS X IF EXISTS", "character 19: expected NOT, found 'EXISTS'"),
        ("CREATE INDEX i UNIQUE", "character 14: an index without ON class (property) is not"),
        ("CREATE INDEX i ON X (a, b) UNIQUE", "character 23: an index on several properties"),
        ("CREATE INDEX i ON X (a) FULLTEXT", "character 25: index type FULLTEXT is not supported"),
        ("CREATE INDEX i ON X (a)", "character 24: expected UNIQUE or NOTUNIQUE, found the end"),
        ("CREATE INDEX i ON X (a) UNIQUE METADATA {}", "character 32: METADATA is not supported"),
        ("CREATE EDGE E FROM V TO #1:1", "character 20: expected a record id, a list of them or"),
        ("CREATE EDGE E TO #1:1", "character 15: expected FROM, found 'TO'"),
        ("CREATE EDGE E FROM #1:1 TO #1:2 RETRY 3", "character 33: RETRY is not supported"),
        ("CREATE EDGE E FROM (SELECT 1) TO #1:2", "character 28: a constant as a column"),
        ("EXPLAIN DELETE FROM X", "character 9: expected SELECT, found 'DELETE'"),
    ] {
        let error = parse(text, &Params::None).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}\n{error}\n{expected}");
    }
    let params = Params::Positional(vec![json!(1)]);
    let error = parse("CREATE EDGE E FROM ? TO #1:1", &params).unwrap_err().to_string();
    assert!(error.contains("character 20: expected a parameter that is a record id"), "{error}");
    let deep = "SELECT FROM ".to_owned() + &"(SELECT FROM ".repeat(10_000);
    let error = parse(&deep, &Params::None).unwrap_err().to_string();
    assert!(error.contains("nested deeper than"), "{error}");
}
