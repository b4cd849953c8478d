//! The read API and the command line over the same data: pages, problems, proofs, tiles, rebuild.

use crate::common::{Server, fixture, program};
use serde_json::Value;

/// A server that was sent one scenario: two sidecars, two agents, the SPIRE server.
fn sent() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let scenario = "mesh/b-svid-expired-token-not-rotated";
    for (format, source, file) in [
        ("spire", "spire-server", "spire-server.log.gz"),
        ("spire", "spire-agent-node-1", "spire-agent-node-1.log.gz"),
        ("spire", "spire-agent-node-2", "spire-agent-node-2.log.gz"),
        ("spiffe-helper", "gateway", "spiffe-helper.gateway.log.gz"),
        ("nginx-access", "ledger", "ledger/access.json.log.gz"),
        ("nginx-access", "gateway", "gateway/access.json.log.gz"),
        ("nginx-error", "ledger", "ledger/error.log.gz"),
        ("nginx-error", "gateway", "gateway/error.log.gz"),
    ] {
        let path = format!("/logs/{format}?source={source}&complete_to=2026-11-23T15:22:18Z");
        let (status, head) = server.post(&path, &fixture(&format!("{scenario}/{file}")));
        assert_eq!(status, 202, "{head}");
    }
    server.settled();
    (folder, server)
}

fn run(arguments: &[&str], server: &Server) -> (bool, String) {
    let address = format!("http://{}", server.api);
    let output = program().args(arguments).args(["--server", &address]).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_broken_handshake_is_explained_over_api_and_command_line() {
    let (_folder, server) = sent();
    let found = server.records("type:handshake.failed cause:svid_expired_token_not_rotated");
    assert!(!found.is_empty());
    for record in &found {
        assert!(!record["evidence"].as_array().unwrap().is_empty(), "{record:#}");
        let run = record["links"].as_array().unwrap().iter().find(|l| l["what"] == "run");
        // No pod list and no audit log was sent: nothing may be linked, and the answer says what is missing.
        if let Some(run) = run {
            assert!(run["target"].is_null() && !run["missing"].as_array().unwrap().is_empty(), "{run:#}");
        }
    }
    let (status, why) = server.get("/api/v1/why?what=gateway-%3Eledger");
    assert_eq!(status, 200);
    assert!(why["through"]["entries"].as_u64().unwrap() > 0);
    let (ok, text) = run(&["why", "gateway->ledger"], &server);
    assert!(ok, "{text}");
    for word in ["CAUSE", "svid_expired_token_not_rotated", "RULED OUT", "MISSING", "as of #"] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    let id = found[0]["id"].as_str().unwrap();
    let (status, record) = server.get(&format!("/api/v1/records/{}", &id[..5]));
    assert_eq!((status, record["record"]["id"].as_str()), (200, Some(id)));
    let (ok, shown) = run(&["show", id], &server);
    assert!(ok && shown.contains(&id[..8]), "{shown}");
}

#[test]
fn pages_follow_each_other_and_wrong_questions_say_what_is_wrong() {
    let (_folder, server) = sent();
    let (_, all) = server.get("/api/v1/search?q=&limit=1000");
    let all: Vec<&Value> = all["hits"].as_array().unwrap().iter().collect();
    let (mut paged, mut after) = (0, String::new());
    loop {
        let (status, page) = server.get(&format!("/api/v1/search?q=&limit=37{after}"));
        assert_eq!(status, 200, "{page}");
        let hits = page["hits"].as_array().unwrap();
        for hit in hits {
            if paged < all.len() {
                assert_eq!(hit, all[paged]);
            }
            paged += 1;
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert!(paged >= all.len());
    for (path, status, word) in [
        ("/api/v1/search?q=tipe%3Ax", 400, "tipe"),
        ("/api/v1/search?q=%28a", 400, "q"),
        ("/api/v1/search?q=a&from=monday", 400, "monday"),
        ("/api/v1/search?querry=a", 400, "querry"),
        ("/api/v1/search?limit=20000", 400, "20000"),
        ("/api/v1/records/ZZZZZZZZ", 404, "ZZZZZZZZ"),
        ("/api/v1/entries/99999999", 404, "99999999"),
        ("/api/v1/nothing", 404, "/api/v1/nothing"),
        ("/tile/..%2f..%2fkeys", 404, "tile"),
    ] {
        let (got, problem) = server.get(path);
        assert_eq!(got, status, "{path}: {problem}");
        assert!(problem.to_string().contains(word), "{path}: {problem}");
    }
    let (ok, text) = run(&["search", "tipe:x"], &server);
    assert!(!ok && text.contains("tipe"), "{text}");
}

#[test]
fn proofs_and_tiles_are_served_and_deleting_the_derived_world_loses_nothing() {
    let (_folder, server) = sent();
    let (status, proof) = server.get("/api/v1/entries/5/proof");
    assert_eq!(status, 200);
    assert!(proof.as_str().unwrap().starts_with("c2sp.org/tlog-proof@v1\n"), "{proof}");
    let (status, checkpoint) = server.get("/checkpoint");
    assert_eq!(status, 200);
    assert!(checkpoint.as_str().unwrap().lines().count() >= 5, "{checkpoint}");
    assert_eq!(server.get("/tile/0/000").0, 200);
    assert_eq!(server.get("/readyz").0, 200);
    assert_eq!(server.get("/livez").0, 200);

    // A folder that nobody serves answers by itself; once with what the server left, once from the ledger alone.
    let data = server.data().to_owned();
    server.stop();
    let ask = || {
        let query = "type:handshake.failed OR type:source.blind OR type:credential.rotated OR type:credential.stalled";
        let mut command = program();
        command.args(["search", query, "--limit", "1000", "-o", "json", "--data"]).arg(&data);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["hits"].clone()
    };
    let before = ask();
    assert!(before.as_array().unwrap().len() > 10, "{before:#}");
    std::fs::remove_dir_all(data.join("derived")).unwrap();
    assert_eq!(ask(), before);
}
