//! What is sent: TaskRun events and NGINX lines of chosen sizes, each different, without anything that looks like a
//! secret, so that what is kept is what was sent, byte for byte.

use std::{fmt::Write as _, sync::OnceLock};

use crate::rng::Rng;

/// Runs that the events are about. Few, so that a long campaign is a long history and not a large cluster.
const RUNS: u64 = 500;

const WORDS: [&str; 16] = [
    "build",
    "layer",
    "compile",
    "checking",
    "target",
    "linking",
    "module",
    "finished",
    "fetching",
    "release",
    "warning",
    "image",
    "unpacking",
    "resolved",
    "copied",
    "tests",
];

/// The body of a TaskRun event of about so many bytes.
pub fn task_run(rng: &mut Rng, id: &str, bytes: usize) -> Vec<u8> {
    let run = rng.between(1, RUNS);
    let mut body = format!(
        r#"{{"taskRun":{{"metadata":{{"name":"build-{run}","namespace":"ci","uid":"00000000-0000-4000-8000-{run:012}","annotations":{{"delivery":"{id}","note":""#
    );
    let tail = r#""}},"spec":{"serviceAccountName":"builder"},"status":{"podName":"build-pod","conditions":[{"type":"Succeeded","status":"Unknown","reason":"Running","lastTransitionTime":"2026-11-23T15:20:59Z"}]}}}"#;
    let filler = filler();
    while let Some(left) = bytes.checked_sub(body.len() + tail.len()).filter(|left| *left > 0) {
        let at = usize::try_from(rng.between(0, filler.len() as u64 - 1)).unwrap_or_default();
        body.push_str(&filler[at..filler.len().min(at + left)]);
    }
    body.push_str(tail);
    body.into_bytes()
}

/// What build logs are made of; made once, since senders must be faster than what they try.
fn filler() -> &'static str {
    static FILLER: OnceLock<String> = OnceLock::new();
    FILLER.get_or_init(|| {
        let (mut rng, mut text) = (Rng::new(0), String::new());
        while text.len() < 256 << 10 {
            let bits = rng.bits();
            let word = WORDS[(bits % 16) as usize];
            let _ = write!(text, "{word} {} ", (bits >> 8) % 100_000); // writing to a String cannot fail
        }
        text
    })
}

/// The whole request of a delivery in binary mode, as Tekton's client writes it.
pub fn delivery(id: &str, body: &[u8], keep_alive: bool) -> Vec<u8> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let mut request = format!(
        "POST / HTTP/1.1\r\nHost: counterfoil.test\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\n\
         Ce-Id: {id}\r\nCe-Source: /apis///namespaces/ci//build\r\nCe-Specversion: 1.0\r\nCe-Subject: build\r\n\
         Ce-Time: 2026-11-23T15:20:59Z\r\nCe-Type: dev.tekton.event.taskrun.running.v1\r\n\
         Content-Type: application/json\r\nConnection: {connection}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// So many lines of an NGINX error log, each with a line end.
pub fn lines(rng: &mut Rng, id: &str, count: u64) -> Vec<u8> {
    let mut text = String::new();
    for line in 0..count {
        let (second, pid) = (rng.between(0, 59), rng.between(10, 99));
        let _ = writeln!(
            text,
            "2026/11/23 15:20:{second:02} [error] {pid}#{pid}: *{line} upstream timed out (110: Connection timed out) \
             while connecting to upstream, client: 10.0.0.{}, server: shop, request: \"GET /{id} HTTP/1.1\", upstream: \
             \"http://10.1.0.{}:8080/{id}\", host: \"shop\"",
            rng.between(1, 250),
            rng.between(1, 250),
        ); // writing to a String cannot fail
    }
    text.into_bytes()
}

/// The whole request that posts lines.
pub fn post(body: &[u8], keep_alive: bool) -> Vec<u8> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let mut request = format!(
        "POST /logs/nginx-error?source=posted HTTP/1.1\r\nHost: counterfoil.test\r\nContent-Length: {}\r\n\
         Connection: {connection}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}
