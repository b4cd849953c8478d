//! What somebody has in the hand: an id, a name or a pasted line, and the query that it stands for.

use std::net::IpAddr;

use model::identity::Serial;

use crate::query::quote;

/// What something was taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hand {
    /// In words: `a SPIFFE ID`.
    pub is: &'static str,
    /// The query that finds it.
    pub query: String,
    /// The entry's index, when it is an entry.
    pub entry: Option<u64>,
}

/// Recognises what is in the hand by its form alone; whatever has no form of its own is a name.
pub fn hand(text: &str) -> Hand {
    let text = text.trim();
    let quoted = quote(text);
    let taken = |is, query| Hand { is, query, entry: None };
    if let Some(index) = entry(text) {
        return Hand { is: "an entry", query: format!("#{index}"), entry: Some(index) };
    }
    if text.starts_with("spiffe://") {
        return taken("a SPIFFE ID", format!("identity:{quoted}"));
    }
    if let Some((_, digest)) = text.split_once("sha256:") {
        let digest = digest.get(..64).unwrap_or(digest);
        if !digest.is_empty() && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return taken("a digest", format!("digest:{digest}"));
        }
    }
    if text.strip_prefix("p-").is_some_and(|rest| rest.len() == 32 && is_hex(rest)) {
        return taken("a person's reference", format!("person:{text}"));
    }
    if is_uid(text) {
        return taken("a uid", format!("uid:{text} OR trigger.event_id:{text}"));
    }
    // `handshake.failed/7Q2M4X`, as answers print it.
    if let Some((kind, id)) = text.split_once('/')
        && kind.contains('.')
        && is_crockford(id)
    {
        return taken("a record id", format!("id:{id}"));
    }
    if is_record_id(text) && text.bytes().any(|b| b.is_ascii_uppercase()) {
        return taken("a record id", format!("id:{text}"));
    }
    if text.parse::<IpAddr>().is_ok() {
        return taken("an address", format!("from:{quoted} OR to:{quoted} OR peer:{quoted}"));
    }
    if let Some(serial) = serial(text) {
        return taken("a serial number", format!("serial:{serial}"));
    }
    if (4..=64).contains(&text.len()) && is_hex(text) && text.bytes().any(|b| b.is_ascii_digit()) {
        let also_id = if is_record_id(text) { format!(" OR id:{text}") } else { String::new() };
        let query = format!("commit:{text} OR digest:{text} OR uid:{text} OR serial:{text}{also_id}");
        return taken("the beginning of a commit, digest, uid or serial number", query);
    }
    if let Some(message) = nginx_message(text) {
        return taken("a line of an NGINX error log", quote(message));
    }
    if text.split_once('/').is_some_and(|(namespace, name)| is_name(namespace) && is_name(name)) {
        let query =
            ["run", "workload", "from", "to", "sa", "actor"].map(|field| format!("{field}:{quoted}")).join(" OR ");
        return taken("a namespace and a name", query);
    }
    if is_name(text) {
        let fields = ["run", "pod", "workload", "from", "to", "sa", "pipeline", "node", "identity", "source"];
        let mut query = fields.map(|field| format!("{field}:{quoted}")).join(" OR ");
        if is_record_id(text) {
            query = format!("id:{text} OR {query}");
        }
        return taken("a name", query);
    }
    taken("words", quoted)
}

/// `#48213`, or digits that are too few for anything else.
fn entry(text: &str) -> Option<u64> {
    match text.strip_prefix('#') {
        Some(digits) => digits.parse().ok(),
        None if text.len() < 7 && text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// A serial that cannot be anything else: marked as hex, in capitals, or a long decimal as SPIRE logs it. Answers
/// shorten serials to `63EF..637C`: that is its beginning.
fn serial(text: &str) -> Option<String> {
    if text.len() >= 20 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Serial::from_decimal(text).map(|serial| serial.to_string());
    }
    let marked = text.starts_with("0x") || (text.len() > 5 && text.as_bytes().get(2) == Some(&b':'));
    let capitals = text.len() >= 8
        && text.bytes().any(|b| b.is_ascii_uppercase())
        && !text.bytes().any(|b| b.is_ascii_lowercase());
    if (marked || capitals)
        && let Some(serial) = Serial::from_hex(text)
    {
        return Some(serial.to_string());
    }
    let (beginning, end) = text.split_once("..")?;
    (beginning.len() >= 4 && is_hex(beginning) && is_hex(end)).then(|| beginning.to_owned())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// 8-4-4-4-12 hex digits.
fn is_uid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Four to sixteen characters of Crockford's base 32, in capitals or small: a record id or its beginning.
fn is_crockford(text: &str) -> bool {
    (4..=16).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() && !matches!(b.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U'))
}

/// What can hardly be a word: with a digit, or as long as answers print ids and in capitals.
fn is_record_id(text: &str) -> bool {
    let printed = matches!(text.len(), 8 | 16) && !text.bytes().any(|b| b.is_ascii_lowercase());
    is_crockford(text) && (printed || text.bytes().any(|b| b.is_ascii_digit()))
}

/// A name as Kubernetes has them.
fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// NGINX's own words in a pasted line, `2026/11/23 15:20:59 [info] 7#7: *12 message, client: …`: up to the first field,
/// as everything behind it belongs to one connection only.
fn nginx_message(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let dated = bytes.len() > 20 && bytes[4] == b'/' && bytes[7] == b'/' && bytes[10] == b' ';
    let (_, rest) = text.split_once("] ").filter(|_| dated)?;
    let (_, rest) = rest.split_once(": ")?;
    let rest = match rest.strip_prefix('*').and_then(|rest| rest.split_once(' ')) {
        Some((_, rest)) => rest,
        None => rest,
    };
    let end = [" while ", ", client:", ", server:", ", upstream:"].into_iter().filter_map(|stop| rest.find(stop)).min();
    Some(&rest[..end.unwrap_or(rest.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_hand_is_recognised() {
        for (text, is, query) in [
            ("#48213", "an entry", "#48213"),
            ("1204", "an entry", "#1204"),
            ("7Q2M4X", "a record id", "id:7Q2M4X"),
            ("handshake.failed/7Q2M4X", "a record id", "id:7Q2M4X"),
            ("AEPYVWHY", "a record id", "id:AEPYVWHY"),
            ("handshake.failed/AEPYVW", "a record id", "id:AEPYVW"),
            (
                "spiffe://example.org/ns/shop/sa/gateway",
                "a SPIFFE ID",
                r#"identity:"spiffe://example.org/ns/shop/sa/gateway""#,
            ),
            ("images.example/a@sha256:505ff876", "a digest", "digest:505ff876"),
            (
                "f48e71e2-0c1f-4a3b-9d7e-112233445566",
                "a uid",
                "uid:f48e71e2-0c1f-4a3b-9d7e-112233445566 OR trigger.event_id:f48e71e2-0c1f-4a3b-9d7e-112233445566",
            ),
            ("0e:1f:42:92", "a serial number", "serial:E1F4292"),
            ("18771503396829118256055557720416561843", "a serial number", "serial:E1F4292977A598AE90BFF8ACCB5AAB3"),
            ("63EF..637C", "a serial number", "serial:63EF"),
            ("10.0.9.4", "an address", r#"from:"10.0.9.4" OR to:"10.0.9.4" OR peer:"10.0.9.4""#),
            (
                "3b1f0c9d5",
                "the beginning of a commit, digest, uid or serial number",
                "commit:3b1f0c9d5 OR digest:3b1f0c9d5 OR uid:3b1f0c9d5 OR serial:3b1f0c9d5 OR id:3b1f0c9d5",
            ),
            (
                "2026/11/23 15:20:59 [info] 7#7: *12 client sent no required SSL certificate while reading client request headers, client: 10.0.0.1",
                "a line of an NGINX error log",
                r#""client sent no required SSL certificate""#,
            ),
        ] {
            let hand = hand(text);
            assert_eq!((hand.is, hand.query.as_str()), (is, query), "{text}");
        }
        assert_eq!(hand("shop/gateway").is, "a namespace and a name");
        assert_eq!(hand("gateway").is, "a name");
        assert_eq!(hand("no required certificate").is, "words");
    }

    #[test]
    fn every_query_that_it_gives_can_be_read() {
        for text in
            ["", "#", "#x", "é", "a\"b\\", "sha256:", "..", "p-", "::", "0x", "2026/11/23 15:20:59 [x] ", "(", "ns/"]
        {
            let query = hand(text).query;
            assert!(crate::query::parse(&query).is_ok(), "{text} -> {query}");
        }
    }
}
