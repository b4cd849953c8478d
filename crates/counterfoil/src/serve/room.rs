//! Room for connections: a sender that says nothing does not keep out one that has something to say.
//!
//! Slots are few and connections are free: whoever opens as many as there are slots and stays silent (after connecting,
//! in its headers, in the middle of a body), or sends a byte now and then, would keep everybody else waiting until a
//! timeout. So a sender earns its place with every byte, and when another connection waits, the one that is furthest
//! behind is closed. One whose request is complete is never closed: then it is we who are awaited. While all slots are
//! taken an answer ends its connection, so that nobody stays for ever by sending one request after the other.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};

/// How far behind everybody may be. Bytes that we have not come round to reading yet must not look like silence.
const SILENCE: Duration = Duration::from_secs(1);

/// Bytes that earn a millisecond: 16 KiB a second, as for bodies.
const BYTES_PER_MS: u64 = 16;

/// How long a slot is waited for before the next one is asked to leave.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// All connections of a listener.
#[derive(Debug)]
pub struct Room {
    slots: Arc<Semaphore>,
    opened: Instant,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    all: BTreeMap<u64, Arc<State>>,
}

/// What is known about a connection.
#[derive(Debug, Default)]
struct State {
    /// Milliseconds after the room was opened up to which the other end has earned its place.
    earned: AtomicU64,
    /// A whole request is here and its answer is not.
    ours: AtomicBool,
    leave: Notify,
}

/// A connection's place in the room; left when dropped.
#[derive(Debug)]
pub struct Guest {
    room: Arc<Room>,
    number: u64,
    state: Arc<State>,
    _slot: OwnedSemaphorePermit,
}

impl Room {
    /// A room for so many.
    pub fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self { slots: Arc::new(Semaphore::new(slots)), opened: Instant::now(), guests: Mutex::default() })
    }

    /// Waits for a place.
    pub async fn enter(self: &Arc<Self>) -> Guest {
        let slot = loop {
            if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                break slot;
            }
            self.ask_the_last_one();
            let waiting = tokio::time::timeout(LOOK_AGAIN, Arc::clone(&self.slots).acquire_owned());
            if let Ok(Ok(slot)) = waiting.await {
                break slot; // the semaphore is never closed
            }
        };
        let state = Arc::new(State::default());
        state.earned.store(self.now(), Ordering::Relaxed);
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let number = guests.next;
        guests.next += 1;
        guests.all.insert(number, Arc::clone(&state));
        drop(guests);
        Guest { room: Arc::clone(self), number, state, _slot: slot }
    }

    fn ask_the_last_one(&self) {
        let guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = guests.all.values().filter(|state| self.is_silent(state));
        if let Some(state) = silent.min_by_key(|state| state.earned.load(Ordering::Relaxed)) {
            state.leave.notify_one();
        }
    }

    fn is_silent(&self, state: &State) -> bool {
        let silence = self.now().saturating_sub(state.earned.load(Ordering::Relaxed));
        !state.ours.load(Ordering::Relaxed) && u128::from(silence) >= SILENCE.as_millis()
    }

    /// All slots are taken.
    fn is_full(&self) -> bool {
        self.slots.available_permits() == 0
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Guest {
    /// Returns when the place is wanted by somebody else and this one is silent.
    pub async fn asked_to_leave(&self) {
        loop {
            self.state.leave.notified().await;
            // Something may have come meanwhile.
            if self.room.is_silent(&self.state) {
                return;
            }
        }
    }

    /// The stream, watched.
    pub fn watch(&self, stream: TcpStream) -> Watched {
        Watched { stream, room: Arc::clone(&self.room), state: Arc::clone(&self.state) }
    }

    /// A request's body, watched: once it has ended it is our turn, until [`Guest::answered`].
    pub fn watch_body(&self, body: Incoming) -> WatchedBody {
        if body.is_end_stream() {
            self.state.ours.store(true, Ordering::Relaxed);
        }
        WatchedBody { body, state: Arc::clone(&self.state) }
    }

    /// The answer is made: it is the sender's turn. Gives whether it may send another request.
    pub fn answered(&self) -> bool {
        self.state.earned.store(self.room.now(), Ordering::Relaxed);
        self.state.ours.store(false, Ordering::Relaxed);
        !self.room.is_full()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.room.guests.lock().unwrap_or_else(PoisonError::into_inner).all.remove(&self.number);
    }
}

/// A stream whose bytes are noticed.
#[derive(Debug)]
pub struct Watched {
    stream: TcpStream,
    room: Arc<Room>,
    state: Arc<State>,
}

impl Watched {
    fn moved(&self, bytes: usize) {
        if bytes > 0 {
            let earned = self.state.earned.load(Ordering::Relaxed) + bytes as u64 / BYTES_PER_MS;
            self.state.earned.store(earned.min(self.room.now()), Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.moved(buffer.filled().len() - before);
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(bytes)) = result {
            self.moved(bytes);
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        if let Poll::Ready(Ok(bytes)) = result {
            self.moved(bytes);
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body whose end is noticed.
#[derive(Debug)]
pub struct WatchedBody {
    body: Incoming,
    state: Arc<State>,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.state.ours.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
