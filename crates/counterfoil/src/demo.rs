//! `counterfoil demo`: the real server, recorded real stories over real HTTP, questions, verification, one flipped bit.
//!
//! Nothing is simulated and nothing is printed that the program did not answer: every question is asked by running
//! this program with the command that is shown.

mod stories;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use model::{Time, identity::SourceKind};

use crate::{
    answer::DoctorAnswer,
    desk::Desk,
    explain::tempfolder,
    feed::{self, Feed},
    keys::Keys,
    own,
    people::People,
    render::{BAD, FAINT, GOOD, STRONG, paint},
    serve::Serving,
};

/// How long the server may take to answer, and to follow what was sent.
const PATIENCE: Duration = Duration::from_mins(1);

/// Lines of an answer that are printed.
const LINES: usize = 40;

const VERIFY_PY: &str = include_str!("../../../verify.py");

/// Runs it. With `keep` the server stays.
pub fn run(keep: bool) -> Result<()> {
    let began = Instant::now();
    let folder = tempfolder()?;
    let data = folder.path().join("data");
    anstream::println!("{}", paint(STRONG, "counterfoil demo"));
    anstream::println!("recordings of real Tekton 1.9 and 1.15, SPIRE 1.13 and nginx 1.22; nothing is simulated\n");
    let server = Server::start(&data)?;
    step(
        1,
        "serve",
        &format!(
            "empty ledger in {}   intake :{}  api :{}",
            data.display(),
            server.at.intake.port(),
            server.at.api.port()
        ),
    );

    let stories = stories::open()?;
    let sent = send(&server, &stories)?;
    step(2, "send", &sent);
    let settled = settle(&server)?;
    step(3, "settle", &settled);
    step(4, "ask", &format!("each line with a $ is a command; here with COUNTERFOIL_SERVER={}", server.api()));
    for question in stories::QUESTIONS {
        ask(&server, question)?;
    }
    prove(&server, &data)?;
    anstream::println!("\nNot shown: {}", stories::NOT_SHOWN);
    let next = if keep { "" } else { "counterfoil demo --keep, then " };
    anstream::println!(
        "{} s. Next: {next}counterfoil explain YOUR-error.log YOUR-access.log YOUR-spire-agent.log",
        began.elapsed().as_secs()
    );
    if keep {
        return server.stay(folder);
    }
    server.end()
}

fn step(n: u32, name: &str, what: &str) {
    anstream::println!("[{n}/4] {name:<8} {what}");
}

/// The server, as a process of its own.
struct Server {
    process: Child,
    at: Serving,
    data: PathBuf,
    /// Path token: senders that show none are recorded as anonymous, and their claims are graded lower.
    token: String,
}

impl Server {
    fn start(data: &Path) -> Result<Self> {
        let folder = data.parent().context("the data folder has a parent")?;
        let token = own::Life::new()?.to_string() + &own::Life::new()?.to_string();
        let (secret, config) = (folder.join("token"), folder.join("counterfoil.toml"));
        fs::write(&secret, &token).with_context(|| format!("write {}", secret.display()))?;
        let text = format!("[[intake.token]]\nname = \"demo\"\nfile = \"{}\"\n", secret.display());
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let created = this_program()?.args(["init", "--data"]).arg(data).output().context("create the ledger")?;
        if !created.status.success() {
            bail!("create the ledger: {}", String::from_utf8_lossy(&created.stderr).trim());
        }
        let mut process = this_program()?
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(data)
            .args(["--intake", "127.0.0.1:0", "--api", "127.0.0.1:0"])
            .stderr(Stdio::null())
            .spawn()
            .context("start the server")?;
        let began = Instant::now();
        loop {
            if let Some(at) = Serving::read(data) {
                return Ok(Self { process, at, data: data.to_owned(), token });
            }
            if let Some(status) = process.try_wait().context("look at the server")? {
                bail!("the server ended with {status}");
            }
            if began.elapsed() > PATIENCE {
                let _ = process.kill(); // it is ours, and it has failed
                bail!("the server did not answer within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn api(&self) -> String {
        format!("http://{}", self.at.api)
    }

    /// Asks the process to end and waits for it: the ledger is sealed on the way.
    fn end(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("stop the server")?;
        let status = self.process.wait().context("wait for the server")?;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        Ok(())
    }

    /// Leaves it running until it is stopped by a signal.
    fn stay(mut self, folder: tempfile::TempDir) -> Result<()> {
        let kept = folder.keep();
        anstream::println!(
            "\nserving on. In another terminal:\n  export COUNTERFOIL_SERVER={}\n  counterfoil search type:handshake.failed\n\
             Data stay in {}. Stop it with Ctrl-C.",
            self.api(),
            kept.join("data").display()
        );
        let status = self.process.wait().context("wait for the server")?;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Server {
    /// After a failed step nobody would end it.
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended already
        let _ = self.process.wait();
    }
}

fn this_program() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("find this program")?))
}

/// Sends every story in the order of its times: deliveries one by one with the headers that Tekton sent, lines as
/// posts. Ends each source with the time up to which it is complete.
fn send(server: &Server, stories: &[stories::Story]) -> Result<String> {
    let began = Instant::now();
    // Only to cut the files in the order of their times; the server parses for itself.
    let scratch = tempfolder()?;
    let keys = Keys::throw_away()?;
    let cutter = Desk::new(&keys, People::open(scratch.path())?, Arc::default());
    let total = stories.iter().flat_map(|s| &s.feeds).map(|f| f.bytes.len() as u64).sum();
    let bar = ProgressBar::new(total).with_style(
        ProgressStyle::with_template("[2/4] send     {bytes}/{total_bytes} {wide_bar} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let (mut deliveries, mut lines) = (0u64, 0u64);
    for story in stories {
        bar.set_message(story.name);
        let mut newest: Option<Time> = None;
        feed::merge(&cutter, &story.feeds, Time::default(), |feed, piece, taken| {
            newest = newest.max(taken.newest);
            bar.inc(piece.bytes.len() as u64);
            if feed.id.kind == SourceKind::CloudEvents {
                for line in piece.bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                    deliver(server, &feed.id.cluster, line)?;
                    deliveries += 1;
                }
                return Ok(());
            }
            lines += memchr::memchr_iter(b'\n', piece.bytes).count() as u64;
            post(server, feed, piece.bytes, None)
        })?;
        for feed in story.feeds.iter().filter(|feed| feed.id.kind != SourceKind::CloudEvents) {
            post(server, feed, b"", newest)?;
        }
    }
    bar.finish_and_clear();
    Ok(format!(
        "Tekton {deliveries} deliveries   NGINX, SPIRE and Kubernetes {lines} lines   202 after fsync   {:.1} s",
        began.elapsed().as_secs_f64()
    ))
}

/// One recorded delivery, sent again as it came.
fn deliver(server: &Server, cluster: &str, line: &[u8]) -> Result<()> {
    let (headers, body) = stories::delivery(line)?;
    let mut request = ureq::post(format!("http://{}/t/{}/c/{cluster}/events", server.at.intake, server.token));
    for (name, value) in &headers {
        request = request.header(name, value);
    }
    let answer = request.send(&body[..]).context("deliver an event")?;
    if answer.status() != 202 {
        bail!("a delivery was answered {}", answer.status());
    }
    Ok(())
}

fn post(server: &Server, feed: &Feed, bytes: &[u8], complete_to: Option<Time>) -> Result<()> {
    let id = &feed.id;
    let mut request =
        ureq::post(format!("http://{}/t/{}/c/{}/logs/{}", server.at.intake, server.token, id.cluster, id.kind))
            .query("source", &id.name)
            .content_type("text/plain");
    let declared = &feed.declared;
    let told = [
        ("namespace", &declared.namespace),
        ("workload", &declared.workload),
        ("node", &declared.node),
        ("zone", &declared.zone),
    ];
    for (key, value) in told {
        if let Some(value) = value {
            request = request.query(key, value);
        }
    }
    if let Some(text) = &feed.log_format {
        request = request.query("log_format", text);
    }
    if let Some(time) = complete_to {
        request = request.query("complete_to", time.to_string());
    }
    let answer = request.send(bytes).with_context(|| format!("post lines of {id}"))?;
    if answer.status() != 202 {
        bail!("lines of {id} were answered {}", answer.status());
    }
    Ok(())
}

/// Waits until everything acknowledged has been followed.
fn settle(server: &Server) -> Result<String> {
    let began = Instant::now();
    loop {
        let mut answer = ureq::get(format!("{}/api/v1/doctor", server.api())).call().context("ask the server")?;
        let text = answer.body_mut().read_to_string().context("read the answer")?;
        let doctor: DoctorAnswer = serde_json::from_str(&text).context("read the answer")?;
        if doctor.through.entries >= doctor.through.ledger {
            let entries = doctor.through.ledger;
            return Ok(format!(
                "{entries} entries followed, all posted sources complete   {:.1} s",
                began.elapsed().as_secs_f64()
            ));
        }
        if began.elapsed() > PATIENCE {
            bail!(
                "after {} s only {} of {} entries were followed",
                PATIENCE.as_secs(),
                doctor.through.entries,
                doctor.through.ledger
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Prints the question, the command, and what this program answers to it.
fn ask(server: &Server, question: &stories::Question) -> Result<()> {
    anstream::println!("\n {}  {}", paint(STRONG, question.id), paint(STRONG, question.asks));
    if question.commands.is_empty() {
        anstream::println!("   {}", question.without);
        return Ok(());
    }
    for command in question.commands {
        let shown: Vec<String> = command.iter().map(|word| quote(word)).collect();
        anstream::println!("   {} counterfoil {}", paint(FAINT, "$"), shown.join(" "));
        let output = this_program()?.args(*command).args(["--server", &server.api()]).output().context("ask")?;
        let text = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
        for line in text.lines().take(LINES) {
            anstream::println!("     {line}");
        }
        if text.lines().count() > LINES {
            anstream::println!("     … {} more lines", text.lines().count() - LINES);
        }
        if !output.status.success() {
            bail!("the command ended with {}", output.status);
        }
    }
    Ok(())
}

fn quote(word: &str) -> String {
    let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:@=".contains(&b));
    if plain { word.to_owned() } else { format!("'{word}'") }
}

/// Verifies with our verifier and with the one that needs nothing of ours, flips one bit, verifies, puts it back.
fn prove(server: &Server, data: &Path) -> Result<()> {
    anstream::println!("\n {}  {}", paint(STRONG, "Q6"), paint(STRONG, "can a stranger check it?"));
    // The last seconds may not be sealed yet; the proof of the last entry waits for its checkpoint.
    let last = ureq::get(format!("{}/api/v1/doctor", server.api())).call()?.body_mut().read_to_string()?;
    let doctor: DoctorAnswer = serde_json::from_str(&last)?;
    let proof = format!("{}/api/v1/entries/{}/proof", server.api(), doctor.through.entries.saturating_sub(1));
    ureq::get(proof).call().context("wait for the seal")?;

    let script = server.data.with_file_name("verify.py");
    fs::write(&script, VERIFY_PY).with_context(|| format!("write {}", script.display()))?;
    if !verify(data, &script)?.are(0) {
        bail!("the ledger does not verify");
    }
    let bundle = first_bundle(&data.join("ledger/tile/entries"))?;
    let bytes = fs::read(&bundle).with_context(|| format!("read {}", bundle.display()))?;
    let mut flipped = bytes.clone();
    let at = flipped.len() / 2;
    flipped[at] ^= 1;
    fs::write(&bundle, &flipped).with_context(|| format!("write {}", bundle.display()))?;
    anstream::println!(
        "   one bit of {} is flipped (byte {at})",
        bundle.strip_prefix(data).unwrap_or(&bundle).display()
    );
    let refuted = verify(data, &script);
    fs::write(&bundle, &bytes).with_context(|| format!("restore {}", bundle.display()))?;
    if !refuted?.are(1) {
        bail!("a flipped bit was not seen");
    }
    anstream::println!("   the bit is put back");
    if !verify(data, &script)?.are(0) {
        bail!("the ledger does not verify after the bit was put back");
    }
    Ok(())
}

/// Exit codes of both verifiers; the second is absent where there is no Python.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Verdicts(Option<i32>, Option<i32>);

impl Verdicts {
    fn are(self, code: i32) -> bool {
        self.0 == Some(code) && self.1.is_none_or(|theirs| theirs == code)
    }
}

/// Runs both verifiers and prints their last lines.
fn verify(data: &Path, script: &Path) -> Result<Verdicts> {
    let ledger = data.join("ledger");
    let mut ours = this_program()?;
    ours.arg("verify").arg("--data").arg(data);
    let ours = judge(&format!("counterfoil verify --data {}", data.display()), ours)?;
    let mut theirs = Command::new("python3");
    theirs.arg(script).arg(&ledger);
    let theirs = judge(&format!("python3 {} {}", script.display(), ledger.display()), theirs)?;
    Ok(Verdicts(ours, theirs))
}

fn judge(shown: &str, mut command: Command) -> Result<Option<i32>> {
    anstream::println!("   {} {shown}", paint(FAINT, "$"));
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            anstream::println!("     python3 is not here: skipped");
            return Ok(None);
        }
        other => other.with_context(|| format!("run {shown}"))?,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let code = output.status.code();
    let style = if code == Some(0) { GOOD } else { BAD };
    let exit = code.map_or_else(|| "a signal".into(), |c| c.to_string());
    anstream::println!("     {}  (exit {exit})", paint(style, text.lines().last().unwrap_or_default()));
    Ok(code)
}

/// The first entry bundle, whole or partial.
fn first_bundle(folder: &Path) -> Result<PathBuf> {
    let whole = folder.join("000");
    if whole.is_file() {
        return Ok(whole);
    }
    let partial = folder.join("000.p");
    let mut widths = Vec::new();
    for entry in fs::read_dir(&partial).with_context(|| format!("read folder {}", partial.display()))? {
        widths.push(entry.with_context(|| format!("read folder {}", partial.display()))?.path());
    }
    widths.sort_by_key(|path| path.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok()));
    widths.pop().with_context(|| format!("{} has no entry bundle", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_printed_as_one_would_type_them() {
        assert_eq!(quote("type:handshake.failed"), "type:handshake.failed");
        assert_eq!(quote("from:a to:b"), "'from:a to:b'");
    }
}
