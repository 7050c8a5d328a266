//! YAML as a tree in which every key and value knows where it was written.
//! Syntax alone: which keys and values are legal is not known here.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::problem::{Origin, Problem, SpecError};

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where.
    pub origin: Origin,
    /// What.
    pub content: Content,
}

/// A YAML value.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Anything but a list or a map.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order written.
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub origin: Origin,
    /// Its value.
    pub node: Node,
}

impl Node {
    /// Parses a YAML document; `source` is the name that messages give it.
    ///
    /// # Errors
    /// When it is no YAML.
    pub fn parse(source: &str, text: &str) -> Result<Self, SpecError> {
        let source: Arc<str> = source.into();
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let parsed: Result<Raw, _> = serde_saphyr::from_str_with_options(text, options);
        match parsed {
            Ok(raw) => Ok(raw.into_node(&source)),
            Err(error) => {
                let line = error.location().map_or(0, |at| at.line());
                let origin = Origin { source, line };
                let what = format!("not valid YAML: {}", without_location(&error.to_string()));
                Err(Problem { origin, key: String::new(), what }.into())
            }
        }
    }

    /// The tree without its origins.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(nodes) => Value::Array(nodes.iter().map(Self::to_json).collect()),
            Content::Map(entries) => Value::Object(Map::from_iter(
                entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())),
            )),
        }
    }

    /// The tree on one line; JSON is YAML, and a word needs no quotes where it stays a word.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let json = self.to_json();
        let plain = json
            .as_str()
            .filter(|word| Self::parse("", word).is_ok_and(|parsed| parsed.as_str() == Some(word)));
        plain.map_or_else(|| json.to_string(), str::to_owned)
    }

    /// The value under `key`, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The text, if this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(value) => value.as_str(),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    /// The entry `key`, if this is a map that has it.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Content::Scalar(_) | Content::List(_) => None,
        }
    }

    /// Where the dotted `path` was written, or the nearest thing around it that was.
    #[must_use]
    pub fn origin_of(&self, path: &str) -> Origin {
        let mut at = self;
        let mut origin = &self.origin;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let next = match &at.content {
                Content::Map(_) => at.entry(part).map(|entry| (&entry.origin, &entry.node)),
                Content::List(nodes) => {
                    let node = part.parse::<usize>().ok().and_then(|index| nodes.get(index));
                    node.map(|node| (&node.origin, node))
                }
                Content::Scalar(_) => None,
            };
            let Some((found, node)) = next else { break };
            origin = found;
            at = node;
        }
        origin.clone()
    }

    /// Sets the dotted `path`, making maps on the way where there is nothing.
    ///
    /// # Errors
    /// When the path leads through a value that is no map or list, or past the end of a list.
    pub fn set(&mut self, path: &str, value: Node) -> Result<(), Problem> {
        let mut at = self;
        let (parents, last) = path.rsplit_once('.').map_or((None, path), |(p, l)| (Some(p), l));
        for part in parents.into_iter().flat_map(|parents| parents.split('.')) {
            at = match at.child(part, &value.origin) {
                Some(child) => child,
                None => return Err(nothing_holds(part, path, value.origin)),
            };
        }
        match at.child(last, &value.origin) {
            Some(child) => *child = value.clone(),
            None => return Err(nothing_holds(last, path, value.origin)),
        }
        if let Content::Map(entries) = &mut at.content
            && let Some(entry) = entries.iter_mut().find(|entry| entry.key == last)
        {
            entry.origin = value.origin;
        }
        Ok(())
    }

    /// Removes `key` of this map.
    pub fn remove(&mut self, key: &str) -> Option<Self> {
        let Content::Map(entries) = &mut self.content else {
            return None;
        };
        let index = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(index).node)
    }

    fn child(&mut self, key: &str, origin: &Origin) -> Option<&mut Self> {
        if self.content == Content::Scalar(Value::Null) {
            self.content = Content::Map(Vec::new());
        }
        match &mut self.content {
            Content::Scalar(_) => None,
            Content::List(nodes) => nodes.get_mut(key.parse::<usize>().ok()?),
            Content::Map(entries) => {
                let found = entries.iter().position(|entry| entry.key == key);
                let index = found.unwrap_or_else(|| {
                    let content = Content::Scalar(Value::Null);
                    let node = Self { origin: origin.clone(), content };
                    entries.push(Entry { key: key.to_owned(), origin: origin.clone(), node });
                    entries.len() - 1
                });
                entries.get_mut(index).map(|entry| &mut entry.node)
            }
        }
    }
}

fn nothing_holds(part: &str, path: &str, origin: Origin) -> Problem {
    let what = format!("there is nothing that could hold `{part}`");
    Problem { origin, key: path.to_owned(), what }
}

/// The parser ends its messages with the place, which is printed in front here, and with advice to
/// programmers.
fn without_location(message: &str) -> &str {
    let end = [" at line ", ", set DuplicateKeyPolicy"].iter().filter_map(|end| message.find(end));
    message.get(..end.min().unwrap_or(message.len())).unwrap_or(message)
}

/// What the parser hands over: lines, but not yet the name of the file.
struct Raw(Spanned<RawContent>);

enum RawContent {
    Scalar(Value),
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl Raw {
    fn into_node(self, source: &Arc<str>) -> Node {
        let origin = |line| Origin { source: Arc::clone(source), line };
        let content = match self.0.value {
            RawContent::Scalar(value) => Content::Scalar(value),
            RawContent::List(items) => {
                Content::List(items.into_iter().map(|raw| raw.into_node(source)).collect())
            }
            RawContent::Map(entries) => Content::Map(
                entries
                    .into_iter()
                    .map(|(key, raw)| Entry {
                        origin: origin(key.referenced.line()),
                        key: key.value,
                        node: raw.into_node(source),
                    })
                    .collect(),
            ),
        };
        Node { origin: origin(self.0.referenced.line()), content }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawContent {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = RawContent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a map")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<RawContent, E> {
        Ok(RawContent::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<RawContent, E> {
        Ok(RawContent::Scalar(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<RawContent, E> {
        Ok(RawContent::Scalar(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<RawContent, E> {
        let number = Number::from_f64(value);
        let number = number.ok_or_else(|| E::custom(format!("{value} is no usable number")))?;
        Ok(RawContent::Scalar(Value::Number(number)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<RawContent, E> {
        Ok(RawContent::Scalar(value.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<RawContent, E> {
        Ok(RawContent::Scalar(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<RawContent, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawContent, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawContent::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawContent, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(RawContent::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Node {
        Node::parse("t.yaml", text).unwrap()
    }

    #[test]
    fn keys_and_values_know_their_lines() {
        let tree = parse("# comment\nload:\n  rate: 5\n  targets:\n    - n1\n    - n2\n");
        assert_eq!(tree.origin_of("load.rate").to_string(), "t.yaml:3");
        assert_eq!(tree.origin_of("load.targets.1").to_string(), "t.yaml:6");
        assert_eq!(tree.origin_of("load.missing").to_string(), "t.yaml:2");
        let json = serde_json::json!({"load": {"rate": 5, "targets": ["n1", "n2"]}});
        assert_eq!(tree.to_json(), json);
    }

    #[test]
    fn words_that_other_parsers_take_for_booleans_stay_words() {
        assert_eq!(parse("a: no\nb: true").to_json(), serde_json::json!({"a": "no", "b": true}));
    }

    #[test]
    fn a_set_makes_what_is_missing_and_names_its_own_origin() {
        let mut tree = parse("name: x\nlist: [{a: 1}]\n");
        let value = |text| Node::parse("--set", text).unwrap();
        tree.set("load.rate", value("7")).unwrap();
        tree.set("list.0.a", value("2")).unwrap();
        assert_eq!(
            tree.to_json(),
            serde_json::json!({"name": "x", "list": [{"a": 2}], "load": {"rate": 7}})
        );
        assert_eq!(tree.origin_of("load.rate").to_string(), "--set:1");
        assert!(tree.set("name.rate", value("7")).is_err());
        assert!(tree.set("list.4.a", value("7")).is_err());
    }

    #[test]
    fn values_are_written_as_short_as_they_stay_the_same() {
        for (value, written) in [
            (r#""majority""#, "majority"),
            (r#""2""#, r#""2""#),
            ("2", "2"),
            (r#""a: b""#, r#""a: b""#),
            ("[n1, n2]", r#"["n1","n2"]"#),
        ] {
            assert_eq!(parse(value).to_yaml(), written);
            assert_eq!(parse(written).to_json(), parse(value).to_json());
        }
    }

    #[test]
    fn broken_yaml_and_double_keys_name_the_line() {
        let error = Node::parse("t.yaml", "a: 1\nb: [1, 2\n").unwrap_err().to_string();
        assert!(error.starts_with("t.yaml:"), "{error}");
        let error = Node::parse("t.yaml", "a: 1\nb: 1\na: 2\n").unwrap_err().to_string();
        assert!(error.starts_with("t.yaml:3: not valid YAML: "), "{error}");
    }
}
