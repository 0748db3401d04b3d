//! What is in force, kept for the time after a restart. No credential is ever in it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use longshore_api::sidecar::Stamp;
use longshore_types::{AdapterName, Digest, Namespace};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Changes when the meaning does; another one is not read, which costs no more than a wait for the leader.
const VERSION: u32 = 1;
/// Ten thousand adapters of 400 bytes.
const LARGEST: u64 = 4 << 20;

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) stamp: Option<Stamp>,
    /// The adapters whose files are in the store.
    pub(crate) adapters: Vec<Kept>,
}

/// One adapter whose files are in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) namespace: Namespace,
    pub(crate) name: AdapterName,
    pub(crate) digest: Digest,
    /// Who wanted it.
    pub(crate) by: By,
}

/// Who wants an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum By {
    /// A leader, by a stamped set.
    #[default]
    Leader,
    /// Somebody who asked by one of the other systems' paths.
    Caller,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    version: u32,
    stamp: Option<Stamp>,
    adapters: Vec<WireKept>,
}

#[derive(Serialize, Deserialize)]
struct WireKept {
    namespace: String,
    name: String,
    digest: String,
    #[serde(default)]
    by: By,
}

/// Where the record is.
#[derive(Clone, Debug)]
pub(crate) struct Book(PathBuf);

impl Book {
    /// The record in the file `path`.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What it says; nothing where there is none. What of it cannot be understood is left out and logged, an adapter by itself:
    /// it is then waited for until a leader says it. The stamp is taken whatever the rest is, since an older leader must not
    /// be believed because of it.
    ///
    /// # Errors
    /// [`Error::Record`] where there is one that cannot be read: then nobody knows who was believed last.
    pub(crate) fn read(&self) -> Result<Record, Error> {
        let failed = |source| Error::Record { doing: "read", path: self.0.clone(), source };
        let text = match fs::metadata(&self.0).and_then(|metadata| bounded(&self.0, metadata.len())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
            text => text.map_err(failed)?,
        };
        let odd = |what: &str| tracing::warn!(path = %self.0.display(), "{what}: waiting for a leader to say it");
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(&text) else {
            odd("what was in force before cannot be understood");
            return Ok(Record::default());
        };
        let stamp = value.get("stamp").and_then(|stamp| Stamp::deserialize(stamp).ok());
        if value.get("version").and_then(serde_json::Value::as_u64) != Some(u64::from(VERSION)) {
            odd("what was in force before was written by another version");
            return Ok(Record { stamp, adapters: Vec::new() });
        }
        let kept = |wire: &serde_json::Value| {
            let WireKept { namespace, name, digest, by } = WireKept::deserialize(wire).ok()?;
            let (namespace, name) = (Namespace::new(namespace).ok()?, AdapterName::new(name).ok()?);
            Some(Kept { namespace, name, digest: digest.parse().ok()?, by })
        };
        let wires = value.get("adapters").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let adapters: Vec<Kept> = wires.iter().filter_map(kept).collect();
        if adapters.len() < wires.len() {
            odd("an adapter that was in force before cannot be understood");
        }
        Ok(Record { stamp, adapters })
    }

    /// Where who keeps the record holds a lock.
    pub(crate) fn lock(&self) -> Result<File, Error> {
        let path = self.0.with_extension("lock");
        let failed = |doing, source| Error::Record { doing, path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|source| failed("open", source))?;
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => {
                let source = io::Error::other("another sidecar keeps its record here: give each its own --record");
                Err(failed("lock", source))
            }
            // A file system without locks: then it is not known, as before.
            Err(fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
            Err(fs::TryLockError::Error(source)) => Err(failed("lock", source)),
            Ok(()) => Ok(file),
        }
    }

    /// Writes it, whole or not at all. Blocks.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Error> {
        let failed = |doing| move |source| Error::Record { doing, path: self.0.clone(), source };
        let kept = |kept: &Kept| WireKept {
            namespace: kept.namespace.to_string(),
            name: kept.name.to_string(),
            digest: kept.digest.to_string(),
            by: kept.by,
        };
        let adapters = record.adapters.iter().map(kept).collect();
        let text = serde_json::to_vec(&Wire { version: VERSION, stamp: record.stamp, adapters });
        let text = text.map_err(|error| failed("write")(error.into()))?;
        let directory = self.0.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed("write"))?;
        file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(failed("write"))?;
        file.persist(&self.0).map_err(|error| failed("replace")(error.error))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync"))
    }
}

fn bounded(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    if length > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is far too large"));
    }
    fs::read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let kept = Kept {
            namespace: Namespace::default_namespace(),
            name: "sql".parse().unwrap(),
            digest: Digest::from_bytes([7; 32]),
            by: By::Caller,
        };
        Record { stamp: Some(Stamp { lease_created: 1, transitions: 2, revision: 3 }), adapters: vec![kept] }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::new(dir.path().join("record.json"));
        assert_eq!(book.read().unwrap(), Record::default(), "at the very first start");
        book.write(&record()).unwrap();
        assert_eq!(book.read().unwrap(), record());
        book.write(&Record::default()).unwrap();
        assert_eq!(book.read().unwrap(), Record::default());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn i3_what_cannot_be_understood_costs_what_it_stands_for_and_never_the_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        let book = Book::new(&path);
        book.write(&record()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let without = Record { adapters: Vec::new(), ..record() };
        for (broken, left) in [
            (text.replace("\"version\":1", "\"version\":2"), &without),
            (text.replace("sha256:07", "x"), &without),
            (text[..text.len() / 2].to_owned(), &Record::default()),
            (String::new(), &Record::default()),
        ] {
            fs::write(&path, &broken).unwrap();
            assert_eq!(book.read().unwrap(), *left, "{broken}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(book.read().unwrap_err().reason(), "RecordFailed", "who was believed last is not known");
    }

    #[test]
    fn two_do_not_keep_one_record() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::new(dir.path().join("record.json"));
        let first = book.lock().unwrap();
        let second = book.lock().unwrap_err();
        assert!(std::error::Error::source(&second).unwrap().to_string().contains("--record"), "{second:?}");
        drop(first);
        book.lock().unwrap();
    }
}
