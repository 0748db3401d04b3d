//! `.longshore.json`: which files an entry is made of.

use std::fs;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use longshore_types::Digest;
use serde::{Deserialize, Serialize};

use super::staging::seal;
use super::view::digest_of_entry;
use crate::digest::{FileKind, KeptFile, digest_of};
use crate::error::Error;

/// No engine reads it, and no digest counts it.
const NAME: &str = ".longshore.json";
/// 64 files of 400 bytes, with room.
const LARGEST: u64 = 1 << 20;
/// Changes when its meaning does. An entry of another version is not whole to us, and is replaced when it is next put.
const VERSION: u32 = 1;

/// An entry's list of files.
#[derive(Debug)]
pub(super) struct Manifest {
    dir: PathBuf,
    files: Vec<KeptFile>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    version: u32,
    files: Vec<WireFile>,
}

#[derive(Serialize, Deserialize)]
struct WireFile {
    name: String,
    size: u64,
    sha256: String,
}

/// The files that a list names; none where it is no list of our version.
pub(crate) fn parse(json: &[u8]) -> Option<Vec<KeptFile>> {
    let Wire { version, files } = serde_json::from_slice(json).ok()?;
    let file = |f: WireFile| {
        FileKind::of(&f.name).filter(|_| !f.name.contains('/'))?;
        Some(KeptFile { name: f.name, size: f.size, sha256: Digest::from_hex(&f.sha256).ok()? })
    };
    let files = files.into_iter().map(file).collect::<Option<Vec<_>>>()?;
    (version == VERSION).then_some(files)
}

impl Manifest {
    /// Writes the list of `files` into `dir` and brings it to disk.
    pub(super) fn write(dir: &Path, files: &[KeptFile]) -> Result<(), Error> {
        let path = dir.join(NAME);
        let failed = |source| Error::store("write", &path, source);
        let file = |f: &KeptFile| WireFile { name: f.name.clone(), size: f.size, sha256: f.sha256.hex() };
        let wire = Wire { version: VERSION, files: files.iter().map(file).collect() };
        let text = serde_json::to_vec(&wire).map_err(|error| failed(error.into()))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        seal(&file, &path)
    }

    /// Reads the list of the entry in `dir`; none where there is no readable one.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let path = dir.join(NAME);
        let metadata = fs::symlink_metadata(&path).ok()?;
        if !metadata.is_file() || metadata.len() > LARGEST {
            return None;
        }
        let files = parse(&fs::read(path).ok()?)?;
        Some(Self { dir: dir.to_owned(), files })
    }

    /// Whether it lists exactly what has this digest, and each file is there with its size.
    pub(super) fn is_whole(&self, digest: &Digest) -> bool {
        let is_there = |file: &KeptFile| {
            let metadata = fs::symlink_metadata(self.dir.join(&file.name));
            metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == file.size)
        };
        digest_of(&self.files) == *digest && self.files.iter().all(is_there)
    }

    /// The same for the digest that the name of the entry's own path says.
    pub(super) fn is_whole_at(&self, path: &Path) -> bool {
        let digest = path.file_name().and_then(|name| name.to_str()).and_then(digest_of_entry);
        digest.is_some_and(|digest| self.is_whole(&digest))
    }

    /// The files.
    pub(super) fn files(self) -> Vec<KeptFile> {
        self.files
    }
}
