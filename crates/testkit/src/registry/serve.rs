//! The ports and their connections.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Shared, answer};

pub(super) async fn listen() -> io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", 0)).await
}

/// Takes connections until it is to stop, and drops those that are open then.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener, elsewhere: bool, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // A connection that failed before it was taken is its client's loss.
        let Ok((stream, _)) = accepted else { continue };
        // Without it each answer in two parts waits for the client's delayed acknowledgement, 40 ms.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let reply = answer::answer(&shared, elsewhere, &request);
                async move { Ok::<_, Infallible>(reply) }
            });
            tokio::select! {
                () = stop.cancelled() => {}
                // It ends by an error where it is to be cut.
                _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
            }
        });
    }
}
