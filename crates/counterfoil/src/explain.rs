//! `counterfoil explain`: the verdicts over anybody's files, in a temporary ledger that is gone afterwards.

use anyhow::{Context as _, Result, bail};
use ingest::lines::Format;
use model::{
    Record, SourceId,
    identity::{DEFAULT_CLUSTER, Declared},
    record::RecordKind,
};

use crate::{
    answer::{self, Found, SearchAnswer, View, WhyAnswer},
    ask,
    cli::{self, Output},
    command,
    config::{self, Config},
    feed::{self, Feed},
    log::Log,
    render, scenario, serve,
};

/// Bytes of a file that are looked at to detect its format.
const SAMPLE: usize = 64 << 10;

/// Most verdicts that are printed.
const MOST: usize = 200;

/// Detects, feeds, folds, prints.
pub fn run(args: &cli::Explain) -> Result<()> {
    let feeds = open(args)?;
    let folder = tempfolder()?;
    // The folder is gone afterwards, so there is nothing to save space for.
    let ledger = config::Ledger { pause_below_percent: 0, ..config::Ledger::default() };
    let config = Config { data: folder.path().to_owned(), ledger, ..Config::default() };
    serve::init(&config)?;
    let bar = feed::bar(feeds.iter().map(|feed| feed.bytes.len() as u64).sum());
    let sum = feed::with_desk(&config, |desk| Ok(feed::run(desk, &feeds, None, |bytes| bar.inc(bytes))?))?;
    bar.finish_and_clear();
    let log = Log::folder(&config.data).context("read the temporary ledger")?;
    if args.as_scenario {
        command::say(scenario::write(&log)?.trim_end())?;
        return Ok(());
    }
    let view = ask::follow(&config.data, log)?;
    let found = verdicts(&view)?;
    match args.output {
        Output::Json => command::say(&serde_json::to_string_pretty(&found)?)?,
        Output::Jsonl => {
            for hit in &found.hits {
                command::say(&serde_json::to_string(hit)?)?;
            }
        }
        Output::Table => {
            command::say(&format!(
                "{} lines of {} files, {} not understood, {} entries\n",
                sum.lines,
                feeds.len(),
                sum.opaque,
                sum.entries
            ))?;
            command::say(&format!("{}\n", render::search::text(&found)))?;
            let mut failures: Vec<Record> = found
                .hits
                .iter()
                .filter_map(|hit| match hit {
                    Found::Record(record) if record.kind == RecordKind::HandshakeFailed => Some((**record).clone()),
                    _ => None,
                })
                .collect();
            failures.sort_by_key(|record| (answer::why::rank(record), std::cmp::Reverse(record.to)));
            let why = WhyAnswer {
                what: "your files".into(),
                taken_for: "everything".into(),
                failures,
                stalled: Vec::new(),
                blind: Vec::new(),
                through: view.through(),
            };
            if !why.failures.is_empty() {
                command::say(&render::why::text(&why))?;
            }
        }
    }
    Ok(())
}

/// All records but those of single renewals and of runs that went well, newest first.
fn verdicts(view: &View) -> Result<SearchAnswer> {
    let query = "type:handshake.failed OR type:credential.stalled OR type:source.blind OR type:run.completed OR \
                 type:run.incomplete OR type:evidence.late";
    let ask = answer::search::Ask { query: query.into(), from: None, to: None, limit: MOST, after: None };
    Ok(answer::search::answer(view, &ask)?)
}

fn open(args: &cli::Explain) -> Result<Vec<Feed>> {
    let zone = config::zone_of(args.zone.as_deref())?;
    let mut feeds = Vec::new();
    for found in feed::find(&args.files)? {
        let bytes = feed::read(&found.path)?;
        let Some(format) = Format::detect(&bytes[..bytes.len().min(SAMPLE)]) else {
            // A folder may hold anything; a file that was named is expected to be read.
            eprintln!("{}: no known format; left out", found.path.display());
            continue;
        };
        eprintln!("{}: {} as source {:?}", found.path.display(), format.kind(), found.name);
        feeds.push(Feed {
            id: SourceId {
                cluster: DEFAULT_CLUSTER.to_owned(),
                kind: format.kind(),
                name: found.name,
                instance: String::new(),
            },
            declared: Declared { zone: args.zone.clone(), ..Declared::default() },
            zone,
            log_format: None,
            format,
            bytes,
        });
    }
    if feeds.is_empty() {
        bail!(
            "nothing to explain: no file has a known format (NGINX error or access log, SPIRE, spiffe-helper, \
             Kubernetes audit or `kubectl get -o json`, recorded CloudEvents)"
        );
    }
    Ok(feeds)
}

/// A folder that is removed at the end.
pub fn tempfolder() -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("counterfoil-").tempdir().context("make a temporary folder")
}
