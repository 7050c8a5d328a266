//! The server: storage, links between servers, the loop that owns the protocol machine, HTTP. What
//! the protocol decides is not decided here.

pub mod clock;
pub mod config;
pub mod health;
pub mod http;
mod index;
pub mod runtime;
pub mod sample;
pub mod sql;
