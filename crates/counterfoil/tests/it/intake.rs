//! The intake listener from outside: what is taken, what is answered, what is never answered.

use std::io::Write as _;

use crate::common::{Server, entries, fixture, try_request};
use serde_json::{Value, json};

fn server() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    (folder, server)
}

fn raw(server: &Server, head: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    try_request(server.intake, head, body).unwrap()
}

fn entry(server: &Server, head: &str) -> Value {
    let (first, _) = entries(head).expect("an answer names its entry");
    let (status, entry) = server.get(&format!("/api/v1/entries/{first}"));
    assert_eq!(status, 200, "{entry}");
    entry
}

#[test]
fn events_in_every_mode_are_answered_202_with_their_entries() {
    let (_folder, server) = server();
    let body = br#"{"taskRun":{"metadata":{"name":"a","namespace":"ci","uid":"u-1"}}}"#;
    let (status, head) = server.deliver("/", "dev.tekton.event.taskrun.running.v1", "e1", body);
    assert_eq!(status, 202, "{head}");
    assert!(head.to_ascii_lowercase().contains("content-length: 0"), "{head}");
    assert_eq!(entry(&server, &head)["body"]["fact"]["run"]["uid"], "u-1");

    let event = |id: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/s", "type": "dev.tekton.event.taskrun.running.v1",
               "data": {"taskRun": {"metadata": {"name": id, "namespace": "ci", "uid": id}}}})
    };
    let structured = event("s1").to_string();
    let head = format!(
        "POST /events HTTP/1.1\r\nHost: t\r\nContent-Type: application/cloudevents+json; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        structured.len()
    );
    let (status, head, _) = raw(&server, &head, structured.as_bytes());
    assert_eq!((status, entry(&server, &head)["body"]["fact"]["run"]["uid"].as_str()), (202, Some("s1")));

    let batch = Value::Array(vec![event("b1"), event("b2"), event("b3")]).to_string();
    // Chunked, as old senders do it: no length is known before.
    let mut chunked = Vec::new();
    for part in batch.as_bytes().chunks(50) {
        write!(chunked, "{:x}\r\n", part.len()).unwrap();
        chunked.extend_from_slice(part);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let head = "POST /c/prod-eu/events HTTP/1.1\r\nHost: t\r\nContent-Type: application/cloudevents-batch+json\r\n\
                Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let (status, head, _) = raw(&server, head, &chunked);
    let (first, last) = entries(&head).unwrap();
    assert_eq!((status, last - first), (202, 2));
    let third = server.get(&format!("/api/v1/entries/{last}")).1;
    assert_eq!(third["body"]["fact"]["run"]["uid"], "b3");
    assert_eq!(third["body"]["source"]["cluster"], "prod-eu");
    assert_eq!(third["stamp"]["part"], json!([3, 3]));
}

#[test]
fn what_cannot_be_understood_is_kept_and_answered_202() {
    let (_folder, server) = server();
    for (kind, body) in [
        ("dev.tekton.event.taskrun.running.v1", b"{not json".as_slice()),
        ("dev.tekton.event.taskrun.running.v1", b""),
        ("dev.tekton.event.taskrun.running.v1", b"\xff\xfe\x00"),
        ("dev.tekton.event.unheard.of.v9", b"{}"),
        ("com.example.anything", b"null"),
    ] {
        let (status, head) = server.deliver("/events", kind, "x", body);
        assert_eq!(status, 202, "{kind} {body:?}: {head}");
        let entry = entry(&server, &head);
        assert!(entry["body"]["fact"]["opaque"]["reason"].is_string(), "{entry:#}");
        assert_eq!(entry["body"]["payload"]["class"], "events");
    }
    // No envelope at all is still not a 400: a 4xx would lose it just the same.
    let head = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(&server, head, b"hello").0, 202);
}

#[test]
fn a_redirected_delivery_is_refused_and_counted() {
    let (_folder, server) = server();
    let head = "GET /events HTTP/1.1\r\nHost: t\r\nCe-Id: 1\r\nCe-Type: dev.tekton.event.taskrun.running.v1\r\nConnection: close\r\n\r\n";
    let (status, _, body) = raw(&server, head, b"");
    assert_eq!(status, 405);
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert!(problem["hint"].as_str().unwrap().contains("redirect"), "{problem}");
    let metrics = server.get("/metrics").1;
    assert!(metrics.as_str().unwrap().contains("counterfoil_intake_refused_total{reason=\"redirected_delivery\"} 1"));
}

#[test]
fn too_large_is_413_before_the_body_is_read() {
    let (_folder, server) = server();
    let length = (4 << 20) + 1;
    let head = format!(
        "POST /events HTTP/1.1\r\nHost: t\r\nCe-Id: 1\r\nCe-Source: s\r\nCe-Type: t\r\nCe-Specversion: 1.0\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(raw(&server, &head, b"").0, 413);
}

#[test]
fn secrets_reach_neither_leaf_nor_payload() {
    let (_folder, server) = server();
    let body = br#"{"Authorization":["Bearer aaaaaaaabbbbbbbbccccccccdddddddd"],"X-Secret-Token":["t0ps3cret-value"],"X-Github-Event":["push"]}"#;
    let (status, head) = server.deliver("/", "dev.tekton.event.triggers.started.v1", "ev-1", body);
    assert_eq!(status, 202);
    let entry = entry(&server, &head);
    let text = entry.to_string();
    assert!(!text.contains("aaaaaaaabbbbbbbb") && !text.contains("t0ps3cret-value"), "{text}");
    assert!(text.contains("[redacted:"), "{text}");
    assert!(!entry["body"]["redacted"].as_array().unwrap().is_empty());
    // Nor does a search find it, nor any file of the data folder.
    server.settled();
    let (status, found) = server.get("/api/v1/search?q=%22t0ps3cret-value%22");
    assert_eq!((status, found["total"].as_u64()), (200, Some(0)), "{found}");
    let data = server.data().to_owned();
    server.stop();
    let mut folders = vec![data];
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                let found = bytes.windows(15).any(|w| w == b"t0ps3cret-value");
                assert!(!found, "the secret is in {}", path.display());
            }
        }
    }
}

#[test]
fn lines_by_http_plain_and_packed_with_what_is_declared() {
    let (_folder, server) = server();
    let log = fixture("mesh/c-renewed-not-reloaded/gateway/error.log.gz");
    let path = "/logs/nginx-error?source=gateway&namespace=shop&workload=gateway&node=node-1&zone=Europe%2FBerlin";
    let (status, head) = server.post(path, &log);
    assert_eq!(status, 202, "{head}");
    let plain = entry(&server, &head);
    assert_eq!(
        plain["body"]["declared"],
        json!({"namespace": "shop", "workload": "gateway", "node": "node-1", "zone": "Europe/Berlin"})
    );
    let account = &plain["body"]["fact"]["import"];
    assert_eq!(account["lines"], memchr::memchr_iter(b'\n', &log).count());
    // Local time of Berlin in November is one hour ahead of UTC.
    assert_eq!(account["oldest"], "2026-11-23T14:05:18Z");

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&log).unwrap();
    let packed = packed.finish().unwrap();
    let head = format!(
        "POST /logs/nginx-error?source=gateway HTTP/1.1\r\nHost: t\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        packed.len()
    );
    let (status, head, _) = raw(&server, &head, &packed);
    assert_eq!(status, 202);
    assert_eq!(entry(&server, &head)["body"]["fact"]["import"]["lines"], account["lines"]);

    let head = "POST /logs/nginx-error?source=gateway HTTP/1.1\r\nHost: t\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\nConnection: close\r\n\r\n";
    let (status, head, _) = raw(&server, head, b"garbage");
    assert_eq!(status, 202);
    assert_eq!(entry(&server, &head)["body"]["fact"]["opaque"]["reason"], "bad_gzip");
}

/// Lines of the test below.
const LINES: u64 = 12_000;

#[test]
fn short_lines_that_make_large_leaves_are_kept_in_several_appends() {
    let (_folder, server) = server();
    // Each becomes a leaf of over 900 bytes: together more than one append may hold with the segments of this test.
    let mut log = Vec::new();
    for n in 0..LINES {
        let (second, high, low) = (n % 60, n / 250, n % 250);
        writeln!(log, "2026/11/23 15:20:{second:02} [info] 7#7: *{n} client sent no required SSL certificate, client: 10.0.{high}.{low}, server: x")
            .unwrap();
    }
    let long = "n".repeat(120);
    let path = format!("/logs/nginx-error?source=ledger&instance={long}&namespace={long}&workload={long}&node={long}");
    let (status, head) = server.post(&path, &log);
    assert_eq!(status, 202, "{head}");
    let (first, last) = entries(&head).unwrap();
    assert!(last - first + 1 > LINES, "{first}..{last}");
    let (_, account) = server.get(&format!("/api/v1/entries/{first}"));
    let lines = account["body"]["fact"]["import"]["lines"].as_u64().unwrap();
    assert!(lines < LINES, "one append holds them all: {lines}");
}

#[test]
fn lines_cannot_take_the_memory_of_events() {
    let (_folder, server) = server();
    // Slow bodies that say they will be long: they hold what has come, not what they promise.
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(server.intake).unwrap();
            let head = "POST /logs/spire?source=x HTTP/1.1\r\nHost: t\r\nContent-Length: 67108864\r\n\r\nx";
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let body = br#"{"taskRun":{"metadata":{"name":"a","namespace":"ci","uid":"u-1"}}}"#;
    assert_eq!(server.deliver("/", "dev.tekton.event.taskrun.running.v1", "e1", body).0, 202);
    drop(slow);
}

#[test]
fn wrong_addresses_say_what_is_wrong() {
    let (_folder, server) = server();
    for (path, word) in [
        ("/logs/nginx-eror?source=x", "nginx-error"),
        ("/logs/nginx-error?source=x&zone=Mars", "Mars"),
        ("/logs/nginx-error?source=x&complete_to=yesterday", "yesterday"),
        ("/nowhere", "/events"),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let (status, _, body) = raw(&server, &head, b"");
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(status, 403, "{path}: {text}");
        assert!(text.contains(word), "{path}: {text}");
    }
}

#[test]
fn a_path_token_lets_in_and_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let secret = folder.path().join("token");
    std::fs::write(&secret, "correct-horse-battery\n").unwrap();
    let config = folder.path().join("c.toml");
    std::fs::write(&config, format!("[[intake.token]]\nname = \"prod\"\nfile = {secret:?}\n")).unwrap();
    assert!(crate::common::program().args(["init", "--data"]).arg(&data).output().unwrap().status.success());
    let server = Server::start_with(&data, &["--config", config.to_str().unwrap()]);
    let kind = "dev.tekton.event.taskrun.running.v1";
    let body = br#"{"taskRun":{"metadata":{"name":"a","namespace":"ci","uid":"u-1"}}}"#;
    assert_eq!(server.deliver("/events", kind, "1", body).0, 401);
    assert_eq!(server.deliver("/t/wrong-token/events", kind, "1", body).0, 401);
    let (status, head) = server.deliver("/t/correct-horse-battery/c/prod/events", kind, "1", body);
    assert_eq!(status, 202);
    assert_eq!(entry(&server, &head)["body"]["submitter"], json!({"by": "path_token", "name": "prod"}));
}

#[test]
fn a_second_process_answers_503_until_the_first_has_ended() {
    let (_folder, first) = server();
    let data = first.data().to_owned();
    let mut second = crate::common::program();
    second.args(["serve", "--intake", "127.0.0.1:0", "--api", "127.0.0.1:0", "--data"]).arg(&data);
    let text = std::process::Stdio::piped();
    let mut second = second.stderr(text).spawn().unwrap();
    // Its log says where it listens while it waits for the lock.
    let log = std::io::BufReader::new(second.stderr.take().unwrap());
    let line =
        std::io::BufRead::lines(log).map_while(Result::ok).find(|l| l.contains("another process holds")).unwrap();
    let at = line.split("intake=").nth(1).unwrap().split_whitespace().next().unwrap();
    let at: std::net::SocketAddr = at.trim_matches(|c: char| !c.is_ascii_alphanumeric()).parse().unwrap();
    let (status, _) = crate::common::deliver(at, "/events", "t", "1", b"{}").unwrap();
    assert_eq!(status, 503);
    let _ = second.kill();
    let _ = second.wait();
}

#[test]
fn a_connection_that_sends_nothing_or_stops_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("c.toml"));
    std::fs::write(&config, "[intake]\nread_timeout_seconds = 1\n").unwrap();
    assert!(crate::common::program().args(["init", "--data"]).arg(&data).output().unwrap().status.success());
    let server = Server::start_with(&data, &["--config", config.to_str().unwrap()]);
    for begun in ["", "P", "POST /events HTTP/1.1\r\nHost: t\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = std::net::TcpStream::connect(server.intake).unwrap();
        stream.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
        stream.write_all(begun.as_bytes()).unwrap();
        // Closed by the server: the read ends, with an answer or without.
        let ended = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
        assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "{begun:?}");
    }
}

#[test]
fn a_sender_that_is_refused_early_sees_the_answer() {
    let (_folder, server) = server();
    let length = (4 << 20) + 1;
    let head = format!(
        "POST /events HTTP/1.1\r\nHost: t\r\nCe-Id: 1\r\nCe-Source: s\r\nCe-Type: t\r\nCe-Specversion: 1.0\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    // The whole body is sent before the answer is read, as simple clients do.
    assert_eq!(raw(&server, &head, &vec![b'x'; length]).0, 413);
    let head = "POST /nowhere HTTP/1.1\r\nHost: t\r\nContent-Length: 2000000\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(&server, head, &vec![b'x'; 2_000_000]).0, 403);
}
