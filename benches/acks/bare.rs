//! The least that an axum server does with a POST.

/// Connections that may wait to be accepted, as in `counterfoil::serve::listener`.
const BACKLOG: u32 = 4096;

/// Serves on a free port, which it prints, until it is killed.
pub(crate) fn serve() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let app = axum::Router::new().fallback(|body: bytes::Bytes| async move {
            std::hint::black_box(body.len());
            axum::http::StatusCode::ACCEPTED
        });
        // The same queue of connections as ours: with the default one some would wait a second for their next try.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let listener = socket.listen(BACKLOG).expect("listen");
        println!("{}", listener.local_addr().expect("an address"));
        axum::serve(listener, app).await.expect("serve");
    });
}
