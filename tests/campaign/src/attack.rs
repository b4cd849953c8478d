//! Hostile senders, each a connection and what is done with it.

use std::{io::Write as _, net::Ipv4Addr, net::SocketAddr, sync::OnceLock, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::http::{self, NoAnswer};

/// What hostile senders do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Connect and say nothing.
    Silent,
    /// Stop in the middle of the headers.
    HalfHeaders,
    /// Stop in the middle of the body.
    HalfBody,
    /// A byte of the body now and then.
    SlowBody,
    /// Connect and go.
    Churn,
    /// One header of 200 KiB.
    LongHeader,
    /// Ten thousand headers.
    ManyHeaders,
    /// A hundred headers and over, within the bytes.
    HundredHeaders,
    /// Lines in gzip that inflate to a gibibyte.
    GzipBomb,
    /// A hundred thousand levels of JSON.
    DeepJson,
    /// 4 MiB of anything.
    Large,
    /// Two hundred requests at once.
    Pipelined,
    /// Chunk sizes that are none.
    BadChunks,
    /// Chunks of one byte, with long extensions.
    TinyChunks,
    /// Bytes in headers that are no UTF-8.
    BadUtf8,
    /// Two lengths.
    TwoLengths,
    /// A length, and chunks.
    LengthAndChunks,
}

/// All of them.
pub const ALL: [Attack; 17] = [
    Attack::Silent,
    Attack::HalfHeaders,
    Attack::HalfBody,
    Attack::SlowBody,
    Attack::Churn,
    Attack::LongHeader,
    Attack::ManyHeaders,
    Attack::HundredHeaders,
    Attack::GzipBomb,
    Attack::DeepJson,
    Attack::Large,
    Attack::Pipelined,
    Attack::BadChunks,
    Attack::TinyChunks,
    Attack::BadUtf8,
    Attack::TwoLengths,
    Attack::LengthAndChunks,
];

/// How long an attacker waits for an answer, or stays silent.
const STAY: Duration = Duration::from_secs(30);

const EVENT: &str = "POST / HTTP/1.1\r\nHost: counterfoil.test\r\nCe-Id: 1\r\nCe-Source: /x\r\nCe-Specversion: 1.0\r\n\
                     Ce-Type: dev.tekton.event.taskrun.running.v1\r\nContent-Type: application/json\r\n";

impl Attack {
    /// Whether it keeps its connection for as long as it is let, and so takes a place from others.
    pub fn stays(self) -> bool {
        matches!(self, Self::Silent | Self::HalfHeaders | Self::HalfBody | Self::SlowBody)
    }

    /// Connections at once, of so many that were asked for: with much to send, a thousand.
    pub fn connections(self, most: u64) -> u64 {
        if self.stays() || self == Self::Churn { most } else { most.min(1000) }
    }

    /// The reason under which each of its requests must be counted, when no handler sees them.
    pub fn counted_as(self) -> Option<&'static str> {
        match self {
            Self::LongHeader | Self::ManyHeaders | Self::HundredHeaders => Some("headers_too_large"),
            Self::TwoLengths => Some("framing"),
            Self::BadChunks => Some("broken_body"),
            _ => None,
        }
    }

    /// One connection. Gives the status that it was answered; tells `placed` once it is where it wants to be.
    pub async fn run(self, from: Ipv4Addr, to: SocketAddr, mut placed: impl FnMut()) -> Result<u16, NoAnswer> {
        let mut stream = http::connect(from, to).await?;
        if self == Self::Churn {
            placed();
            return Err(NoAnswer::Ours);
        }
        if self == Self::Pipelined {
            let one = format!("{EVENT}Content-Length: 2\r\n\r\n{{}}");
            let sent = timeout(STAY, stream.write_all(one.repeat(200).as_bytes())).await;
            placed();
            return match sent {
                Ok(Ok(())) => first_answer(&mut stream).await,
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(NoAnswer::Timeout),
            };
        }
        let (head, piece, times) = (self.request(), self.piece(), self.pieces());
        let sent = timeout(STAY, async {
            stream.write_all(&head).await?;
            for _ in 0..times {
                stream.write_all(piece).await?;
            }
            Ok::<_, std::io::Error>(())
        });
        let sent = sent.await;
        placed();
        if self == Self::SlowBody {
            for _ in 0..STAY.as_secs() * 5 {
                sleep(Duration::from_millis(200)).await;
                stream.write_all(b"x").await?;
            }
        }
        match sent {
            // A refusal may come before everything is sent.
            Ok(_) => timeout(STAY, http::answer(&mut stream)).await.unwrap_or(Err(NoAnswer::Timeout)).map(|a| a.status),
            Err(_) => Err(NoAnswer::Timeout),
        }
    }

    fn request(self) -> Vec<u8> {
        let length = |length: usize| format!("{EVENT}Content-Length: {length}\r\n\r\n");
        let mut request = match self {
            Self::Silent | Self::Churn | Self::Pipelined => String::new(),
            Self::HalfHeaders => EVENT.into(),
            Self::HalfBody => format!("{}{}", length(8000), "{".repeat(4000)),
            Self::SlowBody => length(8000),
            Self::LongHeader => format!("{EVENT}X-Long: {}\r\n\r\n", "a".repeat(200 << 10)),
            Self::ManyHeaders => format!("{EVENT}{}\r\n", "X-Many: 1\r\n".repeat(10_000)),
            Self::HundredHeaders => format!("{EVENT}{}\r\n", "X-Many: 1\r\n".repeat(200)),
            Self::GzipBomb => format!(
                "POST /logs/nginx-error?source=bomb HTTP/1.1\r\nHost: counterfoil.test\r\nContent-Encoding: gzip\r\n\
                 Content-Length: {}\r\n\r\n",
                bomb().len()
            ),
            Self::DeepJson => length(200_000),
            Self::Large => length(4 << 20),
            Self::BadChunks => format!("{EVENT}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\nx\r\n-1\r\n"),
            Self::TinyChunks => {
                let chunk = format!("1;{}\r\nx\r\n", "e".repeat(100));
                format!("{EVENT}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(2000))
            }
            Self::BadUtf8 => format!("{EVENT}Content-Length: 2\r\nCe-Subject: "),
            Self::TwoLengths => format!("{EVENT}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"),
            Self::LengthAndChunks => {
                format!("{EVENT}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n")
            }
        }
        .into_bytes();
        if self == Self::BadUtf8 {
            request.extend_from_slice(b"\xff\xfe\xc3\x28\r\n\r\n{}");
        }
        request
    }

    /// The body, or what it is made of: shared, since a thousand senders must not need their own.
    fn piece(self) -> &'static [u8] {
        static LEVELS: OnceLock<Vec<u8>> = OnceLock::new();
        match self {
            Self::GzipBomb => bomb(),
            Self::DeepJson => LEVELS.get_or_init(|| ["[".repeat(100_000), "]".repeat(100_000)].concat().into()),
            Self::Large => &[1; 16 << 10],
            _ => b"",
        }
    }

    fn pieces(self) -> usize {
        if self == Self::Large { 256 } else { 1 }
    }
}

async fn first_answer(stream: &mut TcpStream) -> Result<u16, NoAnswer> {
    let first = http::answer(stream).await?.status;
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(1), stream.read_to_end(&mut rest)).await; // as long as answers keep coming
    Ok(first)
}

/// A gibibyte of lines in a mebibyte.
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let block = vec![b'\n'; 1 << 20];
        for _ in 0..1 << 10 {
            // Writing to memory does not fail; a shorter bomb would be one all the same.
            let _ = packed.write_all(&block);
        }
        packed.finish().unwrap_or_default()
    })
}
