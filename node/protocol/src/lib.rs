//! The data plane as a synchronous machine: `step(now, event, store, out)`.
//! `no_std`: may not know sockets, files, clocks, ambient randomness or async runtimes (held by the
//! purity test).
#![no_std]

extern crate alloc;

pub mod alignment;
pub mod chain;
mod config;
pub mod conflict;
pub mod copying;
pub mod feeding;
pub mod io;
pub mod machine;
pub mod marks;
pub mod message;
mod placement;
pub mod planted;
pub mod survey;
pub mod topology;
