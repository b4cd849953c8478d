//! Records and entries to tantivy documents, and the query language over them.
//!
//! An index is derived: it can be deleted and built again from the ledger, and [`Index::cursor`] says how far it has
//! come. Documents and cursor are committed together, so every entry is indexed exactly once.
//!
//! Reading order: `fields` (the table of everything), `document` (what goes in), `index` (how it lies on disk), `sound` (whether it is still
//! what was committed),
//! [`query`] and `translate` (the language), `view` (what is asked), `sought`, `bits` and `newest` (finding without looking at every
//! document), `search` (asking), `hand` (what an id or name stands for).

mod bits;
mod document;
pub mod fields;
mod hand;
mod index;
mod newest;
pub mod query;
pub mod reference;
mod search;
mod sought;
mod sound;
mod translate;
mod view;

pub use hand::{Hand, hand};
pub use index::{Config, Cursor, Index, IndexError};
pub use query::QueryError;
pub use search::{FoundRecord, Hit, MAX_LIMIT, Page, Search};
