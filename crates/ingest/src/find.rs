//! Searching for short texts in short lines.

/// Bytes that are looked at by [`byte`] before it is worth to ask `memchr`.
const NEAR: usize = 32;
const ONES: u64 = u64::MAX / 255;

/// Where `byte` stands first. Most fields of a line are shorter than the start-up of `memchr`.
#[inline]
pub(crate) fn byte(byte: u8, text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < NEAR {
        let Some(chunk) = text.get(at..at + 8).and_then(|chunk| chunk.try_into().ok()) else {
            return text[at..].iter().position(|b| *b == byte).map(|n| at + n);
        };
        let found = equal_bytes(u64::from_le_bytes(chunk), byte);
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    memchr::memchr(byte, &text[at..]).map(|n| at + n)
}

/// The high bit of every byte of `word` that equals `byte`; above the lowest such byte there may be false ones (the
/// exact test for a zero byte borrows upwards), so only the lowest counts.
#[inline]
pub(crate) const fn equal_bytes(word: u64, byte: u8) -> u64 {
    let zero_where_equal = word ^ (ONES * byte as u64);
    zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & (ONES << 7)
}

/// Where `needle` begins, if it is there.
///
/// For needles whose first byte is rare in what they are searched in. `memchr::memmem::find` is better at everything
/// else, but it prepares a searcher for every call, and on a line that takes longer than the search.
pub(crate) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, rest) = needle.split_first()?;
    memchr::memchr_iter(*first, text).find(|at| text[at + 1..].starts_with(rest))
}

#[cfg(test)]
mod tests {
    proptest::proptest! {
        #[test]
        fn it_is_found_where_a_general_search_finds_it(text in "[a, b]{0,40}", needle in "[a, b]{1,4}") {
            let (text, needle) = (text.as_bytes(), needle.as_bytes());
            proptest::prop_assert_eq!(super::find(text, needle), memchr::memmem::find(text, needle));
        }

        #[test]
        fn a_byte_is_found_where_it_stands_first(fill in "[ab`c\u{e1}]{0,80}", rest in "[a-d]{0,20}") {
            let text = fill + &rest;
            proptest::prop_assert_eq!(super::byte(b'd', text.as_bytes()), text.bytes().position(|b| b == b'd'));
            proptest::prop_assert_eq!(super::byte(b'a', text.as_bytes()), text.bytes().position(|b| b == b'a'));
        }
    }
}
