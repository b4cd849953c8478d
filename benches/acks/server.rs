//! The servers under load, each a process of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A running server; it is killed when dropped.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    api: Option<SocketAddr>,
    process: Child,
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    /// `counterfoil serve` on a new folder, with or without the derived world.
    pub(crate) fn counterfoil(derive: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let process = Command::new(env!("CARGO_BIN_EXE_counterfoil"))
            .args(["serve", "--intake", "127.0.0.1:0", "--api", "127.0.0.1:0", "--data"])
            .arg(&data)
            .env("COUNTERFOIL_DERIVE_ENABLED", derive.to_string())
            .env("COUNTERFOIL_TELEMETRY_FILTER", "error")
            .spawn()
            .expect("start the server");
        let [address, api] = wait_for(&data);
        Self { name: "counterfoil", address, api: Some(api), process, _folder: Some(folder) }
    }

    /// This program as the bare server.
    pub(crate) fn bare() -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .arg("--bare")
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the bare server");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its address");
        let address = line.trim().parse().expect("an address");
        Self { name: "bare axum", address, api: None, process, _folder: None }
    }

    /// Processor time of the process until now.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("its statistics");
        // proc_pid_stat(5): behind the name in parentheses, user and system time are the 12th and 13th, in ticks of 10 ms.
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>();
        Duration::from_millis(ticks * 10)
    }

    /// Bytes of anonymous memory now.
    pub(crate) fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the line");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    /// Entries that are durable and not searchable yet.
    pub(crate) fn lag(&self) -> u64 {
        let mut stream = TcpStream::connect(self.api.expect("an api")).expect("connect");
        stream.write_all(b"GET /api/v1/doctor HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n").expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let body = &answer[answer.find('{').expect("a document")..=answer.rfind('}').expect("its end")];
        let answer: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let of = |key: &str| answer["through"][key].as_u64().expect("a number");
        of("ledger") - of("entries")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill(); // ours
        let _ = self.process.wait();
    }
}

/// The addresses of intake and api.
fn wait_for(data: &Path) -> [SocketAddr; 2] {
    let began = Instant::now();
    loop {
        if let Ok(text) = fs::read(data.join("serving.json")) {
            let at: serde_json::Value = serde_json::from_slice(&text).expect("serving.json");
            return ["intake", "api"].map(|key| at[key].as_str().and_then(|a| a.parse().ok()).expect("an address"));
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the server does not answer");
        thread::sleep(Duration::from_millis(20));
    }
}
