//! The small files of the folder: format, origin, keys, `head`, positions (docs/formats/folder.md).

use crate::durable::Disk;
use crate::error::Error;
use crate::group::PAGE;
use crate::journal::segments;
use crate::note::{Checkpoint, Skey, Vkey, check_origin};
use crate::payload::{hex, random};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Version of the folder that this program writes, and the newest that it reads.
pub const VERSION: u32 = 2;

/// Where the parts of a ledger are.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) disk: Disk,
    /// `DIR/ledger`.
    pub(crate) dir: PathBuf,
    pub(crate) head: PathBuf,
}

impl Folder {
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path("journal")
    }

    /// The folder's version. Refuses a folder that is no ledger, or one that only a newer program can open.
    pub(crate) fn check_format(&self, writing: bool) -> Result<u32, Error> {
        let path = self.path("format");
        let text = self.disk.text_if_there(&path)?.ok_or_else(|| Error::NotALedger { path: self.dir.clone() })?;
        let number = |line: Option<&str>, word: &str| line?.strip_prefix(word)?.parse::<u32>().ok();
        let mut lines = text.lines();
        let name = lines.next();
        let (Some("counterfoil-ledger"), Some(version), Some(reader)) =
            (name, number(lines.next(), "version "), number(lines.next(), "min-reader "))
        else {
            return Err(Error::damaged(&path, "not the lines counterfoil-ledger, version, min-reader"));
        };
        if reader < 1 || version < reader {
            return Err(Error::damaged(&path, "its versions contradict each other"));
        }
        let needed = if writing { version } else { reader };
        if needed > VERSION { Err(Error::Newer { path, needed, known: VERSION }) } else { Ok(version) }
    }

    /// Whether any signing key is here.
    pub(crate) fn can_sign(&self) -> Result<bool, Error> {
        let names = self.disk.list(&self.path("keys"))?;
        Ok(names.iter().any(|name| Path::new(name).extension().is_some_and(|extension| extension == "skey")))
    }

    /// Whether this is a backup as it was made: nothing here can sign, and nothing was written since, as its journal of one empty
    /// segment shows. Where a log has lost its keys and `head`, the journal holds its last entries, or is named by their end.
    pub(crate) fn is_backup(&self) -> Result<bool, Error> {
        if self.can_sign()? {
            return Ok(false);
        }
        let [only] = &segments(&self.disk, &self.journal())?[..] else { return Ok(false) };
        let (_, start) = self.disk.read_start(&only.path, 2 * PAGE)?;
        Ok(only.first == 0 && start.iter().skip(PAGE).all(|byte| *byte == 0))
    }

    /// The bytes of `format`. Each version so far needs a reader that knows it.
    fn format_text(version: u32) -> String {
        format!("counterfoil-ledger\nversion {version}\nmin-reader {version}\n")
    }

    /// Says that the folder has the version that this program writes.
    pub(crate) fn write_format(&self) -> Result<(), Error> {
        self.disk.write_durably(&self.path("format"), Self::format_text(VERSION).as_bytes())
    }

    /// Whether `format` is, byte for byte, what is written for this version.
    pub(crate) fn format_is_exact(&self, version: u32) -> bool {
        matches!(self.disk.text_if_there(&self.path("format")), Ok(Some(text)) if text == Self::format_text(version))
    }

    pub(crate) fn origin(&self) -> Result<String, Error> {
        let path = self.path("origin");
        let text = self.disk.text_if_there(&path)?.ok_or_else(|| Error::damaged(&path, "it is missing"))?;
        let origin = text.strip_suffix('\n').ok_or_else(|| Error::damaged(&path, "the line is not ended"))?;
        check_origin(origin)?;
        Ok(origin.to_owned())
    }
}

/// A given name, or one of 128 random bits.
pub(crate) fn new_origin(given: Option<&str>) -> Result<String, Error> {
    if let Some(origin) = given {
        check_origin(origin)?;
        return Ok(origin.to_owned());
    }
    let mut bits = [0; 16];
    random(&mut bits)?;
    Ok(format!("counterfoil.invalid/{}", hex(&bits)))
}

/// One line of `keys/vkeys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyLine {
    pub(crate) first: u64,
    /// None while the key is in use.
    pub(crate) end: Option<u64>,
    pub(crate) vkey: Vkey,
}

impl KeyLine {
    fn covers(&self, size: u64) -> bool {
        self.first <= size && self.end.is_none_or(|end| size < end)
    }
}

/// All keys that the log has had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyList(pub(crate) Vec<KeyLine>);

impl KeyList {
    pub(crate) fn read(folder: &Folder) -> Result<Self, Error> {
        let path = folder.path("keys/vkeys");
        let text = folder.disk.text_if_there(&path)?.ok_or_else(|| Error::damaged(&path, "it is missing"))?;
        Self::parse(&text).ok_or_else(|| Error::damaged(&path, "not lines of first, end, verifier key"))
    }

    fn parse(text: &str) -> Option<Self> {
        let lines = text.strip_suffix('\n')?.split('\n').map(|line| {
            let mut parts = line.splitn(3, ' ');
            let first = parts.next()?.parse().ok()?;
            let end = match parts.next()? {
                "-" => None,
                end => Some(end.parse().ok()?),
            };
            Some(KeyLine { first, end, vkey: parts.next()?.parse().ok()? })
        });
        let list = Self(lines.collect::<Option<_>>()?);
        // Some key signs from the beginning, and none is taken back before it began.
        let ordered =
            list.0.first()?.first == 0 && list.0.iter().all(|line| line.end.is_none_or(|end| end >= line.first));
        (ordered && list.to_text() == text).then_some(list)
    }

    pub(crate) fn write(&self, folder: &Folder) -> Result<(), Error> {
        folder.disk.write_durably(&folder.path("keys/vkeys"), self.to_text().as_bytes())
    }

    pub(crate) fn to_text(&self) -> String {
        self.0.iter().fold(String::new(), |mut out, line| {
            let end = line.end.map_or_else(|| "-".to_owned(), |end| end.to_string());
            let _ = writeln!(out, "{} {end} {}", line.first, line.vkey);
            out
        })
    }

    /// Keys of this origin that are in use.
    pub(crate) fn signing(&self, origin: &str) -> impl Iterator<Item = &Vkey> {
        self.0.iter().filter(move |line| line.vkey.name() == origin && line.end.is_none()).map(|line| &line.vkey)
    }

    /// Refuses a folder without the secret of any key, before anything is done to it: a restored backup.
    pub(crate) fn check_secrets(&self, folder: &Folder, origin: &str) -> Result<(), Error> {
        let there = folder.disk.list(&folder.path("keys"))?;
        let ours = self.0.iter().filter(|line| line.vkey.name() == origin);
        let secrets: Vec<PathBuf> = ours.map(|line| folder.path(secret_path(&line.vkey))).collect();
        match secrets.last() {
            Some(path) if !secrets.iter().any(|secret| there.iter().any(|name| secret.ends_with(name))) => {
                Err(Error::NoSigningKey { path: path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Takes back what a key change that was cut off has left: its numbers are above the number of entries, because its entry
    /// never came on disk. Gives the keys that are gone with it.
    pub(crate) fn take_back(&mut self, origin: &str, size: u64) -> Vec<Vkey> {
        let mut gone = Vec::new();
        self.0.retain_mut(|line| {
            if line.vkey.name() != origin {
                return true;
            }
            line.end.take_if(|end| *end > size);
            if line.first > size {
                gone.push(line.vkey.clone());
            }
            line.first <= size
        });
        gone
    }

    /// Keys of this origin that sign the checkpoint of this size.
    pub(crate) fn at(&self, origin: &str, size: u64) -> impl Iterator<Item = &Vkey> {
        self.0.iter().filter(move |line| line.vkey.name() == origin && line.covers(size)).map(|line| &line.vkey)
    }
}

/// The secret keys, to sign with.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) origin: String,
    pub(crate) list: KeyList,
    keys: Vec<Skey>,
}

impl Signer {
    /// Makes a key for a new origin from size `first` on, and writes it. Older keys end there.
    pub(crate) fn create(folder: &Folder, origin: &str, first: u64, mut list: KeyList) -> Result<Self, Error> {
        let key = new_key(origin)?;
        for line in &mut list.0 {
            // A second rollback can go back behind the first one.
            line.end.get_or_insert(first.max(line.first));
        }
        list.0.push(KeyLine { first, end: None, vkey: key.vkey().clone() });
        folder.disk.make_dirs(&folder.path("keys"))?;
        write_secret(folder, &key)?;
        list.write(folder)?;
        Ok(Self { origin: origin.to_owned(), list, keys: vec![key] })
    }

    /// The secrets of all keys in use, for a log of `size` entries. What a cut-off key change has left is taken back first, and
    /// secrets of keys that have ended are removed.
    pub(crate) fn open(folder: &Folder, origin: &str, mut list: KeyList, size: u64) -> Result<Self, Error> {
        let before = list.clone();
        for vkey in list.take_back(origin, size) {
            folder.disk.remove(&folder.path(secret_path(&vkey)))?;
        }
        if list != before {
            folder.disk.sync_dir(&folder.path("keys"))?;
            list.write(folder)?;
        }
        let mut keys = Vec::new();
        for vkey in list.signing(origin) {
            let path = folder.path(secret_path(vkey));
            let text = folder.disk.text_if_there(&path)?.ok_or_else(|| Error::NoSigningKey { path: path.clone() })?;
            let key = Skey::parse(&text)?;
            if key.vkey() != vkey {
                return Err(Error::damaged(&path, "it is not the secret of the key in keys/vkeys"));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(Error::damaged(&folder.path("keys/vkeys"), format!("no key in use for the origin `{origin}`")));
        }
        let signer = Self { origin: origin.to_owned(), list, keys };
        signer.forget_ended(folder)?;
        Ok(signer)
    }

    /// Removes the secrets of keys that have ended: nobody may sign with them again.
    pub(crate) fn forget_ended(&self, folder: &Folder) -> Result<(), Error> {
        let keys = folder.path("keys");
        let there = folder.disk.list(&keys)?;
        let ended =
            self.list.0.iter().filter(|line| line.end.is_some()).map(|line| folder.path(secret_path(&line.vkey)));
        let mut removed = false;
        for path in ended.filter(|path| there.iter().any(|name| path.ends_with(name))) {
            folder.disk.remove(&path)?;
            removed = true;
        }
        if removed { folder.disk.sync_dir(&keys) } else { Ok(()) }
    }

    /// This signer after a key change: `added` signs from size `at` on, and `ended` do not from there on.
    pub(crate) fn changed(&self, added: Option<Skey>, ended: &[Vkey], at: u64) -> Self {
        let mut after = self.clone();
        for line in after.list.0.iter_mut().filter(|line| ended.contains(&line.vkey)) {
            line.end = Some(at);
        }
        after.keys.retain(|key| !ended.contains(key.vkey()));
        if let Some(key) = added {
            after.list.0.push(KeyLine { first: at, end: None, vkey: key.vkey().clone() });
            after.keys.push(key);
        }
        after
    }

    /// The keys in use, oldest first.
    pub(crate) fn in_use(&self) -> Vec<Vkey> {
        self.keys.iter().map(|key| key.vkey().clone()).collect()
    }

    pub(crate) fn sign(&self, checkpoint: &Checkpoint) -> String {
        let signs = |key: &&Skey| self.list.at(&self.origin, checkpoint.size).any(|vkey| vkey == key.vkey());
        checkpoint.sign(self.keys.iter().filter(signs))
    }
}

/// Draws a key for this origin.
pub(crate) fn new_key(origin: &str) -> Result<Skey, Error> {
    let mut seed = [0; 32];
    random(&mut seed)?;
    Ok(Skey::from_seed(origin, &seed))
}

pub(crate) fn write_secret(folder: &Folder, key: &Skey) -> Result<(), Error> {
    folder.disk.write_secret(&folder.path(secret_path(key.vkey())), key.to_text().as_bytes())
}

/// Where the secret of this key lies, below the ledger's folder.
pub(crate) fn secret_path(vkey: &Vkey) -> PathBuf {
    PathBuf::from(format!("keys/{:08x}.skey", vkey.id()))
}

/// The content of `head`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) note: String,
    pub(crate) synced: u64,
    pub(crate) stored: u64,
}

impl Head {
    pub(crate) fn to_text(&self) -> String {
        let start = format!(
            "counterfoil-head/1\nsealed {}\nsynced {}\nstored {}\n",
            self.checkpoint.size, self.synced, self.stored
        );
        let rest = format!("\n{}", self.note);
        let crc = crc32c::crc32c_append(crc32c::crc32c(start.as_bytes()), rest.as_bytes());
        format!("{start}crc {crc:08x}\n{rest}")
    }

    /// Reads and verifies `head` against the keys of the folder.
    pub(crate) fn read(folder: &Folder, origin: &str, keys: &KeyList) -> Result<Self, Error> {
        let path = &folder.head;
        let text = folder.disk.text_if_there(path)?.ok_or_else(|| Error::HeadMissing { path: path.clone() })?;
        let head = Self::parse(&text, origin, keys).map_err(|detail| Error::damaged(path, detail))?;
        if head.to_text() == text { Ok(head) } else { Err(Error::damaged(path, "its CRC or a number is wrong")) }
    }

    fn parse(text: &str, origin: &str, keys: &KeyList) -> Result<Self, String> {
        let (start, note) = text.split_once("\n\n").ok_or("no empty line")?;
        let mut lines = start.lines();
        if lines.next() != Some("counterfoil-head/1") {
            return Err("not a head file of version 1".to_owned());
        }
        let mut number = |word: &str| -> Option<u64> { lines.next()?.strip_prefix(word)?.parse().ok() };
        let (Some(sealed), Some(synced), Some(stored)) = (number("sealed "), number("synced "), number("stored "))
        else {
            return Err("not the lines sealed, synced, stored".to_owned());
        };
        let checkpoint = Checkpoint::verify(note, keys.at(origin, sealed)).map_err(|error| error.to_string())?;
        if checkpoint.size != sealed || synced > sealed || stored > synced {
            return Err("its sizes contradict each other".to_owned());
        }
        Ok(Self { checkpoint, note: note.to_owned(), synced, stored })
    }

    /// Replaces what is there, which must be `before`: the text that this process has written last.
    pub(crate) fn replace(&self, folder: &Folder, before: Option<&str>) -> Result<String, Error> {
        let there = folder.disk.text_if_there(&folder.head)?;
        if there.as_deref() != before {
            return Err(Error::damaged(&folder.head, "another program has changed it while this one had the lock"));
        }
        let text = self.to_text();
        folder.disk.write_durably(&folder.head, text.as_bytes())?;
        Ok(text)
    }
}

/// Sources and how far each has been read.
pub(crate) type Positions = BTreeMap<String, String>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PositionLine {
    source: String,
    position: String,
}

/// The bytes of `positions`.
pub(crate) fn positions_text(through: u64, positions: &Positions) -> String {
    let mut text = format!("counterfoil-positions/1\nthrough {through}\n");
    for (source, position) in positions {
        let line = PositionLine { source: source.clone(), position: position.clone() };
        text.push_str(&serde_json::to_string(&line).expect("two strings have a JSON form"));
        text.push('\n');
    }
    let crc = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "crc {crc:08x}");
    text
}

/// Reads `positions`; a folder without it has none yet.
pub(crate) fn read_positions(folder: &Folder) -> Result<(u64, Positions), Error> {
    let path = folder.path("positions");
    let Some(text) = folder.disk.text_if_there(&path)? else { return Ok((0, Positions::new())) };
    let parse = || {
        let mut lines = text.lines();
        let through = lines.nth(1)?.strip_prefix("through ")?.parse().ok()?;
        let positions = lines
            .filter(|line| line.starts_with('{'))
            .map(|line| serde_json::from_str(line).ok().map(|line: PositionLine| (line.source, line.position)))
            .collect::<Option<Positions>>()?;
        // Written again it must be the same bytes: this checks the CRC and everything else at once.
        (positions_text(through, &positions) == text).then_some((through, positions))
    };
    parse().ok_or_else(|| Error::damaged(&path, "its CRC or a line is wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_comes_back_and_every_flipped_bit_is_seen() {
        let key = Skey::from_seed("log.example/a", &[7; 32]);
        let list = KeyList(vec![KeyLine { first: 0, end: None, vkey: key.vkey().clone() }]);
        let checkpoint = Checkpoint { origin: "log.example/a".to_owned(), size: 4711, root: [9; 32] };
        let head = Head { note: checkpoint.sign([&key]), checkpoint, synced: 4500, stored: 4200 };
        let text = head.to_text();
        let read = |text: &str| Head::parse(text, "log.example/a", &list).ok().filter(|head| head.to_text() == text);
        assert_eq!(read(&text), Some(head));
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(text) = String::from_utf8(bytes) {
                assert_eq!(read(&text), None, "bit {bit}");
            }
        }
    }

    #[test]
    fn two_keys_sign_while_they_overlap() {
        let (old, new) = (Skey::from_seed("log", &[1; 32]), Skey::from_seed("log", &[2; 32]));
        let text = format!("0 20 {}\n10 - {}\n", old.vkey(), new.vkey());
        let list = KeyList::parse(&text).unwrap();
        assert_eq!(list.to_text(), text);
        let ids = |size| list.at("log", size).map(Vkey::id).collect::<Vec<_>>();
        assert_eq!(ids(9), [old.vkey().id()]);
        assert_eq!(ids(10), [old.vkey().id(), new.vkey().id()]);
        assert_eq!(ids(20), [new.vkey().id()]);
        assert!(KeyList::parse("0 - nonsense\n").is_none());
    }

    #[test]
    fn numbers_above_the_entries_are_taken_back() {
        let (old, new) = (Skey::from_seed("log", &[1; 32]), Skey::from_seed("log", &[2; 32]));
        let earlier = Skey::from_seed("earlier", &[3; 32]);
        let text = format!("0 90 {}\n0 11 {}\n11 - {}\n", earlier.vkey(), old.vkey(), new.vkey());
        let list = KeyList::parse(&text).unwrap();
        let mut cut_off = list.clone();
        assert_eq!(cut_off.take_back("log", 10), [new.vkey().clone()]);
        assert_eq!(cut_off.to_text(), format!("0 90 {}\n0 - {}\n", earlier.vkey(), old.vkey()));
        let mut done = list.clone();
        assert_eq!(done.take_back("log", 11), []);
        assert_eq!(done, list);
    }
}
