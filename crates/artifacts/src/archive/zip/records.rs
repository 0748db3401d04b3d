//! The records that a zip archive is made of.
//!
//! Their fields are those of PKWARE's APPNOTE.TXT, sections 4.3.7 to 4.3.16. All numbers are little-endian.

use std::io::Read;

use crate::archive::stream::{Input, Stream, invalid};
use crate::archive::taker::Kind;
use crate::error::{Defect, Error};

/// In a field of 32 bits: the number is in the extra field of zip64.
const ELSEWHERE: u32 = u32::MAX;
/// The tag of that field.
const ZIP64: u16 = 1;
/// Bits of a member's flags: encrypted, its sums behind it, patched, strongly encrypted, its header masked.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const SUMS_BEHIND: u16 = 1 << 3;
const PATCHED: u16 = 1 << 5;
const IN_HEADER: &str = "within a header";
const IN_DIRECTORY: &str = "within the directory at its end";
const IN_SUMS: &str = "behind a member's data";

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A member.
    Local,
    /// An entry of the directory.
    Central,
    /// The end of an archive of more than 4 GiB or 65,535 members.
    End64,
    /// The end.
    End,
}

impl Record {
    /// Takes a signature.
    pub(super) fn read(input: &mut Input<impl Read>) -> Result<Self, Error> {
        let split = || Defect::ArchiveUnsupported { feature: "several volumes".into(), advice: "pack it as one file" };
        match &input.array("before the directory at its end")? {
            b"PK\x03\x04" => Ok(Self::Local),
            b"PK\x01\x02" => Ok(Self::Central),
            b"PK\x06\x06" => Ok(Self::End64),
            b"PK\x05\x06" => Ok(Self::End),
            b"PK\x07\x08" => Err(split().into()),
            _ => Err(invalid("something that is neither a member nor the directory is in it")),
        }
    }
}

/// How a member is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflated,
}

/// A member's checksum and sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// The CRC-32.
    pub(super) sum: u32,
    /// Bytes in the archive.
    pub(super) packed: u64,
    /// Bytes of the file.
    pub(super) size: u64,
}

impl Descriptor {
    /// Takes what is behind a member of which `found` came. Numbers have 64 bits in archives that say so, and where 32 are
    /// too few. There may be a signature before them, which a checksum equals once in 2^32 times.
    pub(super) fn read(input: &mut Input<impl Read>, found: &Self, is_zip64: bool) -> Result<Self, Error> {
        let mut sum: [u8; 4] = input.array(IN_SUMS)?;
        if sum == *b"PK\x07\x08" {
            sum = input.array(IN_SUMS)?;
        }
        let is_large = |size: u64| size > u64::from(u32::MAX);
        let wide = is_zip64 || is_large(found.packed) || is_large(found.size);
        let mut number = || -> Result<u64, Error> {
            if wide {
                input.array(IN_SUMS).map(u64::from_le_bytes)
            } else {
                input.array(IN_SUMS).map(u32::from_le_bytes).map(u64::from)
            }
        };
        Ok(Self { sum: u32::from_le_bytes(sum), packed: number()?, size: number()? })
    }
}

/// What is before a member's data.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) name: Vec<u8>,
    flags: u16,
    pub(super) method: u16,
    /// Where they are not behind the data.
    pub(super) sums: Option<Descriptor>,
    /// Whether numbers of 64 bits are used.
    pub(super) is_zip64: bool,
}

impl Local {
    /// Takes what follows the signature.
    pub(super) fn read(input: &mut Input<impl Read>) -> Result<Self, Error> {
        let fixed: [u8; 26] = input.array(IN_HEADER)?;
        let [_, _, fields @ ..] = fixed;
        let fields = Fields(&fields);
        let (flags, method) = (fields.short(0), fields.short(2));
        let name = input.bytes(fields.short(20).into(), IN_HEADER)?;
        let extra = input.bytes(fields.short(22).into(), IN_HEADER)?;
        let mut wide = Wide::find(&extra)?;
        let is_zip64 = wide.is_some();
        let sums = if flags & SUMS_BEHIND != 0 {
            None
        } else {
            // The format has the size first there, and second here.
            let size = wide.or_else(&fields, 16)?;
            let packed = wide.or_else(&fields, 12)?;
            Some(Descriptor { sum: fields.long(8), packed, size })
        };
        Ok(Self { name, flags, method, sums, is_zip64 })
    }

    /// How it is packed, if we can unpack that.
    pub(super) fn method(&self, name: &str) -> Result<Method, Error> {
        let unsupported = |feature, advice| Err(Defect::ArchiveUnsupported { feature, advice }.into());
        readable(self.flags, name)?;
        if self.flags & PATCHED != 0 {
            return unsupported("patches in place of files".into(), "pack the files themselves");
        }
        match self.method {
            0 => Ok(Method::Stored),
            8 => Ok(Method::Deflated),
            99 => Err(Defect::ArchiveEncrypted { member: name.to_owned() }.into()),
            other => unsupported(format!("the compression method {other} of zip"), "pack it with `zip` and no options"),
        }
    }
}

/// Refuses a member that needs a password.
fn readable(flags: u16, name: &str) -> Result<(), Error> {
    if flags & ENCRYPTED == 0 { Ok(()) } else { Err(Defect::ArchiveEncrypted { member: name.to_owned() }.into()) }
}

/// An entry of the directory.
#[derive(Debug)]
pub(super) struct Central {
    pub(super) name: Vec<u8>,
    flags: u16,
    pub(super) method: u16,
    pub(super) sums: Descriptor,
    /// Where the member begins.
    pub(super) offset: u64,
    mode: u16,
}

impl Central {
    /// Takes what follows the signature.
    pub(super) fn read(input: &mut Input<impl Read>) -> Result<Self, Error> {
        let fixed: [u8; 42] = input.array(IN_DIRECTORY)?;
        let [_, _, _, _, fields @ ..] = fixed;
        let fields = Fields(&fields);
        let name = input.bytes(fields.short(20).into(), IN_DIRECTORY)?;
        let extra = input.bytes(fields.short(22).into(), IN_DIRECTORY)?;
        input.pass(fields.short(24).into(), IN_DIRECTORY, |_| Ok(()))?;
        let mut wide = Wide::find(&extra)?;
        let size = wide.or_else(&fields, 16)?;
        let packed = wide.or_else(&fields, 12)?;
        let offset = wide.or_else(&fields, 34)?;
        let sums = Descriptor { sum: fields.long(8), packed, size };
        // The upper half is the mode where the archive was made on Unix, and zero elsewhere.
        Ok(Self { name, flags: fields.short(0), method: fields.short(2), sums, offset, mode: fields.short(32) })
    }

    /// Refuses a member that needs a password.
    pub(super) fn readable(&self, name: &str) -> Result<(), Error> {
        readable(self.flags, name)
    }

    /// What the member was where it was packed, if the archive says so.
    pub(super) fn kind(&self) -> Option<Kind> {
        // S_IFMT and the values below it, as POSIX systems have them.
        match self.mode >> 12 {
            0 => None,
            0o10 => Some(Kind::File),
            0o04 => Some(Kind::Directory),
            0o12 => Some(Kind::SymbolicLink),
            _ => Some(Kind::Special),
        }
    }
}

/// What the end of an archive says of its directory.
#[derive(Debug)]
pub(super) struct End {
    /// Its entries.
    pub(super) entries: u64,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Where it begins.
    pub(super) start: u64,
}

impl End {
    /// Takes the end, which begins at `offset` with `record`, and holds it against what came.
    pub(super) fn check(&self, input: &mut Input<impl Read>, record: Record, offset: u64) -> Result<(), Error> {
        let is_wide = record == Record::End64;
        let record = if is_wide {
            self.check_wide(input, offset)?;
            Record::read(input)?
        } else {
            record
        };
        if record != Record::End {
            return Err(wrong());
        }
        let fixed: [u8; 18] = input.array(IN_DIRECTORY)?;
        let fields = Fields(&fixed);
        let short =
            |at, expected: u64| (is_wide && fields.short(at) == u16::MAX) || u64::from(fields.short(at)) == expected;
        let long =
            |at, expected: u64| (is_wide && fields.long(at) == ELSEWHERE) || u64::from(fields.long(at)) == expected;
        let sound = [short(0, 0), short(2, 0), short(4, self.entries), short(6, self.entries)];
        if !sound.into_iter().all(|sound| sound) || !long(8, self.size) || !long(12, self.start) {
            return Err(wrong());
        }
        input.pass(fields.short(16).into(), "within its comment", |_| Ok(()))
    }

    /// The same for the numbers of 64 bits, and what says where they are.
    fn check_wide(&self, input: &mut Input<impl Read>, offset: u64) -> Result<(), Error> {
        let size = u64::from_le_bytes(input.array(IN_DIRECTORY)?);
        let fixed: [u8; 44] = input.array(IN_DIRECTORY)?;
        let fields = Fields(&fixed);
        let sound = [(12, self.entries), (20, self.entries), (28, self.size), (36, self.start)];
        if sound.into_iter().any(|(at, expected)| fields.wide(at) != expected) {
            return Err(wrong());
        }
        let rest = size.checked_sub(44).filter(|rest| *rest <= 64 << 10).ok_or_else(wrong)?;
        input.pass(rest, IN_DIRECTORY, |_| Ok(()))?;
        let locator: [u8; 20] = input.array(IN_DIRECTORY)?;
        let [b'P', b'K', 6, 7, locator @ ..] = locator else { return Err(wrong()) };
        if Fields(&locator).wide(4) == offset { Ok(()) } else { Err(wrong()) }
    }
}

fn wrong() -> Error {
    invalid("its end says of its directory what is not so")
}

/// Numbers at their places.
struct Fields<'f>(&'f [u8]);

impl Fields<'_> {
    fn at<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.0[at..].first_chunk().expect("places are constants within records of constant size")
    }
    fn short(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.at(at))
    }
    fn long(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.at(at))
    }
    fn wide(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.at(at))
    }
}

/// The numbers of zip64's extra field that are left.
struct Wide<'x>(Option<&'x [u8]>);

impl<'x> Wide<'x> {
    /// Looks for it among the extra fields: each a tag, a length, and as many bytes.
    fn find(mut extra: &'x [u8]) -> Result<Self, Error> {
        let broken = || invalid("an extra field in it is not as it should be");
        let mut found = None;
        while !extra.is_empty() {
            let (head, rest) = extra.split_first_chunk::<4>().ok_or_else(broken)?;
            let [tag, length] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_le_bytes);
            let (field, rest) = rest.split_at_checked(length.into()).ok_or_else(broken)?;
            if tag == ZIP64 && found.replace(field).is_some() {
                return Err(broken());
            }
            extra = rest;
        }
        Ok(Self(found))
    }

    fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// The 32 bits at `at`, or the next number here where they say so.
    fn or_else(&mut self, fields: &Fields<'_>, at: usize) -> Result<u64, Error> {
        match fields.long(at) {
            ELSEWHERE => {
                let left = self.0.and_then(|left| left.split_first_chunk::<8>());
                let (number, rest) = left.ok_or_else(|| invalid("a size of 64 bits is missing"))?;
                self.0 = Some(rest);
                Ok(u64::from_le_bytes(*number))
            }
            short => Ok(short.into()),
        }
    }
}
