//! `why`: the failures of one identity, workload, edge or record, with what belongs to the same incident.

use model::{
    Record, Time,
    record::{Detail, RecordKind, Standing},
};

use super::{Found, View, WhyAnswer, search};
use crate::problem::Problem;

/// Records of one incident lie within this many seconds of each other.
const INCIDENT: i64 = 180;

/// Most failures of one answer.
const MOST: usize = 50;

/// Asks for the newest incident, or for the one at a moment.
pub fn answer(view: &View, what: &str, at: Option<Time>) -> Result<WhyAnswer, Problem> {
    let through = view.through();
    let what = what.trim();
    let (taken_for, query) = query(what);
    let mut failures = records(view, &format!("type:handshake.failed AND ({query})"), None)?;
    // The incident: what overlaps the moment asked for, or the newest failure.
    let moment = at.map(|at| (at, at)).or_else(|| failures.first().map(|newest| (newest.from, newest.to)));
    if let (Some((from, to)), true) = (moment, taken_for != "record") {
        let (from, to) = (from.plus_seconds(-INCIDENT), to.plus_seconds(INCIDENT));
        failures.retain(|record| record.to >= from && record.from <= to);
    }
    let window = failures.iter().map(|r| r.from).min().zip(failures.iter().map(|r| r.to).max());
    let window = window.map(|(from, to)| (from.plus_seconds(-INCIDENT), to));
    let stalled = match window {
        None => Vec::new(),
        Some(_) => records(view, "type:credential.stalled", window)?,
    };
    let blind = records(view, "type:source.blind", None)?;
    let blind = blind.into_iter().filter(|record| concerns(record, what, &failures)).collect();
    // What failed before or under the request comes before what only followed from it.
    failures.sort_by_key(|record| (rank(record), std::cmp::Reverse(record.to)));
    Ok(WhyAnswer { what: what.to_owned(), taken_for: taken_for.into(), failures, stalled, blind, through })
}

/// 0 for failures of TLS, policy and connections, 1 for answers of applications, which often follow from the former; a
/// cause that is not known comes after one that is.
pub(crate) fn rank(record: &Record) -> (u8, Option<Standing>) {
    let application = matches!(&record.detail, Detail::Handshake(detail) if detail.layer == "application");
    (u8::from(application), record.cause.as_ref().map(|cause| cause.standing))
}

/// A blind source belongs to the answer when it is named like what was asked, or like an end of a failure.
fn concerns(blind: &Record, what: &str, failures: &[Record]) -> bool {
    let Detail::Blind(detail) = &blind.detail else { return false };
    let name = detail.source.name.as_str();
    let alike = |end: &str| end.rsplit('/').next().is_some_and(|end| end.eq_ignore_ascii_case(name));
    what.split("->").map(str::trim).any(alike)
        || failures.iter().any(|record| match &record.detail {
            Detail::Handshake(failure) => {
                failure.source.cluster == detail.source.cluster
                    && (alike(&failure.from.name) || alike(&failure.to.name))
            }
            _ => false,
        })
}

/// What was asked, as a query.
fn query(what: &str) -> (&'static str, String) {
    let phrase = |text: &str| format!("\"{}\"", text.trim().replace('\\', "\\\\").replace('"', "\\\""));
    if what.starts_with("spiffe://") {
        return ("identity", format!("identity:{}", phrase(what)));
    }
    if let Some((from, to)) = what.split_once("->") {
        return ("edge", format!("from:{} AND to:{}", phrase(from), phrase(to)));
    }
    let id = what.rsplit('/').next().unwrap_or(what);
    let is_id = (4..=16).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if is_id && (what == id || what.starts_with("handshake.failed/")) {
        return ("record", format!("id:{id}"));
    }
    ("workload", format!("from:{0} OR to:{0}", phrase(what)))
}

fn records(view: &View, query: &str, window: Option<(Time, Time)>) -> Result<Vec<Record>, Problem> {
    let mut ask = search::Ask::all(query, MOST);
    if let Some((from, to)) = window {
        (ask.from, ask.to) = (Some(from), Some(to));
    }
    let found = search::answer(view, &ask)?;
    Ok(found
        .hits
        .into_iter()
        .filter_map(|hit| match hit {
            Found::Record(record) if RecordKind::ALL.contains(&record.kind) => Some(*record),
            _ => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_question() {
        assert_eq!(query("spiffe://a/ns/b/sa/c").0, "identity");
        assert_eq!(query("gateway -> ledger"), ("edge", "from:\"gateway\" AND to:\"ledger\"".into()));
        assert_eq!(query("7Q2M4XAB"), ("record", "id:7Q2M4XAB".into()));
        assert_eq!(query("shop/gateway"), ("workload", "from:\"shop/gateway\" OR to:\"shop/gateway\"".into()));
        assert_eq!(query("say \"hi\"").1, "from:\"say \\\"hi\\\"\" OR to:\"say \\\"hi\\\"\"");
    }
}
