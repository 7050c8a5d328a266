//! The server: storage, links between servers, the loop that owns the protocol machine, HTTP. What the
//! protocol decides is not decided here.

pub mod http;
pub mod sql;
