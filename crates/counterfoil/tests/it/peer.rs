//! Somebody else's HTTP server: enough of HTTP/1.1 for what this program sends.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use ledger::Vkey;

use crate::common::{Server, program};

/// A request that it was sent.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The head in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Status, content type, body.
pub(crate) type Answer = (u16, &'static str, Vec<u8>);

/// Listens on loopback until the test's process ends. No answer: the connection stays open and nothing is ever said.
pub(crate) fn serve(answer: impl Fn(Request) -> Option<Answer> + Send + Sync + 'static) -> SocketAddr {
    listen(|| true, answer)
}

/// The same; while nobody is `home` it hangs up at once.
pub(crate) fn listen(
    home: impl Fn() -> bool + Send + 'static,
    answer: impl Fn(Request) -> Option<Answer> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().filter(|_| home()) {
            let answer = Arc::clone(&answer);
            thread::spawn(move || converse(stream.unwrap(), &*answer));
        }
    });
    address
}

/// One connection, request after request.
fn converse(mut stream: TcpStream, answer: &dyn Fn(Request) -> Option<Answer>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            }
        };
        let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
        let mut words = text.split(' ');
        let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let text = text.to_ascii_lowercase();
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        let end: usize = head + length;
        while bytes.len() < end {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            }
        }
        let request = Request { method, path, head: text, body: bytes[head..end].to_vec() };
        bytes.drain(..end);
        let Some((status, kind, said)) = answer(request) else {
            let _ = stream.read(&mut buffer); // until the other side gives up
            return;
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", said.len());
        if stream.write_all(&[head.as_bytes(), &said].concat()).is_err() {
            return;
        }
    }
}

/// A ledger that nobody serves yet, and its key.
pub(crate) fn ledger(folder: &Path) -> (PathBuf, Vkey) {
    let data = folder.join("data");
    let made = program().args(["init", "--origin", "log.example/it", "--data"]).arg(&data).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let line = std::fs::read_to_string(data.join("ledger/keys/vkeys")).unwrap();
    (data, line.trim_end().rsplit(' ').next().unwrap().parse().unwrap())
}

/// Own entries about the ledger so far, oldest first, but for the self-check's.
pub(crate) fn said(server: &Server) -> Vec<String> {
    server.settled();
    let size = server.get("/api/v1/doctor").1["through"]["ledger"].as_u64().unwrap();
    let of = |index| {
        let fact = server.get(&format!("/api/v1/entries/{index}")).1["body"]["fact"]["ledger"].clone();
        fact["what"].as_str().filter(|what| *what != "checked").map(str::to_owned)
    };
    (0..size).filter_map(of).collect()
}
