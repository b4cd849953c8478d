//! A real server for tests: the built program on free loopback ports and a temporary folder.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take before a test gives up: generous, since CI machines are slow and busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running server. Killed when dropped.
pub(crate) struct Server {
    process: Child,
    /// Intake address.
    pub(crate) intake: SocketAddr,
    /// Api address.
    pub(crate) api: SocketAddr,
    data: PathBuf,
}

/// The program, with small files so that a test need not zero hundreds of megabytes.
pub(crate) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_counterfoil"));
    program
        .env("COUNTERFOIL_LEDGER_SEGMENT_BYTES", (16 << 20).to_string())
        .env("COUNTERFOIL_LEDGER_RESERVE_BYTES", "65536");
    // A test machine's disk may be nearly full; the space guard has tests of its own.
    program.env("COUNTERFOIL_LEDGER_PAUSE_BELOW_PERCENT", "0");
    program
}

impl Server {
    /// Starts on a data folder, without a configuration file: a missing ledger is created.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// Starts with further options.
    pub(crate) fn start_with(data: &Path, options: &[&str]) -> Self {
        Self::start_in(data, options, &[])
    }

    /// Starts with further options and variables.
    pub(crate) fn start_in(data: &Path, options: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut program = program();
        program.envs(variables.iter().copied());
        Self::start_as(program, data, options)
    }

    /// Starts a program whose environment is as it should be.
    pub(crate) fn start_as(mut program: Command, data: &Path, options: &[&str]) -> Self {
        let serving = data.join("serving.json");
        let _ = std::fs::remove_file(&serving); // of a life that was killed
        let mut process = program
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--intake", "127.0.0.1:0", "--api", "127.0.0.1:0"])
            .args(options)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        loop {
            if let Ok(text) = std::fs::read(&serving) {
                let at: Value = serde_json::from_slice(&text).unwrap();
                let address = |key: &str| at[key].as_str().unwrap().parse().unwrap();
                return Self { process, intake: address("intake"), api: address("api"), data: data.to_owned() };
            }
            assert!(process.try_wait().unwrap().is_none(), "the server ended");
            assert!(began.elapsed() < PATIENCE, "the server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL, as a power cut of the process.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM, and waits for the orderly end.
    pub(crate) fn stop(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.process.wait().unwrap().success());
    }

    /// One request to the api, parsed.
    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, body) =
            request(self.api, &format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"), b"");
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into())))
    }

    /// Posts lines.
    pub(crate) fn post(&self, path: &str, body: &[u8]) -> (u16, String) {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        let (status, head, _) = request(self.intake, &head, body);
        (status, head)
    }

    /// Delivers one event as Tekton does: a connection of its own, binary mode.
    pub(crate) fn deliver(&self, path: &str, kind: &str, id: &str, body: &[u8]) -> (u16, String) {
        deliver(self.intake, path, kind, id, body).expect("a delivery is answered")
    }

    /// Waits until everything acknowledged has been followed.
    pub(crate) fn settled(&self) {
        let began = Instant::now();
        loop {
            let (status, answer) = self.get("/api/v1/doctor");
            if status == 200 && answer["through"]["entries"] == answer["through"]["ledger"] {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "not followed: {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks until the answer is as wanted.
    pub(crate) fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let (_, answer) = self.get(path);
            if wanted(&answer) {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "{path} stays {answer:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Records that a query finds.
    pub(crate) fn records(&self, query: &str) -> Vec<Value> {
        let query = query.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
        let (status, answer) = self.get(&format!("/api/v1/search?limit=1000&q={query}"));
        assert_eq!(status, 200, "{answer}");
        answer["hits"].as_array().unwrap().iter().filter_map(|hit| hit.get("record").cloned()).collect()
    }

    /// The data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended already
        let _ = self.process.wait();
    }
}

/// A delivery that may find nobody: the server may just have been killed.
pub(crate) fn deliver(to: SocketAddr, path: &str, kind: &str, id: &str, body: &[u8]) -> std::io::Result<(u16, String)> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\nCe-Id: {id}\r\n\
         Ce-Source: /apis///namespaces/ci//run\r\nCe-Specversion: 1.0\r\nCe-Type: {kind}\r\n\
         Content-Type: application/json\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let (status, head, _) = try_request(to, &head, body)?;
    Ok((status, head))
}

fn request(to: SocketAddr, head: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    try_request(to, head, body).expect("a request is answered")
}

/// One raw request on a connection of its own: status, head, body.
pub(crate) fn try_request(to: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<(u16, String, Vec<u8>)> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(head.as_bytes())?;
    // A server that refuses early may close before it has read everything; its answer still counts.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        read?;
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
    let mut body = answer[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunk(&body);
    }
    Ok((status, head, body))
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap_or("0").trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < end + 2 + size + 2 {
            break;
        }
        whole.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
    whole
}

/// The entries that an answer's header names.
pub(crate) fn entries(head: &str) -> Option<(u64, u64)> {
    let line =
        head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("counterfoil-entry: ").map(str::to_owned))?;
    let line = line.trim();
    match line.split_once('-') {
        None => line.parse().ok().map(|n| (n, n)),
        Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
    }
}

/// A packed recording of `tests/fixtures`.
pub(crate) fn fixture(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(path);
    let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}
