//! zip, from its beginning to its end.
//!
//! A zip archive says twice what is in it: before each member, and in the directory at its end. We go by the first, since the
//! second comes when everything has passed by, and then hold the second against it. So what a program sees that goes by the
//! directory, which is most of them, is what we have seen.

mod records;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;

use flate2::Crc;

use super::growth::Growth;
use super::inflate::Inflate;
use super::path::MemberPath;
use super::stream::{Input, Stream, cut_off, damaged, invalid};
use super::taker::{self, Kind, Taker, Target};
use crate::error::{Defect, Error};
use crate::verify::CHUNK;
use crate::verify::defect::shown;
use records::{Central, Descriptor, End, Local, Method, Record};

/// Takes the adapter out of a zip archive, to its very end.
pub(super) fn unpack<R: Read>(input: &mut Input<R>, taker: &mut Taker<'_>) -> Result<(), Error> {
    let mut unzip = Unzip::new(input);
    let mut offset = unzip.input.taken();
    let directory = loop {
        match Record::read(unzip.input)? {
            Record::Local => unzip.member(offset, taker)?,
            other => break unzip.directory(offset, other)?,
        }
        offset = unzip.input.taken();
    };
    unzip.end(directory)
}

/// What a member was, as far as the directory says it too.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// A keyed hash of it, so that no name takes more memory than another.
    name: u64,
    method: u16,
    sums: Descriptor,
}

/// What the directory was.
struct Directory {
    start: u64,
    entries: u64,
    end: u64,
    /// The signature behind it.
    next: Record,
}

struct Unzip<'i, R> {
    input: &'i mut Input<R>,
    inflate: Inflate,
    buffer: Vec<u8>,
    growth: Growth,
    /// Members by where they begin. How many there may be, the taker says.
    seen: BTreeMap<u64, Seen>,
    key: RandomState,
}

impl<'i, R: Read> Unzip<'i, R> {
    fn new(input: &'i mut Input<R>) -> Self {
        Self {
            input,
            inflate: Inflate::new(),
            buffer: vec![0; CHUNK],
            growth: Growth::default(),
            seen: BTreeMap::new(),
            key: RandomState::new(),
        }
    }

    /// Takes one member, whose signature has been taken.
    fn member(&mut self, offset: u64, taker: &mut Taker<'_>) -> Result<(), Error> {
        let local = Local::read(self.input)?;
        let path = MemberPath::parse(&local.name)?;
        let (kind, shown_name) = (kind_by_name(&path), shown(path.as_str()));
        let method = local.method(&shown_name)?;
        let size = local.sums.as_ref().map(|sums| sums.size);
        let mut target = taker.member(&local.name, kind, size)?;
        let place = format!("within {shown_name}");
        let sums = match (&method, &local.sums) {
            (Method::Stored, Some(sums)) if sums.packed == sums.size => self.stored(sums.size, &mut target, &place)?,
            (Method::Stored, Some(_)) => return Err(invalid(format!("{shown_name} has two sizes"))),
            (Method::Stored, None) => {
                let feature = format!("{shown_name} without compression, and with its size behind it");
                let advice = "pack it to a file, not through a pipe, or compressed";
                return Err(Defect::ArchiveUnsupported { feature, advice }.into());
            }
            (Method::Deflated, sums) => self.deflated(sums.as_ref().map(|sums| sums.packed), &mut target, &place)?,
        };
        let expected = match &local.sums {
            Some(expected) => expected.clone(),
            None => Descriptor::read(self.input, &sums, local.is_zip64)?,
        };
        if expected != sums {
            return Err(damaged(format!("the checksum or size of {shown_name} is wrong")));
        }
        if kind == Kind::Directory && sums.size != 0 {
            return Err(invalid(format!("{shown_name} is no file, but has a size")));
        }
        target.finish()?;
        self.seen.insert(offset, Seen { name: self.key.hash_one(&local.name), method: local.method, sums });
        Ok(())
    }

    fn stored(&mut self, size: u64, target: &mut Target<'_>, place: &str) -> Result<Descriptor, Error> {
        let mut sum = Crc::new();
        self.input.pass(size, place, |bytes| {
            sum.update(bytes);
            target.write(bytes)
        })?;
        Ok(Descriptor { sum: sum.sum(), packed: size, size })
    }

    /// Takes a member that ends with its compressed data, of which there are `packed` bytes where that is known.
    fn deflated(&mut self, packed: Option<u64>, target: &mut Target<'_>, place: &str) -> Result<Descriptor, Error> {
        self.inflate.reset();
        let (mut sum, start, mut size) = (Crc::new(), self.input.taken(), 0);
        loop {
            let taken = self.input.taken() - start;
            let from = self.input.fill()?;
            let most = packed.map_or(u64::MAX, |packed| packed - taken);
            let (cut, at_end) = (from.len().min(usize::try_from(most).unwrap_or(usize::MAX)), from.is_empty());
            let step = self.inflate.step(&from[..cut], &mut self.buffer)?;
            self.input.consume(step.used);
            let made = &self.buffer[..step.made];
            sum.update(made);
            self.growth.add(made.len(), self.input.taken())?;
            target.write(made)?;
            size += made.len() as u64;
            if step.ended {
                break;
            }
            if (step.used, step.made) == (0, 0) {
                let ends = || damaged(format!("its compressed data have no end {place}"));
                return Err(if at_end { cut_off(place) } else { ends() });
            }
        }
        Ok(Descriptor { sum: sum.sum(), packed: self.input.taken() - start, size })
    }

    /// Takes the directory, which begins at `start` with `record`.
    fn directory(&mut self, start: u64, mut record: Record) -> Result<Directory, Error> {
        let (mut entries, mut end) = (0, start);
        while record == Record::Central {
            let central = Central::read(self.input)?;
            self.compare(central)?;
            entries += 1;
            end = self.input.taken();
            record = Record::read(self.input)?;
        }
        match self.seen.keys().next() {
            None => Ok(Directory { start, entries, end, next: record }),
            Some(left) => Err(invalid(format!("the member at byte {left} is not in the directory at its end"))),
        }
    }

    fn compare(&mut self, central: Central) -> Result<(), Error> {
        let path = MemberPath::parse(&central.name)?;
        let name = shown(path.as_str());
        central.readable(&name)?;
        taker::regular(&path, central.kind().unwrap_or_else(|| kind_by_name(&path)))?;
        let listed = Seen { name: self.key.hash_one(&central.name), method: central.method, sums: central.sums };
        if self.seen.remove(&central.offset) != Some(listed) {
            return Err(invalid(format!("its directory says of {name} what is not so")));
        }
        Ok(())
    }

    /// Holds what is behind the directory against it.
    fn end(self, directory: Directory) -> Result<(), Error> {
        let Directory { start, entries, end, next } = directory;
        let found = End { entries, size: end - start, start };
        found.check(self.input, next, end)?;
        if self.input.fill()?.is_empty() { Ok(()) } else { Err(invalid("something else follows its end")) }
    }
}

fn kind_by_name(path: &MemberPath) -> Kind {
    if path.is_directory { Kind::Directory } else { Kind::File }
}
