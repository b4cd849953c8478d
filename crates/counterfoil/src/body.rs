//! Reading request bodies: bounded in size, time and memory.

use std::{
    io::Read as _,
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body_util::BodyExt as _;

use crate::budget::{Budget, Held};

/// A body in memory, with the budget that it holds.
#[derive(Debug)]
pub struct Taken {
    /// The bytes.
    pub bytes: Bytes,
    /// Given back when dropped.
    pub held: Held,
}

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Larger than the limit.
    TooLarge,
    /// The memory budget is used up.
    Busy,
    /// The sender stopped in the middle, or was too slow.
    Broken,
}

/// Slowest sender that is waited for, in bytes per second; a body gets the time to stall and this much more.
const SLOWEST: u64 = 16 << 10;

/// Reads a body. One whose declared length is over the limit is refused before a byte is read. The budget is taken as the
/// bytes come: a length that is only declared must not keep others out.
pub async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    budget: &Budget,
    stall: Duration,
) -> Result<Taken, NotTaken> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        drain(body).await;
        return Err(NotTaken::TooLarge);
    }
    let began = Instant::now();
    let mut held = budget.take(0).ok_or(NotTaken::Busy)?;
    // A body that comes in one piece stays where it is; a longer one is put together as it comes, so that it is in memory
    // once.
    let (mut first, mut whole) = (Bytes::new(), Vec::new());
    let mut length = 0usize;
    loop {
        // Who sends a byte now and then must not hold its place for ever.
        let allowed = stall + Duration::from_secs(length as u64 / SLOWEST);
        let left = allowed.saturating_sub(began.elapsed()).min(stall);
        let frame = match tokio::time::timeout(left, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(_))) | Err(_) => return Err(NotTaken::Broken),
        };
        let Ok(chunk) = frame.into_data() else { continue }; // trailers
        length += chunk.len();
        let most = declared.unwrap_or(limit);
        let taken = length <= limit
            && if length == chunk.len() {
                held.grow(chunk.len())
            } else {
                make_room(&mut whole, first.len() + chunk.len(), most, &mut held)
            };
        if !taken {
            drop((first, whole, chunk));
            drain(body).await;
            return Err(if length > limit { NotTaken::TooLarge } else { NotTaken::Busy });
        }
        if length == chunk.len() {
            first = chunk;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&chunk);
        }
    }
    if declared.is_some_and(|declared| declared != length) {
        return Err(NotTaken::Broken);
    }
    let bytes = if whole.is_empty() { first } else { whole.into() };
    Ok(Taken { bytes, held })
}

/// Room for `more` bytes, taken from the budget as it is reserved: a buffer grows by doubling, and what it has is held, filled
/// or not. It never grows beyond `most` unless it has to. False, and nothing changed, when the budget has not so much.
fn make_room(buffer: &mut Vec<u8>, more: usize, most: usize, held: &mut Held) -> bool {
    let needed = buffer.len() + more;
    if needed <= buffer.capacity() {
        return true;
    }
    let capacity = (2 * buffer.capacity()).min(most).max(needed);
    let taken = held.grow(capacity - buffer.capacity());
    if taken {
        buffer.reserve_exact(capacity - buffer.len());
    }
    taken
}

/// Reads on for a moment after a refusal: a connection closed with unread bytes is reset, and the sender would never see
/// the answer.
pub async fn drain(mut body: Body) {
    const MOST: usize = 8 << 20;
    let reading = async {
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > MOST {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
}

/// What inflating gave.
#[derive(Debug)]
pub enum Inflated {
    /// The whole body.
    Whole(Vec<u8>),
    /// Not gzip, or damaged: the error, to be kept with the body as received.
    Damaged(String),
}

/// Unpacks gzip up to `limit` bytes, taking the budget as it grows.
pub fn inflate(bytes: &[u8], limit: usize, held: &mut Held) -> Result<Inflated, NotTaken> {
    const STEP: usize = 256 << 10;
    let mut decoder = flate2::read::MultiGzDecoder::new(bytes);
    let mut out = Vec::new();
    loop {
        // Beyond the limit one byte is read, which tells that there is more.
        let more = STEP.min(limit + 1 - out.len());
        if out.len() == out.capacity() && !make_room(&mut out, more, limit + 1, held) {
            return Err(NotTaken::Busy);
        }
        let room = (out.capacity() - out.len()).min(limit + 1 - out.len()).min(STEP);
        match decoder.by_ref().take(room as u64).read_to_end(&mut out) {
            Ok(0) => return Ok(Inflated::Whole(out)),
            Ok(_) if out.len() > limit => return Err(NotTaken::TooLarge),
            Ok(_) => {}
            Err(error) => return Ok(Inflated::Damaged(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        io::Write as _,
        pin::Pin,
        task::{Context, Poll},
    };

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit_and_at_the_budget() {
        let bomb = gzip(&vec![b'a'; 4 << 20]);
        let budget = Budget::new(16 << 20);
        let mut held = budget.take(0).unwrap();
        assert_eq!(inflate(&bomb, 1 << 20, &mut held).unwrap_err(), NotTaken::TooLarge);
        let small = Budget::new(1 << 20);
        let mut held = small.take(0).unwrap();
        assert_eq!(inflate(&bomb, 64 << 20, &mut held).unwrap_err(), NotTaken::Busy);
    }

    #[test]
    fn good_and_damaged_gzip() {
        let budget = Budget::new(16 << 20);
        let mut held = budget.take(0).unwrap();
        let packed = gzip(b"one\ntwo\n");
        assert!(matches!(inflate(&packed, 100, &mut held), Ok(Inflated::Whole(b)) if b == b"one\ntwo\n"));
        assert!(matches!(inflate(&packed[..12], 100, &mut held), Ok(Inflated::Damaged(_))));
        assert!(matches!(inflate(b"plain", 100, &mut held), Ok(Inflated::Damaged(_))));
    }

    /// So many pieces of 1000 bytes.
    struct Pieces(usize);

    impl hyper::body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.checked_sub(1).map(|left| {
                self.0 = left;
                Ok(hyper::body::Frame::data(Bytes::from_static(&[b'x'; 1000])))
            }))
        }
    }

    #[tokio::test]
    async fn what_a_buffer_reserves_is_held() {
        let pieces = |count| Body::new(Pieces(count));
        let budget = Budget::new(1 << 20);
        let wait = Duration::from_mins(1);
        let mut headers = HeaderMap::new();
        // Of an unknown length: as much as the buffer has.
        let taken = read(&headers, pieces(9), 1 << 20, &budget, wait).await.unwrap();
        assert_eq!(taken.bytes.len(), 9000);
        let held = (1 << 20) - budget.free();
        assert!((9000..=1000 + 2 * 9000).contains(&held), "{held}");
        drop(taken);
        // Of a known one: no more than that, and the first piece.
        headers.insert(CONTENT_LENGTH, "9000".parse().unwrap());
        let taken = read(&headers, pieces(9), 1 << 20, &budget, wait).await.unwrap();
        let held = (1 << 20) - budget.free();
        assert!((9000..=10_000).contains(&held), "{held}");
        drop(taken);
        assert_eq!(budget.free(), 1 << 20);
        let small = Budget::new(5000);
        assert_eq!(read(&headers, pieces(9), 1 << 20, &small, wait).await.unwrap_err(), NotTaken::Busy);
        assert_eq!(small.free(), 5000);
    }

    #[tokio::test]
    async fn lengths_are_checked_before_bytes_are_read() {
        let budget = Budget::new(10);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, "11".parse().unwrap());
        let wait = Duration::from_secs(5);
        // A declared length alone takes nothing from others.
        let result = read(&headers, Body::from("x"), 100, &budget, wait).await;
        assert_eq!(result.unwrap_err(), NotTaken::Broken);
        let result = read(&headers, Body::from("x"), 5, &budget, wait).await;
        assert_eq!(result.unwrap_err(), NotTaken::TooLarge);
        let result = read(&HeaderMap::new(), Body::from("12345678901"), 100, &budget, wait).await;
        assert_eq!(result.unwrap_err(), NotTaken::Busy);
        let taken = read(&HeaderMap::new(), Body::from("1234567890"), 100, &budget, wait).await.unwrap();
        assert_eq!((&taken.bytes[..], budget.free()), (b"1234567890".as_slice(), 0));
        drop(taken);
        assert_eq!(budget.free(), 10);
    }
}
