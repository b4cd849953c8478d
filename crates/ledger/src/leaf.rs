//! The leaf: the ledger's stamp and the owner's body, two lines (docs/formats/leaf.md).

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};

/// C2SP tlog-tiles: an entry's length is a 16-bit number.
pub const MAX_LEAF: usize = 65_535;
/// The longest body. The rest of [`MAX_LEAF`] is room for the longest stamp.
pub const MAX_BODY: usize = 65_400;

/// The first line of a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Wall clock of the writer, UTC, microseconds. Not monotonic.
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

/// Appends the leaf to `out`. `recorded_at` is the text of [`time_text`].
pub(crate) fn write_leaf(out: &mut Vec<u8>, recorded_at: &str, tick: u64, append: u64, part: (u32, u32), body: &[u8]) {
    use std::io::Write as _;
    let (i, n) = part;
    // Writing to a Vec cannot fail.
    let _ =
        writeln!(out, "{{\"recorded_at\":\"{recorded_at}\",\"tick\":{tick},\"append\":{append},\"part\":[{i},{n}]}}");
    out.extend_from_slice(body);
}

/// Stamp and body of a leaf; none if it is not of this form to the byte (a leaf of another program's log). What is proved must not
/// be a matter of taste, so this is no reader of JSON: a leaf that it reads is the one that [`write_leaf`] writes.
pub fn split_leaf(leaf: &[u8]) -> Option<(Stamp, &[u8])> {
    let mut rest = leaf;
    literal(&mut rest, b"{\"recorded_at\":\"")?;
    let recorded_at = time(&mut rest)?;
    literal(&mut rest, b"\",\"tick\":")?;
    let tick = number(&mut rest)?;
    literal(&mut rest, b",\"append\":")?;
    let append = number(&mut rest)?;
    literal(&mut rest, b",\"part\":[")?;
    let i = u32::try_from(number(&mut rest)?).ok()?;
    literal(&mut rest, b",")?;
    let n = u32::try_from(number(&mut rest)?).ok()?;
    literal(&mut rest, b"]}\n")?;
    (i >= 1 && i <= n).then_some((Stamp { recorded_at, tick, append, part: (i, n) }, rest))
}

fn literal(rest: &mut &[u8], literal: &[u8]) -> Option<()> {
    *rest = rest.strip_prefix(literal)?;
    Some(())
}

/// A number without leading zeros.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let (digits, after) = rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
    if digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    *rest = after;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The form of [`time_text`].
fn time(rest: &mut &[u8]) -> Option<DateTime<Utc>> {
    const FORM: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";
    let (text, after) = rest.split_first_chunk::<27>()?;
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    if !text.iter().zip(FORM).all(fits) {
        return None;
    }
    *rest = after;
    let of = |from: usize, to: usize| text[from..to].iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
    let day = NaiveDate::from_ymd_opt(i32::try_from(of(0, 4)).ok()?, of(5, 7), of(8, 10))?;
    Some(day.and_hms_micro_opt(of(11, 13), of(14, 16), of(17, 19), of(20, 26))?.and_utc())
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
        assert_eq!(written_again(&stamp, body), leaf);
    }

    fn written_again(stamp: &Stamp, body: &[u8]) -> Vec<u8> {
        let mut leaf = Vec::new();
        write_leaf(&mut leaf, &time_text(stamp.recorded_at), stamp.tick, stamp.append, stamp.part, body);
        leaf
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_what_would_be_written(
            time in "[0-9]{4}-(0[0-9]|1[0-3])-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9][.,]([0-9]{6})(Z|z)",
            (tick, append, i, n) in proptest::prelude::any::<(u64, u32, u8, u8)>(),
            (at, removed, added) in (0usize..120, 0usize..2, "[ \r\n\t0-9:,a-z\"]{0,2}"),
        ) {
            let mut leaf = Vec::new();
            write_leaf(&mut leaf, &time, tick, append.into(), (i.into(), n.into()), b"{\"a\":1}");
            let at = at.min(leaf.len() - 1);
            leaf.splice(at..at + removed, added.bytes());
            if let Some((stamp, body)) = split_leaf(&leaf) {
                proptest::prop_assert_eq!(written_again(&stamp, body), leaf);
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
        // Found by the fuzz target: JSON would allow it.
        assert_eq!(
            split_leaf(
                b"\r{\"recorded_at\":\"2026-11-24T12:00:00.000123Z\",\"tick\":1,\"append\":1,\"part\":[1,1]}\nx"
            ),
            None
        );
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
