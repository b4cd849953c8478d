//! `explain`, `import` and `config` on the command line, with recordings as somebody's own files.

use std::path::Path;

use serde_json::Value;

use crate::common::program;

fn recording(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/mesh").join(name)
}

fn run(arguments: &[&str]) -> (bool, String, String) {
    let output = program().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_folder_of_logs_is_explained_with_cause_and_missing_evidence() {
    let folder = recording("b-svid-expired-token-not-rotated");
    let (ok, text, detected) = run(&["explain", folder.to_str().unwrap()]);
    assert!(ok, "{detected}");
    for word in ["svid_expired_token_not_rotated", "[established]", "RULED OUT", "MISSING", "gateway -> "] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    assert!(detected.contains("spire as source \"spire-server\""), "{detected}");
    assert!(detected.contains("truth.json.gz: no known format; left out"), "{detected}");
    // Not a terminal: no colours.
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn without_the_credential_lines_the_cause_is_not_known_and_the_answer_says_what_would_tell() {
    let folder = recording("b-svid-expired-token-not-rotated");
    let of = |file: &str| folder.join(file).display().to_string();
    let ledger = format!("ledger={}", of("ledger/error.log.gz"));
    let gateway = format!("gateway={}", of("gateway/error.log.gz"));
    let (ok, text, error) = run(&["explain", "-o", "json", &ledger, &gateway]);
    assert!(ok, "{error}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let failures: Vec<&Value> = answer["hits"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|hit| hit.get("record"))
        .filter(|r| r["type"] == "handshake.failed" && r["detail"]["handshake"]["verify_code"] == 10)
        .collect();
    assert!(!failures.is_empty(), "{answer:#}");
    for record in failures {
        assert_eq!(record["cause"]["word"], "undetermined", "{record:#}");
        assert!(record["missing"].to_string().contains("SPIRE"), "{record:#}");
    }
}

#[test]
fn a_scenario_file_replays_to_the_same_conclusions() {
    let folder = recording("c-renewed-not-reloaded");
    let (ok, text, error) = run(&["explain", "--as-scenario", folder.to_str().unwrap()]);
    assert!(ok, "{error}");
    let scenario = scenarios::scenario::Scenario::read(&text).unwrap();
    assert!(scenario.entries.len() > 100 && !scenario.expect.is_empty(), "{} entries", scenario.entries.len());
    assert!(text.contains("cause=renewed_on_disk_but_not_reloaded"), "{:?}", scenario.expect);
    let wrong = scenarios::scenario::check(&scenario, &scenarios::fold(&scenario.entries));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_import_is_complete_to_its_end_and_a_second_one_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap().to_owned() + "/data";
    let (ok, _, error) = run(&["import", "--format", "spire", "--source", "x", "--data", &data, "nowhere.log"]);
    assert!(!ok && error.contains("nowhere.log"), "{error}");
    assert!(run(&["init", "--data", &data]).0);
    let folder = recording("e-wrong-spiffe-id-403");
    for _ in 0..2 {
        for (format, source, file) in [
            ("spire", "spire-server", "spire-server.log.gz"),
            ("spire", "spire-agent-node-1", "spire-agent-node-1.log.gz"),
            ("nginx-access", "ledger", "ledger/access.json.log.gz"),
            ("nginx-error", "ledger", "ledger/error.log.gz"),
        ] {
            let file = folder.join(file);
            let (ok, text, error) =
                run(&["import", "--format", format, "--source", source, "--data", &data, file.to_str().unwrap()]);
            assert!(ok && text.contains("entries"), "{error}");
        }
    }
    let (ok, text, error) = run(&[
        "search",
        "type:handshake.failed cause:wrong_spiffe_id_refused_by_policy",
        "-o",
        "json",
        "--data",
        &data,
    ]);
    assert!(ok, "{error}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let hits = answer["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 1, "{answer:#}");
    // 80 calls were refused; each line counts once although it was taken in twice.
    assert_eq!(hits[0]["record"]["count"], 80);
}

#[test]
fn an_unknown_format_and_a_wrong_file_say_what_to_do() {
    let (ok, _, error) = run(&["import", "--format", "nginx", "--source", "x", "y.log"]);
    assert!(!ok && error.contains("nginx-error"), "{error}");
    let (ok, _, error) = run(&["explain", "/dev/null"]);
    assert!(!ok && error.contains("known format"), "{error}");
    let (ok, text, _) = run(&["config", "check"]);
    assert!(
        ok && text.contains("ledger.segment_bytes = 16777216   # environment COUNTERFOIL_LEDGER_SEGMENT_BYTES"),
        "{text}"
    );
    let (ok, _, error) = run(&["verify", "--data", "/nowhere/at/all"]);
    assert!(!ok && error.contains("/nowhere/at/all"), "{error}");
}
