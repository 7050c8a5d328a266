//! Deterministic simulator: many protocol machines, disks that lose unsynced tails, a network that
//! loses, delays, duplicates and reorders, clients, one seed. Every run: safety under faults, then
//! heal, nothing in doubt, serve, converge, scan, judge. May not know the node's shell, sockets,
//! clocks or ambient randomness.

pub mod centers;
pub mod clients;
mod clock;
mod control;
pub mod disk;
mod draw;
mod faults;
mod history;
pub mod invariants;
mod low_quorums;
pub mod membership;
pub mod options;
mod outbox;
pub mod plant;
pub mod regions;
pub mod rng;
mod server;
pub mod stage;
mod starts;
mod trace;
mod turns;
mod verdict;
mod witnesses;
pub mod workload;
pub mod world;
