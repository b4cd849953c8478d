//! What is known about checkpoints outside of this machine: shared by the thread that hands them out and by those who ask.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use model::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Latest, Trouble};
use crate::metrics::{Metrics, To};

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The policy's quorum of witnesses.
    Quorum,
    /// One witness.
    Witness,
    /// A folder.
    Folder,
    /// An HTTP server.
    Http,
    /// An S3 object store.
    S3,
    /// A time-stamping authority.
    Timestamp,
}

impl Kind {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Witness => "witness",
            Self::Folder => "folder",
            Self::Http => "http",
            Self::S3 => "s3",
            Self::Timestamp => "timestamp",
        }
    }
}

/// How far one place knows this ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// What it is.
    pub kind: Kind,
    /// Its name in the configuration or in the policy.
    pub name: String,
    /// Entries in the newest checkpoint that it has taken; absent when it has taken none since this process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Since when there is a newer checkpoint that it has not taken; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// It is later than its pace explains.
    pub behind: bool,
    /// What it said last, if it did not take the last checkpoint that it was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Whether others hold what this ledger has signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Witnessing {
    /// No policy is configured: nobody is asked.
    NotConfigured,
    /// Not known: nobody has answered since this process started, or no process serves this folder.
    Unknown,
    /// A checkpoint of so many entries has the quorum of the policy, and the rest is younger than the limit.
    Witnessed {
        /// Entries in it.
        size: u64,
    },
    /// For longer than the limit no newer checkpoint has had the quorum.
    Unwitnessed {
        /// Entries in the last one that had it; absent when none is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Since when.
        since: Time,
    },
}

/// A place began to be behind, or has caught up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Entries that it has; 0 if it has none.
    pub size: u64,
    /// Whether it is behind now.
    pub behind: bool,
    /// Since when there has been a newer checkpoint.
    pub since: Option<Time>,
    /// Why it did not take it, as a word.
    pub reason: Option<&'static str>,
}

#[derive(Debug)]
struct Line {
    place: Place,
    /// Longer than this, and it is behind.
    late: Duration,
    /// What the last turn said; none before the first one of this life.
    told: Option<bool>,
    reason: Option<&'static str>,
    failures: u64,
}

impl Line {
    fn reached(&mut self, size: u64) {
        self.place.size = self.place.size.max(Some(size));
        (self.place.since, self.place.trouble, self.reason) = (None, None, None);
    }

    fn is_late(&self, now: Time) -> bool {
        self.place.since.is_some_and(|since| seconds(now, since) > self.late.as_secs())
    }
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    cosigned: Option<Latest>,
}

/// What is known outside.
#[derive(Debug, Default)]
pub struct Outside(Mutex<State>);

impl Outside {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place that is behind when it is later than `late`. Gives its line.
    pub fn add(&self, kind: Kind, name: &str, late: Duration) -> usize {
        let mut state = self.state();
        let place = Place { kind, name: name.to_owned(), size: None, since: None, behind: false, trouble: None };
        state.lines.push(Line { place, late, told: None, reason: None, failures: 0 });
        state.lines.len() - 1
    }

    /// There is a checkpoint of this size: whoever has a smaller one is late from now on. Those who ask say it too, so that a
    /// thread that hands nothing out any more cannot look like one that has nothing to hand out.
    pub fn newest(&self, size: u64, now: Time) {
        for line in &mut self.state().lines {
            if line.place.size < Some(size) {
                line.place.since.get_or_insert(now);
            }
        }
    }

    /// Size of the newest checkpoint that a place has.
    pub fn size(&self, line: usize) -> Option<u64> {
        self.state().lines[line].place.size
    }

    /// A place was shown the checkpoint of this size.
    pub fn tried(&self, line: usize, size: u64, outcome: Result<(), Trouble>) {
        let line = &mut self.state().lines[line];
        match outcome {
            Ok(()) => line.reached(size),
            Err(trouble) => {
                line.failures += 1;
                line.reason = Some(trouble.reason);
                tracing::debug!(kind = line.place.kind.as_str(), name = line.place.name, %trouble, "not taken");
                line.place.trouble = Some(trouble.to_string());
            }
        }
    }

    /// A checkpoint has the quorum, and is kept.
    pub fn keep_cosigned(&self, line: usize, latest: Latest) {
        let mut state = self.state();
        state.lines[line].reached(latest.size);
        if state.cosigned.as_ref().is_none_or(|kept| kept.size <= latest.size) {
            state.cosigned = Some(latest);
        }
    }

    /// The newest checkpoint that has the quorum.
    pub fn cosigned(&self) -> Option<Latest> {
        self.state().cosigned.clone()
    }

    /// Who has begun to be behind, or has caught up, since this was asked last. The first answer about a place counts as one,
    /// since nobody knows how the last life of the process ended. Single witnesses are not told: the quorum is.
    pub fn turns(&self, now: Time) -> Vec<Turn> {
        let mut turns = Vec::new();
        for line in &mut self.state().lines {
            let late = line.is_late(now);
            let news = line.told.map_or(late || line.place.size.is_some(), |told| told != late);
            if !news {
                continue;
            }
            line.told = Some(late);
            if line.place.kind != Kind::Witness {
                turns.push(Turn {
                    kind: line.place.kind,
                    name: line.place.name.clone(),
                    size: line.place.size.unwrap_or_default(),
                    behind: late,
                    since: line.place.since.filter(|_| late),
                    reason: line.reason.filter(|_| late),
                });
            }
        }
        turns
    }

    /// Every place except the quorum, in the order of the configuration.
    pub fn places(&self, now: Time) -> Vec<Place> {
        let state = self.state();
        let places = state.lines.iter().filter(|line| line.place.kind != Kind::Quorum);
        places.map(|line| Place { behind: line.is_late(now), ..line.place.clone() }).collect()
    }

    /// Whether the quorum has seen what there is.
    pub fn witnessing(&self, now: Time) -> Witnessing {
        let state = self.state();
        let Some(line) = state.lines.iter().find(|line| line.place.kind == Kind::Quorum) else {
            return Witnessing::NotConfigured;
        };
        match (line.place.size, line.place.since) {
            (size, Some(since)) if line.is_late(now) => Witnessing::Unwitnessed { size, since },
            (Some(size), _) => Witnessing::Witnessed { size },
            (None, _) => Witnessing::Unknown,
        }
    }

    /// Writes the numbers. Of several places of a kind the worst one counts.
    pub fn measure(&self, metrics: &Metrics, now: Time) {
        let state = self.state();
        for line in &state.lines {
            let kind = line.place.kind;
            let of_kind = || state.lines.iter().filter(|other| other.place.kind == kind);
            let least = of_kind().map(|other| other.place.size.unwrap_or_default()).min().unwrap_or_default();
            let since = of_kind().filter_map(|other| other.place.since).min();
            let failures: u64 = of_kind().map(|other| other.failures).sum();
            let to = To { to: kind.as_str() };
            metrics.published_entries.get_or_create(&to).set(least);
            metrics.publish_behind.get_or_create(&to).set(since.map_or(0, |since| seconds(now, since)));
            let counter = metrics.publish_failures.get_or_create(&to);
            counter.inc_by(failures.saturating_sub(counter.get()));
        }
    }
}

/// Whole seconds from one time to a later one; 0 when the clock went back.
fn seconds(now: Time, since: Time) -> u64 {
    u64::try_from(now.0.saturating_sub(since.0) / 1_000_000_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(second * 1_000_000_000)
    }

    fn latest(size: u64) -> Latest {
        Latest { note: format!("log\n{size}\nAAAA\n\n").into(), size }
    }

    #[test]
    fn not_configured_unknown_witnessed_and_unwitnessed_are_four_things() {
        let outside = Outside::default();
        assert_eq!(outside.witnessing(at(99)), Witnessing::NotConfigured);
        let line = outside.add(Kind::Quorum, "policy", Duration::from_mins(1));
        assert_eq!(outside.witnessing(at(99)), Witnessing::Unknown);
        outside.newest(5, at(100));
        assert_eq!((outside.turns(at(160)), outside.witnessing(at(160))), (vec![], Witnessing::Unknown));
        outside.tried(line, 5, Err(Trouble::new("unreachable", "nobody there")));
        let turn = outside.turns(at(161)).pop().unwrap();
        assert_eq!((turn.behind, turn.size, turn.since, turn.reason), (true, 0, Some(at(100)), Some("unreachable")));
        assert_eq!(outside.witnessing(at(161)), Witnessing::Unwitnessed { size: None, since: at(100) });
        assert_eq!(outside.turns(at(162)), vec![], "said once");
        outside.keep_cosigned(line, latest(5));
        assert!(!outside.turns(at(163))[0].behind);
        assert_eq!(outside.witnessing(at(163)), Witnessing::Witnessed { size: 5 });
        // What is newer is not witnessed yet, which is nothing to be told about before its time.
        outside.newest(7, at(200));
        outside.newest(9, at(230));
        assert_eq!((outside.turns(at(260)), outside.witnessing(at(260))), (vec![], Witnessing::Witnessed { size: 5 }));
        assert!(outside.turns(at(261))[0].behind);
        assert_eq!(outside.witnessing(at(261)), Witnessing::Unwitnessed { size: Some(5), since: at(200) });
        assert_eq!(outside.cosigned().unwrap().size, 5);
        outside.keep_cosigned(line, latest(9));
        assert_eq!(outside.cosigned().unwrap().size, 9);
    }

    #[test]
    fn the_worst_place_of_a_kind_is_measured_and_nothing_of_a_kind_that_is_not_there() {
        let (outside, metrics) = (Outside::default(), Metrics::default());
        let (one, two) = (
            outside.add(Kind::Folder, "a", Duration::from_secs(9)),
            outside.add(Kind::Folder, "b", Duration::from_secs(9)),
        );
        outside.newest(8, at(10));
        outside.tried(one, 8, Ok(()));
        outside.tried(two, 8, Err(Trouble::new("disk", "full")));
        outside.tried(two, 8, Err(Trouble::new("disk", "full")));
        outside.measure(&metrics, at(30));
        outside.measure(&metrics, at(30));
        let text = metrics.text();
        for line in [
            "counterfoil_published_entries{to=\"folder\"} 0",
            "counterfoil_publish_behind_seconds{to=\"folder\"} 20",
            "counterfoil_publish_failures_total{to=\"folder\"} 2",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("to=\"quorum\""), "{text}");
        assert_eq!(outside.witnessing(at(30)), Witnessing::NotConfigured);
    }
}
