//! History model, checkers and verdicts: judges real and simulated histories alike.
//! May not know sockets, async runtimes, the node or the protocol crates (held by the edge test).
//!
//! A run writes a [`history`] through a [`format::Writer`]; [`format::read`] brings it back, torn
//! ends included; [`check_all`] judges it and returns a [`verdict::Report`]; [`expect`] compares
//! that with what a spec said should be found. Same history, same report, to the byte: nothing
//! here reads a clock or iterates over an unordered collection.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics has failed"))]

pub mod checkers;
pub mod expect;
pub mod format;
pub mod history;
pub mod verdict;

mod budget;
mod describe;
mod graph;
mod index;
mod order;
#[cfg(test)]
mod sample;
mod states;

pub use checkers::{Checker, Options, UnknownChecker, check_all};
pub use verdict::{Counterexample, Judgement, Report, Verdict};
