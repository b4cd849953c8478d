//! Payloads of earlier days, laid into a ledger before its first life: what retention has to remove while the campaign goes on.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use ledger::{Append, Clock, Config, Lane, Ledger, ManualClock, Payload};
use serde_json::json;

use crate::{book::Book, event, rng::Rng};

const DAY: Duration = Duration::from_hours(24);

/// Payloads of each class and day.
const A_DAY: u64 = 4;

/// The class that retention removes; of the same days, payloads of another class stay.
pub const GOES: &str = "lines";

/// Lives with the same retention: a short one gets no further than the entry that says what goes, and those after it find that
/// entry and remove the files.
const STEP: u64 = 4;

/// Days that [`GOES`] is kept in this life of so many, counted from 1.
pub fn keep_days(life: u64, lives: u64) -> u64 {
    lives + 1 - life / STEP * STEP
}

/// Days that it is kept at the end: whatever was laid in goes.
pub const KEEP_AT_LAST: u64 = 1;

/// What was laid in.
#[derive(Clone, Copy, Debug)]
pub struct LaidIn {
    /// Payloads that retention has to remove.
    pub to_prune: u64,
    /// Entries of the ledger before its first life.
    pub size: u64,
}

/// Lays in payloads of both classes on each of so many UTC days, of which the newest is over for a whole day. Their promises
/// are kept in the book.
pub fn lay_in(data: &Path, days: u64, book: &Book) -> Result<LaidIn> {
    let clock = Arc::new(ManualClock::default());
    let config = Config { clock: Clock::Manual(Arc::clone(&clock)), ..Config::new(data) };
    let ledger = Ledger::open(&config).context("open the ledger to lay in earlier days")?.ledger;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?;
    let mut rng = Rng::new(days);
    let ago = DAY * u32::try_from(days + 1).context("days")?;
    clock.set_wall(i64::try_from(now.saturating_sub(ago).as_micros()).context("the clock")?);
    for day in 1..=days {
        for n in 0..A_DAY {
            let id = format!("aged-{day}-{n}");
            let lines = event::lines(&mut rng, &id, 3);
            append(&ledger, book, GOES, "nginx-error", &lines, &lines)?;
            let body = event::task_run(&mut rng, &id, 4 << 10);
            let delivered = [format!("ce-id: {id}\n\n").as_bytes(), &body].concat();
            append(&ledger, book, "events", "cloudevents", &delivered, &body)?;
        }
        clock.advance(DAY);
    }
    // The ledger's own clock stands still from here until the first life: an entry of now says how old the others are.
    clock.advance(DAY);
    let body = event::lines(&mut rng, "aged-last", 3);
    append(&ledger, book, "events", "nginx-error", &body, &body)?;
    let size = ledger.size();
    ledger.close().context("close the ledger after earlier days were laid in")?;
    Ok(LaidIn { to_prune: days * A_DAY, size })
}

fn append(ledger: &Ledger, book: &Book, class: &str, kind: &str, bytes: &[u8], body: &[u8]) -> Result<()> {
    let payload = Payload::new(bytes.to_vec(), class, "identity").context("commit to a payload")?;
    let commitment = payload.reference().commit.clone();
    let leaf = json!({
        "v": 1,
        "source": {"cluster": "default", "kind": kind, "name": "aged"},
        "parser": "cloudevents/1",
        "observed_at": "2026-11-23T12:00:00Z",
        "submitter": {"by": "local"},
        "payload": payload.reference(),
        "fact": {"opaque": {"reason": "unknown_type", "head": ""}},
    });
    let bodies = vec![leaf.to_string().into_bytes()];
    let receipt = ledger
        .append_wait(Append { lane: Lane::Push, bodies, payload: Some(payload), position: None })
        .context("lay in a payload of an earlier day")?;
    book.note_committed(receipt.first, body, commitment)
}
