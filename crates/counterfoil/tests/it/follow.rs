//! Followed files: what logrotate, copytruncate, restarts and partial lines do to them.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::common::{PATIENCE, Server, program};

struct Followed {
    _folder: tempfile::TempDir,
    log: PathBuf,
    config: PathBuf,
    data: PathBuf,
}

impl Followed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (log, config, data) =
            (folder.path().join("error.log"), folder.path().join("c.toml"), folder.path().join("data"));
        let text = format!("[[source]]\nname = \"ledger\"\nformat = \"nginx-error\"\npath = \"{}\"\n", log.display());
        fs::write(&config, text).unwrap();
        assert!(program().args(["init", "--data"]).arg(&data).output().unwrap().status.success());
        Self { _folder: folder, log, config, data }
    }

    fn serve(&self) -> Server {
        Server::start_with(&self.data, &["--config", self.config.to_str().unwrap()])
    }
}

/// A line that becomes a fact, told apart by its client.
fn line(n: u32) -> String {
    format!(
        "2026/11/23 15:20:{:02} [info] 7#7: *{n} client sent plain HTTP request to HTTPS port while reading client \
         request headers, client: 10.0.{}.{}, server: ledger, request: \"GET / HTTP/1.1\", host: \"x\"\n",
        n % 60,
        n / 250,
        n % 250
    )
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Clients of all handshake entries, in the order of the ledger, and the kinds of gaps.
fn taken(server: &Server) -> (Vec<String>, Vec<String>) {
    let (mut clients, mut gaps) = (Vec::new(), Vec::new());
    let mut index = 0;
    loop {
        let (status, entry) = server.get(&format!("/api/v1/entries/{index}"));
        if status != 200 {
            return (clients, gaps);
        }
        let fact = &entry["body"]["fact"];
        if let Some(client) = fact["handshake"]["client"].as_str() {
            clients.push(client.to_owned());
        }
        if let Some(what) = fact["gap"]["what"].as_str() {
            gaps.push(what.to_owned());
        }
        index += 1;
    }
}

fn clients(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect()
}

fn wait_for(server: &Server, count: usize) -> (Vec<String>, Vec<String>) {
    let began = Instant::now();
    loop {
        let found = taken(server);
        if found.0.len() >= count {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{} of {count} lines came", found.0.len());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn rename_and_reopen_lose_nothing_and_double_nothing() {
    let at = Followed::new();
    append(&at.log, &(0..5).map(line).collect::<String>());
    let server = at.serve();
    wait_for(&server, 5);
    // logrotate renames; NGINX writes on into the renamed file until it is told to reopen.
    let old = at.log.with_extension("log.1");
    fs::rename(&at.log, &old).unwrap();
    append(&old, &(5..8).map(line).collect::<String>());
    append(&at.log, &(8..10).map(line).collect::<String>());
    append(&old, &line(10));
    let (mut found, gaps) = wait_for(&server, 11);
    found.sort();
    let mut wanted = clients(0..11);
    wanted.sort();
    assert_eq!((found, gaps), (wanted, Vec::new()));
    // Killed in the middle, it goes on where the ledger says it was.
    server.kill();
    append(&at.log, &line(11));
    let server = at.serve();
    let (found, gaps) = wait_for(&server, 12);
    assert_eq!((found.len(), gaps), (12, Vec::new()));
    server.stop();
}

#[test]
fn a_half_line_waits_for_its_end() {
    let at = Followed::new();
    let whole = line(1);
    let (first, second) = whole.split_at(60);
    append(&at.log, &line(0));
    let server = at.serve();
    append(&at.log, first);
    wait_for(&server, 1);
    std::thread::sleep(Duration::from_millis(1200)); // two looks see the half line
    assert_eq!(taken(&server).0.len(), 1);
    append(&at.log, second);
    assert_eq!(wait_for(&server, 2).0, clients(0..2));
    server.stop();
}

#[test]
fn truncation_is_a_gap_and_reading_goes_on() {
    let at = Followed::new();
    append(&at.log, &(0..3).map(line).collect::<String>());
    let server = at.serve();
    wait_for(&server, 3);
    // copytruncate, and at once more than was there before.
    fs::write(&at.log, (3..9).map(line).collect::<String>()).unwrap();
    let (found, gaps) = wait_for(&server, 9);
    assert_eq!((found, gaps), (clients(0..9), vec!["file_truncated".to_owned()]));
    server.stop();
}

#[test]
fn while_we_were_away_a_renamed_file_is_found_and_a_lost_one_is_a_gap() {
    let at = Followed::new();
    append(&at.log, &(0..2).map(line).collect::<String>());
    let server = at.serve();
    wait_for(&server, 2);
    server.stop();
    append(&at.log, &line(2));
    fs::rename(&at.log, at.log.with_extension("log.1")).unwrap();
    append(&at.log, &line(3));
    let server = at.serve();
    let (found, gaps) = wait_for(&server, 4);
    assert_eq!((found, gaps), (clients(0..4), Vec::new()));
    server.stop();
    fs::remove_file(at.log.with_extension("log.1")).unwrap();
    fs::remove_file(&at.log).unwrap();
    append(&at.log, &line(4));
    let server = at.serve();
    let (found, gaps) = wait_for(&server, 5);
    assert_eq!(found, clients(0..5));
    assert!(gaps.contains(&"file_lost".to_owned()), "{gaps:?}");
    server.stop();
}

#[test]
fn doctor_says_how_far_a_followed_file_is_complete() {
    let at = Followed::new();
    append(&at.log, &line(0));
    let server = at.serve();
    wait_for(&server, 1);
    let began = Instant::now();
    loop {
        let (_, doctor) = server.get("/api/v1/doctor");
        let sources = doctor["sources"].as_array().cloned().unwrap_or_default(); // none until the index is open
        let source = sources.into_iter().find(|s| s["source"]["name"] == "ledger");
        if source.as_ref().is_some_and(|s| s["complete_to"].is_string() && s["behind"] == 0) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{doctor:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
    server.stop();
}
