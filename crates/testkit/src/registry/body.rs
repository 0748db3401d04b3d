//! Bodies that end as they are told to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Sleep, sleep};

/// Bytes sent at once.
const CHUNK: usize = 64 << 10;
/// From the last bytes to the end of a connection that is cut: the server throws away what it has not sent yet.
const LAST: Duration = Duration::from_millis(20);

/// How a body ends.
pub(super) enum End {
    /// Where it should.
    Whole,
    /// By the end of the connection.
    Cut,
    /// Not at all: it begins anew.
    Never,
}

/// A body.
pub(super) struct Bytewise {
    all: Bytes,
    left: Bytes,
    end: End,
    last: Option<Pin<Box<Sleep>>>,
}

impl Bytewise {
    pub(super) fn new(bytes: Bytes, end: End) -> Self {
        Self { all: bytes.clone(), left: bytes, end, last: None }
    }
}

impl Body for Bytewise {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left.is_empty() {
            match self.end {
                End::Whole => return Poll::Ready(None),
                End::Cut => {
                    let last = self.last.get_or_insert_with(|| Box::pin(sleep(LAST)));
                    ready!(last.as_mut().poll(cx));
                    return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
                }
                End::Never => self.left = self.all.clone(),
            }
        }
        let most = self.left.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(most)))))
    }
}
