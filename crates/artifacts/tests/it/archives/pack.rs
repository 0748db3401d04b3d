//! Packs archives byte by byte, so that anything can be wrong with them.

use std::io::Write;

use flate2::Crc;
use flate2::write::{DeflateEncoder, GzEncoder};

use crate::adapter::Adapter;

/// One member of a tar archive, with whatever its header should say.
#[derive(Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub prefix: Vec<u8>,
    pub flag: u8,
    /// As it is in the header; none for the content's.
    pub size: Option<[u8; 12]>,
    pub magic: [u8; 8],
    pub content: Vec<u8>,
    /// Added to the checksum.
    pub off_by: u32,
}

impl Entry {
    pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            prefix: Vec::new(),
            flag: b'0',
            size: None,
            magic: *b"ustar\x0000",
            content: content.as_ref().to_vec(),
            off_by: 0,
        }
    }

    pub fn other(flag: u8, name: impl AsRef<[u8]>) -> Self {
        Self { flag, ..Self::file(name, "") }
    }

    pub fn directory(name: &str) -> Self {
        Self::other(b'5', name)
    }

    /// A pax header with these records.
    pub fn pax(flag: u8, records: &[(&str, &str)]) -> Self {
        let mut content = String::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let digits = |length: usize| rest + length.to_string().len();
            content.push_str(&format!("{} {key}={value}\n", digits(digits(rest))));
        }
        Self { flag, ..Self::file("pax", content) }
    }

    /// GNU's long name for the member behind it.
    pub fn long_name(name: &str) -> Self {
        Self { flag: b'L', magic: *b"ustar  \0", ..Self::file("././@LongLink", format!("{name}\0")) }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut block = [0_u8; 512];
        block[..self.name.len()].copy_from_slice(&self.name);
        block[100..108].copy_from_slice(b"0000644\0");
        let size = self.size.unwrap_or_else(|| {
            let text = format!("{:011o}\0", self.content.len());
            text.into_bytes().try_into().unwrap()
        });
        block[124..136].copy_from_slice(&size);
        block[148..156].copy_from_slice(b"        ");
        block[156] = self.flag;
        block[257..265].copy_from_slice(&self.magic);
        block[345..345 + self.prefix.len()].copy_from_slice(&self.prefix);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum::<u32>() + self.off_by;
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = block.to_vec();
        bytes.extend(&self.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// The members of a tar archive, one behind the other, without an end.
pub fn open_tar(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(Entry::bytes).collect()
}

/// A tar archive.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = open_tar(entries);
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A tar archive of these files.
pub fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    tar(&files.iter().map(|(name, bytes)| Entry::file(name, bytes)).collect::<Vec<_>>())
}

/// The files of an adapter as members, below `folder`.
pub fn members(adapter: &Adapter, folder: &str) -> Vec<Entry> {
    adapter.files().into_iter().map(|(name, bytes)| Entry::file(format!("{folder}{name}"), bytes)).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    gzip_with(bytes, flate2::Compression::default())
}

/// A gzip that packs nothing, so that what is cut off it is known.
pub fn stored_gzip(bytes: &[u8]) -> Vec<u8> {
    gzip_with(bytes, flate2::Compression::none())
}

fn gzip_with(bytes: &[u8], level: flate2::Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd_with(bytes, 3, 0)
}

/// Compressed with a checksum, and a window of `window_log` bits unless that is zero.
pub fn zstd_with(bytes: &[u8], level: i32, window_log: u32) -> Vec<u8> {
    use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(level)).unwrap();
    context.set_parameter(CParameter::ChecksumFlag(true)).unwrap();
    if window_log > 0 {
        context.set_parameter(CParameter::WindowLog(window_log)).unwrap();
    }
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
    let mut input = InBuffer::around(bytes);
    // As a stream of a length that is not known, as `tar --zstd` makes it.
    while input.pos() < bytes.len() {
        let at = out.len();
        context.compress_stream(&mut OutBuffer::around_pos(&mut out, at), &mut input).unwrap();
    }
    loop {
        let at = out.len();
        if context.end_stream(&mut OutBuffer::around_pos(&mut out, at)).unwrap() == 0 {
            return out;
        }
    }
}

pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One member of a zip archive.
#[derive(Clone)]
pub struct Zipped {
    pub name: Vec<u8>,
    pub flags: u16,
    pub method: u16,
    pub sum: u32,
    pub size: u64,
    pub data: Vec<u8>,
    /// Its mode on Unix, in the directory.
    pub mode: u16,
    /// How its sums are written behind it.
    pub behind: Option<Behind>,
    /// What the directory says otherwise.
    pub listed: Listed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// As 32 bits, with or without a signature.
    Short(bool),
    /// As 64 bits, with a signature, and so that the header says it.
    Long,
}

/// What the directory says of a member.
#[derive(Clone, PartialEq, Eq)]
pub enum Listed {
    Truly,
    Not,
    As(Vec<u8>),
    OfSize(u32),
    At(u32),
}

impl Zipped {
    pub fn stored(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        let mut sum = Crc::new();
        sum.update(content);
        Self {
            name: name.as_ref().to_vec(),
            flags: 0,
            method: 0,
            sum: sum.sum(),
            size: content.len() as u64,
            data: content.to_vec(),
            mode: 0o100_644,
            behind: None,
            listed: Listed::Truly,
        }
    }

    pub fn deflated(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let data = deflate(content.as_ref());
        Self { method: 8, data, ..Self::stored(name, content) }
    }

    /// With its sums behind it, as programs write that cannot go back.
    pub fn streamed(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>, behind: Behind) -> Self {
        Self { flags: 8, behind: Some(behind), ..Self::deflated(name, content) }
    }

    fn local(&self) -> Vec<u8> {
        let packed = self.data.len() as u64;
        let mut bytes = b"PK\x03\x04".to_vec();
        let long = self.behind == Some(Behind::Long);
        shorts(&mut bytes, &[20, self.flags, self.method, 0, 33]);
        match self.behind {
            None => longs(&mut bytes, &[self.sum, packed as u32, self.size as u32]),
            Some(_) => longs(&mut bytes, &[0, 0, 0]),
        }
        shorts(&mut bytes, &[self.name.len() as u16, if long { 20 } else { 0 }]);
        bytes.extend(&self.name);
        if long {
            shorts(&mut bytes, &[1, 16]);
            bytes.extend([0; 16]);
        }
        bytes.extend(&self.data);
        match self.behind {
            None => {}
            Some(Behind::Short(signed)) => {
                bytes.extend(if signed { &b"PK\x07\x08"[..] } else { b"" });
                longs(&mut bytes, &[self.sum, packed as u32, self.size as u32]);
            }
            Some(Behind::Long) => {
                bytes.extend(b"PK\x07\x08");
                bytes.extend(self.sum.to_le_bytes());
                bytes.extend(packed.to_le_bytes());
                bytes.extend(self.size.to_le_bytes());
            }
        }
        bytes
    }

    fn central(&self, offset: u32) -> Vec<u8> {
        let (mut name, mut size, mut offset) = (&self.name, self.size as u32, offset);
        match &self.listed {
            Listed::Truly => {}
            Listed::Not => return Vec::new(),
            Listed::As(other) => name = other,
            Listed::OfSize(other) => size = *other,
            Listed::At(other) => offset = *other,
        }
        let mut bytes = b"PK\x01\x02".to_vec();
        shorts(&mut bytes, &[3 << 8 | 20, 20, self.flags, self.method, 0, 33]);
        longs(&mut bytes, &[self.sum, self.data.len() as u32, size]);
        shorts(&mut bytes, &[name.len() as u16, 0, 0, 0, 0, 0, self.mode]);
        longs(&mut bytes, &[offset]);
        bytes.extend(name);
        bytes
    }
}

/// A zip archive.
pub fn zip(members: &[Zipped]) -> Vec<u8> {
    zip_with(members, false, 0)
}

/// A zip archive, with the end of a large one if `wide`, and with an end that counts `more` members.
pub fn zip_with(members: &[Zipped], wide: bool, more: u16) -> Vec<u8> {
    let (mut bytes, mut directory, mut entries) = (Vec::new(), Vec::new(), more);
    for member in members {
        let central = member.central(bytes.len() as u32);
        entries += u16::from(!central.is_empty());
        directory.extend(central);
        bytes.extend(member.local());
    }
    let start = bytes.len() as u32;
    bytes.extend(&directory);
    if wide {
        let end = bytes.len() as u64;
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44_u64.to_le_bytes());
        shorts(&mut bytes, &[45, 45]);
        longs(&mut bytes, &[0, 0]);
        for number in [entries.into(), entries.into(), directory.len() as u64, start.into()] {
            bytes.extend(u64::to_le_bytes(number));
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(end.to_le_bytes());
        longs(&mut bytes, &[1]);
    }
    bytes.extend(b"PK\x05\x06");
    shorts(&mut bytes, &[0, 0]);
    if wide {
        shorts(&mut bytes, &[u16::MAX, u16::MAX]);
        longs(&mut bytes, &[u32::MAX, u32::MAX]);
    } else {
        shorts(&mut bytes, &[entries, entries]);
        longs(&mut bytes, &[directory.len() as u32, start]);
    }
    shorts(&mut bytes, &[0]);
    bytes
}

/// The files of an adapter as compressed members, below `folder`.
pub fn zipped(adapter: &Adapter, folder: &str) -> Vec<Zipped> {
    adapter.files().into_iter().map(|(name, bytes)| Zipped::deflated(format!("{folder}{name}"), bytes)).collect()
}

fn shorts(bytes: &mut Vec<u8>, numbers: &[u16]) {
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

fn longs(bytes: &mut Vec<u8>, numbers: &[u32]) {
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}
