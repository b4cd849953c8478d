//! How far every source of this process is: what heartbeats report.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use model::{SourceId, Time, own::Watermark};

use crate::desk::Reached;

/// Most sources in one heartbeat; further ones are left out and counted by the caller.
const MAX: usize = 10_000;

/// One mark per source.
#[derive(Debug, Default)]
pub struct Watermarks(Mutex<BTreeMap<SourceId, Mark>>);

/// How far one source is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Where to go on, for followed files.
    pub position: Option<String>,
    /// Bytes not read yet, for followed files.
    pub behind: Option<u64>,
    /// Newest time seen in it.
    pub newest: Option<Time>,
    /// Everything written before this has been read.
    pub complete_to: Option<Time>,
}

impl Watermarks {
    /// Changes one source's mark. False when there are too many sources to keep another one.
    pub fn update(&self, source: &SourceId, change: impl FnOnce(&mut Mark)) -> bool {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = marks.get_mut(source) {
            change(mark);
            return true;
        }
        if marks.len() >= MAX {
            return false;
        }
        change(marks.entry(source.clone()).or_default());
        true
    }

    /// Moves a source on. False like [`Watermarks::update`].
    pub fn reach(&self, source: &SourceId, reached: Reached) -> bool {
        if reached.newest.is_none() && reached.complete_to.is_none() {
            return true;
        }
        self.update(source, |mark| {
            mark.newest = mark.newest.max(reached.newest);
            mark.complete_to = mark.complete_to.max(reached.complete_to);
        })
    }

    /// All marks, sorted by source.
    pub fn all(&self) -> Vec<Watermark> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks
            .iter()
            .map(|(source, mark)| Watermark {
                source: source.clone(),
                position: mark.position.clone(),
                behind: mark.behind,
                newest: mark.newest,
                complete_to: mark.complete_to,
            })
            .collect()
    }
}
