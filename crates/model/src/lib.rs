//! The vocabulary of Counterfoil: what can enter (facts), how it lies in the ledger (entries), and what is
//! concluded from it (records).
//!
//! Everything serialized here is a published format (`docs/formats/facts.md`, `docs/formats/records.md`,
//! `schemas/`): field names and meanings never change, new fields are optional, and readers keep what they do not
//! know. The crate knows no runtime, file, clock or randomness, so the fold over it can be pure.
//!
//! Reading order: [`time`], [`identity`], [`entry`], [`fact`] and its parts, [`record`].

pub mod action;
pub mod cause;
pub mod credential;
pub mod edges;
pub mod entry;
pub mod fact;
pub mod handshake;
pub mod identity;
pub mod own;
pub mod record;
pub mod run;
pub mod text;
pub mod time;
pub mod workload;

pub use entry::{Body, Entry};
pub use fact::Fact;
pub use identity::{Grade, SourceId};
pub use record::Record;
pub use text::Text;
pub use time::{Time, When};
