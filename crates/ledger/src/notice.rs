//! What a ledger has to tell its owner, who makes entries of it: the ledger itself knows no kinds of entries.

use crate::error::Busy;
use chrono::{DateTime, Utc};
use std::path::PathBuf;

/// Something that belongs on the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The wall clock moved by more than a second against the monotonic one, or is behind the last entry at opening.
    ClockStep {
        /// What the clock should have shown.
        expected: DateTime<Utc>,
        /// What it showed.
        actual: DateTime<Utc>,
    },
    /// A write that did not complete was cut off at opening. It had not been acknowledged.
    Cut {
        /// The journal segment.
        path: PathBuf,
        /// Where the write began.
        offset: u64,
        /// How far it can be seen.
        bytes: u64,
        /// Index that its first entry would have had; another entry has it now.
        index: u64,
    },
    /// Bytes that were complete are not any more.
    Damage {
        /// The journal segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// A copy of the segment as it was found.
        quarantined: PathBuf,
        /// First entry that the journal lost.
        first: u64,
        /// How many entries the journal lost.
        lost: u64,
        /// Of these, how many were found again in entry bundles. The others are fillers now (docs/formats/leaf.md).
        restored: u64,
    },
    /// Files of the tree at the edge from which recovery goes on were damaged or missing. They have been made again from what
    /// else is here, and have the root that was signed: nothing is lost.
    Mended {
        /// The files.
        paths: Vec<PathBuf>,
    },
    /// Senders are refused because the disk takes nothing (`until` none), or were (`until` some). Told in pairs.
    Gap {
        /// Why the first of them was refused.
        why: Busy,
        /// Since when.
        since: DateTime<Utc>,
        /// Until when; none when it has just begun.
        until: Option<DateTime<Utc>>,
        /// Refused appends of senders that do not come back; 0 when it has just begun.
        push: u64,
        /// Refused appends of senders that can wait; 0 when it has just begun.
        pull: u64,
    },
    /// Service was restored under a new origin. The entry made of this is the first one under it.
    RolledBack {
        /// The log's name until now.
        old_origin: String,
        /// Its last checkpoint, if one is known.
        old_checkpoint: Option<String>,
        /// The log's name from now on.
        new_origin: String,
        /// How many of the old entries are here.
        kept: u64,
    },
    /// Another key signs from now on. The checkpoint that covers the entry made of this is the first with its signature.
    KeyAdded {
        /// The verifier key.
        vkey: String,
        /// Size of the first checkpoint that it signs.
        first: u64,
    },
    /// A key does not sign any more, and its secret is removed.
    KeyRetired {
        /// The verifier key.
        vkey: String,
        /// Size of the first checkpoint that it does not sign.
        end: u64,
    },
    /// The folder is about to get a newer format.
    Upgraded {
        /// Its version until now.
        from: u32,
        /// Its version once a checkpoint covers the entry made of this.
        to: u32,
    },
}
