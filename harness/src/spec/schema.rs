//! JSON Schemas of the spec files, made from `raw`, and the check of a file against them.
//! One source for editors and for this command; what a schema cannot say is checked elsewhere.

use jsonschema::error::ValidationErrorKind;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::problem::{Problem, hint, nearest};
use super::raw::{RawGateFile, RawScenarioFile, RawSuiteFile, RawWorkloadFile};
use super::tree::Node;

/// The kinds of spec files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `workloads/*.yaml`.
    Workload,
    /// `chaos/*.yaml`.
    Scenario,
    /// `workloads/suites/*.yaml`.
    Suite,
    /// What `--gate` names.
    Gate,
}

impl FileKind {
    /// The JSON Schema (draft 2020-12) of this kind of file.
    #[must_use]
    pub fn schema(self) -> Value {
        // Without references, so that a message finds the rule by the path of the error alone.
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
        });
        let generator = settings.into_generator();
        let schema = match self {
            Self::Workload => generator.into_root_schema_for::<RawWorkloadFile>(),
            Self::Scenario => generator.into_root_schema_for::<RawScenarioFile>(),
            Self::Suite => generator.into_root_schema_for::<RawSuiteFile>(),
            Self::Gate => generator.into_root_schema_for::<RawGateFile>(),
        };
        schema.to_value()
    }

    /// Everything in `tree` that the schema forbids, in the order of the file.
    #[must_use]
    pub fn problems(self, tree: &Node) -> Vec<Problem> {
        let schema = self.schema();
        let mut problems = match jsonschema::validator_for(&schema) {
            Ok(validator) => {
                let json = tree.to_json();
                validator.iter_errors(&json).flat_map(|e| told(&schema, tree, &e)).collect()
            }
            Err(error) => {
                let what = format!("the schema of this file is itself broken: {error}");
                vec![Problem { origin: tree.origin.clone(), key: String::new(), what }]
            }
        };
        problems.sort_by_key(|problem| problem.origin.line);
        problems
    }
}

/// Everything that one error of the validator says, in words.
fn told(schema: &Value, tree: &Node, error: &jsonschema::ValidationError<'_>) -> Vec<Problem> {
    let at = dotted(error.instance_path().as_str());
    let rule_path = error.schema_path().as_str();
    let rule = rule_path.rsplit_once('/').and_then(|(parent, _)| schema.pointer(parent));
    let rule = rule.unwrap_or(&Value::Null);
    let problem = |key: String, what| Problem { origin: tree.origin_of(&key), key, what };
    // Further kinds of errors all mean that the one value at hand is not what it should be.
    #[allow(clippy::wildcard_enum_match_arm, reason = "foreign enum that grows")]
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let legal = keys(rule);
            let unknown = unexpected.iter();
            unknown.map(|key| problem(join(&at, key), unknown_key(key, &legal))).collect()
        }
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let meaning = rule.pointer(&format!("/properties/{key}/description"));
            let meaning = meaning.and_then(Value::as_str).unwrap_or("required");
            vec![problem(join(&at, key), format!("missing key `{key}`: {}", one_line(meaning)))]
        }
        _ => vec![problem(at, illegal(&error.instance().clone(), rule))],
    }
}

fn unknown_key(key: &str, legal: &[&str]) -> String {
    format!("unknown key `{key}`; {}", hint(key, legal))
}

fn illegal(value: &Value, rule: &Value) -> String {
    let shown = match value {
        Value::Null => "nothing".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_)) => format!("`{other}`"),
    };
    let guess = value.as_str().and_then(|word| nearest(word, &words(rule)));
    let guess = guess.map_or(String::new(), |known| format!("did you mean `{known}`? "));
    format!("{shown} is not legal here; {guess}legal: {}", legal(rule))
}

/// What a rule allows, in words.
fn legal(rule: &Value) -> String {
    if let Some(text) = rule.get("x-legal").and_then(Value::as_str) {
        return text.to_owned();
    }
    let words = words(rule);
    if !words.is_empty() {
        return words.join(", ");
    }
    let branches = rule.get("anyOf").or_else(|| rule.get("oneOf")).and_then(Value::as_array);
    if let Some(branches) = branches {
        let told = branches.iter().map(legal).filter(|told| told != "nothing");
        return told.collect::<Vec<_>>().join(" or ");
    }
    let types: Vec<&str> = match rule.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one],
        _ => Vec::new(),
    };
    let noun = types.into_iter().find(|name| *name != "null").map_or("nothing", noun);
    format!("{noun}{}", range(rule))
}

fn noun(json_type: &str) -> &str {
    match json_type {
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "text",
        "boolean" => "true or false",
        "object" => "a map",
        "array" => "a list with at least one entry",
        other => other,
    }
}

fn range(rule: &Value) -> String {
    let of = |key| rule.get(key).filter(|value| value.is_number());
    match (of("minimum"), of("maximum")) {
        (Some(low), Some(high)) => format!(" from {low} to {high}"),
        (Some(low), None) => format!(", at least {low}"),
        (None, Some(high)) => format!(", at most {high}"),
        (None, None) => String::new(),
    }
}

/// The words that a rule allows, those of its branches included.
fn words(rule: &Value) -> Vec<&str> {
    let mut found: Vec<&str> = rule.get("const").and_then(Value::as_str).into_iter().collect();
    if let Some(values) = rule.get("enum").and_then(Value::as_array) {
        found.extend(values.iter().filter_map(Value::as_str));
    }
    for key in ["anyOf", "oneOf"] {
        let branches = rule.get(key).and_then(Value::as_array);
        found.extend(branches.into_iter().flatten().flat_map(words));
    }
    found
}

fn keys(rule: &Value) -> Vec<&str> {
    let properties = rule.get("properties").and_then(Value::as_object);
    properties.into_iter().flat_map(|map| map.keys().map(String::as_str)).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// `/load/rate` as `load.rate`.
fn dotted(pointer: &str) -> String {
    let parts = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
    parts.collect::<Vec<_>>().join(".")
}
