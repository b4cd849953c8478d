//! Whether what lies on disk is what was committed. tantivy's files end with a CRC of themselves, but it does not look at it when
//! it opens them, and a file that is whole can still be another segment's or an older one. So every commit leaves a summary
//! beside them, and opening compares: an index that differs is built again, and never answers.
//!
//! Segments that were merged after the last commit are not in the summary; they are held to their own CRC, and to the number of
//! documents, which a merge does not change.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use serde::{Deserialize, Serialize};
use tantivy::{Index, IndexMeta};

use crate::index::Cursor;

/// Name of the summary's file.
const NAME: &str = "summary.json";
/// More bytes than tantivy's footer has.
const FOOTER: u64 = 256;

/// What was committed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Summary {
    cursor: Cursor,
    /// Documents that are not deleted.
    documents: u64,
    /// Segments and how many documents each was made with.
    segments: BTreeMap<String, u32>,
    /// Files: length, and CRC of their footer.
    files: BTreeMap<String, (u64, u64)>,
}

impl Summary {
    fn of(folder: &Path, metas: &IndexMeta, cursor: Cursor) -> Self {
        let files = metas.list_segment_files();
        let files = files.iter().filter_map(|path| {
            let name = path.to_str()?.to_owned();
            Some((name, footer(&folder.join(path))?))
        });
        Self {
            cursor,
            documents: metas.segments.iter().map(|segment| u64::from(segment.num_docs())).sum(),
            segments: metas.segments.iter().map(|segment| (segment.id().uuid_string(), segment.max_doc())).collect(),
            files: files.collect(),
        }
    }
}

/// Length of a file and the CRC that its footer names; none if it is not there (some kinds of files need not be) or has none.
fn footer(path: &Path) -> Option<(u64, u64)> {
    let mut file = fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(FOOTER))).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let (_, after) = text.rsplit_once("\"crc\":")?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((len, digits.parse().ok()?))
}

/// Writes down what has just been committed. Not synced: what a power cut tears is found when it is opened.
pub(crate) fn note(folder: &Path, index: &Index, cursor: &Cursor) -> tantivy::Result<()> {
    let summary = Summary::of(folder, &index.load_metas()?, cursor.clone());
    let (path, new) = (folder.join(NAME), folder.join("summary.tmp"));
    fs::write(&new, serde_json::to_vec(&summary).map_err(std::io::Error::other)?)?;
    Ok(fs::rename(&new, &path)?)
}

/// Reads every file of the index and compares. The error says what is wrong.
pub(crate) fn check(folder: &Path, index: &Index, cursor: &Cursor) -> Result<(), String> {
    let metas = index.load_metas().map_err(|error| error.to_string())?;
    let bytes = fs::read(folder.join(NAME)).map_err(|error| format!("its {NAME} cannot be read: {error}"))?;
    let noted: Summary =
        serde_json::from_slice(&bytes).map_err(|error| format!("its {NAME} cannot be read: {error}"))?;
    let found = Summary::of(folder, &metas, cursor.clone());
    // A process can die between committing and noting, so the index can be ahead; never behind.
    let same = noted.cursor == *cursor;
    if !same && noted.cursor.size >= cursor.size {
        return Err(format!("it reaches to entry {}, {} were committed", cursor.size, noted.cursor.size));
    }
    if same && noted.documents != found.documents {
        return Err(format!("it has {} documents, {} were committed", found.documents, noted.documents));
    }
    for (id, documents) in &found.segments {
        if noted.segments.get(id).is_some_and(|noted| noted != documents) {
            return Err(format!("segment {id} does not have the number of documents that it was made with"));
        }
    }
    for path in metas.list_segment_files() {
        let name = path.to_str().unwrap_or_default();
        let (noted, found) = (noted.files.get(name), found.files.get(name));
        if noted.is_some() && noted != found {
            return Err(format!("{name} is not the file that was committed"));
        }
        if folder.join(&path).exists() && !index.directory().validate_checksum(&path).is_ok_and(|sound| sound) {
            return Err(format!("the CRC of {name} is wrong"));
        }
    }
    Ok(())
}
