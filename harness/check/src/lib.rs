//! History model, checkers and verdicts: judges real and simulated histories alike.
//! May not know sockets, async runtimes, the node or the protocol crates (held by the edge test).

pub mod history;
pub mod verdict;
