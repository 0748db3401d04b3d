//! From bytes that come over a network to a staging area on disk.
//!
//! Checking, hashing and writing take a core and block; receiving must do neither. So the staging area goes to a thread of
//! its own, and bytes go there through a short queue.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use longshore_types::Digest;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use tokio::sync::mpsc;

use crate::archive;
use crate::digest::finish;
use crate::error::{Defect, Error};
use crate::http::download::Download;
use crate::source::local::blocking;
use crate::store::staging::Staging;
use crate::verify::defect::shown;

/// Chunks that may wait for the thread: enough for neither end to stand still while the other works on one. One is at most
/// what a connection is read with, some hundred KiB, and each of the fetches of a process may have as many.
const WAITING: usize = 2;
/// A file that is read to its end, whatever is wrong with it, to see whether it is what the source has.
const SMALL: u64 = 1 << 20;
/// The same of an archive, most of which are no smaller: what comes in about a second.
const SHORT: u64 = 64 << 20;

/// Bytes from somewhere, in their order.
pub(crate) trait Chunks: Send {
    /// The next ones; none at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;
}

impl Chunks for Download {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.chunk().await
    }
}

/// The same, but no more than an adapter may have: what unpacks to nothing could else go on for ever.
struct Bounded<C> {
    chunks: C,
    most: u64,
    got: u64,
}

impl<C: Chunks> Chunks for Bounded<C> {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = self.chunks.next().await?;
        self.got = self.got.saturating_add(chunk.as_ref().map_or(0, |bytes| bytes.len() as u64));
        if self.got > self.most {
            return Err(Defect::TooLarge { problem: format!("more than {} bytes came", self.most) }.into());
        }
        Ok(chunk)
    }
}

/// What a source says that a file's bytes come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// The SHA-256, in lower-case hex.
    Sha256(String),
    /// The SHA-1 that Git has for a file: of `blob <size> NUL` and the bytes, in lower-case hex.
    GitBlob(String),
}

impl Staging {
    /// Takes one kept file. `what` is for messages, and `sum` what its bytes have to come to.
    pub(crate) async fn receive_file(
        self,
        name: &str,
        size: Option<u64>,
        sum: Option<Sum>,
        what: &str,
        chunks: impl Chunks,
    ) -> Result<Self, Error> {
        let (name, what) = (name.to_owned(), what.to_owned());
        self.receive(chunks, move |staging, inlet| write_file(staging, &name, size, sum, &what, inlet)).await
    }

    /// Takes the kept files out of an archive, whose kind its first bytes tell.
    pub(crate) async fn receive_archive(self, what: &str, chunks: impl Chunks) -> Result<Self, Error> {
        let what = what.to_owned();
        self.receive(chunks, move |staging, inlet| {
            archive::unpack(Reader { inlet, chunk: Bytes::new() }, &what, staging)
        })
        .await
    }

    /// The same, where the source says what its `size` bytes come to, and where files of other archives may be here already.
    /// All bytes are read, those behind the archive's end too. What is wrong with an archive is only told where it is what
    /// the source has: an error page is no fault of the adapter's.
    pub(crate) async fn receive_checked_archive(
        self,
        what: &str,
        size: u64,
        digest: &Digest,
        chunks: impl Chunks,
    ) -> Result<Self, Error> {
        let (what, digest) = (what.to_owned(), *digest);
        self.receive(chunks, move |staging, inlet| {
            let before: Vec<String> = staging.names().map(str::to_owned).collect();
            let mut reader = Summed { reader: Reader { inlet, chunk: Bytes::new() }, hash: Sha256::new() };
            let unpacked = archive::unpack(&mut reader, &what, staging);
            if matches!(&unpacked, Err(error) if error.is_transient() || size > SHORT) {
                return unpacked;
            }
            io::copy(&mut reader, &mut io::sink()).map_err(|error| {
                unwrap_error(error).unwrap_or_else(|source| Error::Source { what: what.clone(), source })
            })?;
            if finish(reader.hash) != digest {
                let problem = "its digest is another one than the source says".into();
                return Err(Error::Corrupted { what, problem });
            }
            together(staging, &before, unpacked)
        })
        .await
    }

    async fn receive(
        self,
        chunks: impl Chunks,
        work: impl FnOnce(&mut Self, &mut Inlet) -> Result<(), Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let progress = self.progress().clone();
        let mut chunks = Bounded { chunks, most: self.limits().bytes, got: 0 };
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut staging = self;
        let written = blocking(move || {
            let mut inlet = Inlet { receiver, ended: false };
            work(&mut staging, &mut inlet)?;
            Ok(staging)
        });
        let sent = async move {
            loop {
                let chunk = chunks.next().await.transpose();
                let ends = chunk.as_ref().is_none_or(Result::is_err);
                progress.add(chunk.iter().flatten().map(|bytes| bytes.len() as u64).sum());
                // Nobody takes it any more, once something is wrong with what came before it.
                if sender.send(chunk).await.is_err() || ends {
                    break;
                }
            }
        };
        tokio::pin!(written, sent);
        // What is refused is told at once, and not when the source says something again.
        tokio::select! {
            biased;
            done = &mut written => done,
            () = &mut sent => written.await,
        }
    }
}

/// The thread's end of the queue.
pub(crate) struct Inlet {
    receiver: mpsc::Receiver<Option<Result<Bytes, Error>>>,
    ended: bool,
}

impl Inlet {
    fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.ended {
            return Ok(None);
        }
        match self.receiver.blocking_recv() {
            Some(Some(chunk)) => chunk.map(Some),
            Some(None) => {
                self.ended = true;
                Ok(None)
            }
            // Whoever sent is gone, and it was not the end.
            None => Err(Error::Abandoned),
        }
    }
}

fn write_file(
    staging: &mut Staging,
    name: &str,
    size: Option<u64>,
    sum: Option<Sum>,
    what: &str,
    inlet: &mut Inlet,
) -> Result<(), Error> {
    let corrupted = |problem| Error::Corrupted { what: what.to_owned(), problem };
    let mut file = staging.file(name, size)?;
    let (mut got, mut git) = (0_u64, None);
    if let Some(Sum::GitBlob(_)) = &sum {
        let mut hash = Sha1::new();
        hash.update(format!("blob {}\0", size.unwrap_or_default()));
        git = Some(hash);
    }
    let mut defect = None;
    while let Some(chunk) = inlet.next()? {
        got += chunk.len() as u64;
        if let Some(git) = &mut git {
            git.update(&chunk);
        }
        if defect.is_some() {
            file.hash_only(&chunk);
            continue;
        }
        match file.write(&chunk) {
            Ok(()) => {}
            // An error page in the place of a small file is no fault of the adapter's, and its digest tells.
            Err(Error::Invalid(found)) if sum.is_some() && size.is_some_and(|size| size <= SMALL) => {
                defect = Some(found)
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(size) = size.filter(|size| *size != got) {
        return Err(corrupted(format!("{got} of {size} bytes came")));
    }
    let found = match &sum {
        None => None,
        Some(Sum::Sha256(_)) => Some(file.digest_so_far().hex()),
        Some(Sum::GitBlob(_)) => git.map(|hash| hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
    };
    match sum {
        Some(Sum::Sha256(expected) | Sum::GitBlob(expected))
            if found.as_ref() != Some(&expected.to_ascii_lowercase()) =>
        {
            Err(corrupted("its digest is another one than the source says".into()))
        }
        _ => defect.map_or_else(|| file.finish(), |defect| Err(defect.into())),
    }
}

/// The same as a reader. What went wrong behind it is inside of the [`io::Error`], and comes out by [`unwrap_error`].
pub(crate) struct Reader<'i> {
    inlet: &'i mut Inlet,
    chunk: Bytes,
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.chunk.has_remaining() {
            match self.inlet.next() {
                Ok(Some(chunk)) => self.chunk = chunk,
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let n = self.chunk.len().min(into.len());
        self.chunk.copy_to_slice(&mut into[..n]);
        Ok(n)
    }
}

/// Holds what came of an archive against the files that were there before it. Which of two files of one name is meant would
/// depend on who reads them.
fn together(staging: &Staging, before: &[String], unpacked: Result<(), Error>) -> Result<(), Error> {
    let twice = |name: &str| {
        let problem = format!("has more than one layer with {}: push it again, with all files in one", shown(name));
        Err(Defect::ManifestInvalid { problem }.into())
    };
    match (unpacked, staging.whiteout()) {
        (Err(Error::Invalid(Defect::FileName { name })), _) if before.contains(&name) => twice(&name),
        (Err(error), _) => Err(error),
        // The archive's own files were found to be elsewhere in it only when some had been put down, so that those of others
        // had to go with them.
        (Ok(()), _) if !before.iter().all(|name| staging.names().any(|there| there == name)) => {
            let problem =
                "has layers with files in different folders: push it again, with all files in one layer".into();
            Err(Defect::ManifestInvalid { problem }.into())
        }
        (Ok(()), Some(name)) => {
            let name = shown(name);
            let problem =
                format!("has a layer that takes files away ({name}): push it again, with all files in one layer");
            Err(Defect::ManifestInvalid { problem }.into())
        }
        (Ok(()), None) => Ok(()),
    }
}

/// A reader that hashes what is read.
struct Summed<R> {
    reader: R,
    hash: Sha256,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(into)?;
        self.hash.update(&into[..n]);
        Ok(n)
    }
}

/// Our own error out of a reader's, through whatever has wrapped it; the reader's, where it is none of ours.
pub(crate) fn unwrap_error(error: io::Error) -> Result<Error, io::Error> {
    error.downcast::<Error>()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Endless;

    impl Chunks for Endless {
        async fn next(&mut self) -> Result<Option<Bytes>, Error> {
            Ok(Some(Bytes::from_static(b"abc")))
        }
    }

    #[tokio::test]
    async fn a_stream_without_an_end_is_ended() {
        let mut bounded = Bounded { chunks: Endless, most: 7, got: 0 };
        assert!(bounded.next().await.is_ok() && bounded.next().await.is_ok());
        assert_eq!(bounded.next().await.unwrap_err().reason(), "TooLarge");
    }
}
