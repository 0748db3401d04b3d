//! HTTP/1 connections with limits. axum's own `serve` has none: a client that sends half a header would keep its
//! connection for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What one server bears.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once; further ones wait in the kernel's queue. Each watcher of the fleet API holds one, and there
    /// are as many of those as routers.
    pub(super) connections: usize,
    /// For all header lines of a request to arrive, and for the next request of a connection to begin.
    pub(super) header_read: Duration,
    /// Bytes of header.
    pub(super) header_bytes: usize,
    /// Lines of header.
    pub(super) header_lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1024, header_read: Duration::from_secs(30), header_bytes: 32 << 10, header_lines: 64 }
    }
}

/// After `accept` failed, which mostly means that no file descriptor is left: trying at once would only burn CPU.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves until `stop`, then until every request under way is answered. Dropping the future cuts off what is left.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, limits: Limits) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_header_size(limits.header_bytes)
        .max_headers(limits.header_lines);
    loop {
        // Connections that have ended are taken out here, or the set would grow for ever.
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = async {
                let slot = slots.clone().acquire_owned().await;
                (slot, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(slot), Ok((stream, _))) => {
                let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
                let connection = graceful.watch(connection);
                connections.spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(error = &error as &dyn std::error::Error, "Admin connection ended early");
                    }
                    drop(slot);
                });
            }
            (_, Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "Cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
            // The semaphore is never closed.
            (Err(_), Ok(_)) => {}
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn half_a_header_does_not_keep_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { header_read: Duration::from_millis(20), connections: 1, ..Limits::default() };
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, Router::new(), stop.clone(), limits));

        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /livez HTTP/1.1\r\nhost: ").await.unwrap();
        // It held the only slot; that the next one is answered shows that it lost it.
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        next.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");

        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).await.unwrap();
        stop.cancel();
        served.await.unwrap();
    }
}
