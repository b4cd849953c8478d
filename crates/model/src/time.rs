//! Times: nanoseconds since 1970 in UTC inside, RFC 3339 text outside.
//!
//! There are three times and never one "timestamp": [`When`] is what the source claims (`occurred_at`), the other
//! two (`observed_at`, `recorded_at`) are plain [`Time`]s of our own clocks.

use std::{fmt, ops, str::FromStr};

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::Grade;

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z. Written as RFC 3339 in UTC with as many fraction digits
/// (0, 3, 6 or 9) as the value needs, so that equal times are equal bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Time(pub i64);

/// One second in nanoseconds.
pub const SECOND: i64 = 1_000_000_000;

impl Time {
    /// From whole seconds since 1970. Saturates at the ends of the range (years 1677 and 2262).
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(SECOND))
    }

    /// From milliseconds since 1970. Saturates like [`Time::from_seconds`].
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Milliseconds since 1970, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(SECOND)
    }

    /// The start of the minute that holds this time; of the first minute that there is, its first moment.
    #[must_use]
    pub const fn minute(self) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(60 * SECOND)))
    }

    /// This time moved by a number of seconds, saturating.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(SECOND)))
    }

    /// Reads RFC 3339 (`2026-11-23T15:20:59.123Z`, any offset, at most 9 fraction digits). `None` if it is not.
    pub fn parse(text: &str) -> Option<Self> {
        let time = DateTime::parse_from_rfc3339(text).ok()?;
        time.timestamp_nanos_opt().map(Self)
    }
}

impl ops::Sub for Time {
    type Output = i64;

    /// The distance in nanoseconds, saturating.
    fn sub(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::<Utc>::from_timestamp_nanos(self.0);
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| format!("`{text}` is not an RFC 3339 time such as 2026-11-23T15:20:59Z"))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// When something happened as its source says it: an interval, because most sources cut their times.
///
/// `12:11:17` in an NGINX error log means "in that second": `at` is its start and `within_ms` is 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct When {
    /// Start of the interval.
    pub at: Time,
    /// Length of the interval in milliseconds; 0 when the source gives milliseconds or better.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub within_ms: u32,
    /// How well the time zone is known: `asserted` when the source wrote or declared it, `inferred` when UTC was
    /// assumed for a local time.
    #[serde(default = "asserted", skip_serializing_if = "is_asserted")]
    pub zone: Grade,
}

impl When {
    /// A time that the source wrote with its zone and at least milliseconds.
    pub const fn exact(at: Time) -> Self {
        Self { at, within_ms: 0, zone: Grade::Asserted }
    }

    /// A time that the source wrote with its zone and whole seconds.
    pub const fn second(at: Time) -> Self {
        Self { at, within_ms: 1000, zone: Grade::Asserted }
    }

    /// The last moment that the interval may mean.
    pub const fn latest(&self) -> Time {
        Time(self.at.0.saturating_add(self.within_ms as i64 * 1_000_000))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

const fn asserted() -> Grade {
    Grade::Asserted
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_asserted(grade: &Grade) -> bool {
    matches!(grade, Grade::Asserted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_minute_begins_with_the_first_moment() {
        let first = Time::from_seconds(i64::MIN);
        assert_eq!((first.minute(), Time(first.0 + 1).minute()), (first, first));
        assert_eq!(Time::from_seconds(-1).minute(), Time::from_seconds(-60));
    }

    #[test]
    fn text_is_canonical_and_comes_back() {
        for (text, canonical) in [
            ("2026-11-23T15:20:59Z", "2026-11-23T15:20:59Z"),
            ("2026-11-23T20:50:59.120+05:30", "2026-11-23T15:20:59.120Z"),
            ("2026-11-23T15:20:59.694136136Z", "2026-11-23T15:20:59.694136136Z"),
        ] {
            let time = Time::parse(text).unwrap();
            assert_eq!(time.to_string(), canonical);
            assert_eq!(Time::parse(canonical), Some(time));
        }
        assert_eq!(Time::parse("23/Nov/2026"), None);
    }

    #[test]
    fn minutes_round_down_before_1970_too() {
        assert_eq!(Time::from_seconds(-1).minute(), Time::from_seconds(-60));
        assert_eq!(Time::from_seconds(61).minute(), Time::from_seconds(60));
    }
}
