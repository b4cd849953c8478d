//! Entries of the log that a client broke over several lines.
//!
//! NGINX writes decoded text into messages as it is (`open() "%s" failed` of `ngx_http_static_module`, the user names
//! of `auth_basic`), so a path with `%0A` in it breaks the entry, and what follows can look like any line. What a
//! client cannot do is leave no trace: an entry is one write of at most 2047 bytes, so its lines follow each other,
//! and it ends with the client's address and the request as received, or is cut at that length. From these three
//! follows which lines may have been written by a client.
//!
//! It is not seen when the entry's lines lie in two appends, nor when a broken user name of `auth_basic` was given the
//! whole form of a line (the password is not in the request line): the documentation says so.

use std::collections::VecDeque;

use super::{Head, LONGEST_LINE};
use crate::{find::find, lines::Framed};

/// The lines that one writer wrote last, of one append.
#[derive(Debug, Default)]
pub struct Torn {
    /// Where the next line begins, in bytes since the first.
    at: usize,
    /// Lines taken, empty ones too.
    lines: usize,
    /// A broken entry whose last line has not come reaches at most to here.
    open_to: usize,
    /// Lines that began within the last [`LONGEST_LINE`] bytes.
    recent: VecDeque<Recent>,
}

/// A line that may be a part of a broken entry.
#[derive(Clone, Copy, Debug)]
struct Recent {
    begin: usize,
    /// Its number, from 1.
    number: usize,
    mark: usize,
    /// Its message quotes something, which may be text of a client.
    quotes: bool,
}

impl Torn {
    /// Takes the next line, to which the caller gives a `mark` that does not fall. When a client may have written it,
    /// or ones before it: the mark of the first line in doubt; every line from there to this one is.
    pub fn line(&mut self, line: &Framed<'_>, mark: usize) -> Option<usize> {
        let text = line.text;
        let (begin, end) = (self.at, self.at + text.len().saturating_add_signed(line.redacted));
        self.at = end + 1;
        self.lines += 1;
        let client = find(text, b", client: ");
        let message = &text[..client.unwrap_or(text.len())];
        let quotes = memchr::memchr_iter(b'"', message).count();
        while self.recent.front().is_some_and(|recent| recent.begin + LONGEST_LINE < end) {
            self.recent.pop_front();
        }
        let first = self.recent.front().copied().filter(|recent| recent.quotes && recent.begin + LONGEST_LINE == end);
        self.recent.push_back(Recent { begin, number: self.lines, mark, quotes: quotes > 0 });

        let open = begin < self.open_to;
        let odd = quotes % 2 == 1;
        if open && odd && client.is_some() {
            self.open_to = 0;
        } else if odd && client.is_none() && Head::read(text).is_some_and(|head| head.connection.is_some()) {
            self.open_to = begin + LONGEST_LINE;
        }

        // The end of an entry of that many lines: then the quote of its path closes in front of the client.
        let feeds = match client {
            Some(at) if quotes > 0 || find(&text[at + 1..], b", client: ").is_some() => line_feeds(&text[at..]),
            _ => 0,
        };
        let ended = if feeds == 0 {
            None
        } else {
            self.recent.iter().find(|recent| recent.number + feeds >= self.lines).map(|recent| recent.mark)
        };
        let cut = first.map(|recent| recent.mark);
        let opened = (open || begin < self.open_to).then_some(mark);
        [ended, cut, opened].into_iter().flatten().min()
    }

    /// Takes an empty line.
    pub const fn empty(&mut self) {
        self.at += 1;
        self.lines += 1;
    }
}

/// Escaped line feeds in the paths of the requests that stand here. Queries are not decoded, so theirs break nothing.
fn line_feeds(fields: &[u8]) -> usize {
    memchr::memchr_iter(b'"', fields)
        .filter(|quote| fields[..*quote].ends_with(b"request: "))
        .map(|quote| {
            let request = &fields[quote + 1..];
            let path = &request[..memchr::memchr(b'?', request).unwrap_or(request.len())];
            memchr::memchr_iter(b'%', path).filter(|at| matches!(&path[at + 1..], [b'0', b'A' | b'a', ..])).count()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first line in doubt after each line, by number.
    fn doubts(lines: &[&str]) -> Vec<Option<usize>> {
        let mut torn = Torn::default();
        lines.iter().enumerate().map(|(n, line)| torn.line(&Framed::bare(line.as_bytes()), n)).collect()
    }

    const HONEST: &str =
        "2026/11/23 06:39:00 [info] 7#7: *1 handshake rejected while SSL handshaking, client: a, server: b";
    const TAIL: &str = "z\" failed (2: No such file or directory), client: 10.0.0.1, server: s, request: \"GET /x%0aq%0Az HTTP/1.1\", host: \"h\"";
    const FORGED: &str = "2026/11/23 06:39:00 [emerg] 1#1: cannot load certificate \"/x\"";

    #[test]
    fn an_open_quote_puts_what_follows_in_doubt_until_it_is_closed() {
        let head = "2026/11/23 06:39:00 [error] 7#7: *9 open() \"/html/x";
        assert_eq!(doubts(&[HONEST, head, FORGED, TAIL, HONEST]), [None, Some(1), Some(2), Some(1), None]);
        // Without an end, as far as one write reaches.
        let long = format!("2026/11/23 06:39:00 [notice] 1#1: {}", "x".repeat(1990));
        assert_eq!(doubts(&[head, FORGED, &long, HONEST])[1..], [Some(1), Some(2), None]);
    }

    #[test]
    fn a_request_with_line_feeds_in_its_path_puts_as_many_lines_before_it_in_doubt() {
        // The client gave the first line a whole form, so nothing was odd until the end.
        let head = "2026/11/23 06:39:00 [error] 7#7: *9 open() \"/html/a\" failed (2: No), client: 9.9.9.9, server: s, request: \"GET / HTTP/1.1\"";
        assert_eq!(doubts(&[HONEST, HONEST, head, FORGED, TAIL]), [None, None, None, None, Some(2)]);
        for honest in
            [TAIL.replace("/x%0a", "/x?%0a"), HONEST.to_owned() + ", request: \"GET /x%0Ay HTTP/1.1\", host: \"h\""]
        {
            assert_eq!(doubts(&[HONEST, &honest]), [None, None], "{honest}");
        }
    }

    #[test]
    fn lines_that_end_where_an_entry_is_cut_are_in_doubt() {
        let head = "2026/11/23 06:39:00 [error] 7#7: *9 open() \"/html/a\" failed (2: No), client: 9.9.9.9, server: s";
        for (more, doubt) in [(0, Some(1)), (1, None)] {
            let last = format!("{FORGED}{}", "x".repeat(2047 - head.len() - FORGED.len() - 1 + more));
            assert_eq!(doubts(&[HONEST, head, &last, HONEST]), [None, None, doubt, None]);
        }
    }
}
