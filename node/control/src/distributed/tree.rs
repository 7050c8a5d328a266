//! JSON with the path to every value: what a map would lose (keys given twice) is found, and every
//! complaint says where. May not know what any setting means.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::ConfigError;

/// A JSON value; objects keep every pair.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Whole(i64),
    /// Fractions, and whole numbers beyond 64 bits, as text.
    Number(String),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl fmt::Display for Tree {
    /// What was found, as a complaint names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Number(text) => f.write_str(text),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::List(_) => f.write_str("a list"),
            Self::Object(_) => f.write_str("an object"),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Whole(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(i64::try_from(value).map_or_else(|_| Tree::Number(value.to_string()), Tree::Whole))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Tree::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Tree::Object(pairs))
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) tree: &'a Tree,
}

impl<'a> Field<'a> {
    /// The whole document; its path is empty.
    pub(super) fn root(tree: &'a Tree) -> Self {
        Self { path: String::new(), tree }
    }

    /// The refusal of this value.
    pub(super) fn refuse(&self, legal: impl Into<String>) -> ConfigError {
        let path = if self.path.is_empty() { "document".into() } else { self.path.clone() };
        ConfigError::Value { path, value: self.tree.to_string(), legal: legal.into() }
    }

    pub(super) fn bool(&self) -> Result<bool, ConfigError> {
        let Tree::Bool(value) = self.tree else { return Err(self.refuse("true and false")) };
        Ok(*value)
    }

    pub(super) fn whole(&self, least: i64, most: i64) -> Result<i64, ConfigError> {
        if let Tree::Whole(number) = self.tree
            && (least..=most).contains(number)
        {
            return Ok(*number);
        }
        Err(self.refuse(format!("whole numbers from {least} to {most}")))
    }

    pub(super) fn text(&self, legal: &str) -> Result<&'a str, ConfigError> {
        let Tree::Text(text) = self.tree else { return Err(self.refuse(legal)) };
        Ok(text)
    }

    /// The values of a list, each with its place: `servers[0]`.
    pub(super) fn list(&self, legal: &str) -> Result<Vec<Self>, ConfigError> {
        let Tree::List(values) = self.tree else { return Err(self.refuse(legal)) };
        let place = |(index, tree)| Self { path: format!("{}[{index}]", self.path), tree };
        Ok(values.iter().enumerate().map(place).collect())
    }

    /// The pairs of an object, in the order of the text; a key stands there once.
    pub(super) fn pairs(&self, legal: &str) -> Result<Vec<(&'a str, Self)>, ConfigError> {
        let Tree::Object(pairs) = self.tree else { return Err(self.refuse(legal)) };
        let (mut found, mut seen) = (Vec::with_capacity(pairs.len()), BTreeSet::new());
        for (key, tree) in pairs {
            let path = match self.path.as_str() {
                "" => key.clone(),
                above => format!("{above}.{key}"),
            };
            if !seen.insert(key) {
                return Err(ConfigError::Twice { path });
            }
            found.push((key.as_str(), Self { path, tree }));
        }
        Ok(found)
    }

    /// The same, of an object whose keys are known.
    pub(super) fn settings(&self, known: &[&'static str]) -> Result<Settings<'a>, ConfigError> {
        let pairs = self.pairs("an object with settings")?;
        for (key, field) in &pairs {
            if !known.contains(key) {
                let hint = match nearest(key, known) {
                    Some(name) => format!("the nearest is '{name}'"),
                    None => format!("legal are {}", known.join(", ")),
                };
                return Err(ConfigError::Unknown { path: field.path.clone(), hint });
            }
        }
        Ok(Settings(pairs))
    }
}

/// An object all of whose keys are known.
pub(super) struct Settings<'a>(Vec<(&'a str, Field<'a>)>);

impl<'a> Settings<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&Field<'a>> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, field)| field)
    }
}

/// The known key that a person may have meant: the fewest edits away, and not most of it.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let close = known.iter().map(|name| (distance(key, name), *name)).min()?;
    (2 * close.0 <= key.chars().count()).then_some(close.1)
}

/// Letters to insert, remove or replace, whatever the case (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(!from.eq_ignore_ascii_case(to));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_and_far_words_are_not_suggested() {
        for (a, b, edits) in [("", "", 0), ("ab", "AB", 0), ("abc", "ac", 1), ("", "xyz", 3)] {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
        let known = ["writeQuorum", "readQuorum", "servers"];
        assert_eq!(nearest("writequorom", &known), Some("writeQuorum"));
        assert_eq!(nearest("server", &known), Some("servers"));
        assert_eq!(nearest("x", &known), None);
    }

    #[test]
    fn a_tree_keeps_what_the_text_says() {
        let tree: Tree = serde_json::from_str(
            r#"{"a":[null,true,-1,9223372036854775807,9223372036854775808,1.5,"x"],"a":{}}"#,
        )
        .unwrap();
        let Tree::Object(pairs) = &tree else { panic!("{tree}") };
        assert_eq!((pairs.len(), &pairs[1].1), (2, &Tree::Object(Vec::new())));
        let Tree::List(values) = &pairs[0].1 else { panic!("{tree}") };
        let shown: Vec<String> = values.iter().map(ToString::to_string).collect();
        let most = "9223372036854775807";
        let more = "9223372036854775808";
        assert_eq!(shown, ["null", "true", "-1", most, more, "1.5", "\"x\""]);
        assert!(matches!((&values[3], &values[4]), (Tree::Whole(_), Tree::Number(_))));
        let twice = Field::root(&tree).pairs("").unwrap_err();
        assert_eq!(twice.to_string(), "a: given twice");
    }
}
