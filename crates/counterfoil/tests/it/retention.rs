//! Retention from outside: the dry run, `--apply`, and a server that does it by itself.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use ledger::{Append, Clock, Ledger, ManualClock, Payload};
use serde_json::{Value, json};

use crate::common::{PATIENCE, Server, program};

/// A folder with a payload of each class from 2001, from a year that is not over, and from today. Gives their entries.
pub(crate) fn aged(data: &Path) -> Vec<u64> {
    assert!(program().arg("init").arg("--data").arg(data).status().unwrap().success());
    let clock = Arc::new(ManualClock::default());
    let mut config = ledger::Config::new(data);
    config.clock = Clock::Manual(Arc::clone(&clock));
    config.limits = ledger::Limits::small();
    let today = chrono::Utc::now().timestamp_micros();
    let mut entries = Vec::new();
    for (wall, days, classes) in [
        (978_307_200_000_000, 0, ["events", "lines"]),
        (today - 30 * 86_400_000_000, 200, ["events", "lines"]),
        (today, 4, ["events", "lines"]),
    ] {
        clock.set_wall(wall);
        let ledger = opened(&config);
        // The ledger's own clock goes on while it is open; the wall clock jumps.
        clock.advance(Duration::from_hours(24) * days);
        clock.set_wall(wall);
        for class in classes {
            let payload = Payload::new(format!("{class} at {wall}\n").into_bytes(), class, "identity").unwrap();
            let body = json!({
                "v": 1,
                "source": {"cluster": "default", "kind": "nginx-error", "name": "old"},
                "parser": "nginx-error/1",
                "observed_at": "2026-11-24T12:00:00Z",
                "submitter": {"by": "local"},
                "payload": payload.reference(),
                "fact": {"opaque": {"reason": "not_json", "head": "x"}},
            });
            let append = Append {
                lane: ledger::Lane::Push,
                bodies: vec![body.to_string().into_bytes()],
                payload: Some(payload),
                position: None,
            };
            entries.push(ledger.append_wait(append).unwrap().first);
        }
        ledger.close().unwrap();
    }
    entries
}

/// Opens the ledger. Another test's process that is just being started can hold a copy of the lock until it runs.
fn opened(config: &ledger::Config) -> Ledger {
    let began = Instant::now();
    loop {
        match Ledger::open(config) {
            Err(ledger::Error::Locked { .. }) if began.elapsed() < PATIENCE => std::thread::yield_now(),
            other => return other.unwrap().ledger,
        }
    }
}

fn retention(data: &Path, options: &[&str]) -> (bool, Value) {
    let mut command = program();
    let output = command.args(["retention", "-o", "json", "--data"]).arg(data).args(options).output().unwrap();
    let text = String::from_utf8(if output.status.success() { output.stdout } else { output.stderr }).unwrap();
    (output.status.success(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Payloads per class that go and stay.
fn amounts(plan: &Value) -> Vec<(String, u64, u64)> {
    let of = |class: &Value, what: &str| class[what]["payloads"].as_u64().unwrap();
    let classes = plan["classes"].as_array().unwrap_or_else(|| panic!("{plan}"));
    classes.iter().map(|c| (c["class"].as_str().unwrap().to_owned(), of(c, "goes"), of(c, "stays"))).collect()
}

fn verified(data: &Path) -> Value {
    let output = program().args(["verify", "-o", "json", "--data"]).arg(data).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["outcome"], "verified", "{report:#}");
    report
}

#[test]
fn a_dry_run_changes_nothing_and_apply_does_what_it_said() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let entries = aged(&data);
    let wanted = [("events".to_owned(), 1, 2), ("lines".to_owned(), 2, 1)];
    let (_, plan) = retention(&data, &[]);
    assert_eq!((amounts(&plan), &plan["applied"]), (wanted.to_vec(), &json!(false)));
    assert_eq!(retention(&data, &[]).1["classes"], plan["classes"]);
    assert_eq!(verified(&data)["payloads"], 6);

    // A class on hold keeps everything.
    let held = folder.path().join("held.toml");
    std::fs::write(&held, "[retention.lines]\nhold = true\n[retention.events]\nkeep_days = \"off\"\n").unwrap();
    let (_, plan) = retention(&data, &["--apply", "--config", held.to_str().unwrap()]);
    assert_eq!(amounts(&plan), [("events".to_owned(), 0, 3), ("lines".to_owned(), 0, 3)]);
    assert_eq!(verified(&data)["payloads"], 6);

    let (ok, plan) = retention(&data, &["--apply"]);
    assert!(ok, "{plan}");
    assert_eq!((amounts(&plan), &plan["applied"]), (wanted.to_vec(), &json!(true)));
    let report = verified(&data);
    assert_eq!((&report["payloads"], &report["missing"]), (&json!(3), &json!(0)));
    let by: Vec<u64> = plan["classes"].as_array().unwrap().iter().map(|c| c["pruned_by"].as_u64().unwrap()).collect();
    assert_eq!(report["pruned"], json!({by[0].to_string(): 1, by[1].to_string(): 2}));
    assert_eq!(amounts(&retention(&data, &[]).1), [("events".to_owned(), 0, 2), ("lines".to_owned(), 0, 1)]);

    let show = |entry: u64| {
        let output = program().args(["show", &format!("#{entry}"), "--data"]).arg(&data).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(show(entries[1]).contains(&format!("pruned by #{}", by[1])), "{}", show(entries[1]));
    assert!(show(entries[4]).contains("events at"), "{}", show(entries[4]));
    assert!(show(by[1]).contains("\"pruned\""), "{}", show(by[1]));
}

#[test]
fn what_is_old_by_the_wall_clock_alone_waits_until_somebody_says_that_the_clock_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    aged(&data);
    // By the ledger's own clock the second day's lines are four days old: less than half of nine.
    let settings = folder.path().join("settings.toml");
    std::fs::write(&settings, "[retention.lines]\nkeep_days = 9\n").unwrap();
    let with = |options: &[&str]| retention(&data, &[options, &["--config", settings.to_str().unwrap()]].concat()).1;
    let lines = |plan: &Value| {
        let of = |what: &str| plan["classes"][1][what]["payloads"].as_u64().unwrap();
        (of("goes"), of("waits"), of("stays"))
    };
    assert_eq!(lines(&with(&[])), (1, 1, 1));
    assert_eq!(lines(&with(&["--apply"])), (1, 1, 1));
    assert_eq!(lines(&with(&["--clock-is-right"])), (1, 0, 1));
    assert_eq!(lines(&with(&["--clock-is-right", "--apply"])), (1, 0, 1));
    assert_eq!(verified(&data)["missing"], 0);
}

#[test]
fn a_server_applies_retention_by_itself_and_apply_leaves_it_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let entries = aged(&data);
    let server = Server::start(&data);
    let began = Instant::now();
    let pruned = loop {
        let (status, entry) = server.get(&format!("/api/v1/entries/{}", entries[3]));
        assert_eq!(status, 200, "{entry}");
        if entry["payload_is"] == "pruned" {
            break entry;
        }
        assert_eq!(entry["payload_is"], "kept");
        assert!(began.elapsed() < PATIENCE, "{entry}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let by = pruned["pruned_by"].as_u64().unwrap();
    let (_, said) = server.get(&format!("/api/v1/entries/{by}"));
    assert_eq!(said["body"]["pruned"]["class"], "lines");
    assert_eq!(server.get(&format!("/api/v1/entries/{}", entries[2])).1["payload_is"], "kept");
    let (ok, text) = retention(&data, &["--apply"]);
    assert!(!ok && text.as_str().unwrap().contains("by itself"), "{text}");
    assert_eq!(amounts(&retention(&data, &[]).1).len(), 2);
    server.stop();
    assert_eq!(verified(&data)["missing"], 0);
}
