//! Behaviour of the proxy seen from outside: HTTP on one side, sockets on the others.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod command;
mod common;
mod cuts;
mod public_client;
mod rules;
mod standard;
mod toxics;
mod transfer;
