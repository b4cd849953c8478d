//! An HTTP/1.1 listener with limits: connections at once, time for headers, orderly end.
//!
//! HTTP/1.1 only: that is what Tekton, NGINX's neighbours and people's tools speak in clear text, and one protocol has one
//! set of timeouts. A connection that sends nothing, or stops in its headers, is closed; earlier, when others wait
//! ([`super::room`]).

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use http::{HeaderValue, Request, header};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::room::{Guest, Room};
use crate::metrics::Metrics;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Limits of a listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Time for a request's headers, also for the first one of a connection and between two of them.
    pub header_timeout: Duration,
    /// Where it is counted that a sender was refused before its request reached a handler; `None` where people ask.
    pub refusals: Option<Arc<Metrics>>,
}

impl Limits {
    fn refuse(&self, reason: &'static str) {
        if let Some(metrics) = &self.refusals {
            metrics.refuse(reason);
        }
    }
}

/// How long open requests may go on once we are asked to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Most bytes of a request's headers; larger ones are answered 431.
const HEADER_BYTES: usize = 64 << 10;

/// Connections that wait in the kernel until they are accepted; it may allow fewer (`net.core.somaxconn`). Tekton's
/// restart sends one event for every run that is kept, all at once.
const BACKLOG: u32 = 4096;

/// Listens on an address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?; // connections of an earlier life may still be closing
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` turns true, then lets open requests end. `service` gives the service of a connection.
///
/// Accept errors (out of file descriptors, a connection reset in the queue) are waited out: a listener that gives up
/// would lose events for good.
pub async fn run<S>(listener: TcpListener, service: impl Fn(Peer) -> S, limits: Limits, mut stop: watch::Receiver<bool>)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + Sync + 'static,
    S::Future: Send,
{
    let room = Room::new(limits.connections);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        // Accepted first: a place is only asked for when somebody is there who wants it.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break, // it changes once, to true
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let guest = tokio::select! {
            guest = room.enter() => guest,
            _ = stop.changed() => break,
        };
        connections.spawn(connection(stream, peer, guest, service(Peer(peer)), limits.clone(), &graceful));
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let _ = tokio::time::timeout(LAST_REQUESTS, graceful.shutdown()).await;
}

fn connection<S>(
    stream: TcpStream,
    peer: SocketAddr,
    guest: Guest,
    service: S,
    limits: Limits,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + Sync + 'static,
    S::Future: Send,
{
    let _ = stream.set_nodelay(true); // an answer is one small write; waiting for more would only delay it
    let guest = Arc::new(guest);
    let io = TokioIo::new(guest.watch(stream));
    let service = {
        let (service, guest) = (Arc::new(service), Arc::clone(&guest));
        service_fn(move |request: Request<Incoming>| {
            let (service, guest) = (Arc::clone(&service), Arc::clone(&guest));
            async move {
                let mut answer = service.call(request.map(|body| Body::new(guest.watch_body(body)))).await;
                if !guest.answered()
                    && let Ok(answer) = &mut answer
                {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                answer
            }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(io, service);
    let connection = graceful.watch(connection);
    async move {
        let ended = tokio::select! {
            biased; // what has come is looked at before anybody is sent away
            ended = connection => ended,
            () = guest.asked_to_leave() => {
                limits.refuse("silent");
                return tracing::debug!(%peer, "closed a silent connection: another one waits");
            }
        };
        if let Err(error) = ended {
            // Answered by the HTTP library itself, 431 and 400: no handler has seen these.
            if error.is_parse_too_large() {
                limits.refuse("headers_too_large");
            } else if error.is_parse() {
                limits.refuse("framing");
            }
            tracing::debug!(%peer, %error, "connection ended early");
        }
    }
}
