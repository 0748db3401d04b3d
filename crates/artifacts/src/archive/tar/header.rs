//! One header of a tar archive.
//!
//! Fields and their places are those of POSIX `pax`, "ustar Interchange Format", and of GNU tar's `tar.h`.

use std::ops::Range;

use crate::archive::foreign::BLOCK;
use crate::archive::stream::invalid;
use crate::archive::taker::Kind;
use crate::error::Error;

const NAME: Range<usize> = 0..100;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const MAGIC: Range<usize> = 257..263;
const PREFIX: Range<usize> = 345..500;

/// What a header is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A file, or what is in its place.
    Member(Kind),
    /// Something about the next member.
    Pax,
    /// Its name, in GNU's way.
    LongName,
    /// What it links to, in GNU's way.
    LongLink,
    /// Something about all members.
    GlobalPax,
    /// The archive's own name.
    Label,
    /// What we do not unpack.
    Unsupported { feature: &'static str, advice: &'static str },
}

/// One header whose checksum is right.
#[derive(Debug)]
pub(super) struct Header {
    block: [u8; BLOCK],
    pub(super) entry: Entry,
    /// Whether its type is the one that was there before types for directories.
    pub(super) is_old: bool,
}

/// The checksum is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoHeader;

impl Header {
    /// The header in `block`; none where it is all zeros, as at the end.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Option<Self>, NoHeader> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // Counted with spaces in the place of the sum itself.
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let expected = sum(block) - sum(&block[CHECKSUM]) + u64::from(b' ') * CHECKSUM.len() as u64;
        if octal(&block[CHECKSUM]) != Some(expected) {
            return Err(NoHeader);
        }
        let flag = block[TYPE];
        Ok(Some(Self { block: *block, entry: entry_of(flag), is_old: flag == 0 }))
    }

    /// The name in it.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.block[NAME]);
        // GNU's own magic has spaces behind it, and other fields in the place of the prefix.
        match until_nul(&self.block[PREFIX]) {
            prefix if self.block[MAGIC] == *b"ustar\0" && !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_owned(),
        }
    }

    /// The size in it, in bytes.
    pub(super) fn size(&self) -> Result<u64, Error> {
        let field = &self.block[SIZE];
        let size = match field {
            // GNU's way for sizes from 8 GiB: a number in base 256, whose first bit says so, and whose second is its sign.
            [0x80, rest @ ..] => binary(rest),
            [first, ..] if first & 0x80 != 0 => None,
            _ => octal(field),
        };
        size.ok_or_else(|| invalid("a size in it is negative, too large or no number"))
    }
}

fn entry_of(flag: u8) -> Entry {
    let unsupported = |feature, advice| Entry::Unsupported { feature, advice };
    match flag {
        // The third is a file in one piece, which means nothing on any system of today.
        b'0' | 0 | b'7' => Entry::Member(Kind::File),
        b'1' => Entry::Member(Kind::HardLink),
        b'2' => Entry::Member(Kind::SymbolicLink),
        b'3' | b'4' | b'6' => Entry::Member(Kind::Special),
        b'5' => Entry::Member(Kind::Directory),
        b'x' => Entry::Pax,
        b'g' => Entry::GlobalPax,
        b'L' => Entry::LongName,
        b'K' => Entry::LongLink,
        b'V' => Entry::Label,
        b'S' => unsupported(SPARSE, SPARSE_ADVICE),
        b'M' => unsupported("a member that began in another volume", "pack it as one file"),
        b'D' | b'N' => unsupported("the form of an incremental backup", "pack it without --incremental"),
        _ => unsupported("a type of member that no standard knows", "pack it with GNU or BSD tar"),
    }
}

/// Files with holes.
pub(super) const SPARSE: &str = "sparse files";
pub(super) const SPARSE_ADVICE: &str = "pack it without --sparse";

/// A number in octal digits, with spaces before and spaces or NULs behind.
fn octal(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let field = &field[start..];
    let end = field.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(field.len());
    let (digits, rest) = field.split_at(end);
    if rest.iter().any(|byte| !matches!(byte, b' ' | 0)) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        // 12 digits are 36 bits.
        b'0'..=b'7' => Some(number * 8 + u64::from(digit - b'0')),
        _ => None,
    })
}

/// A number in bytes, the highest first; none where it has more than 63 bits.
fn binary(bytes: &[u8]) -> Option<u64> {
    let number = bytes.iter().try_fold(0_u64, |number, byte| Some(number.checked_mul(256)? + u64::from(*byte)));
    number.filter(|number| *number <= i64::MAX.unsigned_abs())
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_octal_digits_and_nothing_else() {
        for (field, number) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"77777777777\0", Some((8 << 30) - 1)),
            (b"777777777777", Some((64 << 30) - 1)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"648\0", None),
            (b"-644\0", None),
            (b"6 4\0", None),
            (b"6\x004\0", None),
        ] {
            assert_eq!(octal(field), number, "{field:?}");
        }
    }

    #[test]
    fn a_large_number_is_taken_as_far_as_sizes_go() {
        assert_eq!(binary(&[0, 0, 2, 1]), Some(513));
        assert_eq!(binary(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Some(i64::MAX.unsigned_abs()));
        assert_eq!(binary(&[0x80, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(binary(&[1, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
