//! An HTTP/1.1 listener with limits: connections at once, time for headers, orderly end.
//!
//! HTTP/1.1 only: that is what Tekton, NGINX's neighbours and people's tools speak in clear text, and one protocol has one
//! set of timeouts. A connection that sends nothing, or stops in its headers, is closed.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Time for a request's headers, also for the first one of a connection and between two of them.
    pub header_timeout: Duration,
}

/// How long open requests may go on once we are asked to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Most bytes of a request's headers; larger ones are answered 431.
const HEADER_BYTES: usize = 64 << 10;

/// Serves until `stop` turns true, then lets open requests end. `service` gives the service of a connection.
///
/// Accept errors (out of file descriptors, a connection reset in the queue) are waited out: a listener that gives up
/// would lose events for good.
pub async fn run<S>(listener: TcpListener, service: impl Fn(Peer) -> S, limits: Limits, mut stop: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            _ = stop.changed() => break, // it changes once, to true
        };
        let Ok(slot) = slot else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let serving = connection(stream, peer, service(Peer(peer)), limits, &graceful);
        connections.spawn(async move {
            serving.await;
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let _ = tokio::time::timeout(LAST_REQUESTS, graceful.shutdown()).await;
}

fn connection<S>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    limits: Limits,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send,
{
    let _ = stream.set_nodelay(true); // an answer is one small write; waiting for more would only delay it
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    async move {
        if let Err(error) = connection.await {
            tracing::debug!(%peer, %error, "connection ended early");
        }
    }
}
