//! Retention: which payloads have outlived their class's time, and their removal. Entries stay for ever; only the raw input
//! behind them goes, a whole UTC day of one class at a time (docs/formats/payload.md, "Pruning").

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use ledger::{Ledger, PayloadDay, Prune, Reader};
use model::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::keep::{Keep, Retention},
    own,
    serve::Serving,
};

/// So often a server applies retention, after the first time at its start.
pub const PERIOD: std::time::Duration = std::time::Duration::from_hours(1);

/// What retention does to one class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClassPlan {
    /// Retention class.
    pub class: String,
    /// Days that it is kept; absent when it is kept for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u32>,
    /// A legal hold: nothing goes, whatever its age.
    pub hold: bool,
    /// The last UTC day that goes; absent when nothing is ever to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// What would go, or has gone.
    pub goes: Amount,
    /// What stays.
    pub stays: Amount,
    /// The entry that says so, once it was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned_by: Option<u64>,
}

/// So much of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Amount {
    /// UTC days.
    pub days: u64,
    /// Payloads.
    pub payloads: u64,
    /// Their bytes, as they were received.
    pub bytes: u64,
    /// Bytes of the block files.
    pub disk_bytes: u64,
    /// The first of the days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_day: Option<String>,
    /// The last of the days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_day: Option<String>,
    /// Entry of the oldest append.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_entry: Option<u64>,
    /// Entry of the newest append.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_entry: Option<u64>,
    /// Block files that cannot be read: damage, which stays.
    pub unreadable: u64,
}

impl Amount {
    fn add(&mut self, day: &PayloadDay) {
        self.days += 1;
        self.payloads += day.payloads;
        self.bytes += day.bytes;
        self.disk_bytes += day.disk_bytes;
        self.unreadable += day.unreadable;
        self.oldest_day = self.oldest_day.take().into_iter().chain(Some(day.day.clone())).min();
        self.newest_day = self.newest_day.take().max(Some(day.day.clone()));
        self.oldest_entry = self.oldest_entry.into_iter().chain(day.first).min();
        self.newest_entry = self.newest_entry.max(day.last);
    }
}

/// `counterfoil retention`: what goes and what stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// As of when ages are counted.
    pub at: Time,
    /// Whether it was done; otherwise this is what would be done.
    pub applied: bool,
    /// A line per class.
    pub classes: Vec<ClassPlan>,
}

/// The last day that goes: one that ended at least so many whole days ago.
fn through(keep: Keep, hold: bool, now: Time) -> Option<String> {
    let days = keep.days().filter(|_| !hold)?;
    let last = now.plus_seconds(-86_400 * (i64::from(days) + 1));
    last.to_string().get(..10).map(str::to_owned)
}

/// What retention would do to these days of payloads. Classes that it does not know stay.
pub fn plan(retention: &Retention, days: &[PayloadDay], now: Time) -> Plan {
    let mut classes: Vec<ClassPlan> = retention
        .classes()
        .into_iter()
        .map(|(class, rule)| ClassPlan {
            class: class.to_owned(),
            keep_days: rule.keep_days.days(),
            hold: rule.hold,
            through: through(rule.keep_days, rule.hold, now),
            goes: Amount::default(),
            stays: Amount::default(),
            pruned_by: None,
        })
        .collect();
    for day in days {
        if !classes.iter().any(|class| class.class == day.class) {
            classes.push(ClassPlan {
                class: day.class.clone(),
                keep_days: None,
                hold: false,
                through: None,
                goes: Amount::default(),
                stays: Amount::default(),
                pruned_by: None,
            });
        }
        for class in classes.iter_mut().filter(|class| class.class == day.class) {
            let old = class.through.as_ref().is_some_and(|through| day.day <= *through) && day.payloads > 0;
            if old { class.goes.add(day) } else { class.stays.add(day) }
        }
    }
    Plan { at: now, applied: false, classes }
}

/// The plan for a folder, without its lock.
pub fn dry_run(retention: &Retention, data: &Path, now: Time) -> Result<Plan> {
    let reader = Reader::open(data).with_context(|| format!("read {}", data.display()))?;
    let days = reader.payload_days().with_context(|| format!("read the payload blocks of {}", data.display()))?;
    Ok(plan(retention, &days, now))
}

/// Does it, class by class. `go_on` is asked between steps; told to stop, the rest goes the next time.
pub fn apply(retention: &Retention, ledger: &Ledger, now: Time, go_on: &dyn Fn() -> bool) -> Result<Plan> {
    let mut plan = plan(retention, &ledger.payload_days().context("read the payload blocks")?, now);
    for class in &mut plan.classes {
        let Some(through) = class.through.clone().filter(|_| class.goes.payloads > 0) else { continue };
        let prune = Prune { class: class.class.clone(), through };
        let done = ledger
            .prune(&prune, |days| own::prune_body(&prune, days), go_on)
            .with_context(|| format!("prune the payloads of class {} through {}", prune.class, prune.through))?;
        class.pruned_by = done.by;
        if done.stopped {
            return Ok(plan);
        }
        class.goes.payloads = done.payloads;
        class.goes.disk_bytes = done.disk_bytes;
    }
    plan.applied = true;
    Ok(plan)
}

/// Who does it when a server has the folder: the reason why `--apply` does not.
pub fn left_to_server(data: &Path) -> String {
    let who = Serving::read(data).map_or_else(String::new, |serving| format!(" (pid {})", serving.pid));
    format!(
        "another process{who} has the ledger in {} open. A server applies retention by itself, when it starts and then \
         every hour, with the settings it was started with; to do it now, stop it first",
        data.display()
    )
}

/// For people.
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    for class in &plan.classes {
        let rule = match (class.hold, class.keep_days) {
            (true, _) => "on hold: nothing goes".to_owned(),
            (false, None) => "kept for ever".to_owned(),
            (false, Some(days)) => format!(
                "kept {days} days: goes what was recorded up to {}",
                class.through.as_deref().unwrap_or_default()
            ),
        };
        let _ = writeln!(out, "{}  {rule}", class.class);
        let word = if plan.applied { "gone" } else { "would go" };
        amount(&mut out, word, &class.goes);
        amount(&mut out, "stays", &class.stays);
        if let Some(by) = class.pruned_by {
            let _ = writeln!(out, "  as entry    #{by} says");
        }
    }
    let end = match (plan.applied, plan.classes.iter().any(|class| class.goes.payloads > 0)) {
        (true, _) => "done. Every entry stays and is proved as before; only raw input is gone.",
        (false, true) => "nothing was changed. `counterfoil retention --apply` does it; a server does it by itself.",
        (false, false) => "nothing is old enough to go.",
    };
    out.push_str(end);
    out
}

fn amount(out: &mut String, word: &str, of: &Amount) {
    if of.days == 0 {
        let _ = writeln!(out, "  {word:<10}  nothing");
        return;
    }
    let day = |day: &Option<String>| day.clone().unwrap_or_default();
    let entry = |entry: Option<u64>| entry.map_or_else(|| "?".to_owned(), |entry| format!("#{entry}"));
    let _ = write!(
        out,
        "  {word:<10}  {} payloads of {} days ({} to {}), {} bytes, {} on disk, entries {} to {}",
        of.payloads,
        of.days,
        day(&of.oldest_day),
        day(&of.newest_day),
        of.bytes,
        of.disk_bytes,
        entry(of.oldest_entry),
        entry(of.newest_entry)
    );
    if of.unreadable > 0 {
        let _ = write!(out, "; {} block files cannot be read, `counterfoil verify` says why", of.unreadable);
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keep::ClassRetention;

    fn day(class: &str, day: &str, first: u64) -> PayloadDay {
        PayloadDay {
            class: class.into(),
            day: day.into(),
            blocks: 1,
            unreadable: 0,
            payloads: 2,
            bytes: 100,
            disk_bytes: 20,
            first: Some(first),
            last: Some(first + 9),
        }
    }

    #[test]
    fn a_day_goes_when_all_of_it_is_older_than_its_class_is_kept() {
        let now: Time = "2026-11-24T23:59:59Z".parse().unwrap();
        let mut retention = Retention::default();
        let days = [
            day("events", "2025-10-19", 0),
            day("events", "2025-10-20", 10),
            day("lines", "2026-11-16", 20),
            day("lines", "2026-11-17", 30),
            day("other", "2001-01-01", 40),
        ];
        let goes = |retention: &Retention| -> Vec<(String, u64, u64)> {
            let plan = plan(retention, &days, now);
            plan.classes.iter().map(|c| (c.class.clone(), c.goes.payloads, c.stays.payloads)).collect()
        };
        let of = |events, lines| {
            [
                ("events".to_owned(), events, 4 - events),
                ("lines".to_owned(), lines, 4 - lines),
                ("other".to_owned(), 0, 2),
            ]
        };
        assert_eq!(goes(&retention), of(2, 2));
        let plan = plan(&retention, &days, now);
        assert_eq!(plan.classes[1].through.as_deref(), Some("2026-11-16"));
        assert_eq!((plan.classes[1].goes.oldest_entry, plan.classes[1].stays.newest_entry), (Some(20), Some(39)));
        retention.events.hold = true;
        assert_eq!(goes(&retention), of(0, 2));
        retention = Retention { lines: ClassRetention { keep_days: Keep::OFF, hold: false }, ..Retention::default() };
        assert_eq!(goes(&retention), of(2, 0));
    }
}
