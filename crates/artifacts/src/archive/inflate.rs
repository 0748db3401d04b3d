//! DEFLATE (RFC 1951), as gzip and zip have it.

use flate2::{Decompress, FlushDecompress, Status};

use super::stream::damaged;
use crate::error::Error;

/// One compressed stream.
pub(super) struct Inflate(Decompress);

/// What was done in one step.
pub(super) struct Step {
    /// Bytes taken.
    pub(super) used: usize,
    /// Bytes made.
    pub(super) made: usize,
    /// Whether the stream is at its end.
    pub(super) ended: bool,
}

impl Inflate {
    pub(super) fn new() -> Self {
        Self(Decompress::new(false))
    }

    /// Begins another stream.
    pub(super) fn reset(&mut self) {
        self.0.reset(false);
    }

    /// Goes on as far as `from` and `into` allow.
    pub(super) fn step(&mut self, from: &[u8], into: &mut [u8]) -> Result<Step, Error> {
        let (taken, made) = (self.0.total_in(), self.0.total_out());
        let status = self.0.decompress(from, into, FlushDecompress::None);
        let status = status.map_err(|_| damaged("its compressed data make no sense"))?;
        let difference = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
        let (used, made) = (difference(self.0.total_in(), taken), difference(self.0.total_out(), made));
        Ok(Step { used, made, ended: status == Status::StreamEnd })
    }
}
