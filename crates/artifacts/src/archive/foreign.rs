//! What something is that is not the archive that it should be.

use super::Form;
use super::stream::{cut_off, invalid};
use crate::error::{Defect, Error};
use crate::verify::defect::shown;

/// What a tar archive is made of.
pub(super) const BLOCK: usize = 512;
/// First bytes that we know, and what they are of.
const KNOWN: [(&[u8], &str); 11] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"LZIP", "lzip"),
    (b"\x1f\x9d", "compress"),
    (b"!<arch>\n", "ar"),
    (b"070701", "cpio"),
    (b"xar!", "xar"),
    (b"MSCF", "cabinet"),
];
/// First bytes of what we take.
const OURS: [&[u8]; 5] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"];

/// What begins with `start`, which is a block unless it ends within one, and is no tar archive. `within` is the compression
/// around it.
pub(super) fn refuse(start: &[u8], within: Option<&'static str>) -> Error {
    let whole = start.len() == BLOCK;
    let not = |found: String| Error::from(Defect::NotAnArchive { found });
    if start.is_empty() {
        return not(within.map_or("an empty file".into(), |within| format!("nothing, compressed with {within}")));
    }
    if let (Some(outer), inner @ (Form::Gzip | Form::Zstd | Form::Zip)) = (within, Form::of(start)) {
        let inner = match inner {
            Form::Gzip => "one in gzip",
            Form::Zstd => "one in zstd",
            _ => "a zip archive",
        };
        return Defect::ArchiveNested { outer, inner: inner.into() }.into();
    }
    if let Some((_, format)) = KNOWN.iter().find(|(magic, _)| start.starts_with(magic)) {
        let feature = format!("the format {format}");
        return Defect::ArchiveUnsupported { feature, advice: "pack it as .tar.gz, .tar.zst or .zip" }.into();
    }
    if start.starts_with(b"version https://git-lfs") {
        return Defect::LfsPointer { file: "the archive".into() }.into();
    }
    if let Some(found) = page(start) {
        return Defect::ErrorPage { found }.into();
    }
    match start {
        [0x80, 2..=5, ..] => return not("a Python pickle".into()),
        [b'G', b'G', b'U', b'F', ..] => return not("a GGUF file".into()),
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => return not("a safetensors file".into()),
        // Its first header is not one, and it was meant to be.
        _ if start.get(257..262) == Some(b"ustar") && whole => {
            return Defect::ArchiveDamaged { problem: "the checksum of its first header is wrong".into() }.into();
        }
        _ => {}
    }
    if !whole && OURS.iter().any(|magic| magic.starts_with(start)) {
        return cut_off("within its first bytes");
    }
    match str::from_utf8(start) {
        Ok(text) if !text.contains(is_binary) => {
            let line = text.lines().next().unwrap_or_default();
            let first: String = line.chars().take(40).collect();
            not(format!("a text that begins with `{}`", shown(&first)))
        }
        _ if !whole => cut_off("within its first header"),
        _ if within.is_some() => invalid("what is compressed is no tar archive"),
        _ => not("a file of another format".into()),
    }
}

/// Whether no text has it.
fn is_binary(c: char) -> bool {
    c.is_control() && !c.is_whitespace()
}

/// What a server answers with where it does not have the file, or not for us.
fn page(start: &[u8]) -> Option<&'static str> {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let lower = text[..text.len().min(64)].to_ascii_lowercase();
    match lower.first()? {
        b'<' if lower.starts_with(b"<?xml") || lower.starts_with(b"<error") => Some("an XML document"),
        b'<' => Some("an HTML page"),
        b'{' | b'[' => Some("a JSON document"),
        _ => None,
    }
}
