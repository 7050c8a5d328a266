//! The small SQL: statements on one class, one cluster, records by id or by a query, on graphs and
//! on the schema; parsed, and as far as they look at single records evaluated.
//! Pure: may not know HTTP, storage or transactions (who runs a statement is `http::execute`).
//!
//! ```text
//! SELECT [* | field [AS name], … | count(*)] FROM target [WHERE cond]
//!        [ORDER BY field [ASC|DESC], …] [SKIP n] [LIMIT n]
//! INSERT INTO Class [CLUSTER name] SET a = 1, … | CONTENT {…} | (a, …) VALUES (1, …), …
//! UPDATE target SET a = 1, … [WHERE cond] [LIMIT n]
//! DELETE FROM target [WHERE cond] [LIMIT n]
//! CREATE VERTEX [Class] [CLUSTER name] [SET … | CONTENT {…}]
//! CREATE EDGE [Class] [CLUSTER name] FROM ends TO ends [SET … | CONTENT {…}]
//! DELETE VERTEX target [WHERE cond] [LIMIT n]
//! DELETE EDGE [target] [FROM ends] [TO ends] [WHERE cond] [LIMIT n]
//! CREATE CLASS Class [IF NOT EXISTS] [EXTENDS Class, …]        DROP CLASS Class [IF EXISTS]
//! CREATE INDEX name [IF NOT EXISTS] [ON Class (field)] UNIQUE | NOTUNIQUE
//! DROP INDEX name [IF EXISTS]                                  EXPLAIN SELECT …
//! HA STATUS [-servers] [-db] [-latency] [-messages] [-all] [-output=text]
//! target: Class | cluster:name | #c:p | [#c:p, …] | (SELECT …)
//! ends: #c:p | [#c:p, …] | (SELECT …) | a parameter with ids
//! ```
//! Differences from the standard: a comparison with null or with a value of another type is false
//! (`<>` with another type is true), and its negation true; there is no third truth value.

mod ast;
mod create;
#[cfg(test)]
mod create_tests;
mod cursor;
mod eval;
mod expression;
mod ha;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

pub use ast::{
    AddCluster, Assignment, Column, Comparison, Condition, CreateClass, CreateEdge, CreateIndex,
    CreateVertex, Delete, DeleteEdge, Drop, DropClass, HaDismiss, HaRemoveServer, HaResolve,
    HaStatus, HaSync, Insert, Limit, Operand, OrderKey, Projection, Select, Statement, Target,
    Update,
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
