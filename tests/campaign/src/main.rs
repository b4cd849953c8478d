//! `cargo run -p campaign -- kill`, and the others.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use campaign::{attack, flood, hostile, http, kill, restart, rolling};
use clap::{Args, Parser, Subcommand};

/// Survival campaigns against a real `counterfoil`. Variables `COUNTERFOIL_…` of the environment reach it.
#[derive(Debug, Parser)]
struct Cli {
    /// The program [default: `counterfoil` beside this one].
    #[arg(long, global = true)]
    program: Option<PathBuf>,
    /// An empty folder to work in, which is kept [default: a temporary one].
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(Debug, Subcommand)]
enum Campaign {
    /// SIGKILL at random moments under load; nothing acknowledged is lost.
    Kill(Kill),
    /// Hostile senders beside honest ones; the honest are served, and memory stays within its budget.
    Hostile(Hostile),
    /// Rolling restarts under Tekton's retries; no event is given up.
    Rolling(Rolling),
    /// A restart of Tekton's controller; no attempt is refused.
    Flood(Flood),
    /// SIGKILL of a server that holds much; it accepts and answers again soon.
    Restart(Restart),
}

#[derive(Debug, Args)]
struct Rolling {
    /// Restarts.
    #[arg(long, default_value_t = 20)]
    restarts: u64,
    /// Senders at once.
    #[arg(long, default_value_t = 16)]
    senders: u64,
    /// Events kept between two restarts.
    #[arg(long, default_value_t = 2000)]
    events: u64,
}

#[derive(Debug, Args)]
struct Flood {
    /// Events.
    #[arg(long, default_value_t = 10_009)]
    events: u64,
    /// Sent evenly within so many milliseconds; 0: as fast as the loader can.
    #[arg(long, default_value_t = 2500)]
    within_ms: u64,
    /// Deliveries under way at once.
    #[arg(long, default_value_t = 10_009)]
    at_once: usize,
    /// Bytes of an event.
    #[arg(long, default_value_t = 14 << 10)]
    event_bytes: usize,
    /// Bytes of lines that are followed beside it.
    #[arg(long, default_value_t = 256 << 20)]
    followed_bytes: u64,
}

#[derive(Debug, Args)]
struct Restart {
    /// MiB of events received before.
    #[arg(long, default_value_t = 4096)]
    mib: u64,
    /// Senders at once.
    #[arg(long, default_value_t = 32)]
    senders: u64,
}

#[derive(Debug, Args)]
struct Hostile {
    /// Connections of each attack at once.
    #[arg(long, default_value_t = 5000)]
    connections: u64,
    /// Connections that the server may have.
    #[arg(long, default_value_t = 4096)]
    slots: u64,
    /// Its `intake.memory_bytes`.
    #[arg(long, default_value_t = 256 << 20)]
    memory_bytes: u64,
    /// Honest events that must be kept while each attack goes on.
    #[arg(long, default_value_t = 500)]
    events: u64,
    /// Each attack goes on for at least so many seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only the attack of this name.
    #[arg(long)]
    only: Option<String>,
}

#[derive(Debug, Args)]
struct Kill {
    /// Lives that end with SIGKILL.
    #[arg(long, default_value_t = 1000)]
    lives: u64,
    /// Every choice follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Senders at once; every fourth posts lines.
    #[arg(long, default_value_t = 16)]
    senders: u64,
    /// Longest time from the first 202 of a life to its end, in milliseconds.
    #[arg(long, default_value_t = 300)]
    longest_ms: u64,
    /// Verify and read back after so many lives.
    #[arg(long, default_value_t = 100)]
    check_every: u64,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let beside = std::env::current_exe().context("where this program is")?.with_file_name("counterfoil");
    let program = cli.program.unwrap_or(beside);
    let temporary = tempfile::tempdir().context("create a temporary folder")?;
    let folder = cli.folder.unwrap_or_else(|| temporary.path().to_owned());
    ensure!(
        std::fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_none()),
        "{} is not empty",
        folder.display()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    http::open_files();
    let table = match cli.campaign {
        Campaign::Kill(Kill { lives, seed, senders, longest_ms, check_every }) => {
            let plan = kill::Plan { lives, seed, senders, longest_ms, check_every, event_bytes: 14 << 10 };
            runtime.block_on(kill::run(&program, &folder, &plan))?.table()
        }
        Campaign::Hostile(Hostile { connections, slots, memory_bytes, events, seconds, only }) => {
            let wanted = |attack: &attack::Attack| only.as_ref().is_none_or(|name| *name == format!("{attack:?}"));
            let attacks: Vec<_> = attack::ALL.into_iter().filter(wanted).collect();
            ensure!(!attacks.is_empty(), "no attack of that name; they are {:?}", attack::ALL);
            let least = Duration::from_secs(seconds);
            let plan = hostile::Plan { connections, slots, memory_bytes, events, least, attacks };
            runtime.block_on(hostile::run(&program, &folder, &plan))?.table()
        }
        Campaign::Rolling(Rolling { restarts, senders, events }) => {
            let plan = rolling::Plan { restarts, senders, events, event_bytes: 14 << 10 };
            runtime.block_on(rolling::run(&program, &folder, &plan))?.table()
        }
        Campaign::Flood(Flood { events, within_ms, at_once, event_bytes, followed_bytes }) => {
            let within = Duration::from_millis(within_ms);
            let plan = flood::Plan { events, within, at_once, event_bytes, followed_bytes };
            runtime.block_on(flood::run(&program, &folder, &plan))?.table()
        }
        Campaign::Restart(Restart { mib, senders }) => {
            let plan = restart::Plan { received_bytes: mib << 20, event_bytes: 14 << 10, senders };
            runtime.block_on(restart::run(&program, &folder, &plan))?.table()
        }
    };
    print!("{table}");
    Ok(())
}
