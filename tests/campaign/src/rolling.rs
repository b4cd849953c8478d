//! Rolling restarts under Tekton's own retries: the old process is asked to end, the new one is started at once on the same
//! addresses and data.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::{
    book::{Book, read_back},
    honest::{Senders, Tally, words},
    http,
    server::Setup,
    table::Table,
};

/// How hard.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Restarts.
    pub restarts: u64,
    /// Senders at once.
    pub senders: u64,
    /// Events kept between two restarts.
    pub events: u64,
    /// Bytes of an event.
    pub event_bytes: usize,
}

/// What happened.
#[derive(Debug)]
pub struct Rolled {
    /// Restarts.
    pub restarts: u64,
    /// Deliveries.
    pub tally: Tally,
    /// From asking the old process to end until it had, the longest.
    pub ending: Duration,
    /// Events read back by value.
    pub same: u64,
}

impl Rolled {
    /// As a table.
    pub fn table(&mut self) -> Table {
        let mut table = Table::new("rolling restarts under Tekton's retries");
        table.row("restarts", self.restarts);
        table.row("events kept", self.tally.kept);
        table.row("events given up", words(&self.tally.lost));
        table.row("read back by value", self.same);
        table.row("attempts that failed", self.tally.failures());
        table.row(
            "slowest delivery (Tekton gives up after 20,460 ms)",
            format!("{} ms", self.tally.percentile(1000).as_millis()),
        );
        table.row("old process, asked to gone, longest", format!("{} ms", self.ending.as_millis()));
        table
    }
}

/// Runs the campaign in `folder`.
pub async fn run(program: &Path, folder: &Path, plan: &Plan) -> Result<Rolled> {
    let settings = "ledger.segment_bytes = 16777216\nledger.reserve_bytes = 65536\nledger.pause_below_percent = 0\n";
    let setup = Setup::new(program, folder, settings)?;
    let book = Arc::new(Book::default());
    let mut old = setup.serve().await?;
    let senders = Senders::start(setup.intake, &book, plan.senders, plan.event_bytes, "rolling");
    let mut ending = Duration::ZERO;
    for restart in 0..=plan.restarts {
        let (began, before) = (Instant::now(), senders.kept());
        while senders.kept() < before + plan.events {
            ensure!(began.elapsed() < 2 * http::PATIENCE, "nothing is kept after restart {restart}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if restart < plan.restarts {
            let asked = Instant::now();
            old.terminate()?;
            let new = setup.start()?;
            old.end().await?;
            ending = ending.max(asked.elapsed());
            old = new;
        }
    }
    let tally = senders.stop().await?;
    old.terminate()?;
    old.end().await?;
    setup.verify(None)?;
    let found = read_back(&setup.data(), &book)?;
    ensure!(found.whole(), "lost {:?}, changed {:?}", found.lost, found.changed);
    Ok(Rolled { restarts: plan.restarts, tally, ending, same: found.same })
}
