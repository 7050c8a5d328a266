//! The `quorate` command: spec → plan → stage → drive → record → check → report.
//! May not know the protocol, control or simulator crates (held by the edge test).

pub mod ab;
pub mod capacity;
pub mod cli;
pub mod compare;
pub mod disk;
pub mod drive;
pub mod engine;
pub mod export;
pub mod fault;
pub mod figures;
pub mod folder;
pub mod guard;
pub mod owner;
pub mod plan;
pub mod prune;
pub mod render;
pub mod report;
pub mod resume;
pub mod run;
pub mod sim;
pub mod soak;
pub mod spec;
pub mod stage;
pub mod sweep;
