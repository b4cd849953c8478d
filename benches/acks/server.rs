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
    pub(crate) fn anonymous(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the line");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    /// Entries that are durable and not searchable yet.
    pub(crate) fn lag(&self) -> u64 {
        let answer = self.asker().ask("/api/v1/doctor");
        let of = |key: &str| answer["through"][key].as_u64().expect("a number");
        of("ledger") - of("entries")
    }

    /// Waits until everything durable is searchable.
    pub(crate) fn settle(&self) {
        let began = Instant::now();
        while self.lag() > 0 {
            assert!(began.elapsed() < Duration::from_mins(10), "it never becomes searchable");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A connection to the api.
    pub(crate) fn asker(&self) -> Asker {
        let stream = TcpStream::connect(self.api.expect("an api")).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        Asker { stream: BufReader::new(stream) }
    }
}

/// A connection over which questions are asked.
pub(crate) struct Asker {
    stream: BufReader<TcpStream>,
}

impl Asker {
    /// The JSON at a path. While the server says that it cannot answer yet, it is asked again.
    pub(crate) fn ask(&mut self, path: &str) -> serde_json::Value {
        let began = Instant::now();
        loop {
            if let Some(answer) = self.once(path) {
                return answer;
            }
            assert!(began.elapsed() < Duration::from_mins(1), "{path}: always 503");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// None where the answer is 503.
    fn once(&mut self, path: &str) -> Option<serde_json::Value> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: b\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).expect("ask");
        let (mut line, mut length, mut busy) = (String::new(), 0, false);
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("an answer");
            if line.trim().is_empty() {
                break;
            }
            if line.starts_with("HTTP") {
                busy = line.contains(" 503 ");
                assert!(busy || line.contains(" 200 "), "{path}: {line}");
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a document");
        (!busy).then(|| serde_json::from_slice(&body).expect("JSON"))
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
