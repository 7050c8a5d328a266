//! Fault proxy: TCP links with faults on demand, driven by Toxiproxy's HTTP API and extensions.

mod api;
mod control;
mod model;
mod path;
mod server;
mod stages;

pub use server::{DELAY_LINE_BYTES, Server, ServerConfig, ServerHandle, StartError};

/// Commit that this was built from, `unknown` outside a checkout.
pub const COMMIT: &str = env!("QUORATE_COMMIT");
