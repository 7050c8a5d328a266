//! Fault proxy: TCP links with faults on demand, driven by Toxiproxy's HTTP API and an extension
//! of it. `API.md` beside this crate documents both, with every difference from the original.
//! May not know any other part of the project: it sees bytes, never what they mean.
//!
//! ```text
//! api      HTTP in, JSON out; decides nothing
//! control  which links exist and what is asked of each; a change is one step or none
//!   │ stores all links' rules with one pointer (path::World)
//! path     sockets: one listener per link, one task per connection, one pump per direction
//!   │ pushes and pulls, gives the time
//! stages   the toxics, synchronous machines without sockets, clock or ambient chance
//! ```
//!
//! While no toxic bites and no cut is in force a pump copies through one buffer, without clock or
//! allocation. Otherwise pieces go through the chain of stages; what a stage may hold is bounded
//! by bytes, and a full chain stops reading, so that the sender feels it.
//!
//! Delays below a millisecond need better timers than tokio's: each delayed direction has a
//! `timerfd`, a high-resolution kernel timer that wakes the same event loop. No spinning, no
//! timer thread, and a change of rules interrupts the wait.
//!
//! # Extension paths
//!
//! | path | what |
//! |---|---|
//! | `POST /quorate/v1/rules` | cuts, delays and toxics on many links in one step |
//! | `POST /quorate/v1/heal` | takes them off all links in one step |
//! | `GET PUT DELETE /quorate/v1/lease` | faults that fall unless renewed |
//! | `GET PUT /quorate/v1/seed` | where random draws come from |
//! | `GET /quorate/v1/links[/{link}]`, `/counters`, `/info` | state, counters, version |
//!
//! ```
//! # let runtime = tokio::runtime::Runtime::new().unwrap();
//! # runtime.block_on(async {
//! use quorate_proxy::{Server, ServerConfig};
//!
//! let proxy = Server::start(ServerConfig { seed: 7, ..ServerConfig::default() }).await.unwrap();
//! assert_ne!(proxy.api().port(), 0);
//! proxy.shutdown().await;
//! # });
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on has failed"))]

mod api;
mod control;
mod model;
mod path;
mod server;
mod stages;

pub use server::{DELAY_LINE_BYTES, Server, ServerConfig, ServerHandle, StartError};

/// Commit that this was built from, `unknown` outside a checkout.
pub const COMMIT: &str = env!("QUORATE_COMMIT");
