//! The orchestrator: runs one plan from the first process started to the report written.
//! May not parse specs, print to stdout, or know how a stage does its work.

pub mod choice;
pub mod parts;
