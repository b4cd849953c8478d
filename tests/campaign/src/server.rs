//! The program under test, as a process of its own.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::http;

/// How a server is started, again and again on the same data and addresses.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where senders reach it.
    pub intake: SocketAddr,
    /// Where people reach it.
    pub api: SocketAddr,
    program: PathBuf,
    folder: PathBuf,
}

impl Setup {
    /// Creates a ledger in `folder`. `settings` are TOML with dotted names (`ledger.segment_bytes = 16777216`), then
    /// `[[source]]` tables; addresses and data folder are ours. Environment variables `COUNTERFOIL_…` of the campaign reach
    /// the server and win over them.
    pub fn new(program: &Path, folder: &Path, settings: &str) -> Result<Self> {
        // Every campaign has a loopback address of its own, so that the ports are always free.
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 200 + NEXT.fetch_add(1, Ordering::Relaxed) % 50, high, low.clamp(1, 254));
        ensure!(
            program.is_file(),
            "{} is not there; build it first (cargo build -p counterfoil), or name it with --program",
            program.display()
        );
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let setup = Self {
            intake: (address, 8087).into(),
            api: (address, 8088).into(),
            program: program.to_owned(),
            folder: folder.to_owned(),
        };
        let text = format!(
            "data = '{}'\nintake.listen = \"{}\"\napi.listen = \"{}\"\n{settings}",
            setup.data().display(),
            setup.intake,
            setup.api
        );
        fs::write(setup.config(), text).with_context(|| format!("write {}", setup.config().display()))?;
        let created = Command::new(program).args(["init", "--config"]).arg(setup.config()).output();
        let created = created.with_context(|| format!("run {}", program.display()))?;
        ensure!(created.status.success(), "init: {}", String::from_utf8_lossy(&created.stderr));
        Ok(setup)
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the server says about itself, all lives.
    pub fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    fn config(&self) -> PathBuf {
        self.folder.join("counterfoil.toml")
    }

    /// Starts a life. It may not be listening yet.
    pub fn start(&self) -> Result<Server> {
        self.start_with(&[])
    }

    /// [`Setup::start`] with settings of this life, as variables of the environment.
    pub fn start_with(&self, variables: &[(&str, String)]) -> Result<Server> {
        let log = File::options().create(true).append(true).open(self.log()).context("open the server's log")?;
        let process = Command::new(&self.program)
            .args(["serve", "--config"])
            .arg(self.config())
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        Ok(Server { process, started: Instant::now() })
    }

    /// Starts a life and waits until it takes deliveries.
    pub async fn serve(&self) -> Result<Server> {
        self.ready(self.start()?).await
    }

    /// Waits until a life takes deliveries.
    pub async fn ready(&self, mut server: Server) -> Result<Server> {
        while !matches!(http::get(self.api, "/readyz").await, Ok((200, _))) {
            if let Some(ended) = server.ended()? {
                bail!("the server ended ({ended}); see {}", self.log().display());
            }
            ensure!(
                server.started.elapsed() < http::PATIENCE,
                "not ready after a minute; see {}",
                self.log().display()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(server)
    }

    /// `counterfoil verify`, given a checkpoint that was kept elsewhere. The report as JSON; an error unless verified.
    pub fn verify(&self, kept: Option<&Path>) -> Result<serde_json::Value> {
        let mut command = Command::new(&self.program);
        command.args(["verify", "-o", "json", "--data"]).arg(self.data());
        if let Some(kept) = kept {
            command.arg("--checkpoint").arg(kept);
        }
        let output = command.output().context("run verify")?;
        ensure!(
            output.status.success(),
            "verify refuses the ledger ({}): {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("the report of verify")
    }
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Most that was ever resident (`VmHWM`), mapped files included.
    pub peak: u64,
    /// Resident now and not of a file (`RssAnon`).
    pub anonymous: u64,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// When it was started.
    pub started: Instant,
}

impl Server {
    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill().context("kill the server")?;
        self.process.wait().context("wait for the server")?;
        Ok(())
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM).context("end the server")
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_wait().context("look at the server")
    }

    /// Waits for the end that it was asked for.
    pub async fn end(mut self) -> Result<()> {
        let asked = Instant::now();
        loop {
            if let Some(ended) = self.ended()? {
                ensure!(ended.success(), "the server ended badly: {ended}");
                return Ok(());
            }
            ensure!(asked.elapsed() < 2 * http::PATIENCE, "the server does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets the peak begin anew, where the kernel allows it; else it is that since the start.
    pub fn forget_peak(&self) {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5");
    }

    /// What it occupies.
    pub fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).context("read its status")?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        };
        let of = |name: &str| of(name).with_context(|| format!("{name} in its status")).map(|kib| kib << 10);
        Ok(Memory { peak: of("VmHWM")?, anonymous: of("RssAnon")? })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended already
        let _ = self.process.wait();
    }
}
