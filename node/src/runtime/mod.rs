//! The runtime round the protocol machine.

pub mod data_dir;
pub mod storage;
