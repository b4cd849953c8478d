//! An append-only, provable log of opaque bodies.
//!
//! The story of an append, in the order of the modules. An owner calls [`Ledger::append`]; the append waits in its lane of the
//! queue (`shared`). The writer's thread takes what is there as one group (`group`), stamps each body into a leaf (`leaf`),
//! writes the group to the journal (`journal`) with one write and one fdatasync, and gives the receipts (`writer`). Beside the
//! next fsync the sealer's thread hashes the leaves into the tree (`merkle`, `tiles`), packs payloads into blocks (`payload`,
//! `blocks`), and at least once a second signs a checkpoint (`seal`, `note`) after it has put it into the small trusted file
//! (`head`). The keeper's thread makes the next journal segment ahead and watches the space on disk (`keeper`).
//!
//! Payloads whose time is over are pruned (`prune`). What was written is read again, round by round (`recheck`).
//! After a crash only the tail is read again (`recover`); if what was signed last is lost, [`accept_rollback`] keeps what is
//! there and goes on under a new name (`salvage`). Keys and the folder's version change while nobody else has it open
//! (`change`). It is copied while it is in use (`backup`, `restore`). What others say about a checkpoint is read and checked, not
//! asked for, here: cosignatures of witnesses (`cosignature`) and which of them are enough (`policy`). Anybody can read a folder
//! ([`Reader`]), take proofs from it (`proof`),
//! and check every byte of it ([`verify`]).
//!
//! All writing to disk goes through `durable`, which has a simulated double, so that power cuts can be played. Formats are in
//! docs/formats/.

mod backup;
mod blocks;
mod change;
mod config;
mod cosignature;
mod durable;
mod error;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod group;
mod head;
mod journal;
mod keeper;
mod leaf;
mod ledger;
mod mend;
mod merkle;
mod note;
mod notice;
mod payload;
mod policy;
mod proof;
mod prune;
mod read;
mod recheck;
mod recover;
mod restore;
mod salvage;
mod seal;
mod sha;
mod shared;
mod simulated;
mod tiles;
mod verify;
mod writer;

pub use backup::{Backup, backup};
pub use change::{KeyChange, retire_key, rotate_key, upgrade, version};
pub use config::{Clock, Config, Limits, ManualClock};
pub use cosignature::{WitnessKey, add_checkpoint, with_cosignatures};
pub use durable::{Disk, Space};
pub use error::{AppendError, Busy, Error};
pub use group::Position;
pub use head::VERSION;
pub use leaf::{MAX_BODY, MAX_LEAF, Stamp, split_leaf};
pub use ledger::{Append, Ledger, Opened, Stats, init};
pub use merkle::{Hash, Tree, empty_root, leaf_hash, node_hash, verify_consistency, verify_inclusion};
pub use note::{Checkpoint, Vkey};
pub use notice::Notice;
pub use payload::{Payload, PayloadRef, reference_in};
pub use policy::{Cosigned, Policy, Witness};
pub use proof::verify_tlog_proof;
pub use prune::{PayloadDay, Prune, Pruned};
pub use read::Reader;
pub use recheck::{Damage, Rechecked, Round};
pub use restore::{SameLog, restore};
pub use salvage::accept_rollback;
pub use shared::{Done, Lane, Receipt, SpaceLevel};
pub use simulated::{Fault, Operation, SimDisk, Step};
pub use verify::{Outcome, Report, Trouble, VerifyOptions, Witnessed, verify};
