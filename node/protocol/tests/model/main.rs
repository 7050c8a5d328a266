//! Model check of the commit and recovery rules (PROTOCOL.md 3.4–3.7, 3.9).
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod acceptor;
mod case;
mod changes;
mod conformance;
mod explore;
mod generations;
mod properties;
mod realign;
mod rounds;
mod sound;
mod wrong;

/// MASTERs of successive generations, one bit each, and W.
const MOVE: [(u8, usize); 2] = [(0b0111, 2), (0b1000, 1)];
const SHIFT: [(u8, usize); 2] = [(0b0111, 2), (0b1110, 2)];
const GROW: [(u8, usize); 2] = [(0b0111, 2), (0b1111, 3)];
const GROW_SHRINK: [(u8, usize); 3] = [(0b0111, 2), (0b1111, 3), (0b1110, 2)];
