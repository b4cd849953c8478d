//! The server's self-check: a round is an entry, damage is one at once, and both stand in `doctor` and the metrics.

use std::{path::Path, time::Instant};

use serde_json::Value;

use crate::{
    common::{PATIENCE, Server, program},
    retention::aged,
};

/// The state in `doctor` once `ready` says so.
fn state(server: &Server, ready: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let (status, answer) = server.get("/api/v1/doctor");
        if status == 200 && ready(&answer["selfcheck"]) {
            return answer["selfcheck"].clone();
        }
        assert!(began.elapsed() < PATIENCE, "{answer}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What the ledger's entries about itself say, by their word.
fn notes(data: &Path, what: &str) -> Vec<String> {
    let reader = ledger::Reader::open(data).unwrap();
    let mut said = Vec::new();
    for index in 0..reader.size() {
        let leaf = reader.entry(index).unwrap().unwrap();
        let body: Value = serde_json::from_slice(ledger::split_leaf(&leaf).unwrap().1).unwrap();
        let note = &body["fact"]["ledger"];
        if note["what"] == what {
            said.push(note["detail"].as_str().unwrap().to_owned());
        }
    }
    said
}

/// So that nothing is pruned under the test's hands.
fn keep_all(folder: &Path, data: &Path) -> String {
    let path = folder.join("keep.toml");
    let text =
        format!("data = {:?}\n[retention]\nevents.keep_days = \"off\"\nlines.keep_days = \"off\"\n", data.display());
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_round_reads_everything_and_is_an_entry() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    aged(&data);
    let config = keep_all(folder.path(), &data);
    let server = Server::start_with(&data, &["--config", &config]);
    let ended = state(&server, |state| state["rounds"] == 1);
    assert_eq!((ended["payloads"].as_u64(), ended["damaged"].as_u64()), (Some(6), Some(0)), "{ended}");
    assert!(ended["entries"].as_u64() >= Some(6) && ended["bytes"].as_u64() > Some(0), "{ended}");
    let (_, metrics) = server.get("/metrics");
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("counterfoil_selfcheck_rounds_total 1\n"), "{metrics}");
    assert!(metrics.contains("counterfoil_selfcheck_damaged_total 0\n"), "{metrics}");
    server.stop();
    assert_eq!(notes(&data, "checked").len(), 1);
    assert_eq!(notes(&data, "damaged"), Vec::<String>::new());

    // The next process does not begin again before its time.
    let server = Server::start_with(&data, &["--config", &config]);
    server.settled();
    assert_eq!(state(&server, |_| true)["rounds"], 1);
    server.stop();
    assert_eq!(notes(&data, "checked").len(), 1);
}

#[test]
fn damage_is_an_entry_at_once_and_stands_in_doctor() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let entries = aged(&data);
    let config = keep_all(folder.path(), &data);
    // A byte of the oldest payload of lines.
    let day = data.join("ledger/payload/lines/2001-01-01");
    let block = std::fs::read_dir(&day).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&block).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&block, bytes).unwrap();

    let server = Server::start_with(&data, &["--config", &config]);
    let ended = state(&server, |state| state["rounds"] == 1);
    assert_eq!((ended["payloads"].as_u64(), ended["damaged"].as_u64()), (Some(5), Some(1)), "{ended}");
    assert_eq!(ended["first_damage"]["entry"].as_u64(), Some(entries[1]));
    let (_, metrics) = server.get("/metrics");
    assert!(metrics.as_str().unwrap().contains("counterfoil_selfcheck_damaged_total 1\n"), "{metrics}");
    let address = format!("http://{}", server.api);
    let output = program().args(["doctor", "--server", &address]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("DAMAGED: 1, the first #1 in payload/lines/2001-01-01/"), "{text}");
    server.stop();
    let said = notes(&data, "damaged");
    assert!(said.len() == 1 && said[0].contains("#1") && said[0].contains("payload/lines/2001-01-01/"), "{said:?}");
}
