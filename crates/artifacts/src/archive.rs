//! Archives, unpacked while they come.
//!
//! What an archive is, its first bytes tell, never its name: tar, plain or under gzip or zstd, and zip. It is read once, from
//! its beginning to its end, and to the very end, since that is where the checksums are and where a cut shows. Kept files go
//! straight into the staging area; nothing else is written anywhere, so no name in an archive ever becomes a path.
//!
//! Formats are read strictly: what two programs might read differently is refused. An archive is somebody else's, and the
//! question is not what could be made of it.

mod foreign;
mod growth;
mod gunzip;
mod inflate;
mod path;
mod stream;
mod taker;
mod tar;
mod unzstd;
mod zip;

use std::io::Read;

use crate::error::Error;
use crate::store::staging::Staging;
use stream::{Input, aside};
use taker::Taker;

impl Staging {
    /// Takes the kept files out of `archive`: those at its root or, if there are none, those in the one folder that has any.
    /// `what` is for the message of a failure to read. Blocks, and decompresses on a thread of its own.
    ///
    /// # Errors
    /// What is wrong with the archive or with what is in it, what the reader fails with, or what is wrong with the store.
    pub fn unpack(&mut self, archive: impl Read + Send, what: &str) -> Result<(), Error> {
        unpack(archive, what, self)
    }
}

/// Takes the kept files out of an archive.
pub(crate) fn unpack(archive: impl Read + Send, what: &str, staging: &mut Staging) -> Result<(), Error> {
    let mut input = Input::new(archive, what);
    let mut taker = Taker::new(staging);
    match Form::of(input.ahead(Form::TELLS)?) {
        Form::Zip => zip::unpack(&mut input, &mut taker)?,
        Form::Tar => tar::unpack(&mut input, None, &mut taker)?,
        Form::Gzip => aside(gunzip::Gunzip::new(input), |stream| tar::unpack(stream, Some("gzip"), &mut taker))?,
        Form::Zstd => aside(unzstd::Unzstd::new(input)?, |stream| tar::unpack(stream, Some("zstd"), &mut taker))?,
    }
    taker.finish()
}

/// What the first bytes of an archive say that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Gzip,
    Zstd,
    Zip,
    /// Or nothing that we know, which its first header tells.
    Tar,
}

impl Form {
    /// Bytes that are needed to tell.
    const TELLS: usize = 4;

    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // The second are frames to be skipped, which parallel compressors begin with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            // A local header, the end of an empty archive, a part of a split one.
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] | [b'P', b'K', 7, 8, ..] => Self::Zip,
            _ => Self::Tar,
        }
    }
}
