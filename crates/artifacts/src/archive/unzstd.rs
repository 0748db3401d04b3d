//! Zstandard (RFC 8878).
//!
//! By the reference implementation, which is in C: what others feed should be what everybody uses and fuzzes. What it may
//! allocate is limited before it starts.

use std::io::Read;

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::growth::Growth;
use super::stream::{Decode, Input, Stream, cut_off, damaged, invalid};
use crate::error::{Defect, Error};

/// 8 MiB, the binary logarithm: what RFC 8878 asks every decoder for, and what every level without `--ultra` and `--long`
/// stays within.
const WINDOW_LOG: u32 = 23;
/// How the library words what it refuses for that limit.
const WINDOW_TOO_LARGE: &str = "Frame requires too much memory for decoding";
/// What needs a dictionary.
const DICTIONARY: &str = "Dictionary mismatch";
const CHECKSUM: &str = "Restored data doesn't match checksum";

/// What is in a Zstandard file: one frame behind the other.
pub(super) struct Unzstd<R> {
    input: Input<R>,
    context: DCtx<'static>,
    growth: Growth,
    /// Whether the last frame is at its end.
    between: bool,
}

impl<R: Read> Unzstd<R> {
    pub(super) fn new(input: Input<R>) -> Result<Self, Error> {
        let mut context = DCtx::create();
        let set = context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG));
        set.map_err(|code| invalid(get_error_name(code)))?;
        Ok(Self { input, context, growth: Growth::default(), between: true })
    }
}

impl<R: Read> Decode for Unzstd<R> {
    fn decode(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < into.len() {
            let from = self.input.fill()?;
            if from.is_empty() && self.between {
                break;
            }
            let mut source = InBuffer::around(from);
            let mut target = OutBuffer::around(&mut into[filled..]);
            let hint = self.context.decompress_stream(&mut target, &mut source).map_err(failed)?;
            let (used, made) = (source.pos(), target.pos());
            self.input.consume(used);
            self.growth.add(made, self.input.taken())?;
            self.between = hint == 0;
            filled += made;
            if (used, made) == (0, 0) && !self.between {
                return Err(cut_off("within its compressed data"));
            }
        }
        Ok(filled)
    }
}

fn failed(code: zstd_safe::ErrorCode) -> Error {
    let unsupported = |feature: &str, advice| Defect::ArchiveUnsupported { feature: feature.into(), advice }.into();
    match get_error_name(code) {
        WINDOW_TOO_LARGE => unsupported("a zstd window of more than 8 MiB", "compress it without --long and --ultra"),
        DICTIONARY => unsupported("zstd with a dictionary", "compress it without one"),
        CHECKSUM => damaged("its checksum is wrong"),
        other => damaged(format!("its compressed data make no sense ({other})")),
    }
}
