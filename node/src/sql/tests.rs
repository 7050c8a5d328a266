//! Tests of the small SQL: what is read, what is refused and in which words, what conditions mean.

use quorate_api::Rid;
use serde_json::{Map, Value, json};

use super::{
    Assignment, Column, Comparison, Condition, Delete, Insert, Operand, OrderKey, Params,
    Projection, Row, Select, Statement, Target, Update, holds, order, order_keys, parse,
};

fn read(text: &str) -> Statement {
    parse(text, &Params::None).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn field(name: &str) -> Operand {
    Operand::Field(name.split('.').map(str::to_owned).collect())
}

fn value(value: Value) -> Operand {
    Operand::Value(value)
}

#[test]
fn statements_are_read_whole() {
    let select = Select {
        projections: vec![
            Projection { what: Column::Operand(field("a")), name: "x".to_owned() },
            Projection { what: Column::Operand(Operand::Rid), name: "@rid".to_owned() },
        ],
        target: Target::Class("Item".to_owned()),
        filter: Some(Condition::Or(vec![
            Condition::And(vec![
                Condition::Compare(field("a"), Comparison::LessOrEqual, value(json!(-1.5e-3))),
                Condition::Not(Box::new(Condition::IsNull(field("b.c")))),
            ]),
            Condition::In(field("d"), value(json!([1, "#12:0", null]))),
        ])),
        order: vec![
            OrderKey { by: field("a"), descending: true },
            OrderKey { by: Operand::Version, descending: false },
        ],
        skip: 3,
        limit: Some(Some(7)),
    };
    let text = "select a as x, @rid FROM Item where a <= -1.5e-3 AND b.c is not null \
        OR d IN [1, #12:0, NULL] order by a desc, @version asc SKIP 3 LIMIT 7;";
    assert_eq!(read(text), Statement::Select(select));

    let row = |v: Value| v.as_object().unwrap().clone();
    assert_eq!(
        read(
            "INSERT INTO Item CLUSTER item_n-2.x (a, `b c`) \
             VALUES (1, 'x'), ('y\\n', {\"z\":[]})"
        ),
        Statement::Insert(Insert {
            class: "Item".to_owned(),
            cluster: Some("item_n-2.x".to_owned()),
            rows: vec![
                row(json!({"a": 1, "b c": "x"})),
                row(json!({"a": "y\n", "b c": {"z": []}}))
            ],
        })
    );
    assert_eq!(
        read("INSERT INTO Item CONTENT {\"a\": {\"b\": \"}\"}} ;"),
        Statement::Insert(Insert {
            class: "Item".to_owned(),
            cluster: None,
            rows: vec![row(json!({"a": {"b": "}"}}))],
        })
    );
}

#[test]
fn changes_are_read_whole() {
    assert_eq!(
        read("UPDATE [#1:2,#3:4] SET a = true, b = [1, [2]] LIMIT -1"),
        Statement::Update(Update {
            target: Target::Rids(vec![
                Rid { cluster: 1, position: 2 },
                Rid { cluster: 3, position: 4 }
            ]),
            set: vec![
                Assignment { field: "a".to_owned(), value: json!(true) },
                Assignment { field: "b".to_owned(), value: json!([1, [2]]) },
            ],
            filter: None,
            limit: None,
        })
    );
    assert_eq!(
        read("DELETE FROM cluster:item_n2 WHERE NOT (a LIKE 'x%' OR a NOT IN ['q'])"),
        Statement::Delete(Delete {
            target: Target::Cluster("item_n2".to_owned()),
            filter: Some(Condition::Not(Box::new(Condition::Or(vec![
                Condition::Like(field("a"), value(json!("x%"))),
                Condition::Not(Box::new(Condition::In(field("a"), value(json!(["q"]))))),
            ])))),
            limit: None,
        })
    );
}

#[test]
fn words_are_names_where_names_are_expected() {
    for text in [
        "SELECT count FROM cluster",
        "SELECT `from` FROM `select`",
        "SELECT in, out FROM Values WHERE `set`.x = 1",
        "SELECT * FROM Item LIMIT 1 SKIP 2",
    ] {
        read(text);
    }
}

#[test]
fn refusals_say_where_and_what() {
    for (text, expected) in [
        ("", "character 1: expected SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP or HA"),
        (
            "FETCH x",
            "character 1: expected SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP or HA",
        ),
        ("SELECT a b FROM X", "character 10: expected FROM, found 'b'"),
        ("SELECT FROM", "character 12: expected a class, cluster:name or record id, found the end"),
        (
            "SELECT FROM WHERE",
            "character 13: expected a class, cluster:name or record id, found 'WHERE'",
        ),
        ("SELECT FROM #12:", "character 13: expected a record id like #12:0, found '#12:'"),
        ("SELECT FROM (SELECT a FROM X)", "character 14: a query for columns as a target is not"),
        ("SELECT FROM X WHERE", "character 20: expected a value, found the end"),
        ("SELECT FROM X WHERE a =", "character 24: expected a value, found the end"),
        ("SELECT FROM X WHERE a", "character 22: expected a comparison, found the end"),
        ("SELECT FROM X WHERE a BETWEEN 1 AND 2", "character 23: BETWEEN is not supported"),
        ("SELECT FROM X WHERE a + 1 = 2", "character 23: arithmetic is not supported"),
        ("SELECT FROM X WHERE (a = 1", "character 27: expected ')', found the end"),
        (
            "SELECT FROM X WHERE a = 'é",
            "character 25: expected ' at the end of the text, found the end",
        ),
        ("SELECT FROM X WHERE é = 1 GROUP BY a", "character 27: GROUP is not supported"),
        ("SELECT FROM X WHERE a = ?", "character 25: no value for parameter ?1"),
        ("SELECT FROM X WHERE a = :b", "character 25: no value for parameter :b"),
        ("SELECT FROM X LIMIT x", "character 21: expected a number of records, found 'x'"),
        ("SELECT FROM X LIMIT -2", "character 21: expected a number of records, found number -2"),
        (
            "SELECT FROM X LIMIT 1 1",
            "character 23: expected the end of the statement, found number 1",
        ),
        (
            "SELECT a, count(*) FROM X",
            "character 20: '*' or count(*) beside other columns is not supported",
        ),
        ("SELECT sum(a) FROM X", "character 8: function sum() is not supported"),
        ("SELECT 1 FROM X", "character 8: a constant as a column is not supported"),
        ("SELECT @size FROM X", "character 8: attribute @size is not supported"),
        ("INSERT INTO X", "character 14: expected SET, CONTENT or a list of fields, found the end"),
        ("INSERT INTO X (a, b) VALUES (1)", "character 31: expected ',', found ')'"),
        ("INSERT INTO X CONTENT {", "character 23: expected JSON, found EOF while parsing"),
        ("INSERT INTO X CONTENT [1]", "character 23: expected a JSON object, found '['"),
        ("UPDATE X SET a = a", "character 18: 'a' as a value is not supported"),
        ("UPDATE X SET a = 1 + 1", "character 20: arithmetic is not supported"),
        ("UPDATE X SET a = 1-1", "character 19: arithmetic is not supported"),
        ("UPDATE X INCREMENT a = 1", "character 10: INCREMENT is not supported"),
        ("DELETE EDGE X FROM 1", "character 20: expected a record id, a list of them or a query"),
        ("DELETE X", "character 8: expected FROM, found 'X'"),
        ("SELECT FROM X WHERE a = 1 ~", "character 27: expected a token, found '~'"),
        ("SELECT FROM X WHERE a = '\\q'", "expected one of"),
        ("SELECT FROM X WHERE a = 1e999", "character 25: expected a number, found '1e999'"),
    ] {
        match parse(text, &Params::None) {
            Ok(statement) => panic!("{text}: {statement:?}"),
            Err(error) => {
                assert!(error.to_string().contains(expected), "{text}\n{error}\n{expected}")
            }
        }
    }
}

#[test]
fn nesting_is_bounded() {
    for (open, close) in [("(", ")"), ("NOT ", ""), ("NOT (", ")")] {
        let text =
            |n: usize| format!("SELECT FROM X WHERE {}a=1{}", open.repeat(n), close.repeat(n));
        read(&text(30));
        let error = parse(&text(100_000), &Params::None).unwrap_err().to_string();
        assert!(error.contains("nested deeper than 64"), "{error}");
    }
    let lists = format!("SELECT FROM X WHERE a = {}", "[".repeat(100_000));
    assert!(parse(&lists, &Params::None).unwrap_err().to_string().contains("nested deeper"));
    let json = format!("INSERT INTO X CONTENT {}", "{\"a\":".repeat(100_000));
    assert!(parse(&json, &Params::None).unwrap_err().to_string().contains("recursion limit"));
    // Long but flat is fine.
    let wide = vec!["a = 1"; 10_000].join(" OR ");
    read(&format!("SELECT FROM X WHERE {wide}"));
}

fn is_true(condition: &str, fields: &Value) -> bool {
    let Statement::Select(select) = read(&format!("SELECT FROM X WHERE {condition}")) else {
        panic!("{condition}");
    };
    let fields = fields.as_object().unwrap();
    let rid = Rid { cluster: 12, position: 3 };
    holds(&select.filter.unwrap(), &Row { rid, version: 4, class: "Item", fields })
}

#[test]
fn conditions_mean_what_they_say() {
    let record = json!({
        "n": 5, "f": 5.5, "big": 9007199254740993_u64, "s": "text", "t": true, "z": null,
        "l": [1, 2], "o": {"p": {"q": "deep"}}
    });
    for (condition, expected) in [
        ("n = 5", true),
        ("n = 5.0", true),
        ("n == 5 AND n <> 6 AND n != 6", true),
        ("n < 5.5 AND f > n AND f >= 5.5 AND n <= 5", true),
        ("big > 9007199254740992.0", true),
        ("big = 9007199254740992.0", false),
        ("n = '5'", false),
        ("n <> '5'", true),
        ("n < '6'", false),
        ("s > 'tex' AND s < 'texu'", true),
        ("t = true AND t <> false", true),
        ("z IS NULL AND missing IS NULL AND n IS NOT NULL", true),
        ("z = null OR z <> null OR missing = 1 OR missing <> 1", false),
        ("NOT (missing = 1)", true),
        ("l = [1, 2]", true),
        ("o.p.q = 'deep' AND o.x.y IS NULL AND n.x IS NULL", true),
        ("n IN [4, 5] AND n NOT IN [6] AND n IN 5", true),
        ("missing IN [null]", false),
        ("s LIKE 't%t' AND s LIKE '%' AND s LIKE '%ex%' AND s LIKE 'text'", true),
        ("s LIKE 't' OR s LIKE '%x' OR s LIKE 't%tt' OR n LIKE '5'", false),
        ("s LIKE 'text%' AND s NOT LIKE '%texts%'", true),
        ("@rid = #12:3 AND @rid = '#12:3' AND @rid IN [#12:3]", true),
        ("@class = 'Item' AND @version = 4", true),
        ("n = 1 OR n = 5 AND s = 'text'", true),
        ("(n = 5 OR n = 1) AND s = 'x'", false),
        ("NOT n = 1 AND NOT NOT n = 5", true),
    ] {
        assert_eq!(is_true(condition, &record), expected, "{condition}");
    }
}

#[test]
fn orders_are_by_value_not_by_text() {
    let keys = |text: &str| {
        let Statement::Select(select) = read(&format!("SELECT FROM X ORDER BY {text}")) else {
            panic!("{text}");
        };
        select.order
    };
    let by_rid = keys("@rid");
    let fields = Map::new();
    let row = |position| {
        let rid = Rid { cluster: 1, position };
        order_keys(&by_rid, &Row { rid, version: 1, class: "X", fields: &fields })
    };
    assert!(order(&by_rid, &row(9), &row(10)).is_lt());
    let mixed = keys("a, b DESC");
    let smaller = [json!(null), json!(1)];
    assert!(order(&mixed, &smaller, &[json!(false), json!(9)]).is_lt());
    assert!(order(&mixed, &smaller, &[json!(null), json!(9)]).is_gt());
    assert!(order(&mixed, &[json!(2), json!(0)], &[json!("1"), json!(0)]).is_lt());
}

mod properties {
    use proptest::prelude::*;

    use super::super::{Params, Row, Statement, holds, order, order_keys, parse};
    use quorate_api::Rid;
    use serde_json::{Value, json};

    const PIECES: [&str; 65] = [
        "SELECT ",
        "INSERT INTO ",
        "UPDATE ",
        "DELETE ",
        "FROM ",
        "WHERE ",
        "ORDER BY ",
        "LIMIT ",
        "SKIP ",
        "SET ",
        "CONTENT ",
        "VALUES ",
        "CLUSTER ",
        "cluster:",
        "AND ",
        "OR ",
        "NOT ",
        "IN ",
        "LIKE ",
        "IS ",
        "NULL ",
        "count(*) ",
        "AS ",
        "a ",
        "X ",
        "@rid ",
        "@version ",
        "#1:2 ",
        "'%x' ",
        "1 ",
        "-2.5 ",
        "{\"a\":1} ",
        "[1,2] ",
        "(",
        ")",
        "[",
        "]",
        "{",
        ",",
        "= ",
        "<= ",
        "? ",
        ":p ",
        "é",
        "CREATE ",
        "DROP ",
        "EXPLAIN ",
        "CLASS ",
        "INDEX ",
        "VERTEX ",
        "EDGE ",
        "EXTENDS ",
        "ON ",
        "UNIQUE ",
        "NOTUNIQUE ",
        "TO ",
        "IF ",
        "EXISTS ",
        "HA STATUS ",
        "-db ",
        "-output=text ",
        "(SELECT FROM ",
        "X.a ",
        ".",
        "[#1:2,#1:3] ",
    ];

    fn numbers() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (9007199254740990_u64..9007199254740995).prop_map(Value::from),
            (9007199254740990_u64..9007199254740995).prop_map(|n| Value::from(n as f64)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn junk_never_panics(text in any::<String>()) {
            // Random text is no statement; what counts is that saying so does not panic.
            prop_assert!(parse(&text, &Params::None).is_err());
        }

        #[test]
        fn half_statements_never_panic(
            pieces in proptest::collection::vec(0..PIECES.len(), 0..20)
        ) {
            let text: String = pieces.into_iter().map(|i| PIECES[i]).collect();
            let params = Params::Positional(vec![json!({"x": 1}), json!(2)]);
            if let Ok(Statement::Select(select)) = parse(&text, &params) {
                let fields = json!({"a": "xx", "X": null});
                let rid = Rid { cluster: 1, position: 2 };
                let fields = fields.as_object().cloned().unwrap_or_default();
                let row = Row { rid, version: 1, class: "X", fields: &fields };
                let keys = order_keys(&select.order, &row);
                prop_assert!(order(&select.order, &keys, &keys).is_eq());
                if let Some(filter) = &select.filter {
                    let twice = super::Condition::Not(Box::new(filter.clone()));
                    prop_assert_ne!(holds(filter, &row), holds(&twice, &row));
                }
            }
        }

        /// Sorting panics on an order that is none.
        #[test]
        fn numbers_are_totally_ordered(a in numbers(), b in numbers(), c in numbers()) {
            let Ok(Statement::Select(select)) = parse("SELECT FROM X ORDER BY a", &Params::None)
            else {
                return Err(TestCaseError::fail("not read"));
            };
            let cmp = |x: &Value, y: &Value| {
                order(&select.order, std::slice::from_ref(x), std::slice::from_ref(y))
            };
            prop_assert_eq!(cmp(&a, &b), cmp(&b, &a).reverse());
            if cmp(&a, &b).is_le() && cmp(&b, &c).is_le() {
                prop_assert!(cmp(&a, &c).is_le());
            }
        }
    }
}
