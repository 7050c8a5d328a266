//! The data path: sockets, timers, counters, and the rules each link obeys right now.
//! Knows nothing of HTTP; the control plane writes rules, the data path reads them.

mod alarm;
mod connection;
mod counters;
mod listener;
mod pump;
mod world;

pub(crate) use counters::{ConnectionCounts, Counters, StreamCounts};
pub(crate) use listener::{Acceptor, Port};
pub(crate) use world::{Ending, LinkId, LinkPath, Rules, Shared, World};
