//! `.longshore.json`: which files an entry is made of.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use longshore_types::Digest;
use serde::{Deserialize, Serialize};

use super::staging::seal;
use super::view::digest_of_entry;
use crate::digest::{FileKind, KeptFile, digest_of};
use crate::error::Error;
use crate::verify::defect::shown;

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
        // Its first use. By itself it would be told in the kernel's ticks, which are longer than a small fetch.
        file.set_modified(SystemTime::now()).map_err(failed)?;
        seal(&file, &path)
    }

    /// Reads the list of the entry in `dir`; none where there is no readable one.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let path = dir.join(NAME);
        let metadata = fs::symlink_metadata(&path).ok()?;
        if !metadata.is_file() || metadata.len() > LARGEST {
            return None;
        }
        let Wire { version, files } = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let file = |f: WireFile| {
            FileKind::of(&f.name).filter(|_| !f.name.contains('/'))?;
            Some(KeptFile { name: f.name, size: f.size, sha256: Digest::from_hex(&f.sha256).ok()? })
        };
        let files = files.into_iter().map(file).collect::<Option<Vec<_>>>()?;
        (version == VERSION).then(|| Self { dir: dir.to_owned(), files })
    }

    /// Whether it lists exactly what has this digest, each file is there with its size, and none that an engine would read
    /// beside them.
    pub(super) fn is_whole(&self, digest: &Digest) -> bool {
        self.damage(digest).is_none()
    }

    /// What is wrong with the entry, by names and sizes. Files that no engine reads are none of our business: some file
    /// systems leave their own behind.
    pub(super) fn damage(&self, digest: &Digest) -> Option<String> {
        if digest_of(&self.files) != *digest {
            return Some("its list of files is another adapter's".into());
        }
        for file in &self.files {
            match fs::symlink_metadata(self.dir.join(&file.name)) {
                Err(error) => return Some(format!("{}: {error}", file.name)),
                Ok(metadata) if !metadata.is_file() => return Some(format!("{} is not a file", file.name)),
                Ok(metadata) if metadata.len() != file.size => {
                    return Some(format!("{} has {} bytes instead of {}", file.name, metadata.len(), file.size));
                }
                Ok(_) => {}
            }
        }
        let names = match fs::read_dir(&self.dir) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name()),
            Err(error) => return Some(error.to_string()),
        };
        for name in names {
            let name = name.to_string_lossy();
            let is_read = FileKind::of(&name).is_some() || FileKind::is_pickle(&name);
            if is_read && self.files.iter().all(|file| file.name != name) {
                return Some(format!("{name} was added to it", name = shown(&name)));
            }
        }
        None
    }

    /// The same for the digest that the name of the entry's own path says.
    pub(super) fn is_whole_at(&self, path: &Path) -> bool {
        let digest = path.file_name().and_then(|name| name.to_str()).and_then(digest_of_entry);
        digest.is_some_and(|digest| self.is_whole(&digest))
    }

    /// Remembers that the entry in `dir` is used now.
    pub(super) fn touch(dir: &Path) -> io::Result<()> {
        File::open(dir.join(NAME))?.set_modified(SystemTime::now())
    }

    /// When the entry in `dir` was last used. The list never changes, so its time is free to tell that.
    pub(super) fn used(dir: &Path) -> Option<SystemTime> {
        fs::symlink_metadata(dir.join(NAME)).and_then(|metadata| metadata.modified()).ok()
    }

    /// The files.
    pub(super) fn files(self) -> Vec<KeptFile> {
        self.files
    }
}
