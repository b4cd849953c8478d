//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use model::Time;

use crate::answer::moment;

/// Keeps what Tekton, NGINX and SPIRE say in a ledger that nobody can change unseen, joins it, and answers.
#[derive(Debug, Parser)]
#[command(name = "counterfoil", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands, the most used first.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show everything on recorded, real data: starts a server, sends, asks, verifies. Under a minute.
    Demo(Demo),
    /// Take deliveries and lines, keep them, answer questions.
    Serve(Serve),
    /// Explain your own log files: detects formats, uses a temporary ledger, prints the verdicts.
    Explain(Explain),
    /// Why do handshakes of this identity, workload, edge or record fail?
    Why(Why),
    /// Search records and entries.
    Search(Search),
    /// Show whatever is in the hand: a run, record, entry, pod, commit, digest, SPIFFE ID, serial, log line.
    Show(Show),
    /// Sources: last seen, what each can and cannot show, the line that changes it.
    Doctor(Doctor),
    /// Take files into the ledger, as one source, complete up to a stated time.
    Import(Import),
    /// Read every byte of a ledger and say whether it holds: exit 0 verified, 1 refuted, 2 could not check.
    Verify(Verify),
    /// Print the latest signed checkpoint, to keep somewhere else.
    Checkpoint(DataOnly),
    /// Show which raw input has outlived its time, and what stays; `--apply` removes it.
    Retention(Retention),
    /// Copy a ledger, also while it is being served, or add to an earlier copy what is new; then verify the copy.
    Backup(Backup),
    /// Put a backup where there is no ledger, and verify it. It has no signing key: see `ledger accept-rollback`.
    Restore(Restore),
    /// Create a ledger.
    Init(Init),
    /// Repair and inspect a ledger.
    Ledger(Ledger),
    /// Inspect the configuration.
    Config(ConfigArgs),
}

/// Where the data are.
#[derive(Debug, Args)]
pub struct DataOnly {
    /// Data folder [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Configuration file. With one, a missing ledger is an error; without one, it is created.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data folder [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address that senders reach [default: 127.0.0.1:8087].
    #[arg(long, value_name = "ADDR")]
    pub intake: Option<SocketAddr>,
    /// Address that people reach [default: 127.0.0.1:8088].
    #[arg(long, value_name = "ADDR")]
    pub api: Option<SocketAddr>,
}

/// Whom to ask.
#[derive(Clone, Debug, Args)]
pub struct Ask {
    /// Address of a server's api listener.
    #[arg(long, value_name = "URL", env = "COUNTERFOIL_SERVER", default_value = "http://127.0.0.1:8088")]
    pub server: String,
    /// Read a data folder instead of asking a server (its own server is asked when it is being served).
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON document, as the api gives it.
    Json,
    /// One JSON document a line.
    Jsonl,
}

/// `search`.
#[derive(Debug, Args)]
pub struct Search {
    /// The query, such as `type:handshake.failed from:gateway`; empty finds everything.
    #[arg(default_value = "")]
    pub query: String,
    /// Only what happened in this time before now, such as 90s, 30m, 24h, 7d.
    #[arg(long, value_name = "DURATION", conflicts_with = "from")]
    pub since: Option<String>,
    /// Only what happened at or after this time (RFC 3339, or a date).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<Time>,
    /// Only what happened at or before this time (RFC 3339, or a date).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<Time>,
    /// Most hits.
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// Go on after the page that gave this cursor.
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// Whom to ask, and how to print.
    #[command(flatten)]
    pub ask: Ask,
}

/// `why`.
#[derive(Debug, Args)]
pub struct Why {
    /// A SPIFFE ID, `namespace/workload`, `from->to`, or a record's id.
    pub what: String,
    /// The failures that were going on at this time, instead of the newest; evidence may be later.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub at: Option<Time>,
    /// Whom to ask, and how to print.
    #[command(flatten)]
    pub ask: Ask,
}

/// `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// `namespace/name`, uid, pod, commit, digest, SPIFFE ID, serial, `#entry`, record id, or a pasted NGINX error line.
    pub what: String,
    /// Show each step with its own times.
    #[arg(long)]
    pub steps: bool,
    /// Print the proof of each entry (c2sp.org/tlog-proof).
    #[arg(long)]
    pub proof: bool,
    /// Whom to ask, and how to print.
    #[command(flatten)]
    pub ask: Ask,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Whom to ask, and how to print.
    #[command(flatten)]
    pub ask: Ask,
}

/// What the owner of a source declares.
#[derive(Clone, Debug, Default, Args)]
pub struct Declare {
    /// Cluster [default: default].
    #[arg(long)]
    pub cluster: Option<String>,
    /// Namespace of the workload that wrote it.
    #[arg(long)]
    pub namespace: Option<String>,
    /// The workload that wrote it.
    #[arg(long)]
    pub workload: Option<String>,
    /// The node that it ran on.
    #[arg(long)]
    pub node: Option<String>,
    /// IANA time zone of local times [default: UTC, graded inferred].
    #[arg(long)]
    pub zone: Option<String>,
    /// The `log_format` string of an access log that is neither combined nor JSON.
    #[arg(long, value_name = "STRING")]
    pub log_format: Option<String>,
}

/// `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Format: nginx-error, nginx-access, spire, spiffe-helper, k8s-objects, k8s-audit, cloudevents.
    #[arg(long)]
    pub format: String,
    /// Name of the source.
    #[arg(long)]
    pub source: String,
    /// Files; `.gz` is unpacked, `-` is standard input.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Nothing of this source before this time is missing [default: the newest time in the files].
    #[arg(long, value_name = "TIME")]
    pub complete_to: Option<Time>,
    /// What is known about the source.
    #[command(flatten)]
    pub declare: Declare,
    /// Data folder [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Files and folders; `.gz` is unpacked, `-` is standard input. `NAME=FILE` names the source.
    #[arg(required = true)]
    pub files: Vec<String>,
    /// IANA time zone of local times in all files [default: UTC, graded inferred].
    #[arg(long)]
    pub zone: Option<String>,
    /// Write a redacted scenario file instead of verdicts: a bug report.
    #[arg(long)]
    pub as_scenario: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave the server running at the end.
    #[arg(long)]
    pub keep: bool,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Data folder, ledger folder, or any folder of a C2SP tlog-tiles log [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A checkpoint kept elsewhere: the ledger must contain it.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// The small trusted file [default: `head` in the data folder].
    #[arg(long, value_name = "FILE")]
    pub head: Option<PathBuf>,
    /// Policy (C2SP tlog-policy): its quorum of witnesses must have cosigned a checkpoint that the ledger contains. Its logs'
    /// keys are used unless --vkey is given.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Public key (vkey, or a file that holds it) [default: the policy's, or the ledger's own].
    #[arg(long, value_name = "VKEY")]
    pub vkey: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// `retention`.
#[derive(Debug, Args)]
pub struct Retention {
    /// Remove it. Without this nothing is changed. A server does it by itself; this is for a folder that nobody serves.
    #[arg(long)]
    pub apply: bool,
    /// Ages are those of the wall clock alone, also when the ledger has not been open for half of that time since.
    #[arg(long)]
    pub clock_is_right: bool,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataOnly,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Data folder [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of the ledger, the origin of its checkpoints [default: 128 random bits].
    #[arg(long)]
    pub origin: Option<String>,
}

/// `backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// Folder of the copy, on another disk. An earlier backup of the same ledger there is brought up to date.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Where the data are.
    #[command(flatten)]
    pub at: DataOnly,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// Folder of the backup.
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// Go on under the same name, with the last checkpoint that the ledger signed, kept elsewhere. The backup must be
    /// exactly that; if a later checkpoint was ever signed, this forks the log. Needs --key.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub same_log: Option<PathBuf>,
    /// Secret signing key (`ledger/keys/….skey`), kept elsewhere. Once for each key in use.
    #[arg(long, value_name = "FILE", requires = "same_log")]
    pub key: Vec<PathBuf>,
    /// Where to put it.
    #[command(flatten)]
    pub at: DataOnly,
}

/// `ledger …`.
#[derive(Debug, Args)]
pub struct Ledger {
    /// What to do.
    #[command(subcommand)]
    pub command: LedgerCommand,
}

/// Repairs.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Go on after `head` was found ahead of the journal: a new origin, whose first entry names the old checkpoint.
    AcceptRollback(DataOnly),
    /// Begin a new signing key, as an entry. Old and new sign every checkpoint until `retire-key`. The server must be stopped.
    RotateKey(RotateKey),
    /// End all signing keys but the newest, as an entry, and remove their secrets. The server must be stopped.
    RetireKey(DataOnly),
    /// Bring the folder to the format of this program, as an entry. Says what it would do; does it with --apply.
    Upgrade(Upgrade),
}

/// `ledger rotate-key`.
#[derive(Debug, Args)]
pub struct RotateKey {
    /// The old key ends at once: its secret may be known to others.
    #[arg(long)]
    pub retire_old: bool,
    /// Where the data are.
    #[command(flatten)]
    pub at: DataOnly,
}

/// `ledger upgrade`.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// Do it. The server must be stopped; older programs refuse the folder from then on.
    #[arg(long)]
    pub apply: bool,
    /// Where the data are.
    #[command(flatten)]
    pub at: DataOnly,
}

/// `config …`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// Looking at the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the effective values and where each came from.
    Check(DataOnly),
    /// Print the JSON Schema of the configuration file.
    Schema,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
