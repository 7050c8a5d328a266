//! Model check of commit, recovery, forgetting and changes of generation (PROTOCOL.md 3.4–3.7,
//! 3.9) with the model checker `stateright`.
//!
//! - `rounds.rs`: acceptors are the real machine, run once for every durable state and message
//!   (`acceptor.rs`); coordinators and recoverers are modelled, and `conformance.rs` holds them
//!   against the machine's. What was said stays said: loss, delay, repetition, reordering, crash
//!   and pause are all "it does not happen, or later".
//! - `changes.rs`, `generations.rs`: seal, drain, transfer, activate, carry-over, all modelled.
//! - `realign.rs`: tombstones collected past a server that lags.
//! - `sound.rs` explores the rules to the end of each space, `wrong.rs` finds the counterexample of
//!   every simpler rule.
//!
//! Not here: the machine's waiting Prepares and parked commits as such (a message that waits is one
//! not yet delivered), session tokens, RID blocks, retry tokens, W below majority. States are told
//! apart by 64 bits of hash, so two of a hundred million may be taken for one.
//!
//! By default the small spaces; `QUORATE_MODEL=full cargo test --release -p quorate-protocol --test
//! model -- --test-threads=1 --nocapture` explores them all and prints sizes, times and traces.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a wrong rule differs in one place only")]

mod acceptor;
mod case;
mod changes;
mod conformance;
mod disk;
mod explore;
mod generations;
mod large;
mod leaders;
mod one_generation;
mod properties;
mod realign;
mod rounds;
mod sound;
mod waiting;
mod wrong;

/// MASTERs of successive generations, one bit each, and W.
const MOVE: [(u8, usize); 2] = [(0b0111, 2), (0b1000, 1)];
const SHIFT: [(u8, usize); 2] = [(0b0111, 2), (0b1110, 2)];
const SWAP: [(u8, usize); 2] = [(0b0011, 2), (0b0110, 2)];
const GROW_SHRINK: [(u8, usize); 3] = [(0b0111, 2), (0b1111, 3), (0b1110, 2)];
