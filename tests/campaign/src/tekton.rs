//! Tekton's sender: a new connection for each attempt, 11 attempts, waits of 20 ms doubled up to 10.24 s (20.46 s in
//! all), repeated after a broken connection and after the statuses below; after any other answer, and after the last
//! attempt, the event is gone (`tektoncd/pipeline`, the CloudEvents SDK's `protocol/http/protocol_retry.go`).

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::http::{self, NoAnswer};

/// Answers after which it tries again.
const AGAIN: [u16; 7] = [404, 413, 425, 429, 502, 503, 504];

/// Attempts in all.
const ATTEMPTS: u32 = 11;

/// What became of one event.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The entry that keeps it, or why it is gone.
    pub outcome: Result<u64, String>,
    /// From the first attempt to the end.
    pub took: Duration,
    /// The first attempt was answered 202.
    pub at_once: bool,
    /// Every attempt that failed: the status, or why there was no answer.
    pub failures: Vec<Result<u16, NoAnswer>>,
}

/// Delivers one event.
pub async fn deliver(from: Ipv4Addr, to: SocketAddr, request: &[u8]) -> Delivered {
    let began = Instant::now();
    let mut failures = Vec::new();
    let mut wait = Duration::from_millis(20);
    let outcome = loop {
        match http::once(from, to, request).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                break answer.entries.map(|(first, _)| first).ok_or_else(|| "a 2xx that names no entry".into());
            }
            Ok(answer) => {
                failures.push(Ok(answer.status));
                if !AGAIN.contains(&answer.status) {
                    break Err(format!("given up after a {}", answer.status));
                }
            }
            Err(why) => failures.push(Err(why)),
        }
        if failures.len() == ATTEMPTS as usize {
            break Err(format!("given up after {ATTEMPTS} attempts, the last one: {:?}", failures.last()));
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    };
    Delivered { outcome, took: began.elapsed(), at_once: failures.is_empty(), failures }
}
