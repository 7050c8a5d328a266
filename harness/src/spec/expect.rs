//! Expected verdicts by checker, as specs write them.
//! What a checker does and how verdicts are compared lives in `quorate-check`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use quorate_check::verdict::Verdict;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Names of the checkers, in the order of the report.
pub const CHECKERS: [&str; 15] = [
    "acknowledged-durable",
    "linearizable",
    "failed-write-visible",
    "rid-unique",
    "convergence",
    "bank-total",
    "unique-key",
    "edge-symmetry",
    "aborted-read",
    "intermediate-read",
    "session-guarantees",
    "dependency-cycles",
    "lost-update",
    "quorum-compliance",
    "non-vacuous",
];

/// What is expected of a checker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// Nothing wrong is found.
    Valid,
    /// A violation is found; the run fails when it is not.
    Violated,
    /// The verdict is reported and decides nothing.
    Any,
}

/// Expected verdict by checker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawExpect(pub BTreeMap<String, Expected>);

impl RawExpect {
    /// As plans have it, where `unknown` is what nobody can want and stands for `any`.
    #[must_use]
    pub fn into_verdicts(self) -> BTreeMap<String, Verdict> {
        let verdict = |expected| match expected {
            Expected::Valid => Verdict::Valid,
            Expected::Violated => Verdict::Violated,
            Expected::Any => Verdict::Unknown,
        };
        self.0.into_iter().map(|(checker, expected)| (checker, verdict(expected))).collect()
    }
}

impl JsonSchema for RawExpect {
    fn schema_name() -> Cow<'static, str> {
        "Expect".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let verdicts = ["valid", "violated", "any"];
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
