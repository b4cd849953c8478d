//! `doctor`: what each source can and cannot show.

use super::{DoctorAnswer, View};
use crate::{problem::Problem, publish::outside::Witnessing, selfcheck, sources};

/// A line per source.
pub fn answer(view: &View) -> Result<DoctorAnswer, Problem> {
    let through = view.through();
    let known = view.progress.known();
    let free_bytes = rustix::fs::statvfs(&view.ledger).ok().map(|s| s.f_bavail.saturating_mul(s.f_frsize));
    let sealed = view.log.sealed();
    if let Some(outside) = &view.outside {
        outside.newest(sealed, through.asked_at);
    }
    Ok(DoctorAnswer {
        sources: known.sources.iter().map(|(source, seen)| sources::coverage(&known.sources, source, seen)).collect(),
        sealed,
        origin: view.log.origin(),
        selfcheck: view.ledger.parent().and_then(selfcheck::State::read),
        free_bytes,
        witness: view.outside.as_ref().map_or(Witnessing::Unknown, |outside| outside.witnessing(through.asked_at)),
        published: view.outside.as_ref().map_or_else(Vec::new, |outside| outside.places(through.asked_at)),
        through,
    })
}
