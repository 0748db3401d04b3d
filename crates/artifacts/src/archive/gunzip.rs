//! gzip (RFC 1952), with every checksum held against what came.

use std::io::Read;

use flate2::Crc;

use super::growth::Growth;
use super::inflate::Inflate;
use super::stream::{Decode, Input, Stream, cut_off, damaged, invalid};
use crate::error::Error;

/// Bits of a header's flags.
const HAS_CHECKSUM: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;
/// A name or comment. Longer ones hold nothing that anybody packed.
const LONGEST_TEXT: usize = 64 << 10;
/// Zeros behind the last member, which is how tapes and some devices fill their blocks.
const PADDING: usize = 1 << 20;
const IN_HEADER: &str = "within a gzip header";

/// What is in a gzip file: one member behind the other.
pub(super) struct Gunzip<R> {
    input: Input<R>,
    inflate: Inflate,
    sum: Crc,
    growth: Growth,
    state: State,
}

enum State {
    /// A member comes, the first one or a further one.
    Between { first: bool },
    /// Within a member.
    Inside,
    /// Behind the last one.
    Ended,
}

impl<R: Read> Gunzip<R> {
    pub(super) fn new(input: Input<R>) -> Self {
        let state = State::Between { first: true };
        Self { input, inflate: Inflate::new(), sum: Crc::new(), growth: Growth::default(), state }
    }

    /// Comes to the next member, if there is one.
    fn next_member(&mut self, first: bool) -> Result<State, Error> {
        let next = self.input.fill()?.first().copied();
        match (first, next) {
            (false, None) => return Ok(State::Ended),
            (false, Some(0)) if self.input.only_zeros(PADDING)? => return Ok(State::Ended),
            (true, _) | (false, Some(0x1f)) => {}
            (false, Some(_)) => return Err(invalid("something else follows its end")),
        }
        self.header()?;
        self.inflate.reset();
        self.sum.reset();
        Ok(State::Inside)
    }

    fn header(&mut self) -> Result<(), Error> {
        let mut sum = Crc::new();
        let fixed: [u8; 10] = self.input.array(IN_HEADER)?;
        sum.update(&fixed);
        let flags = match fixed {
            [0x1f, 0x8b, 8, flags, ..] if flags & RESERVED == 0 => flags,
            [0x1f, 0x8b, 8, ..] => return Err(invalid("a gzip header has flags that no standard knows")),
            [0x1f, 0x8b, ..] => return Err(invalid("a gzip header names a compression that no standard knows")),
            _ => return Err(invalid("something else follows its end")),
        };
        if flags & HAS_EXTRA != 0 {
            let length: [u8; 2] = self.input.array(IN_HEADER)?;
            sum.update(&length);
            self.input.pass(u16::from_le_bytes(length).into(), IN_HEADER, |bytes| {
                sum.update(bytes);
                Ok(())
            })?;
        }
        for text in [HAS_NAME, HAS_COMMENT] {
            if flags & text != 0 {
                self.text(&mut sum)?;
            }
        }
        if flags & HAS_CHECKSUM != 0 {
            let expected = u16::from_le_bytes(self.input.array(IN_HEADER)?);
            // The format keeps the lower half.
            if u32::from(expected) != sum.sum() & 0xffff {
                return Err(damaged("the checksum of a gzip header is wrong"));
            }
        }
        Ok(())
    }

    /// Takes a text up to the NUL behind it.
    fn text(&mut self, sum: &mut Crc) -> Result<(), Error> {
        for _ in 0..LONGEST_TEXT {
            let byte: [u8; 1] = self.input.array(IN_HEADER)?;
            sum.update(&byte);
            if byte == [0] {
                return Ok(());
            }
        }
        Err(invalid("the name in a gzip header has no end"))
    }

    /// Holds the end of a member against what was in it.
    fn trailer(&mut self) -> Result<(), Error> {
        let [a, b, c, d, size @ ..]: [u8; 8] = self.input.array("before the checksum at its end")?;
        if u32::from_le_bytes([a, b, c, d]) != self.sum.sum() {
            return Err(damaged("its checksum is wrong"));
        }
        // Both wrap around at 4 GiB.
        if u32::from_le_bytes(size) != self.sum.amount() {
            return Err(damaged("its length is not what its end says"));
        }
        Ok(())
    }
}

impl<R: Read> Decode for Gunzip<R> {
    fn decode(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < into.len() {
            match self.state {
                State::Ended => break,
                State::Between { first } => self.state = self.next_member(first)?,
                State::Inside => {
                    let step = self.inflate.step(self.input.fill()?, &mut into[filled..])?;
                    self.input.consume(step.used);
                    self.sum.update(&into[filled..filled + step.made]);
                    self.growth.add(step.made, self.input.taken())?;
                    filled += step.made;
                    if step.ended {
                        self.trailer()?;
                        self.state = State::Between { first: false };
                    } else if (step.used, step.made) == (0, 0) {
                        // It could do nothing with what there is, so there is nothing.
                        return Err(cut_off("within its compressed data"));
                    }
                }
            }
        }
        Ok(filled)
    }
}
