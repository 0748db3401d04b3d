//! tar: POSIX ustar and pax, GNU's long names, and what was before them.

mod header;
mod pax;

use super::foreign::{self, BLOCK};
use super::stream::{Stream, cut_off, damaged, invalid};
use super::taker::{Kind, Taker};
use crate::error::{Defect, Error};
use crate::verify::defect::shown;
use header::{Entry, Header};
use pax::Overrides;

/// An extended header. Those with access lists and capabilities of a file have some KiB.
const LARGEST_EXTENSION: u64 = 256 << 10;
/// Zeros behind the end. Archives are written in records, of 10 KiB by default and of up to 1 MiB for tapes.
const PADDING: usize = 1 << 20;
const IN_HEADER: &str = "within a header";
const IN_EXTENSION: &str = "within an extended header";

/// Takes the adapter out of a tar archive, to its very end. `within` is the compression that it came in.
pub(super) fn unpack(
    stream: &mut impl Stream,
    within: Option<&'static str>,
    taker: &mut Taker<'_>,
) -> Result<(), Error> {
    let mut block = [0; BLOCK];
    let got = stream.read_up_to(&mut block)?;
    let mut next = match Header::parse(&block) {
        Ok(header) if got == BLOCK => header,
        // Of a file that could be the start of anything, only the start of an archive is said to be cut off.
        _ => return Err(foreign::refuse(&block[..got], within)),
    };
    let mut overrides = Overrides::default();
    let mut last = String::from("its start");
    while let Some(header) = next {
        taker.count()?;
        match header.entry {
            Entry::Pax | Entry::LongName | Entry::LongLink => extension(stream, &header, &mut overrides)?,
            Entry::GlobalPax => {
                let mut globals = Overrides::default();
                globals.read_pax(&content(stream, &header)?)?;
                if !globals.is_empty() {
                    return Err(invalid("a global header in it gives all members one name or size"));
                }
            }
            Entry::Label => skip_empty(&header)?,
            Entry::Unsupported { feature, advice } => {
                return Err(Defect::ArchiveUnsupported { feature: feature.into(), advice }.into());
            }
            Entry::Member(kind) => {
                last = member(stream, header, kind, std::mem::take(&mut overrides), taker)?;
            }
        }
        if stream.read_up_to(&mut block)? < BLOCK {
            return Err(cut_off(&format!("behind {last}")));
        }
        next =
            Header::parse(&block).map_err(|_| damaged(format!("the checksum of the header behind {last} is wrong")))?;
    }
    if !overrides.is_empty() {
        return Err(invalid("an extended header in it belongs to no member"));
    }
    end(stream)
}

/// Takes one member, and says what it is called in a message.
fn member(
    stream: &mut impl Stream,
    header: Header,
    kind: Kind,
    overrides: Overrides,
    taker: &mut Taker<'_>,
) -> Result<String, Error> {
    let size = match overrides.size {
        Some(size) => size,
        None => header.size()?,
    };
    let name = overrides.path.unwrap_or_else(|| header.name());
    // Programs before 1988 knew no other mark of a directory.
    let kind = if header.is_old && name.ends_with(b"/") { Kind::Directory } else { kind };
    let shown_name = shown(&String::from_utf8_lossy(&name));
    let mut target = taker.member(&name, kind, Some(size))?;
    if kind != Kind::File && size != 0 {
        return Err(invalid(format!("{shown_name} is no file, but has a size")));
    }
    let place = format!("within {shown_name}");
    target.copy(stream, size, &place)?;
    target.finish()?;
    padding(stream, size, &place)?;
    Ok(shown_name)
}

/// Takes what is said of the next member.
fn extension(stream: &mut impl Stream, header: &Header, overrides: &mut Overrides) -> Result<(), Error> {
    let content = content(stream, header)?;
    match header.entry {
        Entry::Pax => overrides.read_pax(&content),
        Entry::LongName => overrides.set_long_name(&content),
        // Links are refused whatever they lead to.
        _ => Ok(()),
    }
}

/// What an extended header says.
fn content(stream: &mut impl Stream, header: &Header) -> Result<Vec<u8>, Error> {
    let size = header.size()?;
    if size > LARGEST_EXTENSION {
        return Err(invalid(format!("an extended header in it has more than {LARGEST_EXTENSION} bytes")));
    }
    let bytes = stream.bytes(usize::try_from(size).unwrap_or(usize::MAX), IN_EXTENSION)?;
    padding(stream, size, IN_EXTENSION)?;
    Ok(bytes)
}

fn skip_empty(header: &Header) -> Result<(), Error> {
    if header.size()? == 0 { Ok(()) } else { Err(invalid("its label has a size")) }
}

/// Takes what fills the last block of `size` bytes.
fn padding(stream: &mut impl Stream, size: u64, place: &str) -> Result<(), Error> {
    stream.pass(size.wrapping_neg() % BLOCK as u64, place, |_| Ok(()))
}

/// The first of the two blocks of zeros that end an archive has come.
fn end(stream: &mut impl Stream) -> Result<(), Error> {
    let mut block = [0; BLOCK];
    if stream.read_up_to(&mut block)? < BLOCK {
        return Err(cut_off(IN_HEADER));
    }
    if block != [0; BLOCK] {
        return Err(invalid("a block of zeros is in the middle of it"));
    }
    if stream.only_zeros(PADDING)? { Ok(()) } else { Err(invalid("something else follows its end")) }
}
