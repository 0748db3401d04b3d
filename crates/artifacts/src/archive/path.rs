//! The names of an archive's members.

use super::stream::invalid;
use crate::error::{Defect, Error};
use crate::verify::defect::shown;

/// Linux takes no longer paths.
const LONGEST: usize = 4096;

/// Where in an archive a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'p> {
    /// At the root.
    Root,
    /// In this folder, which is at the root.
    Folder(&'p str),
    /// In this directory, which is deeper.
    Deep(&'p str),
}

/// A member's name, without what does not matter: `./`, doubled slashes, and one at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemberPath {
    path: String,
    /// Where the last part begins.
    last: usize,
    /// Whether a slash followed, so that only a directory can be meant.
    pub(super) is_directory: bool,
}

impl MemberPath {
    /// The name as it is in the archive.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bad_name = |text: &str| Defect::FileName { name: shown(text) };
        let text = str::from_utf8(bytes).map_err(|_| bad_name(&String::from_utf8_lossy(bytes)))?;
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(bad_name(text).into());
        }
        if text.len() > LONGEST {
            return Err(invalid(format!("a name in it is longer than {LONGEST} bytes")));
        }
        if let Some(problem) = escapes(text) {
            return Err(Defect::PathEscapes { name: shown(text), problem }.into());
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let path = parts.join("/");
        let last = path.len() - parts.last().map_or(0, |last| last.len());
        let is_directory = matches!(text.rsplit('/').next(), Some("" | "."));
        Ok(Self { path, last, is_directory })
    }

    /// All of it.
    pub(super) fn as_str(&self) -> &str {
        &self.path
    }

    /// The last part.
    pub(super) fn name(&self) -> &str {
        &self.path[self.last..]
    }

    /// The rest.
    pub(super) fn place(&self) -> Place<'_> {
        match self.path[..self.last].trim_end_matches('/') {
            "" => Place::Root,
            deep if deep.contains('/') => Place::Deep(deep),
            folder => Place::Folder(folder),
        }
    }

    /// Whether it is what macOS adds to archives: a file's attributes, under its name and in its place.
    pub(super) fn is_apples(&self) -> bool {
        self.name().starts_with("._") || self.path.split('/').next() == Some("__MACOSX")
    }
}

/// How a name leads out of the archive, for some program or other.
fn escapes(text: &str) -> Option<&'static str> {
    let drive = matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    if text.starts_with('/') || drive {
        Some("an absolute path")
    } else if text.split('/').any(|part| part == "..") {
        Some("a path that leads upwards")
    } else if text.contains('\\') {
        Some("a path with a backslash, which only some programs take for a slash")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_place_and_a_last_part_however_it_is_written() {
        for (text, place, name) in [
            ("a.json", Place::Root, "a.json"),
            ("./a.json", Place::Root, "a.json"),
            ("x/a.json", Place::Folder("x"), "a.json"),
            (".//./x///a.json", Place::Folder("x"), "a.json"),
            ("x/y/z/a.json", Place::Deep("x/y/z"), "a.json"),
            ("x/", Place::Root, "x"),
            ("..a/...", Place::Folder("..a"), "..."),
            ("ä/ö", Place::Folder("ä"), "ö"),
            (".", Place::Root, ""),
        ] {
            let path = MemberPath::parse(text.as_bytes()).unwrap();
            assert_eq!((path.place(), path.name()), (place, name), "{text}");
        }
    }

    #[test]
    fn only_a_slash_or_a_dot_at_the_end_stands_for_a_directory() {
        for (text, directory) in [("x/", true), (".", true), ("./", true), ("x/.", true), ("x.", false), ("x", false)] {
            assert_eq!(MemberPath::parse(text.as_bytes()).unwrap().is_directory, directory, "{text}");
        }
    }

    #[test]
    fn a_name_that_leads_out_or_is_no_text_is_refused() {
        for text in ["/etc/passwd", "//a", "..", "../a", "a/../b", "a/..", "C:a", "c:/a", "..\\a", "a\\b"] {
            assert_eq!(MemberPath::parse(text.as_bytes()).unwrap_err().reason(), "PathEscapes", "{text}");
        }
        for bytes in [&b""[..], b"a\0b", b"a\nb", b"\xff", b"a\x7f", b"\xc2\x80"] {
            assert_eq!(MemberPath::parse(bytes).unwrap_err().reason(), "FileName", "{bytes:?}");
        }
        assert_eq!(MemberPath::parse(&[b'a'; LONGEST + 1]).unwrap_err().reason(), "ArchiveInvalid");
    }
}
