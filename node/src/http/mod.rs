//! The HTTP API: the original's paths, shapes and statuses (its REST interface), with an outcome in
//! every refusal. Holds no state of its own beyond counters. May not know how transactions are
//! agreed on, stored or sent: all of that is behind [`Backend`].

pub mod auth;
pub mod backend;
pub mod members;

mod access;
mod allocate;
mod asynchronous;
mod batch;
mod command;
mod conflicts;
mod context;
mod ddl;
mod distributed;
mod distributed_config;
mod document;
mod error;
mod execute;
mod graph;
mod keys;
mod metrics;
mod permitted;
mod reading;
mod record;
mod reply;
mod roles;
mod router;
mod serve;
mod server;
mod session;
mod source;
mod tables;
mod token;
mod tries;
mod weight;
mod work;

#[cfg(test)]
mod tests;

pub use backend::Backend;
pub use context::{HttpConfig, Limits};
pub use serve::serve;
pub use tries::RetryPolicy;
