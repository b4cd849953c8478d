//! Cuts the list of a large cluster into lists, between its items.

use std::{ops::Range, sync::Arc};

use serde_json::value::RawValue;

use crate::json;

/// Longest text around the items of a list that is repeated for every stretch of it.
const LONGEST_ENVELOPE: usize = 64 * 1024;

/// A stretch of documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch<'a> {
    /// Offset of its first byte.
    pub at: usize,
    /// Whole documents, or items of one list.
    pub bytes: &'a [u8],
    /// What stands around the items; `None` for whole documents.
    pub envelope: Option<Arc<Envelope>>,
}

/// What stands around the items of a list: its kind, its version, the time of its taking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// From the document's beginning to the `[`.
    head: Box<[u8]>,
    /// From the `]` to its end.
    tail: Box<[u8]>,
}

impl Envelope {
    /// These items as a list of their own.
    pub fn around(&self, items: &[u8]) -> Vec<u8> {
        [&self.head, items, &self.tail].concat()
    }
}

/// Cuts documents into stretches of about `most` bytes: never inside an object; a longer object is a stretch of its own,
/// and what cannot be read is one. Gives at least one, and they hold every byte but those between the stretches of one
/// list.
pub fn stretches(bytes: &[u8], most: usize) -> Vec<Stretch<'_>> {
    let mut stretches = Vec::new();
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>();
    // Where the whole documents begin that are not in a stretch yet.
    let mut begin = 0;
    loop {
        let before = documents.byte_offset();
        let Some(Ok(_)) = documents.next() else { break };
        let end = documents.byte_offset();
        if end - before > most
            && let Some(list) = split(&bytes[before..end], most)
        {
            whole(bytes, begin..before, &mut stretches);
            stretches.extend(list.into_iter().map(|stretch| Stretch { at: before + stretch.at, ..stretch }));
            begin = end;
        } else if end - begin > most {
            whole(bytes, begin..before, &mut stretches);
            begin = before;
        }
    }
    whole(bytes, begin..bytes.len(), &mut stretches);
    if stretches.is_empty() {
        stretches.push(Stretch { at: 0, bytes, envelope: None });
    }
    stretches
}

fn whole<'a>(bytes: &'a [u8], range: Range<usize>, stretches: &mut Vec<Stretch<'a>>) {
    let (at, bytes) = (range.start, &bytes[range]);
    if !bytes.trim_ascii().is_empty() {
        stretches.push(Stretch { at, bytes, envelope: None });
    }
}

/// The stretches of one list; `None` when the document is none, or is one without items or with much beside them.
fn split(document: &[u8], most: usize) -> Option<Vec<Stretch<'_>>> {
    let items = member(document, "items").or_else(|| member(member(document, "list")?, "items"))?;
    let Range { start, end } = range_in(document, items);
    if items.first() != Some(&b'[') || start + document.len() - end > LONGEST_ENVELOPE {
        return None;
    }
    let head = document[..=start].into();
    let tail = document[end - 1..].into();
    let envelope = Some(Arc::new(Envelope { head, tail }));
    let mut stretches = Vec::new();
    let mut open: Option<Range<usize>> = None;
    let mut close = |range: Range<usize>| {
        stretches.push(Stretch { at: range.start, bytes: &document[range], envelope: envelope.clone() });
    };
    json::for_each(items, |_, item| {
        let item = range_in(document, item.get().as_bytes());
        open = Some(match open.take() {
            Some(range) if item.end - range.start <= most => range.start..item.end,
            before => {
                before.into_iter().for_each(&mut close);
                item
            }
        });
    })
    .ok()?;
    open.into_iter().for_each(close);
    (!stretches.is_empty()).then_some(stretches)
}

/// The value of an object's member.
fn member<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut found = None;
    json::for_each(object, |key, value| {
        if key.as_deref() == Some(name) {
            found = Some(value.get().as_bytes());
        }
    })
    .ok()?;
    found
}

/// Where a part that was read from these bytes stands in them.
fn range_in(bytes: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - bytes.as_ptr().addr();
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents that the stretches make.
    fn texts(document: &str, most: usize) -> Vec<String> {
        let text = |stretch: Stretch<'_>| match stretch.envelope {
            Some(envelope) => envelope.around(stretch.bytes),
            None => stretch.bytes.to_vec(),
        };
        stretches(document.as_bytes(), most).into_iter().map(|s| String::from_utf8(text(s)).unwrap()).collect()
    }

    #[test]
    fn a_list_is_cut_between_its_items() {
        let list = "{\"kind\": \"PodList\",\n \"items\": [\n {\"a\": [1, 2]},\n {\"b\": \"],[\"},\n {\"c\": 3}\n ],\n \"x\": 1}\n";
        assert_eq!(
            texts(list, 30),
            [
                "{\"kind\": \"PodList\",\n \"items\": [{\"a\": [1, 2]},\n {\"b\": \"],[\"}],\n \"x\": 1}",
                "{\"kind\": \"PodList\",\n \"items\": [{\"c\": 3}],\n \"x\": 1}",
            ]
        );
        assert_eq!(texts(list, 3).len(), 3, "an item longer than that is alone");
        assert_eq!(texts(list, 1000), [list]);
        let taken = format!("{{\"at\":\"2026-11-23T16:32:37Z\",\"list\":{}}}", list.trim_end());
        let parts = texts(&taken, 30);
        assert_eq!(parts.len(), 2);
        for part in parts {
            assert_eq!(serde_json::from_str::<serde_json::Value>(&part).unwrap()["at"], "2026-11-23T16:32:37Z");
        }
    }

    #[test]
    fn documents_stay_whole_and_nothing_is_lost() {
        let three = "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n";
        assert_eq!(texts(three, 16), ["{\"a\":1}\n{\"b\":2}", "\n{\"c\":3}\n"]);
        for odd in ["", "nonsense", "{\"items\":[]}", "{\"items\":7, \"x\":\"0123456789\"}", "[1,2,3,4,5,6,7,8,9]"] {
            assert_eq!(texts(odd, 4), [odd]);
        }
        assert_eq!(texts("{\"a\":1} {\"items\":[1,2]} broken", 8).concat(), "{\"a\":1} {\"items\":[1,2]} broken");
    }
}
