//! The grammar of conditions and values. May not know statements.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the grammar names the tokens that fit; whatever else stands there is the error"
)]

use serde_json::{Map, Value};

use super::SqlError;
use super::ast::{Comparison, Condition, Operand};
use super::cursor::{Params, Parser, is_one_of, is_reserved};
use super::lexer::Token;

/// Operators of the full language.
const OTHER_OPERATORS: [&str; 10] = [
    "BETWEEN",
    "CONTAINS",
    "CONTAINSALL",
    "CONTAINSKEY",
    "CONTAINSVALUE",
    "CONTAINSTEXT",
    "MATCHES",
    "INSTANCEOF",
    "IS",
    "CONTAINSANY",
];

impl Parser<'_> {
    pub(super) fn filter(&mut self) -> Result<Option<Condition>, SqlError> {
        if self.take_word("WHERE")? { self.any_of(0).map(Some) } else { Ok(None) }
    }

    pub(super) fn any_of(&mut self, depth: usize) -> Result<Condition, SqlError> {
        let mut list = vec![self.all_of(depth)?];
        while self.take_word("OR")? {
            list.push(self.all_of(depth)?);
        }
        Ok(if list.len() == 1 { list.swap_remove(0) } else { Condition::Or(list) })
    }

    pub(super) fn all_of(&mut self, depth: usize) -> Result<Condition, SqlError> {
        let mut list = vec![self.negation(depth)?];
        while self.take_word("AND")? {
            list.push(self.negation(depth)?);
        }
        Ok(if list.len() == 1 { list.swap_remove(0) } else { Condition::And(list) })
    }

    pub(super) fn negation(&mut self, depth: usize) -> Result<Condition, SqlError> {
        self.check_depth(depth)?;
        if self.take_word("NOT")? {
            let inner = self.negation(depth + 1)?;
            return Ok(Condition::Not(Box::new(inner)));
        }
        if self.take_symbol("(")? {
            let inner = self.any_of(depth + 1)?;
            self.expect_symbol(")")?;
            return Ok(inner);
        }
        self.comparison(depth)
    }

    pub(super) fn comparison(&mut self, depth: usize) -> Result<Condition, SqlError> {
        let left = self.operand(depth)?;
        if let Token::Symbol(symbol) = self.token
            && let Some(comparison) = comparison(symbol)
        {
            self.advance()?;
            return Ok(Condition::Compare(left, comparison, self.operand(depth)?));
        }
        if self.take_word("IS")? {
            let negated = self.take_word("NOT")?;
            self.expect_word("NULL")?;
            return Ok(negate_if(negated, Condition::IsNull(left)));
        }
        let negated = self.take_word("NOT")?;
        if self.take_word("IN")? {
            return Ok(negate_if(negated, Condition::In(left, self.operand(depth)?)));
        }
        if self.take_word("LIKE")? {
            return Ok(negate_if(negated, Condition::Like(left, self.operand(depth)?)));
        }
        match &self.token {
            Token::Word(word) if is_one_of(word, &OTHER_OPERATORS) => Err(self.unsupported(word)),
            Token::Symbol("+" | "-" | "*") => Err(self.unsupported("arithmetic")),
            _ => Err(self.unexpected("a comparison")),
        }
    }

    /// A field, an attribute, or a value.
    pub(super) fn operand(&mut self, depth: usize) -> Result<Operand, SqlError> {
        match &self.token {
            Token::Attribute(name) => {
                let operand = match name.to_ascii_lowercase().as_str() {
                    "rid" => Operand::Rid,
                    "class" => Operand::Class,
                    "version" => Operand::Version,
                    _ => return Err(self.unsupported(&format!("attribute @{name}"))),
                };
                self.advance()?;
                Ok(operand)
            }
            Token::Quoted(name) => {
                let name = name.clone();
                self.advance()?;
                self.path(name).map(Operand::Field)
            }
            Token::Word(word) if constant(word).is_none() && !is_reserved(word) => {
                let word = word.clone();
                let start = self.offset;
                self.advance()?;
                if self.is_symbol("(") {
                    self.offset = start;
                    return Err(self.unsupported(&format!("function {word}()")));
                }
                self.path(word).map(Operand::Field)
            }
            _ => self.value(depth).map(Operand::Value),
        }
    }

    pub(super) fn path(&mut self, first: String) -> Result<Vec<String>, SqlError> {
        let mut path = vec![first];
        while self.take_symbol(".")? {
            path.push(self.name("a field")?);
        }
        Ok(path)
    }

    /// A value that is written out or given as a parameter.
    pub(super) fn value(&mut self, depth: usize) -> Result<Value, SqlError> {
        self.check_depth(depth)?;
        let value = match &self.token {
            Token::Text(text) => Value::String(text.clone()),
            Token::Number(number) => number.clone(),
            Token::Rid(rid) => Value::String(rid.to_string()),
            Token::Word(word) => match constant(word) {
                Some(value) => value,
                None if is_reserved(word) => return Err(self.unexpected("a value")),
                None => {
                    let what = format!("'{word}' as a value");
                    return Err(self.unsupported(&what));
                }
            },
            Token::Named(_) | Token::Symbol("?") => self.parameter()?,
            Token::Symbol("[") => return self.list(depth + 1),
            Token::Symbol("{") => return self.object().map(Value::Object),
            _ => return Err(self.unexpected("a value")),
        };
        self.advance()?;
        Ok(value)
    }

    pub(super) fn parameter(&mut self) -> Result<Value, SqlError> {
        let (name, value) = match &self.token {
            Token::Named(name) => {
                let value = match self.params {
                    Params::Named(map) => map.get(name),
                    Params::None | Params::Positional(_) => None,
                };
                (format!(":{name}"), value)
            }
            _ => {
                let index = self.placeholders;
                self.placeholders += 1;
                let value = match self.params {
                    Params::Positional(list) => list.get(index),
                    Params::Named(map) => map.get(&index.to_string()),
                    Params::None => None,
                };
                (format!("?{}", index + 1), value)
            }
        };
        value.cloned().ok_or_else(|| SqlError::Parameter { position: self.position(), name })
    }

    pub(super) fn list(&mut self, depth: usize) -> Result<Value, SqlError> {
        self.expect_symbol("[")?;
        let mut list = Vec::new();
        while !self.is_symbol("]") {
            list.push(self.value(depth)?);
            if !self.take_symbol(",")? {
                break;
            }
        }
        self.expect_symbol("]")?;
        Ok(Value::Array(list))
    }

    /// A JSON object, which begins at the token looked at.
    pub(super) fn object(&mut self) -> Result<Map<String, Value>, SqlError> {
        if !self.is_symbol("{") {
            return Err(self.unexpected("a JSON object"));
        }
        self.lexer.go_back(self.offset);
        let value = self.lexer.json()?;
        self.advance()?;
        match value {
            Value::Object(map) => Ok(map),
            _ => Err(self.unexpected("a JSON object")),
        }
    }
}

fn negate_if(negated: bool, condition: Condition) -> Condition {
    if negated { Condition::Not(Box::new(condition)) } else { condition }
}

fn comparison(symbol: &str) -> Option<Comparison> {
    Some(match symbol {
        "=" | "==" => Comparison::Equal,
        "<>" | "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn constant(word: &str) -> Option<Value> {
    if word.eq_ignore_ascii_case("null") {
        Some(Value::Null)
    } else if word.eq_ignore_ascii_case("true") {
        Some(Value::Bool(true))
    } else if word.eq_ignore_ascii_case("false") {
        Some(Value::Bool(false))
    } else {
        None
    }
}
