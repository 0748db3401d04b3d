//! What an answer is made of: bytes, fewer than were promised, or ever more.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes of one frame. A connection writes some hundred KiB at once.
const FRAME: usize = 256 << 10;
const ZEROS: &[u8] = &[0; FRAME];

/// A body.
#[derive(Debug)]
pub(super) struct Reply {
    left: Bytes,
    then: Then,
}

/// What comes behind the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The end.
    End,
    /// The end of the connection.
    Cut,
    /// Zeros, for ever.
    Zeros,
}

impl Reply {
    pub(super) fn new(left: Bytes, then: Then) -> Self {
        Self { left, then }
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self::new(text.into(), Then::End)
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.left.is_empty() {
            let n = self.left.len().min(FRAME);
            return Poll::Ready(Some(Ok(Frame::data(self.left.split_to(n)))));
        }
        Poll::Ready(match self.then {
            Then::End => None,
            Then::Cut => Some(Err(io::ErrorKind::ConnectionAborted.into())),
            Then::Zeros => Some(Ok(Frame::data(Bytes::from_static(ZEROS)))),
        })
    }

    fn size_hint(&self) -> SizeHint {
        match self.then {
            Then::End => SizeHint::with_exact(self.left.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

/// A handler that cannot fail, for the server's sake.
pub(super) type Served = Result<http::Response<Reply>, Infallible>;
