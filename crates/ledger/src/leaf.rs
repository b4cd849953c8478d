//! The leaf: the ledger's stamp and the owner's body, two lines (docs/formats/leaf.md).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// C2SP tlog-tiles: an entry's length is a 16-bit number.
pub const MAX_LEAF: usize = 65_535;
/// The longest body. The rest of [`MAX_LEAF`] is room for the longest stamp.
pub const MAX_BODY: usize = 65_400;

/// The first line of a leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Wall clock of the writer, UTC, microseconds. Not monotonic.
    #[serde(with = "micros")]
    pub recorded_at: DateTime<Utc>,
    /// Milliseconds that this ledger has been open, over all process lives. Never falls.
    pub tick: u64,
    /// Index of the first leaf of the append that this leaf belongs to.
    pub append: u64,
    /// `(i, n)`: leaf i, counted from 1, of n.
    pub part: (u32, u32),
}

impl Stamp {
    /// The leaf's own index.
    pub fn index(&self) -> u64 {
        // A forged stamp can say anything; it is compared, not counted on from.
        self.append.saturating_add(u64::from(self.part.0)).saturating_sub(1)
    }
}

/// The time as it stands in a stamp: always 27 characters.
pub(crate) fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The form of [`time_text`], of a text that is a time. (Writing the time again would say the same, much slower.)
fn is_canonical(text: &str) -> bool {
    const FORM: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";
    let fits = |(b, form): (u8, &u8)| if *form == b'0' { b.is_ascii_digit() } else { b == *form };
    text.len() == FORM.len() && text.bytes().zip(FORM).all(fits)
}

mod micros {
    use super::{DateTime, Utc, is_canonical, time_text};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&time_text(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        let time = DateTime::parse_from_rfc3339(&text).map_err(D::Error::custom)?.to_utc();
        // One spelling only: a stamp's bytes are proved, so they must not be a matter of taste.
        if is_canonical(&text) { Ok(time) } else { Err(D::Error::custom("not microseconds in UTC")) }
    }
}

/// Appends the leaf to `out`. `recorded_at` is the text of [`time_text`].
pub(crate) fn write_leaf(out: &mut Vec<u8>, recorded_at: &str, tick: u64, append: u64, part: (u32, u32), body: &[u8]) {
    use std::io::Write as _;
    let (i, n) = part;
    // Writing to a Vec cannot fail.
    let _ =
        writeln!(out, "{{\"recorded_at\":\"{recorded_at}\",\"tick\":{tick},\"append\":{append},\"part\":[{i},{n}]}}");
    out.extend_from_slice(body);
}

/// Stamp and body of a leaf; none if it is not of this form (a leaf of another program's log).
pub fn split_leaf(leaf: &[u8]) -> Option<(Stamp, &[u8])> {
    let at = memchr::memchr(b'\n', leaf)?;
    let stamp: Stamp = serde_json::from_slice(&leaf[..at]).ok()?;
    (stamp.part.0 >= 1 && stamp.part.0 <= stamp.part.1).then_some((stamp, &leaf[at + 1..]))
}

/// The leaf that stands for one whose bytes are lost (docs/formats/leaf.md, "Filler"). It depends only on the leaf before,
/// so that making it twice gives the same bytes.
pub(crate) fn filler(before: Option<&[u8]>, index: u64) -> Vec<u8> {
    let (time, tick) = before.and_then(split_leaf).map_or_else(
        || ("1970-01-01T00:00:00.000000Z".to_owned(), 0),
        |(stamp, _)| (time_text(stamp.recorded_at), stamp.tick),
    );
    let mut leaf = Vec::new();
    write_leaf(&mut leaf, &time, tick, index, (1, 1), b"null");
    leaf
}

/// The UTC day in a leaf's stamp, which has its place by the format.
pub(crate) fn day_of(leaf: &[u8]) -> Option<&str> {
    const START: usize = "{\"recorded_at\":\"".len();
    std::str::from_utf8(leaf.get(START..START + 10)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_format() {
        let mut leaf = Vec::new();
        write_leaf(&mut leaf, "2026-11-24T12:00:00.000123Z", 8123, 41, (2, 3), b"{\"a\":1}");
        assert_eq!(
            leaf,
            b"{\"recorded_at\":\"2026-11-24T12:00:00.000123Z\",\"tick\":8123,\"append\":41,\"part\":[2,3]}\n{\"a\":1}"
        );
        let (stamp, body) = split_leaf(&leaf).unwrap();
        assert_eq!((stamp.index(), body), (42, b"{\"a\":1}".as_slice()));
        assert_eq!(serde_json::to_vec(&stamp).unwrap(), leaf[..leaf.len() - body.len() - 1]);
    }

    proptest::proptest! {
        #[test]
        fn a_time_is_canonical_when_it_is_written_like_that(
            text in "[0-9]{4}-(0[0-9]|1[0-3])-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9][.,]?([0-9]{6}|[0-9]{0,9})(Z|z|[+]00:00|-00:00)",
        ) {
            if let Ok(time) = DateTime::parse_from_rfc3339(&text) {
                proptest::prop_assert_eq!(is_canonical(&text), time_text(time.to_utc()) == text);
            }
        }
    }

    #[test]
    fn the_longest_stamp_leaves_room_for_the_longest_body() {
        let mut leaf = Vec::new();
        write_leaf(
            &mut leaf,
            "2026-11-24T12:00:00.000123Z",
            u64::MAX,
            u64::MAX,
            (u32::MAX, u32::MAX),
            &vec![b'x'; MAX_BODY],
        );
        assert!(leaf.len() <= MAX_LEAF);
    }

    #[test]
    fn other_logs_leaves_are_not_ours() {
        assert_eq!(split_leaf(b"counterfoil reference entry 0\n"), None);
        assert_eq!(
            split_leaf(b"{\"recorded_at\":\"2026-11-24T12:00:00.1Z\",\"tick\":1,\"append\":1,\"part\":[1,1]}\nx"),
            None
        );
        assert_eq!(
            split_leaf(b"{\"recorded_at\":\"2026-11-24T12:00:00.000123Z\",\"tick\":1,\"append\":1,\"part\":[2,1]}\nx"),
            None
        );
    }

    #[test]
    fn a_filler_repeats_the_time_of_the_leaf_before() {
        let mut leaf = Vec::new();
        write_leaf(&mut leaf, "2026-11-24T12:00:00.000123Z", 9, 4, (1, 1), b"{}");
        assert_eq!(
            filler(Some(&leaf), 5),
            b"{\"recorded_at\":\"2026-11-24T12:00:00.000123Z\",\"tick\":9,\"append\":5,\"part\":[1,1]}\nnull"
        );
        assert!(
            filler(None, 0).starts_with(b"{\"recorded_at\":\"1970-01-01T00:00:00.000000Z\",\"tick\":0,\"append\":0,")
        );
    }
}
