//! Accepting connections, and coming to an end.

use std::io;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Proxy;

/// After a failure to accept, which mostly means that there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Proxy {
    /// Answers requests on `listener` until `stop` is cancelled. Then nothing more is accepted, requests under way may go on
    /// for at most `drain`, and what is left after that is cut off.
    ///
    /// # Errors
    /// None so far; the type leaves room for a listener that dies.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken, drain: Duration) -> io::Result<()> {
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        let mut tables = self.0.tables.clone();
        let mut tables_come = true;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = tables.changed(), if tables_come => match changed {
                    Ok(()) => self.0.metrics.table_changed(&tables.borrow_and_update()),
                    Err(_) => tables_come = false,
                },
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(connection(self.clone(), stream, stop.clone(), cut.clone()))),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "Cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(drain, connections.wait()).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                requests = self.0.in_flight.total(),
                "Cut off at the end of the drain"
            );
            cut.cancel();
            connections.wait().await;
        }
        Ok(())
    }
}

/// One connection, until it closes, or `stop` and the request under way is answered, or `cut`.
async fn connection(proxy: Proxy, stream: TcpStream, stop: CancellationToken, cut: CancellationToken) {
    // Without it each small chunk of a stream may wait for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = &error as &dyn std::error::Error, "Cannot set TCP_NODELAY");
    }
    let config = &proxy.0.config;
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(config.header_timeout).max_header_size(config.max_header);
    let service = service_fn({
        let proxy = proxy.clone();
        move |request| proxy.clone().handle(request)
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            () = cut.cancelled() => return,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error = &error as &dyn std::error::Error, "The connection ended early");
                }
                return;
            }
        }
    }
}
