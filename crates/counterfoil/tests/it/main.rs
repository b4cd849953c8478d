//! Tests of the built program from outside, in one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![expect(clippy::disallowed_methods, reason = "UPDATE_PUBLISHED and CARGO are variables of the test")]

mod api;
mod common;
mod crash;
mod demo;
mod explain;
mod follow;
mod intake;
mod nginx;
mod published;
mod retention;
mod selfcheck;
mod tidy;
