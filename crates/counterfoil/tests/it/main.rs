//! Tests of the built program from outside, in one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![expect(clippy::disallowed_methods, reason = "UPDATE_PUBLISHED and CARGO are variables of the test")]

mod api;
mod common;
mod demo;
mod derived;
mod explain;
mod follow;
mod full;
mod intake;
mod ledger_commands;
mod nginx;
mod peer;
mod publish;
mod published;
mod retention;
mod selfcheck;
mod tidy;
mod witness;
