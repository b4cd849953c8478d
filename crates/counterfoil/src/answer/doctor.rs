//! `doctor`: what each source can and cannot show.

use super::{DoctorAnswer, View};
use crate::{problem::Problem, selfcheck, sources};

/// A line per source.
pub fn answer(view: &View) -> Result<DoctorAnswer, Problem> {
    let through = view.through();
    let known = view.progress.known();
    let free_bytes = rustix::fs::statvfs(&view.ledger).ok().map(|s| s.f_bavail.saturating_mul(s.f_frsize));
    Ok(DoctorAnswer {
        sources: known.sources.iter().map(|(source, seen)| sources::coverage(&known.sources, source, seen)).collect(),
        sealed: view.log.sealed(),
        origin: view.log.origin(),
        selfcheck: view.ledger.parent().and_then(selfcheck::State::read),
        free_bytes,
        witnesses: Vec::new(),
        through,
    })
}
