//! `cargo run -p campaign -- kill`, and the others.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use campaign::kill;
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
    let table = match cli.campaign {
        Campaign::Kill(Kill { lives, seed, senders, longest_ms, check_every }) => {
            let plan = kill::Plan { lives, seed, senders, longest_ms, check_every, event_bytes: 14 << 10 };
            runtime.block_on(kill::run(&program, &folder, &plan))?.table()
        }
    };
    print!("{table}");
    Ok(())
}
