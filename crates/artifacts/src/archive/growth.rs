//! How much may come out of how little.

use crate::error::{Defect, Error};

/// What may come out of any archive, in bytes: enough for a whole adapter that is all zeros, which shrink a thousandfold.
const FREE: u64 = 256 << 20;
/// And beyond that, for each byte of the archive. A fresh adapter is the one that shrinks most: every `lora_B` is zero, but
/// `lora_A` is random and does not shrink. On a vocabulary of 128,000 and a width of 2,048, `lora_B` has 63 times the size.
const RATIO: u64 = 100;

/// What has come out of an archive until now.
#[derive(Debug, Default)]
pub(super) struct Growth {
    made: u64,
}

impl Growth {
    /// `more` bytes have come out, of `taken` bytes of the archive altogether.
    pub(super) fn add(&mut self, more: usize, taken: u64) -> Result<(), Error> {
        self.made = self.made.saturating_add(more as u64);
        if self.made > FREE.saturating_add(taken.saturating_mul(RATIO)) {
            return Err(Defect::ArchiveBomb { made: self.made, taken }.into());
        }
        Ok(())
    }
}
