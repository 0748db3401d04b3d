//! The ports, their connections, and bodies that break off.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Server, Shared, answer};

/// A body is sent in parts of so many bytes.
const PART: usize = 64 << 10;

/// Serves until the task is ended, and its connections with it.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener, server: Server) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(Arc::clone(&shared), stream, server));
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, server: Server) {
    // Without this each answer in two parts waits for the client's delayed acknowledgement, 40 ms.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(|request: Request<Incoming>| {
        let reply = answer::answer(&shared, server, &request);
        async move { Ok::<_, Infallible>(reply) }
    });
    // Ends with an error where a body was to break off.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A body, whole or not.
#[derive(Debug, Default)]
pub(super) struct Content {
    left: Bytes,
    /// It breaks off after so many bytes.
    cut: Option<usize>,
    flushed: bool,
    /// Its length is not said beforehand.
    chunked: bool,
}

impl Content {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        Self { left: bytes.into(), ..Self::default() }
    }

    pub(super) fn chunked(self) -> Self {
        Self { chunked: true, ..self }
    }

    pub(super) fn cut(self, after: usize) -> Self {
        Self { cut: Some(after), ..self }
    }

    /// The same but for its last bit.
    pub(super) fn spoiled(mut self) -> Self {
        let mut bytes = Vec::from(std::mem::take(&mut self.left));
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        Self { left: bytes.into(), ..self }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let room = self.cut.unwrap_or(usize::MAX).min(PART).min(self.left.len());
        if room == 0 {
            // What was given out before is sent while there is nothing more to be had, and lost at an error.
            if self.flushed {
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
            }
            self.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.cut = self.cut.map(|cut| cut - room);
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(room)))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.chunked { SizeHint::default() } else { SizeHint::with_exact(self.left.len() as u64) }
    }
}
