//! Changes of the log itself, made while nobody else has it open: its keys, and its version (docs/formats/folder.md).
//!
//! Each is an entry, and happens when that entry is on disk, not before: what was written for it earlier is taken back at the
//! next opening ([`KeyList::take_back`](crate::head::KeyList::take_back)), what is to be done after it is done at the latest
//! then. So all of them can be cut off anywhere and asked for again.

use crate::config::Config;
use crate::error::Error;
use crate::group::{GroupBuilder, PAGE, append_bytes};
use crate::head::{Signer, VERSION, new_key, write_secret};
use crate::journal;
use crate::leaf::{MAX_BODY, time_text};
use crate::ledger::{EndOfLog, Settled, settle};
use crate::notice::Notice;
use crate::seal::Store;

/// What a change of keys has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The log's name.
    pub origin: String,
    /// Size of the first checkpoint that is signed as below.
    pub size: u64,
    /// Verifier keys that sign from now on, oldest first.
    pub signing: Vec<String>,
    /// Verifier keys that ended with this change. Their secrets are removed.
    pub retired: Vec<String>,
}

/// Begins a new key. The old ones go on signing beside it until [`retire_key`]; with `retire_old` they end at once, which is for
/// a secret that others may know. `body` makes an entry's body of a notice: those of recovery, [`Notice::KeyAdded`], and a
/// [`Notice::KeyRetired`] for each key that ends.
///
/// # Errors
/// Those of [`crate::Ledger::open`]; [`Error::Older`] on a folder of version 1.
pub fn rotate_key(config: &Config, retire_old: bool, body: impl Fn(&Notice) -> Vec<u8>) -> Result<KeyChange, Error> {
    let settled = settle(config)?;
    needs(&settled, 2, "a key change")?;
    let key = new_key(&settled.signer.origin)?;
    let ended = if retire_old { settled.signer.in_use() } else { Vec::new() };
    let at = settled.size_after(1 + ended.len());
    let mut notices = vec![Notice::KeyAdded { vkey: key.vkey().to_string(), first: at }];
    notices.extend(ended.iter().map(|vkey| Notice::KeyRetired { vkey: vkey.to_string(), end: at }));
    let signer = settled.signer.changed(Some(key.clone()), &ended, at);
    signer.list.write(&settled.folder)?;
    write_secret(&settled.folder, &key)?;
    settled.change_keys(signer, &notices, body)
}

/// Ends all keys but the newest. `body` is called as by [`rotate_key`].
///
/// # Errors
/// Those of [`crate::Ledger::open`]; [`Error::OneKey`]; [`Error::Older`] on a folder of version 1.
pub fn retire_key(config: &Config, body: impl Fn(&Notice) -> Vec<u8>) -> Result<KeyChange, Error> {
    let settled = settle(config)?;
    needs(&settled, 2, "a key change")?;
    let mut ended = settled.signer.in_use();
    ended.pop();
    if ended.is_empty() {
        return Err(Error::OneKey { origin: settled.signer.origin });
    }
    let at = settled.size_after(ended.len());
    let notices: Vec<Notice> =
        ended.iter().map(|vkey| Notice::KeyRetired { vkey: vkey.to_string(), end: at }).collect();
    let signer = settled.signer.changed(None, &ended, at);
    signer.list.write(&settled.folder)?;
    settled.change_keys(signer, &notices, body)
}

/// Version of the folder's format, read without opening it.
///
/// # Errors
/// [`Error::NotALedger`]; [`Error::Newer`] for a version above [`VERSION`].
pub fn version(config: &Config) -> Result<u32, Error> {
    config.folder().check_format(true)
}

/// Brings the folder to the version of this program, [`VERSION`]: an entry that names both versions ([`Notice::Upgraded`]),
/// its checkpoint, then the file `format`. Programs that know older versions only refuse the folder from then on. Gives the
/// version that it had; nothing is done if that is the present one.
///
/// # Errors
/// Those of [`crate::Ledger::open`].
pub fn upgrade(config: &Config, body: impl Fn(&Notice) -> Vec<u8>) -> Result<u32, Error> {
    let from = version(config)?;
    if from == VERSION {
        return Ok(from);
    }
    let mut settled = settle(config)?;
    if settled.version == VERSION {
        return Ok(VERSION); // somebody else was first
    }
    settled.keep(&[Notice::Upgraded { from, to: VERSION }], body)?;
    settled.folder.write_format()?;
    Ok(from)
}

fn needs(settled: &Settled, needed: u32, what: &'static str) -> Result<(), Error> {
    let (path, version) = (settled.folder.path("format"), settled.version);
    if version < needed { Err(Error::Older { path, version, needed, what }) } else { Ok(()) }
}

impl Settled {
    /// Number of entries after `more` notices and those of recovery have become entries.
    fn size_after(&self, more: usize) -> u64 {
        self.tail.size + (self.notices.len() + more) as u64
    }

    fn change_keys(
        mut self,
        signer: Signer,
        notices: &[Notice],
        body: impl Fn(&Notice) -> Vec<u8>,
    ) -> Result<KeyChange, Error> {
        let before = self.signer.in_use();
        self.sealer.sign_with(signer.clone());
        self.keep(notices, body)?;
        signer.forget_ended(&self.folder)?;
        let signing = signer.in_use();
        let text = |vkey: &crate::note::Vkey| vkey.to_string();
        Ok(KeyChange {
            size: self.tail.size,
            retired: before.iter().filter(|vkey| !signing.contains(vkey)).map(text).collect(),
            signing: signing.iter().map(text).collect(),
            origin: signer.origin,
        })
    }

    /// Makes entries of the notices of recovery and of these, all in one group, and seals and stores everything.
    fn keep(&mut self, notices: &[Notice], body: impl Fn(&Notice) -> Vec<u8>) -> Result<(), Error> {
        let bodies: Vec<[Vec<u8>; 1]> =
            std::mem::take(&mut self.notices).iter().chain(notices).map(|notice| [body(notice)]).collect();
        if bodies.iter().any(|[body]| body.len() > MAX_BODY || body.contains(&b'\n')) {
            return Err(Error::damaged(
                &self.folder.dir,
                "the body made of a notice is no line of at most 65,400 bytes",
            ));
        }
        let capacity = bodies.iter().map(|body| append_bytes(body, None, None)).sum::<usize>() + 128 + PAGE;
        let (disk, journal) = (&self.folder.disk, self.folder.journal());
        let EndOfLog { size, generation, tick, .. } = self.tail;
        if self.active.at + capacity as u64 > self.active.len {
            // Nothing is in the new segment yet: a larger one takes its name.
            journal::make_spare(disk, &journal, (2 * capacity).next_multiple_of(PAGE) as u64)?;
            self.active = journal::begin(disk, &journal, size, generation)?;
        }
        let (now, tick) = (time_text(self.clock.wall()), tick + self.clock.millis());
        let mut builder =
            GroupBuilder::new(self.active.nonce, generation, size, 0, now, tick, Vec::with_capacity(capacity));
        for body in &bodies {
            builder.push(body, None, None);
        }
        let group = builder.finish();
        self.active.file.write_at(self.active.at, group.bytes())?;
        self.active.file.sync()?;
        self.tail.size = group.end();
        self.sealer.ingest(&group);
        self.sealer.sync(Store::All)
    }
}
