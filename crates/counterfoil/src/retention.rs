//! Retention: which payloads have outlived their class's time, and their removal. Entries stay for ever; only the raw input
//! behind them goes, a whole UTC day of one class at a time (docs/formats/payload.md, "Pruning").

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use chrono::NaiveDate;
use ledger::{Ledger, PayloadDay, Prune, Reader, split_leaf};
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
    /// Old enough by the wall clock, not by [`OpenTime`]; it stays for now.
    pub waits: Amount,
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

/// For how long a ledger has been open since an entry was written. It counts on while a process has the ledger and cannot be
/// set, so a wall clock that is wrong makes nothing old: of its class's time, half has to have passed on this clock as well.
/// (Half, because a server may be down for long.)
pub struct OpenTime<'a> {
    entry: &'a dyn Fn(u64) -> Result<Option<Vec<u8>>, ledger::Error>,
    newest: u64,
}

impl<'a> OpenTime<'a> {
    /// As of the newest of `size` entries, each read by `entry`.
    pub fn of(size: u64, entry: &'a dyn Fn(u64) -> Result<Option<Vec<u8>>, ledger::Error>) -> Result<Self> {
        let mut open = Self { entry, newest: 0 };
        open.newest = size.checked_sub(1).map_or(Ok(0), |newest| open.tick(newest))?;
        Ok(open)
    }

    /// Milliseconds that the ledger had been open when an entry was written; of one that is not there, all of them.
    fn tick(&self, entry: u64) -> Result<u64> {
        let leaf = (self.entry)(entry).with_context(|| format!("read entry {entry}"))?;
        Ok(leaf.as_deref().and_then(split_leaf).map_or(self.newest, |(stamp, _)| stamp.tick))
    }

    /// Whether a day's newest payload is at least half so many days old.
    fn has_passed(&self, day: &PayloadDay, days: u32) -> Result<bool> {
        const DAY: u64 = 86_400_000;
        let Some(newest) = day.last else { return Ok(false) };
        Ok(self.newest.saturating_sub(self.tick(newest)?) >= u64::from(days) * DAY / 2)
    }
}

/// The last day that goes: one that ended at least so many whole days ago.
fn through(keep: Keep, hold: bool, now: Time) -> Option<String> {
    let days = keep.days().filter(|_| !hold)?;
    let last = now.plus_seconds(-86_400 * (i64::from(days) + 1));
    last.to_string().get(..10).map(str::to_owned)
}

/// What retention would do to these days of payloads, which are in order. Classes that it does not know stay. Without `open`
/// the wall clock is believed.
pub fn plan(retention: &Retention, days: &[PayloadDay], now: Time, open: Option<&OpenTime<'_>>) -> Result<Plan> {
    let class = |class: &str, keep_days, hold, through| ClassPlan {
        class: class.to_owned(),
        keep_days,
        hold,
        through,
        goes: Amount::default(),
        waits: Amount::default(),
        stays: Amount::default(),
        pruned_by: None,
    };
    let mut classes: Vec<ClassPlan> = retention
        .classes()
        .into_iter()
        .map(|(name, rule)| class(name, rule.keep_days.days(), rule.hold, through(rule.keep_days, rule.hold, now)))
        .collect();
    for day in days {
        if !classes.iter().any(|class| class.class == day.class) {
            classes.push(class(&day.class, None, false, None));
        }
        for class in classes.iter_mut().filter(|class| class.class == day.class) {
            let old = class.through.as_ref().is_some_and(|through| day.day <= *through) && day.payloads > 0;
            match open {
                _ if !old => class.stays.add(day),
                // What goes is all that is not younger than a day; so a day that waits holds those after it.
                Some(open) if class.waits.days > 0 || !open.has_passed(day, class.keep_days.unwrap_or(u32::MAX))? => {
                    class.waits.add(day);
                }
                _ => class.goes.add(day),
            }
        }
    }
    for class in classes.iter_mut().filter(|class| class.waits.days > 0) {
        let first = class.waits.oldest_day.as_deref().and_then(|day| day.parse::<NaiveDate>().ok());
        class.through = first.and_then(|day| day.pred_opt()).map(|day| day.to_string());
    }
    Ok(Plan { at: now, applied: false, classes })
}

/// The plan for a folder, without its lock.
pub fn dry_run(retention: &Retention, data: &Path, now: Time, believe_clock: bool) -> Result<Plan> {
    let reader = Reader::open(data).with_context(|| format!("read {}", data.display()))?;
    let days = reader.payload_days().with_context(|| format!("read the payload blocks of {}", data.display()))?;
    let entry = |index| reader.entry(index);
    let open = OpenTime::of(reader.size(), &entry)?;
    plan(retention, &days, now, Some(&open).filter(|_| !believe_clock))
}

/// Does it, class by class. `go_on` is asked between steps; told to stop, the rest goes the next time.
pub fn apply(
    retention: &Retention,
    ledger: &Ledger,
    now: Time,
    believe_clock: bool,
    go_on: &dyn Fn() -> bool,
) -> Result<Plan> {
    let days = ledger.payload_days().context("read the payload blocks")?;
    let entry = |index| ledger.entry(index);
    let open = OpenTime::of(ledger.size(), &entry)?;
    let mut plan = plan(retention, &days, now, Some(&open).filter(|_| !believe_clock))?;
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

/// What is said of payloads that are old by the wall clock only.
const WAITS: &str = "              old by the wall clock, but the ledger has not been open for half of that time since: if the clock \
                     is right,\n              `counterfoil retention --apply --clock-is-right` removes them\n";

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
        if class.waits.days > 0 {
            amount(&mut out, "waits", &class.waits);
            out.push_str(WAITS);
        }
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
            let plan = plan(retention, &days, now, None).unwrap();
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
        let plan = plan(&retention, &days, now, None).unwrap();
        assert_eq!(plan.classes[1].through.as_deref(), Some("2026-11-16"));
        assert_eq!((plan.classes[1].goes.oldest_entry, plan.classes[1].stays.newest_entry), (Some(20), Some(39)));
        retention.events.hold = true;
        assert_eq!(goes(&retention), of(0, 2));
        retention = Retention { lines: ClassRetention { keep_days: Keep::OFF, hold: false }, ..Retention::default() };
        assert_eq!(goes(&retention), of(2, 0));
    }

    #[test]
    fn a_clock_that_is_set_ahead_makes_nothing_old() {
        let retention = Retention::default();
        // Seven days are kept; the last entries of these days were written after so many days of open time.
        let days = [day("lines", "2026-11-10", 0), day("lines", "2026-11-12", 10), day("lines", "2026-11-14", 20)];
        let leaf = |entry: u64| {
            let hours = match entry {
                9 => 0,
                19 => 47,
                29 => 96,
                _ => 24 * 5,
            };
            let tick = hours * 3_600_000;
            format!(
                "{{\"recorded_at\":\"2026-11-10T00:00:00.000000Z\",\"tick\":{tick},\"append\":{entry},\"part\":[1,1]}}\n{{}}"
            )
        };
        let read = |entry| Ok(Some(leaf(entry).into_bytes()));
        let open = OpenTime::of(100, &read).unwrap();
        let lines = |now: &str, open| {
            let plan = plan(&retention, &days, now.parse().unwrap(), open).unwrap();
            let class = &plan.classes[1];
            (class.goes.payloads, class.waits.payloads, class.stays.payloads, class.through.clone())
        };
        let year = "2027-11-24T00:00:00Z";
        assert_eq!(lines(year, Some(&open)), (2, 4, 0, Some("2026-11-11".into())));
        assert_eq!(lines(year, None), (6, 0, 0, Some("2027-11-16".into())));
        // By both clocks.
        assert_eq!(lines("2026-11-18T00:00:00Z", Some(&open)), (2, 0, 4, Some("2026-11-10".into())));
        let text = text(&plan(&retention, &days, year.parse().unwrap(), Some(&open)).unwrap());
        assert!(text.contains("--clock-is-right") && text.contains("waits"), "{text}");
    }
}
