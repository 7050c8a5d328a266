//! The control plane as pure functions: who the MASTERs are, what databases, classes and clusters
//! exist, which cluster is placed where. State in, new state out; agreement on the state is the
//! protocol's job. `no_std`: may not know sockets, files, clocks, randomness or async runtimes
//! (held by the purity test).
#![no_std]

extern crate alloc;

pub mod agreement;
pub mod binary;
pub mod command;
pub mod data_centers;
pub mod ddl;
mod ddl_error;
pub mod distributed;
pub mod dynamic;
pub mod found;
pub mod generations;
pub mod indexes;
pub mod loose;
pub mod members;
mod owners;
pub mod plane;
pub mod positions;
mod reconfigure;
pub mod roles;
pub mod schema;
pub mod servers;
pub mod settings;
pub mod status;
pub mod versions;
