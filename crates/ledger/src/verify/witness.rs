//! What witnesses say about the checkpoints that are here.

use super::{Check, Outcome, Trouble, Witnessed};
use crate::note::{Checkpoint, Vkey};
use crate::policy::Policy;
use std::path::{Path, PathBuf};

impl Check {
    /// The newest cosigned checkpoint that the owner has kept beside the ledger (docs/formats/folder.md).
    pub(super) fn cosigned(&mut self) -> Option<(PathBuf, String)> {
        let path = self.folder.dir.parent().unwrap_or(&self.folder.dir).join("published/cosigned");
        match self.folder.disk.text_if_there(&path) {
            Ok(note) => note.map(|note| (path, note)),
            Err(error) => {
                self.report.error(&path, None, &error);
                None
            }
        }
    }

    /// Looks among these checkpoints for the newest one that the quorum has cosigned. A cosignature that is wrong refutes;
    /// one that is not here only leaves the question open, since it can be elsewhere.
    pub(super) fn witnesses(&mut self, policy: &Policy, notes: &[(PathBuf, String)], keys: &[Vkey]) {
        let mut short = Vec::new();
        for (path, note) in notes {
            // A checkpoint whose own signature does not hold has been reported.
            let Ok(checkpoint) = Checkpoint::verify(note, keys) else { continue };
            match policy.check(note) {
                Err(error) => self.report.refute(path, None, error.to_string()),
                Ok(found) if found.quorum => {
                    let better = self.report.witnessed.as_ref().is_none_or(|known| known.size < checkpoint.size);
                    if better {
                        self.report.witnessed = Some(Witnessed { size: checkpoint.size, by: found.by });
                    }
                }
                Ok(found) => {
                    let names: Vec<&str> = found.by.iter().map(|(name, _)| name.as_str()).collect();
                    let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
                    short.push(format!("{} of size {} has been cosigned by {names}", path.display(), checkpoint.size));
                }
            }
        }
        if self.report.witnessed.is_none() {
            self.report.troubles.push(Trouble {
                outcome: Outcome::CouldNotCheck,
                path: Path::new("--policy").to_owned(),
                detail: format!("no checkpoint here has the quorum: {}", short.join("; ")),
                entry: None,
            });
        }
    }
}
