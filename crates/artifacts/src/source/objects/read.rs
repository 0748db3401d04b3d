//! The bytes of one object, some of them ahead of their turn.
//!
//! One connection to an object store is slow, many are not. So an object is asked for in parts, and parts behind the one
//! that is being written come into memory meanwhile. The part whose turn it is takes no memory: it is passed on as it comes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use opendal::Reader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::failure;
use super::session::Why;
use crate::error::Error;
use crate::intake::Chunks;

/// Bytes of one part. At 30 ms to the first byte and 80 MB/s after that, which is what clouds give one connection, half of
/// the time goes into bytes.
const PART: u64 = 2 << 20;
/// Parts of one object at once, the one whose turn it is among them: 14 MiB ahead, and 300 MB/s by the figures above.
const AT_ONCE: usize = 8;
/// Parts in memory ahead of their turn, of all objects together: 16 MiB. One fetch alone gets what it can use; many share.
pub(super) const AHEAD: usize = 8;
/// Pieces of a part that may wait; its bytes are what bounds it, and this only what comes in crumbs.
const PIECES: usize = 256;

/// One object on its way here.
pub(super) struct Object {
    reader: Reader,
    /// Its name for messages.
    what: String,
    why: Option<Why>,
    size: u64,
    /// The first byte that nobody has asked for yet.
    next: u64,
    parts: VecDeque<Part>,
    ahead: Arc<Semaphore>,
}

struct Part {
    pieces: mpsc::Receiver<Result<Bytes, Error>>,
    left: u64,
    task: JoinHandle<()>,
    /// For the memory that it may take.
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Object {
    pub(super) fn new(reader: Reader, what: String, why: Option<Why>, size: u64, ahead: Arc<Semaphore>) -> Self {
        Self { reader, what, why, size, next: 0, parts: VecDeque::new(), ahead }
    }

    /// Asks for what there is room for. There always is for the part whose turn it is, so nobody waits for somebody else.
    fn ask(&mut self) {
        while self.next < self.size && self.parts.len() < AT_ONCE {
            let place = match self.parts.is_empty() {
                true => None,
                false => match self.ahead.clone().try_acquire_owned() {
                    Ok(place) => Some(place),
                    Err(_) => return,
                },
            };
            let end = self.size.min(self.next + PART);
            let (sender, pieces) = mpsc::channel(if place.is_some() { PIECES } else { 1 });
            let (reader, what, why) = (self.reader.clone(), self.what.clone(), self.why.clone());
            let range = self.next..end;
            let task = tokio::spawn(async move {
                if let Err(error) = pass_on(reader, range, &sender).await {
                    let error = failure::gone_since(failure::meaning(&error, &what, why.as_ref()));
                    // Nobody listens where the whole was given up.
                    let _ = sender.send(Err(error)).await;
                }
            });
            self.parts.push_back(Part { pieces, left: end - self.next, task, _place: place });
            self.next = end;
        }
    }
}

async fn pass_on(
    reader: Reader,
    range: std::ops::Range<u64>,
    sender: &mpsc::Sender<Result<Bytes, Error>>,
) -> opendal::Result<()> {
    let mut stream = reader.into_stream(range).await?;
    while let Some(buffer) = stream.next().await.transpose()? {
        for piece in buffer {
            if sender.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Chunks for Object {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            self.ask();
            let Some(part) = self.parts.front_mut() else { return Ok(None) };
            let corrupted = |problem: &str| Error::Corrupted { what: self.what.clone(), problem: problem.to_owned() };
            match part.pieces.recv().await.transpose()? {
                Some(piece) => {
                    let left = part.left.checked_sub(piece.len() as u64);
                    part.left = left.ok_or_else(|| corrupted("more came than it has"))?;
                    return Ok(Some(piece));
                }
                None if part.left > 0 => return Err(corrupted("less came than it has")),
                None => drop(self.parts.pop_front()),
            }
        }
    }
}
