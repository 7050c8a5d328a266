//! The small SQL: statements on one class, one cluster or records by id, parsed and evaluated.
//! Pure: may not know HTTP, storage or transactions (who runs a statement is `http::execute`).
//!
//! ```text
//! SELECT [* | field [AS name], … | count(*)] FROM target [WHERE cond]
//!        [ORDER BY field [ASC|DESC], …] [SKIP n] [LIMIT n]
//! INSERT INTO Class [CLUSTER name] SET a = 1, … | CONTENT {…} | (a, …) VALUES (1, …), …
//! UPDATE target SET a = 1, … [WHERE cond] [LIMIT n]
//! DELETE FROM target [WHERE cond] [LIMIT n]
//! target: Class | cluster:name | #c:p | [#c:p, …]
//! ```
//! Differences from the standard: a comparison with null or with a value of another type is false
//! (`<>` with another type is true), and its negation true; there is no third truth value.

mod ast;
mod cursor;
mod eval;
mod expression;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

pub use ast::{
    Assignment, Column, Comparison, Condition, Delete, Insert, Limit, Operand, OrderKey,
    Projection, Select, Statement, Target, Update,
};
pub use cursor::Params;
pub use eval::{Row, holds, order, order_keys, project};
pub use parser::parse;

/// Why a text is no statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// Something else was expected.
    #[error("SQL error at character {position}: expected {expected}, found {found}")]
    Syntax {
        /// From 1, in characters.
        position: usize,
        /// What could stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// It is SQL, but of a kind this server does not run.
    #[error("SQL error at character {position}: {what} is not supported")]
    Unsupported {
        /// From 1, in characters.
        position: usize,
        /// The word in the way.
        what: String,
    },
    /// A placeholder without a value.
    #[error("SQL error at character {position}: no value for parameter {name}")]
    Parameter {
        /// From 1, in characters.
        position: usize,
        /// `?2` or `:name`.
        name: String,
    },
    /// Parentheses or lists inside each other.
    #[error("SQL error at character {position}: nested deeper than {max}")]
    TooDeep {
        /// From 1, in characters.
        position: usize,
        /// The limit.
        max: usize,
    },
}
