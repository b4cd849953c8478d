//! The bytes of a delivery that are kept (`docs/formats/payload-contents.md`, "events").

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

/// The delivery as it is kept: a line `name: value` for the content type and for each attribute's header, an empty
/// line, the body. Other headers (hosts, credentials of the sender) are not evidence and are left out.
pub fn payload(headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 512);
    for (name, value) in headers {
        if name == CONTENT_TYPE || is_attribute(name.as_str()) {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(b'\n');
        }
    }
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    bytes
}

/// Headers and body of a kept delivery, to be read again. `None` if the bytes are not of that form.
pub fn read_payload(payload: &[u8]) -> Option<(HeaderMap, &[u8])> {
    let mut headers = HeaderMap::new();
    let mut rest = payload;
    loop {
        let (line, after) = rest.split_at(memchr::memchr(b'\n', rest)? + 1);
        rest = after;
        let line = &line[..line.len() - 1];
        if line.is_empty() {
            return Some((headers, rest));
        }
        let colon = memchr::memmem::find(line, b": ")?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        headers.try_append(name, HeaderValue::from_bytes(&line[colon + 2..]).ok()?).ok()?;
    }
}

fn is_attribute(name: &str) -> bool {
    name.starts_with("ce-") || name.starts_with("ce_")
}
