//! Words that every part of Quorate shares: ids, stamps, items, operations, error codes with their
//! outcome.
//! `no_std`: may not know sockets, files, clocks, randomness or async runtimes (held by the purity
//! test).
#![no_std]

extern crate alloc;

mod error;
mod ids;
mod item;

pub use error::{ErrorCode, Outcome};
pub use ids::{Boot, ClusterKey, NodeId, ParseRidError, Rid, TxId};
pub use item::{Committed, Content, Image, ItemId, ItemKey, Merge, OpKind, Operation, Stamp};
