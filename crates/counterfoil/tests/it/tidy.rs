//! The house rules that a compiler does not check: which crate may know which, and who may fsync, spawn, exit and read
//! the environment (ARCHITECTURE.md, invariants 9 and 10).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Crate, our crates that it may use, outside crates that it must not know.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("model", &[], &["tokio", "axum", "hyper", "http", "tantivy", "chrono-tz", "getrandom", "rand", "tracing", "ureq"]),
    ("ledger", &[], &["tokio", "axum", "hyper", "http", "tantivy", "cloudevents-sdk"]),
    ("ingest", &["model"], &["tokio", "axum", "hyper", "tantivy", "getrandom", "rand"]),
    ("correlator", &["model"], &["tokio", "axum", "hyper", "http", "tantivy", "getrandom", "rand", "tracing", "ureq"]),
    ("indexer", &["model"], &["tokio", "axum", "hyper", "http", "ureq"]),
    ("counterfoil", &["model", "ledger", "ingest", "correlator", "indexer"], &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Sources of the crates, without their tests.
fn sources(of: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![of.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
                found.push((path.strip_prefix(root()).unwrap().display().to_string(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources under {}", of.display());
    found
}

fn all_sources() -> Vec<(String, String)> {
    TABLE.iter().flat_map(|(name, ..)| sources(&root().join("crates").join(name).join("src"))).collect()
}

#[test]
fn crates_know_only_whom_they_may() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = TABLE.iter().map(|(name, ..)| *name).collect();
    for (name, may, must_not) in TABLE {
        let package = packages.iter().find(|p| p["name"] == *name).unwrap_or_else(|| panic!("no crate {name}"));
        assert_eq!(package["publish"], Value::Array(Vec::new()), "{name} must not be published");
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["kind"] == "dev" {
                continue;
            }
            let other = dependency["name"].as_str().unwrap();
            if ours.contains(other) {
                assert!(may.contains(&other), "{name} must not use {other}");
            }
            assert!(!must_not.contains(&other), "{name} must not know {other}");
            if other == "chrono" && matches!(*name, "model" | "correlator") {
                let features = dependency["features"].as_array().unwrap();
                let clock = features.iter().any(|f| f == "clock" || f == "now");
                assert!(!clock && dependency["uses_default_features"] == false, "{name} must not have a clock");
            }
        }
    }
    let listed: BTreeSet<&str> = packages
        .iter()
        .filter(|p| p["manifest_path"].as_str().unwrap().contains("/crates/"))
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert_eq!(listed, ours, "every crate has a row in the table");
}

/// Who may say what, by file.
fn only(word: &str, allowed: &[&str]) {
    for (path, text) in all_sources() {
        let says = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
        let may = allowed.iter().any(|a| path.starts_with(a));
        assert!(!says || may, "{path} says `{word}`; only {allowed:?} may");
    }
}

#[test]
fn pure_crates_know_no_clock_file_or_randomness() {
    for name in ["model", "correlator"] {
        for (path, text) in sources(&root().join("crates").join(name).join("src")) {
            for word in [
                "SystemTime",
                "Instant::",
                "std::fs",
                "File::",
                "std::env",
                "std::net",
                "HashMap",
                "HashSet",
                "f64",
                "f32",
                "thread",
            ] {
                let says = text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(word));
                assert!(!says, "{path} says `{word}`");
            }
        }
    }
}

#[test]
fn only_durable_syncs() {
    for word in ["sync_all(", "sync_data(", "fdatasync", "fsync("] {
        only(word, &["crates/ledger/src/durable.rs", "crates/ledger/src/simulated.rs"]);
    }
}

#[test]
fn only_serve_spawns() {
    // The ledger's own threads are part of an open ledger; those of a verification end before it does; `demo` starts
    // this program as a process.
    let allowed = ["crates/counterfoil/src/serve", "crates/ledger/src/ledger.rs"];
    for word in ["thread::spawn", "tokio::spawn", "Builder::new().name(", ".spawn("] {
        let mut allowed = allowed.to_vec();
        if word == ".spawn(" {
            allowed.push("crates/ledger/src/verify/parallel.rs");
            allowed.push("crates/counterfoil/src/demo");
        }
        only(word, &allowed);
    }
}

#[test]
fn only_main_exits_and_only_config_reads_the_environment() {
    only("process::exit", &[]);
    only(
        "ExitCode",
        &["crates/counterfoil/src/main.rs", "crates/counterfoil/src/command.rs", "crates/counterfoil/src/verify.rs"],
    );
    for word in ["env::var", "env::vars"] {
        only(word, &["crates/counterfoil/src/config.rs"]);
    }
}

#[test]
fn files_are_small_enough_to_read() {
    for (path, text) in all_sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "{path} has {lines} lines");
    }
}
