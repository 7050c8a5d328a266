//! Conditions, columns and orders on one record. May not know where records come from.

use std::cmp::Ordering;

use quorate_api::Rid;
use serde_json::{Map, Number, Value};

use super::ast::{Column, Comparison, Condition, Operand, OrderKey, Projection};

/// A record that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// `@rid`.
    pub rid: Rid,
    /// `@version`.
    pub version: u64,
    /// `@class`.
    pub class: &'a str,
    /// Its fields.
    pub fields: &'a Map<String, Value>,
}

impl Row<'_> {
    /// What an operand stands for; a missing field is null.
    fn value(&self, operand: &Operand) -> Value {
        match operand {
            Operand::Field(path) => self.field(path).cloned().unwrap_or(Value::Null),
            Operand::Rid => Value::String(self.rid.to_string()),
            Operand::Class => Value::String(self.class.to_owned()),
            Operand::Version => Value::from(self.version),
            Operand::Value(value) => value.clone(),
        }
    }

    fn field(&self, path: &[String]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.fields.get(first)?, |value, name| value.get(name))
    }
}

/// True when the record fulfils the condition.
#[must_use]
pub fn holds(condition: &Condition, row: &Row<'_>) -> bool {
    match condition {
        Condition::And(list) => list.iter().all(|c| holds(c, row)),
        Condition::Or(list) => list.iter().any(|c| holds(c, row)),
        Condition::Not(inner) => !holds(inner, row),
        Condition::Compare(left, comparison, right) => {
            compare(&row.value(left), *comparison, &row.value(right))
        }
        Condition::IsNull(operand) => row.value(operand).is_null(),
        Condition::In(operand, list) => {
            let (value, list) = (row.value(operand), row.value(list));
            let entries = list.as_array().map_or(std::slice::from_ref(&list), Vec::as_slice);
            entries.iter().any(|entry| compare(&value, Comparison::Equal, entry))
        }
        Condition::Like(operand, pattern) => match (row.value(operand), row.value(pattern)) {
            (Value::String(text), Value::String(pattern)) => is_like(&text, &pattern),
            _ => false,
        },
    }
}

fn compare(left: &Value, comparison: Comparison, right: &Value) -> bool {
    if left.is_null() || right.is_null() {
        return false;
    }
    let ordering = match (left, right) {
        (Value::Number(a), Value::Number(b)) => Some(compare_numbers(a, b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let equal = ordering.map_or_else(|| left == right, |o| o == Ordering::Equal);
    match comparison {
        Comparison::Equal => equal,
        Comparison::NotEqual => !equal,
        Comparison::Less => ordering == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => ordering == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => {
            matches!(ordering, Some(Ordering::Greater | Ordering::Equal))
        }
    }
}

/// Exact also between whole numbers and floating point: rounding would make the order of three
/// numbers depend on which two are compared.
fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    let whole = |n: &Number| n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
    let float = |n: &Number| n.as_f64().unwrap_or(0.0);
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => compare_mixed(a, float(b)),
        (None, Some(b)) => compare_mixed(b, float(a)).reverse(),
        // JSON has no NaN.
        (None, None) => float(a).partial_cmp(&float(b)).unwrap_or(Ordering::Equal),
    }
}

/// A number of at most 65 bits with any floating-point number but NaN.
fn compare_mixed(whole: i128, float: f64) -> Ordering {
    const BEYOND: f64 = 1e30;
    if float >= BEYOND {
        return Ordering::Less;
    }
    if float <= -BEYOND {
        return Ordering::Greater;
    }
    // In this range the integral part converts exactly.
    let fraction = float.fract().partial_cmp(&0.0).unwrap_or(Ordering::Equal);
    whole.cmp(&(float.trunc() as i128)).then(fraction.reverse())
}

/// `%` stands for any part, an empty one included. Takes time linear in text times pattern.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('%');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The columns of a record as an object.
#[must_use]
pub fn project(projections: &[Projection], row: &Row<'_>) -> Map<String, Value> {
    let column = |p: &Projection| match &p.what {
        Column::Operand(operand) => Some((p.name.clone(), row.value(operand))),
        Column::All | Column::Count => None,
    };
    projections.iter().filter_map(column).collect()
}

/// What a record is ordered by.
#[must_use]
pub fn order_keys(keys: &[OrderKey], row: &Row<'_>) -> Vec<Value> {
    let key = |key: &OrderKey| match key.by {
        // The text of an id does not sort like the id.
        Operand::Rid => Value::from(vec![u64::from(row.rid.cluster), row.rid.position]),
        Operand::Field(_) | Operand::Class | Operand::Version | Operand::Value(_) => {
            row.value(&key.by)
        }
    };
    keys.iter().map(key).collect()
}

/// Order of two records by what [`order_keys`] gave for them.
#[must_use]
pub fn order(keys: &[OrderKey], left: &[Value], right: &[Value]) -> Ordering {
    keys.iter()
        .zip(left.iter().zip(right))
        .map(|(key, (left, right))| {
            let ordering = total_order(left, right);
            if key.descending { ordering.reverse() } else { ordering }
        })
        .find(|ordering| ordering.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Null, then booleans, numbers, texts, lists, objects.
fn total_order(left: &Value, right: &Value) -> Ordering {
    const fn rank(value: &Value) -> u8 {
        match value {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Number(_) => 2,
            Value::String(_) => 3,
            Value::Array(_) => 4,
            Value::Object(_) => 5,
        }
    }
    match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => a
            .iter()
            .zip(b)
            .map(|(a, b)| total_order(a, b))
            .find(|o| o.is_ne())
            .unwrap_or_else(|| a.len().cmp(&b.len())),
        _ => rank(left).cmp(&rank(right)),
    }
}
