//! Deterministic simulator: many protocol machines, disks that lose unsynced tails, a network that
//! loses, delays, duplicates and reorders, clients, one seed. Every run: safety under faults, then
//! heal, converge, serve, judge. May not know the node's shell, sockets, clocks or ambient
//! randomness.

pub mod clients;
pub mod disk;
mod faults;
pub mod invariants;
pub mod options;
mod outbox;
pub mod rng;
mod trace;
pub mod world;
