//! Bytes in their order, and a thread that makes them.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use crate::error::{Defect, Error};
use crate::intake::unwrap_error;
use crate::verify::CHUNK;

/// Chunks that may wait. A few are enough to let neither thread wait for the other's slow moments, such as a write that the
/// kernel holds up; with those being filled and emptied they take 768 KiB.
const WAITING: usize = 4;

/// Bytes in their order, which are looked at before they are taken.
pub(super) trait Stream {
    /// What comes next; empty at the end, and only there.
    fn fill(&mut self) -> Result<&[u8], Error>;

    /// Takes the first `n` of what [`Stream::fill`] gave.
    fn consume(&mut self, n: usize);

    /// Fills `into` as far as there is something, and says how far that is.
    fn read_up_to(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < into.len() {
            let have = self.fill()?;
            if have.is_empty() {
                break;
            }
            let n = have.len().min(into.len() - filled);
            into[filled..filled + n].copy_from_slice(&have[..n]);
            self.consume(n);
            filled += n;
        }
        Ok(filled)
    }

    /// Fills `into`. `place` is where the archive ends, if it does.
    fn read_exact(&mut self, into: &mut [u8], place: &str) -> Result<(), Error> {
        if self.read_up_to(into)? == into.len() { Ok(()) } else { Err(cut_off(place)) }
    }

    /// The next `N` bytes.
    fn array<const N: usize>(&mut self, place: &str) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes, place)?;
        Ok(bytes)
    }

    /// The next `size` bytes, which the caller has found to be few.
    fn bytes(&mut self, size: usize, place: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; size];
        self.read_exact(&mut bytes, place)?;
        Ok(bytes)
    }

    /// Gives the next `size` bytes to `each`, in chunks.
    fn pass(&mut self, size: u64, place: &str, mut each: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut left = size;
        while left > 0 {
            let have = self.fill()?;
            if have.is_empty() {
                return Err(cut_off(place));
            }
            let n = have.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            each(&have[..n])?;
            self.consume(n);
            left -= n as u64;
        }
        Ok(())
    }

    /// Takes zeros up to the end, `most` at most; says whether there was nothing else.
    fn only_zeros(&mut self, most: usize) -> Result<bool, Error> {
        let mut left = most;
        loop {
            let have = self.fill()?;
            let n = have.len();
            if n == 0 {
                return Ok(true);
            }
            if n > left || have.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            self.consume(n);
            left -= n;
        }
    }
}

/// The archive ends where it should go on.
pub(super) fn cut_off(place: &str) -> Error {
    Defect::ArchiveTruncated { place: place.to_owned() }.into()
}

/// Something in the archive is not as its format has it.
pub(super) fn invalid(problem: impl Into<String>) -> Error {
    Defect::ArchiveInvalid { problem: problem.into() }.into()
}

/// Something in the archive is not as it was when it was packed.
pub(super) fn damaged(problem: impl Into<String>) -> Error {
    Defect::ArchiveDamaged { problem: problem.into() }.into()
}

/// A reader as a stream.
pub(super) struct Input<R> {
    reader: R,
    what: String,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    taken: u64,
}

impl<R: Read> Input<R> {
    /// `what` is read, for the message of a failure to.
    pub(super) fn new(reader: R, what: &str) -> Self {
        Self { reader, what: what.to_owned(), buffer: vec![0; CHUNK].into(), start: 0, end: 0, taken: 0 }
    }

    /// How many bytes were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The next `n` bytes, or as many as there are, without taking them. `n` is much less than a chunk.
    pub(super) fn ahead(&mut self, n: usize) -> Result<&[u8], Error> {
        while self.end - self.start < n {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            match self.read()? {
                0 => break,
                more => self.end += more,
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn read(&mut self) -> Result<usize, Error> {
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let ours = unwrap_error(error);
                    return Err(ours.unwrap_or_else(|source| Error::Source { what: self.what.clone(), source }));
                }
            }
        }
    }
}

impl<R: Read> Stream for Input<R> {
    fn fill(&mut self) -> Result<&[u8], Error> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.end = self.read()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        self.taken += n as u64;
    }
}

/// What makes other bytes of those that it reads.
pub(super) trait Decode {
    /// Puts the next ones at the front of `into` and says how many there are: none at the end, and only there.
    fn decode(&mut self, into: &mut [u8]) -> Result<usize, Error>;
}

/// Lets a thread of its own decode, and `work` with what comes out. Both end when either does.
pub(super) fn aside<T>(
    mut decoder: impl Decode + Send,
    work: impl FnOnce(&mut Decoded) -> Result<T, Error>,
) -> Result<T, Error> {
    let (sender, chunks) = sync_channel(WAITING);
    let (back, empty) = channel();
    thread::scope(|scope| {
        thread::Builder::new()
            .name("decompress".into())
            .spawn_scoped(scope, move || decode_all(&mut decoder, &sender, &empty))
            .map_err(|source| Error::Source { what: "the archive, on a thread of its own".into(), source })?;
        let mut decoded = Decoded { chunks, back, chunk: Vec::new(), start: 0, end: 0 };
        // The thread ends with the queue, which ends here.
        work(&mut decoded)
    })
}

type Chunk = Result<(Vec<u8>, usize), Error>;

fn decode_all(decoder: &mut impl Decode, sender: &SyncSender<Chunk>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = empty.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
        let decoded = match decoder.decode(&mut chunk) {
            Ok(0) => return,
            Ok(n) => Ok((chunk, n)),
            Err(error) => Err(error),
        };
        let ends = decoded.is_err();
        if sender.send(decoded).is_err() || ends {
            return;
        }
    }
}

/// What another thread decodes.
pub(super) struct Decoded {
    chunks: Receiver<Chunk>,
    /// Chunks go back to be filled again.
    back: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    start: usize,
    end: usize,
}

impl Stream for Decoded {
    fn fill(&mut self) -> Result<&[u8], Error> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if let Ok(next) = self.chunks.recv() {
                let (chunk, end) = next?;
                let emptied = std::mem::replace(&mut self.chunk, chunk);
                self.end = end;
                if !emptied.is_empty() {
                    // Where nobody decodes any more, nobody needs it.
                    let _ = self.back.send(emptied);
                }
            }
        }
        Ok(&self.chunk[self.start..self.end])
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
    }
}
