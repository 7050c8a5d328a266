//! The `quorate` command: spec → plan → stage → drive → record → check → report.
//! May not know the protocol, control or simulator crates (held by the edge test).

pub mod figures;
pub mod folder;
pub mod plan;
pub mod report;
