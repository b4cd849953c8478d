//! What a server does again and again for old data: retention and the self-check, each on a thread of its own.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use ledger::Ledger;

use super::behind_intake;
use crate::{config::Config, intake::now, metrics::Metrics, retention, selfcheck::Checker};

/// Waits, unless the end comes first.
fn pause(time: Duration, stop: &AtomicBool) {
    let until = Instant::now() + time;
    while !stop.load(Ordering::Acquire) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// Applies retention at the start and then every hour.
pub(super) fn retain(config: &Config, metrics: &Metrics, ledger: &Ledger, stop: &AtomicBool) {
    behind_intake();
    let go_on = || !stop.load(Ordering::Acquire);
    while go_on() {
        match retention::apply(&config.retention, ledger, now(), false, &go_on) {
            Ok(plan) => {
                for class in plan.classes.iter().filter(|class| class.waits.payloads > 0) {
                    let (class, waits) = (&class.class, class.waits.payloads);
                    tracing::warn!(
                        class,
                        waits,
                        "payloads are old by the wall clock, but the ledger has not been open for half of that time since: \
                         they stay; see `counterfoil retention`"
                    );
                }
                for class in plan.classes.iter().filter(|class| class.pruned_by.is_some()) {
                    let (class, goes, by) = (&class.class, &class.goes, class.pruned_by);
                    tracing::info!(
                        class,
                        payloads = goes.payloads,
                        disk_bytes = goes.disk_bytes,
                        by,
                        "payloads were pruned"
                    );
                    metrics.pruned.inc_by(goes.payloads);
                }
            }
            Err(error) => {
                metrics.trouble("retention");
                tracing::error!(error = format!("{error:#}"), "retention could not be applied; again in an hour");
            }
        }
        pause(retention::PERIOD, stop);
    }
}

/// Runs the self-check, round after round.
pub(super) fn selfcheck(mut checker: Checker, metrics: &Metrics, stop: &AtomicBool) {
    /// Before a step is tried again that could not be made.
    const AGAIN: Duration = Duration::from_mins(1);
    behind_intake();
    loop {
        pause(checker.wait(), stop);
        if stop.load(Ordering::Acquire) {
            return;
        }
        let paced = |time| {
            pause(time, stop);
            !stop.load(Ordering::Acquire)
        };
        if let Err(error) = checker.round(paced) {
            metrics.trouble("selfcheck");
            tracing::warn!(error = format!("{error:#}"), "the self-check could not go on; again in a minute");
            pause(AGAIN, stop);
        }
    }
}
