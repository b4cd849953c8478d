//! Proofs: read from the tiles, and the `.tlog-proof` file that carries one (docs/formats/tiles.md).

use crate::error::Error;
use crate::merkle::{Hash, consistency_path, inclusion_path, leaf_hash, verify_inclusion};
use crate::note::{Checkpoint, Vkey};
use crate::tiles::{NodeReader, TileStore};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::fmt::Write as _;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

fn check_size(size: u64, sealed: u64) -> Result<(), Error> {
    if size > sealed { Err(Error::NotSealed { size, sealed }) } else { Ok(()) }
}

pub(crate) fn inclusion(tiles: &TileStore, sealed: u64, index: u64, size: u64) -> Result<Vec<Hash>, Error> {
    check_size(size, sealed)?;
    if index >= size {
        return Err(Error::NoEntry { index, size });
    }
    let mut nodes = NodeReader::new(tiles, sealed);
    inclusion_path(index, size, &mut |height, n| nodes.node(height, n))
}

pub(crate) fn consistency(tiles: &TileStore, sealed: u64, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
    check_size(new, sealed)?;
    check_size(old, new)?;
    if old == 0 {
        return Ok(Vec::new());
    }
    let mut nodes = NodeReader::new(tiles, sealed);
    consistency_path(old, new, &mut |height, n| nodes.node(height, n))
}

/// The text of a `.tlog-proof` file: inclusion in the checkpoint of this size.
pub(crate) fn tlog_proof(tiles: &TileStore, sealed: u64, size: u64, note: &str, index: u64) -> Result<String, Error> {
    if index >= size {
        return Err(Error::NotSealed { size: index + 1, sealed: size });
    }
    let mut text = format!("{FIRST_LINE}\nindex {index}\n");
    for hash in inclusion(tiles, sealed, index, size)? {
        let _ = writeln!(text, "{}", BASE64_STANDARD.encode(hash));
    }
    let _ = write!(text, "\n{note}");
    Ok(text)
}

/// Checks that a `.tlog-proof` file proves this leaf, with nothing but the log's verifier keys. Gives the leaf's index and the
/// checkpoint.
///
/// # Errors
/// [`Error::BadNote`]: not such a file, not signed by a known key, or not a proof of this leaf.
pub fn verify_tlog_proof<'k>(
    text: &str,
    leaf: &[u8],
    keys: impl IntoIterator<Item = &'k Vkey>,
) -> Result<(u64, Checkpoint), Error> {
    let bad = |detail: &str| Error::BadNote { what: "tlog-proof", detail: detail.to_owned() };
    let (proof, note) = text.split_once("\n\n").ok_or_else(|| bad("no empty line before the checkpoint"))?;
    let mut lines = proof.split('\n').peekable();
    if lines.next() != Some(FIRST_LINE) {
        return Err(bad("not of version 1"));
    }
    // Opaque data of the application, which proves nothing.
    lines.next_if(|line| line.starts_with("extra "));
    let index =
        lines.next().and_then(|line| line.strip_prefix("index ")?.parse().ok()).ok_or_else(|| bad("no index"))?;
    let path: Vec<Hash> = lines
        .map(|line| BASE64_STANDARD.decode(line).ok()?.try_into().ok())
        .collect::<Option<_>>()
        .ok_or_else(|| bad("a line that is no hash"))?;
    let checkpoint = Checkpoint::verify(note, keys)?;
    if verify_inclusion(&leaf_hash(leaf), index, checkpoint.size, &path, &checkpoint.root) {
        Ok((index, checkpoint))
    } else {
        Err(bad("it does not prove this entry"))
    }
}
