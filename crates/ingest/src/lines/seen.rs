//! What an append's account needs to know about every line, also about those that become no fact.

use std::collections::BTreeMap;

use model::{Time, When};

/// Levels and the span of times of the lines read so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Lines per level as written.
    pub levels: BTreeMap<String, u64>,
    /// Oldest time.
    pub oldest: Option<Time>,
    /// Newest time.
    pub newest: Option<Time>,
}

impl Seen {
    /// Most levels that are told apart; lines with further ones count as `other`. NGINX has 8, logrus 7.
    const MAX_LEVELS: usize = 16;

    /// Counts a line of this level.
    pub fn level(&mut self, level: &str) {
        if let Some(n) = self.levels.get_mut(level) {
            *n += 1;
        } else {
            let known = self.levels.len() < Self::MAX_LEVELS && level.len() <= 16;
            *self.levels.entry(if known { level } else { "other" }.to_owned()).or_default() += 1;
        }
    }

    /// Takes the time of a line.
    pub fn time(&mut self, at: Time) {
        self.oldest = Some(self.oldest.map_or(at, |oldest| oldest.min(at)));
        self.newest = Some(self.newest.map_or(at, |newest| newest.max(at)));
    }

    /// Takes the time of a line: its start.
    pub fn when(&mut self, when: &When) {
        self.time(when.at);
    }
}
