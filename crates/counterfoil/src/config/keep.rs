//! Settings of what is kept, and of reading it again.

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long payloads are kept, by class. Half of that time must also have passed while the ledger was open: a wall clock that is
/// set ahead removes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Deliveries of CloudEvents. 400 days: an audit period of twelve months, and five weeks to test it.
    pub events: ClassRetention,
    /// Lines as they were received. What was read from them stays in the entries.
    pub lines: ClassRetention,
}

impl Default for Retention {
    fn default() -> Self {
        let of = |days| ClassRetention { keep_days: Keep::Days(days), hold: false };
        Self { events: of(400), lines: of(7) }
    }
}

impl Retention {
    /// Every class with its rule; the names are those in payload references.
    pub fn classes(&self) -> [(&'static str, ClassRetention); 2] {
        [("events", self.events), ("lines", self.lines)]
    }

    pub(super) fn check(&self) -> Result<()> {
        for (class, rule) in self.classes() {
            if rule.keep_days == Keep::Days(0) {
                bail!("retention.{class}.keep_days = 0; at least 1, or \"off\" to keep it for ever");
            }
        }
        Ok(())
    }
}

/// The rule of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassRetention {
    /// Whole days that a payload is kept at least, or `"off"`: for ever.
    #[serde(default = "Keep::ever")] // of a file read alone; the layer of defaults has a number for each class
    pub keep_days: Keep,
    /// Legal hold: nothing of this class goes, whatever its age.
    #[serde(default)]
    pub hold: bool,
}

/// A number of days, or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "keep_days is a number of days, or \"off\" for ever")]
pub enum Keep {
    /// So many days.
    Days(u32),
    /// For ever.
    Ever(Off),
}

/// The word `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Off {
    /// `"off"`.
    #[serde(rename = "off")]
    Off,
}

impl Keep {
    /// For ever.
    pub const OFF: Self = Self::Ever(Off::Off);

    fn ever() -> Self {
        Self::OFF
    }

    /// Days; none for ever.
    pub fn days(self) -> Option<u32> {
        match self {
            Self::Days(days) => Some(days),
            Self::Ever(_) => None,
        }
    }
}

/// The rolling self-check of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfCheck {
    /// Bytes that it reads a second, on average; 0 turns it off.
    pub bytes_per_second: u64,
    /// Seconds from the beginning of one round to that of the next, unless a round takes longer.
    pub round_seconds: u64,
}

impl Default for SelfCheck {
    fn default() -> Self {
        Self { bytes_per_second: 4 << 20, round_seconds: 24 * 3600 }
    }
}
