//! One function per command: reads its arguments, does it, prints.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use model::{
    SourceId,
    identity::{DEFAULT_CLUSTER, Declared, SourceKind},
};
use serde::Serialize;
use toml::Value;

use crate::{
    answer,
    ask::Asked,
    backup,
    cli::{self, Command, ConfigCommand, LedgerCommand, Output},
    config::{self, Flags, Loaded},
    demo, explain, feed,
    intake::now,
    lines, own, render, retention, serve, upkeep,
};

/// Runs a command. Exit codes: 0 done, 1 refuted (`verify`), 2 could not.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(args.keep)?,
        Command::Serve(args) => serve::run(serving(args)?)?,
        Command::Explain(args) => explain::run(&args)?,
        Command::Why(args) => why(&args)?,
        Command::Search(args) => search(args)?,
        Command::Show(args) => show(&args)?,
        Command::Doctor(args) => doctor(&args)?,
        Command::Import(args) => import(args)?,
        Command::Verify(args) => return verify(&args),
        Command::Checkpoint(args) => checkpoint(args)?,
        Command::Retention(args) => retain(args)?,
        Command::Backup(args) => return backup(args),
        Command::Restore(args) => return restore(args),
        Command::Init(args) => init(args)?,
        Command::Ledger(args) => ledger_command(args.command)?,
        Command::Config(cli::ConfigArgs { command: ConfigCommand::Check(args) }) => check(args)?,
        Command::Config(cli::ConfigArgs { command: ConfigCommand::Schema }) => println!("{}", config::schema()?),
    }
    Ok(ExitCode::SUCCESS)
}

fn text(value: &impl ToString) -> Value {
    Value::String(value.to_string())
}

fn data_flag(data: Option<PathBuf>) -> Flags {
    data.into_iter().map(|data| ("--data", "data", text(&data.display()))).collect()
}

fn loaded(args: cli::DataOnly) -> Result<Loaded> {
    config::load(args.config.as_deref(), data_flag(args.data))
}

fn serving(args: cli::Serve) -> Result<Loaded> {
    let mut flags = data_flag(args.data);
    flags.extend(args.intake.map(|address| ("--intake", "intake.listen", text(&address))));
    flags.extend(args.api.map(|address| ("--api", "api.listen", text(&address))));
    config::load(args.config.as_deref(), flags)
}

/// Writes to standard output; colours are stripped where there is no terminal. A reader that has seen enough (`head`,
/// `less`) is no error.
pub fn say(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("write to standard output"),
    }
}

/// Prints an answer in the wanted form.
fn print<T: Serialize>(
    output: Output,
    answer: &T,
    rows: &[impl Serialize],
    table: impl FnOnce(&T) -> String,
) -> Result<()> {
    match output {
        Output::Table => say(&table(answer)),
        Output::Json => say(&serde_json::to_string_pretty(answer)?),
        Output::Jsonl => {
            let rows = rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
            if rows.is_empty() { Ok(()) } else { say(&rows.join("\n")) }
        }
    }
}

fn search(args: cli::Search) -> Result<()> {
    let from = match &args.since {
        None => args.from,
        Some(since) => Some(now().plus_seconds(-seconds(since)?)),
    };
    let ask = answer::search::Ask { query: args.query, from, to: args.to, limit: args.limit, after: args.after };
    let answer = Asked::open(&args.ask)?.search(&ask)?;
    print(args.ask.output, &answer, &answer.hits, render::search::text)
}

fn why(args: &cli::Why) -> Result<()> {
    let answer = Asked::open(&args.ask)?.why(&args.what, args.at)?;
    print(args.ask.output, &answer, &answer.failures, render::why::text)
}

fn show(args: &cli::Show) -> Result<()> {
    let asked = Asked::open(&args.ask)?;
    let answer = asked.show(&args.what)?;
    print(args.ask.output, &answer, &answer.records, render::show::text)?;
    if args.steps {
        for entry in answer.entries.iter().filter(|entry| entry.kind == "run") {
            let shown = asked.show(&format!("#{}", entry.index))?;
            let run = shown.entry.and_then(|e| e.body.pointer("/fact/run").cloned());
            if let Some(run) = run.and_then(|run| serde_json::from_value::<model::run::Run>(run).ok()) {
                let mut out = String::new();
                render::show::steps(&mut out, &run.name, &run.steps);
                say(out.trim_end())?;
            }
        }
    }
    if args.proof {
        let of_entry = answer.entry.iter().map(|entry| entry.index);
        let mut entries: Vec<u64> = of_entry.chain(answer.entries.iter().map(|entry| entry.index)).collect();
        entries.sort_unstable();
        entries.dedup();
        for index in entries {
            say(&format!("# entry {index}\n{}", asked.proof(index)?))?;
        }
    }
    Ok(())
}

fn doctor(args: &cli::Doctor) -> Result<()> {
    let answer = Asked::open(&args.ask)?.doctor()?;
    print(args.ask.output, &answer, &answer.sources, render::doctor::text)
}

/// `90s`, `30m`, `24h`, `7d` in seconds.
fn seconds(text: &str) -> Result<i64> {
    let wrong = || format!("--since {text:?}: write a number and s, m, h or d, such as 24h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).with_context(wrong)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => bail!(wrong()),
    };
    let number: i64 = number.parse().with_context(wrong)?;
    number.checked_mul(factor).filter(|seconds| *seconds >= 0).with_context(wrong)
}

fn import(args: cli::Import) -> Result<()> {
    let kind = SourceKind::from_format(&args.format).with_context(|| {
        let known: Vec<_> = SourceKind::LINES.iter().map(|k| k.as_str()).collect();
        format!("--format {:?} is not known; formats: {}", args.format, known.join(", "))
    })?;
    let config = loaded(cli::DataOnly { data: args.data, config: args.config })?.config;
    let declare = args.declare;
    let id = SourceId {
        cluster: declare.cluster.unwrap_or_else(|| DEFAULT_CLUSTER.to_owned()),
        kind,
        name: args.source,
        instance: String::new(),
    };
    let declared = Declared {
        namespace: declare.namespace,
        workload: declare.workload,
        node: declare.node,
        zone: declare.zone.clone(),
    };
    let zone = config::zone_of(declare.zone.as_deref())?;
    let mut feeds = Vec::new();
    for path in &args.files {
        feeds.push(feed::Feed {
            id: id.clone(),
            declared: declared.clone(),
            zone,
            format: lines::format(kind, declare.log_format.as_deref())?,
            log_format: declare.log_format.clone(),
            bytes: feed::read(path)?,
        });
    }
    let sum = feed::import(&config, &feeds, args.complete_to)?;
    let range = sum.range.map(|(first, last)| format!(", #{first}..#{last}")).unwrap_or_default();
    anstream::println!(
        "{} lines ({} not understood) of {} files became {} entries{range}",
        sum.lines,
        sum.opaque,
        feeds.len(),
        sum.entries
    );
    Ok(())
}

fn retain(args: cli::Retention) -> Result<()> {
    let config = loaded(args.data)?.config;
    let plan = if args.apply {
        let mut of = serve::ledger_config(&config);
        // Nobody sends anything meanwhile: only a person waits.
        of.limits.sync_every_ms = 200;
        let opened = match ledger::Ledger::open(&of) {
            Err(ledger::Error::Locked { .. }) => bail!(retention::left_to_server(&config.data)),
            other => other.with_context(|| format!("open the ledger in {}", config.data.display()))?,
        };
        // What recovery has to tell belongs on the record before anything goes.
        for notice in opened.notices.try_iter() {
            opened
                .ledger
                .append_wait(ledger::Append::one(ledger::Lane::Own, own::notice_body(&notice)))
                .context("write what the ledger tells")?;
        }
        let plan = retention::apply(&config.retention, &opened.ledger, now(), args.clock_is_right, &|| true)?;
        opened.ledger.close().context("close the ledger")?;
        plan
    } else {
        retention::dry_run(&config.retention, &config.data, now(), args.clock_is_right)?
    };
    print(args.output, &plan, &plan.classes, retention::text)
}

fn init(args: cli::Init) -> Result<()> {
    let mut flags = data_flag(args.data);
    flags.extend(args.origin.map(|origin| ("--origin", "origin", text(&origin))));
    let config = config::load(args.config.as_deref(), flags)?.config;
    serve::init(&config)?;
    println!("created a ledger in {}", config.data.display());
    Ok(())
}

fn checkpoint(args: cli::DataOnly) -> Result<()> {
    let config = loaded(args)?.config;
    let log = crate::log::Log::folder(&config.data).with_context(|| format!("read {}", config.data.display()))?;
    print!("{}", log.note());
    Ok(())
}

fn backup(args: cli::Backup) -> Result<ExitCode> {
    let report = backup::backup(&loaded(args.at)?.config, &args.to)?;
    say(&crate::verify::text(&report))?;
    Ok(report.exit_code())
}

fn restore(args: cli::Restore) -> Result<ExitCode> {
    let config = loaded(args.at)?.config;
    let same = args.same_log.map(|checkpoint| backup::same_log(&checkpoint, &args.key)).transpose()?;
    let report = backup::restore(&config, &args.from, same.as_ref())?;
    Ok(report.exit_code())
}

fn ledger_command(command: LedgerCommand) -> Result<()> {
    match command {
        LedgerCommand::AcceptRollback(args) => upkeep::accept_rollback(&loaded(args)?.config),
        LedgerCommand::RotateKey(args) => upkeep::rotate_key(&loaded(args.at)?.config, args.retire_old),
        LedgerCommand::RetireKey(args) => upkeep::retire_key(&loaded(args)?.config),
        LedgerCommand::Upgrade(args) => upkeep::upgrade(&loaded(args.at)?.config, args.apply),
    }
}

fn check(args: cli::DataOnly) -> Result<()> {
    let loaded = loaded(args)?;
    for (name, (value, origin)) in &loaded.origins {
        println!("{name} = {value}   # {origin}");
    }
    Ok(())
}

/// Whatever is given: a data folder (with `ledger/` in it), or a folder of any C2SP tlog-tiles log.
fn verify(args: &cli::Verify) -> Result<ExitCode> {
    let given = args.data.clone().unwrap_or_else(|| PathBuf::from("./data"));
    let (checkpoint, vkey) = (args.checkpoint.as_deref(), args.vkey.as_deref());
    let report = crate::verify::check(&given, args.head.as_deref(), checkpoint, vkey, args.policy.as_deref())?;
    print(args.output, &report, &[&report], crate::verify::text)?;
    Ok(report.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(seconds("90s").unwrap(), 90);
        assert_eq!(seconds("7d").unwrap(), 604_800);
        for bad in ["", "h", "5", "5w", "-5s", "99999999999999999999d", "ü"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
