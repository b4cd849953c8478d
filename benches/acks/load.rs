//! Senders: each sends one event after the other and waits for the answer.

use crate::event::Event;
use rustix::{
    net::{AddressFamily, SocketType, bind, connect, socket, sockopt::set_tcp_nodelay},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// One round.
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    pub(crate) events: usize,
    pub(crate) senders: usize,
    pub(crate) round: usize,
    /// Events a second; none: as many as can be.
    pub(crate) pace: Option<usize>,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) rate: f64,
    times: Vec<Duration>,
    /// Entry of each event, and when it was acknowledged.
    pub(crate) acks: Vec<(u64, Instant)>,
}

impl Outcome {
    /// The time in milliseconds that this share of the events was answered within.
    pub(crate) fn at(&self, share: f64) -> f64 {
        at(&self.times, share)
    }
}

/// The time in milliseconds that this share of the times, which are sorted, is not above.
pub(crate) fn at(times: &[Duration], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let index = (float(times.len() - 1) * share).ceil() as usize;
    times[index].as_secs_f64() * 1000.0
}

/// An event's way there and back.
struct Sent {
    took: Duration,
    entry: u64,
    acknowledged: Instant,
}

/// The entry that an answer names.
fn entry(answer: &str) -> u64 {
    let line = answer.lines().find_map(|line| line.strip_prefix("counterfoil-entry: "));
    line.and_then(|entry| entry.parse().ok()).unwrap_or(0) // the bare server names none
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
pub(crate) fn float(n: usize) -> f64 {
    n as f64
}

/// Raises the limit of open files to what is allowed, and gives it.
pub(crate) fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

impl Load {
    pub(crate) fn run(&self, event: &Event, keep_alive: bool) -> Outcome {
        let next = AtomicUsize::new(0);
        let began = Instant::now();
        let sent: Vec<Sent> = thread::scope(|scope| {
            let senders: Vec<_> = (0..self.senders)
                .map(|sender| {
                    scope.spawn({
                        let next = &next;
                        move || self.send(sender, next, began, event, keep_alive)
                    })
                })
                .collect();
            senders.into_iter().flat_map(|sender| sender.join().expect("a sender ends")).collect()
        });
        let rate = float(self.events) / began.elapsed().as_secs_f64();
        let mut times: Vec<Duration> = sent.iter().map(|sent| sent.took).collect();
        times.sort();
        Outcome { rate, times, acks: sent.iter().map(|sent| (sent.entry, sent.acknowledged)).collect() }
    }

    fn send(&self, sender: usize, next: &AtomicUsize, began: Instant, event: &Event, keep_alive: bool) -> Vec<Sent> {
        let (mut all, mut request, mut answer) = (Vec::new(), Vec::new(), vec![0; 4096]);
        let mut kept: Option<TcpStream> = None;
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= self.events {
                return all;
            }
            if let Some(pace) = self.pace {
                let due = began + Duration::from_secs_f64(float(n) / float(pace));
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let id = self.round * self.events + n;
            request.clear();
            let close = if keep_alive { "" } else { "Connection: close\r\n" };
            write!(
                request,
                "POST /events HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\nUser-Agent: Go-http-client/1.1\r\n\
                 Ce-Id: {id}\r\nCe-Source: /apis///namespaces/ci//bench\r\nCe-Specversion: 1.0\r\n\
                 Ce-Type: dev.tekton.event.taskrun.successful.v1\r\nContent-Type: application/json\r\n{close}\r\n",
                event.len()
            )
            .expect("writing into memory");
            event.write(id, &mut request);
            let sent = Instant::now();
            let mut stream = kept.take().unwrap_or_else(|| self.connect(sender));
            stream.write_all(&request).expect("send");
            let mut length = 0;
            loop {
                let read = stream.read(&mut answer[length..]).expect("an answer");
                length += read;
                // The answer has no body; with `Connection: close` its end is the end of the connection.
                if read == 0 || (keep_alive && answer[..length].ends_with(b"\r\n\r\n")) {
                    break;
                }
            }
            let acknowledged = Instant::now();
            let text = String::from_utf8_lossy(&answer[..length]);
            assert!(text.starts_with("HTTP/1.1 202"), "{text}");
            all.push(Sent { took: acknowledged - sent, entry: entry(&text), acknowledged });
            if keep_alive {
                kept = Some(stream);
            }
        }
    }

    /// A connection from an address of the sender's own, so that ports do not run out.
    fn connect(&self, sender: usize) -> TcpStream {
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        let host = u8::try_from(sender % 250 + 1).expect("at most 250");
        let round = u8::try_from(self.round % 250 + 1).expect("at most 250");
        bind(&fd, &SocketAddrV4::new(Ipv4Addr::new(127, 1, round, host), 0)).expect("an address in 127.0.0.0/8");
        connect(&fd, &self.to).expect("connect");
        set_tcp_nodelay(&fd, true).expect("nodelay");
        TcpStream::from(fd)
    }
}
