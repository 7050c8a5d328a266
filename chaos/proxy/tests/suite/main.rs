//! Behaviour of the proxy seen from outside: HTTP on one side, sockets on the others.

mod command;
mod common;
mod cuts;
mod public_client;
mod rules;
mod standard;
mod toxics;
mod transfer;
