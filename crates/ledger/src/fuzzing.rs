//! The door for fuzz targets to readers that are private. Only there when a fuzzer builds the crate (`cfg(fuzzing)`), and for
//! the test that the corpus holds what is valid.
//!
//! Where a CRC stands in front of a reader it is made right, since guessing it is not what is to be tried.

use crate::durable::Disk;
use crate::group::{Group, GroupBuilder, PAGE, Position};
use crate::head::{Folder, Head, KeyLine, KeyList, positions_text, read_positions};
use crate::leaf::{Stamp, time_text, write_leaf};
use crate::merkle::{Hash, leaf_hash, node_hash};
use crate::note::{Checkpoint, Skey, Vkey};
use crate::payload::{Block, OpenBlock, Payload};
use crate::simulated::SimDisk;
use crate::tiles::{push_entry, split_bundle};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::path::PathBuf;
use std::sync::Arc;

/// Name of the log that [`key`] signs for.
const ORIGIN: &str = "log.example/fuzz";
/// Size of the one checkpoint that was signed with [`key`]; it is in the corpus, with a proof of [`LEAF`].
pub const SIZE: u64 = 3;
/// The leaf that the proof in the corpus proves.
pub const LEAF: &[u8] = b"leaf 1";

/// The key that the corpus is signed with.
pub fn key() -> Vkey {
    Skey::from_seed(ORIGIN, &[7; 32]).vkey().clone()
}

/// The leaf with this stamp and body, as the writer writes it.
pub fn leaf(stamp: &Stamp, body: &[u8]) -> Vec<u8> {
    let mut leaf = Vec::new();
    write_leaf(&mut leaf, &time_text(stamp.recorded_at), stamp.tick, stamp.append, stamp.part, body);
    leaf
}

/// Each of these says whether the bytes could be read. A group of the journal: `first` and the number of leaves (8 and 4 bytes), then what stands behind the header.
pub fn group(data: &[u8]) -> bool {
    let Some((first, rest)) = data.split_first_chunk::<8>() else { return false };
    let Some((count, body)) = rest.split_first_chunk::<4>() else { return false };
    let (first, count) = (u64::from_le_bytes(*first), u32::from_le_bytes(*count));
    let nonce = [5; 8];
    let mut bytes = with_header(nonce, first, count, body);
    let Some(group) = Group::parse(&bytes, 0, nonce) else { return false };
    assert_eq!((group.bytes(), group.first), (bytes.as_slice(), first));
    assert_eq!((group.end() - first, group.leaves().count()), (u64::from(count), count as usize));
    assert!(group.appends.is_sorted_by(|a, b| a.first < b.first), "appends follow each other");
    for append in &group.appends {
        assert!(append.first >= first && group.leaf(append.first).is_some());
        if let Some((_, salted)) = group.payload(append) {
            assert!(salted.len() >= 32);
        }
    }
    assert!(group.leaf(group.end()).is_none());
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    assert!(Group::parse(&bytes, 0, nonce).is_none(), "a flipped bit is seen");
    assert!(Group::parse(&bytes[1..], 0, nonce).is_none());
    true
}

/// A group with this content behind a header that is right (docs/formats/journal.md).
fn with_header(nonce: [u8; 8], first: u64, leaves: u32, body: &[u8]) -> Vec<u8> {
    let mut header = [b"CFLGRP01".as_slice(), &nonce, &1u64.to_le_bytes(), &first.to_le_bytes()].concat();
    let length = u32::try_from(body.len()).expect("fuzzers give less");
    header.extend([leaves.to_le_bytes(), length.to_le_bytes()].concat());
    header.resize(60, 0);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header), body);
    let mut bytes = [&header, crc.to_le_bytes().as_slice(), body].concat();
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    bytes
}

/// A block of this frame and footer with a trailer that is right (docs/formats/payload.md).
fn with_trailer(frame: &[u8], footer: &[u8], plain: u32) -> Vec<u8> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("fuzzers give less");
    let numbers = [len(frame), plain, len(footer) / 16, crc32c::crc32c(frame), crc32c::crc32c(footer)];
    let trailer = numbers.map(u32::to_le_bytes).concat();
    let crc = crc32c::crc32c(&trailer).to_le_bytes();
    [frame, footer, &trailer, &crc, b"CFLPAY01"].concat()
}

/// A payload block: number of payloads (1 byte), length unpacked (4 bytes), the rows of the footer, the zstd frame.
pub fn block(data: &[u8]) -> bool {
    let Some((count, rest)) = data.split_first() else { return false };
    let Some((plain, rest)) = rest.split_first_chunk::<4>() else { return false };
    let Some((footer, frame)) = rest.split_at_checked(usize::from(*count) * 16) else { return false };
    // A larger one only takes memory.
    let mut bytes = with_trailer(frame, footer, u32::from_le_bytes(*plain) % (8 << 20));
    let Ok(block) = Block::decode(&bytes) else { return false };
    assert_eq!(block.rows().len(), usize::from(*count));
    for row in block.rows() {
        assert_eq!(block.find(row.entry), Some(&block.salted(row)[32..]));
    }
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    assert!(Block::decode(&bytes).is_err(), "a flipped bit is seen");
    true
}

/// A bundle of entries.
pub fn bundle(data: &[u8]) -> bool {
    let Some(entries) = split_bundle(data) else { return false };
    let mut again = Vec::new();
    for entry in &entries {
        push_entry(&mut again, entry);
    }
    assert_eq!(again, data);
    true
}

fn folder(name: &str, text: &str) -> Folder {
    let sim = Arc::new(SimDisk::default());
    let dir = PathBuf::from("/ledger");
    sim.create(&dir.join(name), text.as_bytes()).expect("the simulated disk takes it");
    Folder { disk: Disk::Simulated(sim), head: dir.join("head"), dir }
}

/// The file `head`, with the CRC that its text should have in place of `{crc}`.
pub fn head(text: &str) -> bool {
    let Some((start, rest)) = text.split_once("crc {crc}\n") else { return false };
    let crc = crc32c::crc32c_append(crc32c::crc32c(start.as_bytes()), rest.as_bytes());
    let text = format!("{start}crc {crc:08x}\n{rest}");
    let keys = KeyList(vec![KeyLine { first: 0, end: None, vkey: key() }]);
    let Ok(head) = Head::read(&folder("head", &text), ORIGIN, &keys) else { return false };
    assert_eq!(head.to_text(), text);
    assert!(head.checkpoint.size == SIZE && head.synced <= SIZE && head.stored <= head.synced);
    true
}

/// The file `keys/vkeys`.
pub fn key_list(text: &str) -> bool {
    let Ok(list) = KeyList::read(&folder("keys/vkeys", text)) else { return false };
    assert_eq!(list.to_text(), text);
    assert_eq!(list.0[0].first, 0, "some key signs from the beginning");
    true
}

/// The file `positions`, up to the line of its CRC.
pub fn positions(text: &str) -> bool {
    let crc = crc32c::crc32c(text.as_bytes());
    let whole = format!("{text}crc {crc:08x}\n");
    let Ok((through, positions)) = read_positions(&folder("positions", &whole)) else { return false };
    assert_eq!(positions_text(through, &positions), whole);
    true
}

/// Inputs that are valid, by target and name: what a fuzzer would not guess.
pub fn samples() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let secret = Skey::from_seed(ORIGIN, &[7; 32]);
    let leaves = [b"leaf 0".as_slice(), LEAF, b"leaf 2"].map(leaf_hash);
    let root = node_hash(&node_hash(&leaves[0], &leaves[1]), &leaves[2]);
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: SIZE, root };
    let note = checkpoint.sign([&secret]);
    let base64 = |hash: &Hash| BASE64_STANDARD.encode(hash);
    let proof = format!("c2sp.org/tlog-proof@v1\nindex 1\n{}\n{}\n\n{note}", base64(&leaves[0]), base64(&leaves[2]));
    let head = format!("counterfoil-head/1\nsealed 3\nsynced 2\nstored 1\ncrc {{crc}}\n\n{note}");
    let list = format!("0 20 {0}\n10 - {0}\n", key());
    let positions = "counterfoil-positions/1\nthrough 7\n{\"source\":\"a\",\"position\":\"f:1\"}\n".to_owned();
    let texts = [key().to_string(), note, proof, head, list, positions];
    let names = ["vkey", "note", "proof", "head", "vkeys", "positions"];
    let signed = (0u8..).zip(names).zip(texts);
    let mut samples: Vec<_> =
        signed.map(|((n, name), text)| ("signed", name, [&[n], text.as_bytes()].concat())).collect();

    let payload = Payload::with_salt(b"raw bytes".to_vec(), "events", "identity", [1; 32]).expect("a payload");
    let mut builder = GroupBuilder::new([5; 8], 1, 40, 0, "2026-11-24T12:00:00.000123Z".to_owned(), 9, Vec::new());
    builder.push(&[b"{\"a\":1}".to_vec(), b"{}".to_vec()], Some(&payload), None);
    builder.push(&[b"x".to_vec()], None, Some(Position { source: "s".to_owned(), position: "p".to_owned() }));
    let group = builder.finish();
    let length = u32::from_le_bytes(group.bytes()[36..40].try_into().expect("4 bytes")) as usize;
    let body = &group.bytes()[64..64 + length];
    samples.push(("journal", "group", [&40u64.to_le_bytes(), 3u32.to_le_bytes().as_slice(), body].concat()));

    let mut block = OpenBlock::default();
    for entry in 0..3u8 {
        block.push(u64::from(entry) * 3, &[&[entry; 32], b"payload".as_slice()].concat());
    }
    let bytes = block.encode();
    let (frame, rows) = bytes[..bytes.len() - 32].split_at(bytes.len() - 32 - 3 * 16);
    samples.push(("blocks", "block", [&[1, 3], (3u32 * 39).to_le_bytes().as_slice(), rows, frame].concat()));
    let mut bundle = vec![0];
    for leaf in [b"a".as_slice(), b"", LEAF] {
        push_entry(&mut bundle, leaf);
    }
    samples.push(("blocks", "bundle", bundle));
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::verify_tlog_proof;
    use std::path::Path;

    #[test]
    fn the_corpus_has_what_is_valid_and_it_is_read() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        for (target, name, bytes) in samples() {
            let path = corpus.join(target).join(name);
            assert!(std::fs::read(&path).is_ok_and(|there| there == bytes), "{}", path.display());
        }
        let sample = |target: &str, name: &str| {
            let found = samples().into_iter().find(|sample| (sample.0, sample.1) == (target, name));
            found.expect("a sample of this name").2
        };
        let text = |name| String::from_utf8(sample("signed", name)[1..].to_vec()).unwrap();
        assert_eq!(text("vkey").parse::<Vkey>().unwrap(), key());
        assert_eq!(verify_tlog_proof(&text("proof"), LEAF, &[key()]).unwrap().1.size, SIZE);
        assert!(group(&sample("journal", "group")) && block(&sample("blocks", "block")[1..]));
        assert!(bundle(&sample("blocks", "bundle")[1..]));
        assert!(head(&text("head")) && key_list(&text("vkeys")) && positions(&text("positions")));
    }
}
