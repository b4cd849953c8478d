//! One request on one connection, with the source address and the kind of every failure in our hands.

use std::{
    io::{Error, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// How long an answer is waited for before it counts as none.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoAnswer {
    /// Nobody listened.
    Refused,
    /// The connection was reset, or closed before an answer.
    Reset,
    /// Nothing came for [`PATIENCE`].
    Timeout,
    /// What came is no HTTP.
    Garbage,
    /// We could not even try: no file descriptor, no port.
    Ours,
}

impl From<Error> for NoAnswer {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Self::Reset,
            ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Ours,
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The first and the last entry that it names.
    pub entries: Option<(u64, u64)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// A loopback address for the n-th connection: each has ports of its own, so that a flood does not run out of them.
pub fn source(n: u64) -> Ipv4Addr {
    let part = |shift: u32, most: u64| u8::try_from((n >> shift) % most + 1).unwrap_or(1);
    Ipv4Addr::new(127, part(16, 63), part(8, 254), part(0, 254))
}

/// Connects from that address.
pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream, NoAnswer> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let stream = timeout(PATIENCE, socket.connect(to)).await.map_err(|_| NoAnswer::Timeout)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request and reads the answer.
pub async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<Answer, NoAnswer> {
    timeout(PATIENCE, async {
        // Who refuses early may close before it has read everything; its answer still counts.
        let sent = stream.write_all(request).await;
        match answer(stream).await {
            Err(NoAnswer::Reset) if sent.is_err() => Err(NoAnswer::Reset),
            other => other,
        }
    })
    .await
    .unwrap_or(Err(NoAnswer::Timeout))
}

/// Reads one answer.
pub async fn answer(stream: &mut TcpStream) -> Result<Answer, NoAnswer> {
    let mut bytes = Vec::with_capacity(512);
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(NoAnswer::Reset);
        }
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| NoAnswer::Garbage)?;
    let status = head.get(9..12).and_then(|text| text.parse().ok()).ok_or(NoAnswer::Garbage)?;
    let value = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let entries = value("counterfoil-entry").and_then(|text| match text.split_once('-') {
        None => text.parse().ok().map(|n| (n, n)),
        Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
    });
    let length: usize = value("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(NoAnswer::Reset);
        }
    }
    Ok(Answer { status, entries, body })
}

/// A request on a connection of its own.
pub async fn once(from: Ipv4Addr, to: SocketAddr, request: &[u8]) -> Result<Answer, NoAnswer> {
    let mut stream = connect(from, to).await?;
    exchange(&mut stream, request).await
}

/// A page of the api.
pub async fn page(to: SocketAddr, path: &str) -> Result<Answer, NoAnswer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: counterfoil.test\r\nConnection: close\r\n\r\n");
    once(Ipv4Addr::LOCALHOST, to, request.as_bytes()).await
}

/// A page of the api, as JSON.
pub async fn get(to: SocketAddr, path: &str) -> Result<(u16, serde_json::Value), NoAnswer> {
    let answer = page(to, path).await?;
    Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
}

/// Raises the limit of open files as far as it may be raised, and gives it.
pub fn open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused, the old limit stays; it is asked for again below.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
