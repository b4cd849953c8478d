//! The erasable table: what a person's reference stands for. The only place outside payloads where a name is kept.
//!
//! One file, `people/table.jsonl`, a line per person, appended when somebody is first seen. It is derived data as far
//! as a crash goes: a line lost with the power comes back when its payload is read again. Erasing a person means
//! dropping the line; every proof still holds, since leaves carry the keyed reference only.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context as _, Result};
use model::identity::PersonRef;
use serde::{Deserialize, Serialize};

/// The table, in memory and on disk.
#[derive(Debug)]
pub struct People {
    path: PathBuf,
    state: Mutex<State>,
}

/// Its file in the data folder.
pub const FILE: &str = "people/table.jsonl";

#[derive(Debug)]
struct State {
    names: BTreeMap<PersonRef, String>,
    file: Option<File>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    person: PersonRef,
    name: String,
}

impl People {
    /// Most persons kept in the table; beyond it new ones stay in payloads only.
    pub const MAX: usize = 200_000;

    /// Reads the table of a data folder; an absent one is empty.
    pub fn open(data: &Path) -> Result<Self> {
        let path = data.join(FILE);
        let mut names = BTreeMap::new();
        match fs::read_to_string(&path) {
            Ok(text) => {
                // A torn last line (power cut) is no person.
                let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
                names.extend(lines.map(|line| (line.person, line.name)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        }
        Ok(Self { path, state: Mutex::new(State { names, file: None }) })
    }

    /// Notes persons just seen. An error concerns the table only; the evidence is in the ledger.
    pub fn note(&self, seen: Vec<(PersonRef, String)>) -> Result<()> {
        if seen.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (person, name) in seen {
            if state.names.contains_key(&person) || state.names.len() >= Self::MAX {
                continue;
            }
            let mut line = serde_json::to_vec(&Line { person: person.clone(), name: name.clone() })?;
            line.push(b'\n');
            self.append(&mut state, &line).with_context(|| format!("append to {}", self.path.display()))?;
            state.names.insert(person, name);
        }
        Ok(())
    }

    fn append(&self, state: &mut State, line: &[u8]) -> std::io::Result<()> {
        if state.file.is_none() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut options = OpenOptions::new();
            options.create(true).append(true);
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            state.file = Some(options.open(&self.path)?);
        }
        state.file.as_mut().map_or(Ok(()), |file| file.write_all(line))
    }

    /// The name behind a reference; `None` when it was erased or never noted.
    pub fn name(&self, person: &PersonRef) -> Option<String> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).names.get(person).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persons_are_kept_once_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let alice = (PersonRef("p-1".into()), "alice@example.com".to_owned());
        let people = People::open(dir.path()).unwrap();
        people.note(vec![alice.clone(), alice.clone()]).unwrap();
        let table = fs::read_to_string(dir.path().join("people/table.jsonl")).unwrap();
        assert_eq!(table.lines().count(), 1);
        let again = People::open(dir.path()).unwrap();
        assert_eq!(again.name(&alice.0), Some("alice@example.com".into()));
        assert_eq!(again.name(&PersonRef("p-2".into())), None);
    }
}
