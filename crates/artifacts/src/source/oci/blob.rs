//! The bytes of one layer.

use bytes::Bytes;
use longshore_types::Digest;

use super::plan::Piece;
use super::session::Session;
use crate::error::Error;
use crate::http::download::Download;
use crate::intake::Chunks;

/// The bytes of one layer, which are as many as the manifest says. Their digest is for whoever takes them to check.
pub(crate) struct Blob<'s> {
    session: &'s Session<'s>,
    digest: Digest,
    size: u64,
    download: Download,
    got: u64,
    /// How much had come when we were last refused and asked to be let in again.
    refused_at: Option<u64>,
}

impl<'s> Blob<'s> {
    /// Begins to download it.
    ///
    /// # Errors
    /// Where it is not there, or is not what the manifest says by its length alone.
    pub(crate) async fn open(session: &'s Session<'s>, piece: &Piece) -> Result<Self, Error> {
        let download = session.open(&piece.digest).await?;
        let length = download.length();
        let blob = Self { session, digest: piece.digest, size: piece.size, download, got: 0, refused_at: None };
        match length {
            // An error's page in its place, most likely.
            Some(length) if length != piece.size => Err(blob.wrong(format!("{length} bytes"))),
            _ => Ok(blob),
        }
    }

    fn wrong(&self, came: String) -> Error {
        let what = format!("layer {} of {}", self.digest, self.session.reference.shown);
        Error::Corrupted { what, problem: format!("{came} came, and its manifest says {}", self.size) }
    }
}

impl Chunks for &mut Blob<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.download.chunk().await {
                Ok(Some(chunk)) => {
                    self.got = self.got.saturating_add(chunk.len() as u64);
                    if self.got > self.size {
                        return Err(self.wrong("more bytes".into()));
                    }
                    return Ok(Some(chunk));
                }
                Ok(None) if self.got < self.size => return Err(self.wrong(format!("{} bytes", self.got))),
                Ok(None) => return Ok(None),
                Err(Error::AccessDenied { .. }) if self.refused_at != Some(self.got) => {
                    self.refused_at = Some(self.got);
                    let shown = self.session.renew(&self.digest).await?;
                    self.download.show(shown);
                }
                Err(error) => return Err(self.session.explain(error)),
            }
        }
    }
}
