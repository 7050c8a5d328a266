//! The shapes of everything that passes between servers and of everything that is stored, as they
//! were committed: a change without a new version fails here. Tests only.
//!
//! Whoever changes one on purpose raises `NEWEST` in `quorate_control::versions` (or the format
//! byte of stored values), writes the old shape on links of the older version, and renews the files
//! with `UPDATE_EXPECT=1`. Shapes are those of the types; that the bytes of a shape stay as they
//! are is postcard's promise, and one introduction is kept byte by byte beside the handshake.
//!
//! Two last variants are in the old files because they are behind all that old servers write and
//! read, and nobody uses them below version 9: the role of a witness, and what it keeps of content.

use std::net::SocketAddr;

use expect_test::expect_file;
use quorate_api::{Committed, Content, ErrorCode, ItemId, ItemKey, OpKind, Stamp};
use quorate_control::distributed::Role;
use quorate_control::versions::{NEWEST, OLDEST};
use quorate_protocol::alignment::{Answer, Ask};
use quorate_protocol::conflict::{Fate, Merging, Rival};
use quorate_protocol::feeding::{Carried, Relay};
use quorate_protocol::message::{
    Decided, Knowledge, LogEntry, LogPosition, Message, NoReason, TxRecord, Value, Vote, VoteReply,
};
use serde::de::DeserializeOwned;
use serde_reflection::{Tracer, TracerConfig};

use super::link::accept::Envelope;
use super::link::auth::Proof;
use super::link::enlist::{Request, Response};
use super::link::handshake::{Hello, Refusal};
use super::link::seen::Heartbeat;
use super::storage::{Binding, Owner};
use crate::http::backend::NodeState;
use crate::http::members::{Addendum, Phase};

/// Collects shapes; every enum has to be named, so that all of its variants are found.
struct Shapes(Tracer);

impl Shapes {
    fn new() -> Self {
        Self(Tracer::new(TracerConfig::default().is_human_readable(false)))
    }

    fn of<T: DeserializeOwned>(mut self) -> Self {
        self.0.trace_simple_type::<T>().unwrap();
        self
    }

    fn json(self) -> String {
        serde_json::to_string_pretty(&self.0.registry().unwrap()).unwrap() + "\n"
    }
}

/// What links carry in all versions, by conversation: two may have types of one name.
fn link() -> String {
    let handshake = Shapes::new().of::<Hello>().of::<Proof>().json();
    let joining = Shapes::new().of::<Request>().of::<Response>().of::<Role>().json();
    let signs = Shapes::new().of::<Heartbeat>().of::<NodeState>().of::<SocketAddr>().json();
    let messages = Shapes::new()
        .of::<Envelope>()
        .of::<Message>()
        .of::<Content>()
        .of::<ItemKey>()
        .of::<OpKind>()
        .of::<NoReason>()
        .of::<VoteReply>()
        .of::<Vote>()
        .of::<Value>()
        .of::<Decided>()
        .of::<Knowledge>()
        .of::<Ask>()
        .of::<Answer>()
        .of::<Relay>()
        .of::<Carried>()
        .of::<Merging>()
        .of::<Fate>()
        .of::<ErrorCode>()
        .json();
    [handshake, joining, signs, messages].concat()
}

/// What links of the newest version carry besides.
fn link_added() -> String {
    let refusals = Shapes::new().of::<Refusal>().json();
    let addenda = Shapes::new().of::<Addendum>().of::<Phase>().json();
    [refusals, addenda].concat()
}

#[test]
fn links_carry_what_their_version_says() {
    assert_eq!((OLDEST, NEWEST), (8, 9), "files for the versions that are spoken");
    expect_file!["./shapes/link-8.json"].assert_eq(&link());
    expect_file!["./shapes/link-9-adds.json"].assert_eq(&link_added());
}

#[test]
fn the_store_holds_what_its_format_says() {
    let shapes = Shapes::new()
        .of::<Committed>()
        .of::<Stamp>()
        .of::<Content>()
        .of::<ItemKey>()
        .of::<TxRecord>()
        .of::<OpKind>()
        .of::<NoReason>()
        .of::<Vote>()
        .of::<Value>()
        .of::<Decided>()
        .of::<LogEntry>()
        .of::<LogPosition>()
        .of::<Rival>()
        .of::<ItemId>()
        .of::<Fate>()
        .of::<Owner>()
        .of::<Binding>();
    expect_file!["./shapes/store-1.json"].assert_eq(&shapes.json());
}
