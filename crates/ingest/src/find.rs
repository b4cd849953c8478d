//! Searching for short texts in short lines.

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
    }
}
