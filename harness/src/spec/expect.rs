//! Expected verdicts by checker, as specs write them.
//! What a checker does and how verdicts are compared lives in `quorate-check`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use quorate_check::verdict::Verdict;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Names of the checkers, in the order of the report.
pub const CHECKERS: [&str; 6] = [
    "acknowledged-durable",
    "linearizable",
    "failed-write-visible",
    "rid-unique",
    "convergence",
    "non-vacuous",
];

/// Expected verdict by checker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawExpect(pub BTreeMap<String, Verdict>);

impl JsonSchema for RawExpect {
    fn schema_name() -> Cow<'static, str> {
        "Expect".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let verdicts = ["valid", "violated", "unknown"];
        let checkers = CHECKERS.map(|name| (name.to_owned(), json!({ "enum": verdicts })));
        let mut schema = Map::new();
        schema.insert("type".to_owned(), "object".into());
        schema.insert("properties".to_owned(), Value::Object(Map::from_iter(checkers)));
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
        schema.into()
    }

    fn inline_schema() -> bool {
        true
    }
}
