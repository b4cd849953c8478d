//! Tests of the built program from outside, in one binary.

mod api;
mod common;
mod crash;
mod intake;
mod nginx;
mod published;
mod tidy;
