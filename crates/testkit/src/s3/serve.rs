//! The port and its connections.

use std::sync::Arc;

use http::Request;
use http::header::RANGE;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::body::Served;
use super::{S3Request, Shared, answer, sign};

/// Serves until `end`.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, end: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        // Otherwise each small answer waits for the other side's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let (shared, end) = (shared.clone(), end.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = connection(stream, shared) => {}
            }
        });
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| handle(request, shared.clone()));
    // A client that goes away is no business of ours.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> Served {
    let (parts, body) = request.into_parts();
    // Only the form that asks for a session has one.
    let body = Limited::new(body, 64 << 10).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let range = parts.headers.get(RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned);
    let method = parts.method.to_string();
    let key = sign::claimed(&parts.headers);
    let response = answer::answer(&shared, &parts, &body);
    let status = response.status().as_u16();
    shared.state().requests.push(S3Request { method, target, range, key, status });
    Ok(response)
}
