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
}

#[derive(Serialize, Deserialize)]
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
}

/// Where the record is.
#[derive(Clone, Debug)]
pub(crate) struct Book(PathBuf);

impl Book {
    /// The record in the file `path`.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// What it says; nothing where there is none, or none that can be understood, which is logged.
    pub(crate) fn read(&self) -> Record {
        match self.try_read() {
            Ok(record) => record.unwrap_or_default(),
            Err(error) => {
                let path = self.0.display();
                tracing::warn!(%path, %error, "cannot read what was in force before: waiting for a leader to say it");
                Record::default()
            }
        }
    }

    fn try_read(&self) -> io::Result<Option<Record>> {
        let invalid = |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        let metadata = match fs::metadata(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        if metadata.len() > LARGEST {
            return Err(invalid(&"it is far too large"));
        }
        let Wire { version, stamp, adapters } =
            serde_json::from_slice(&fs::read(&self.0)?).map_err(|error| invalid(&error))?;
        if version != VERSION {
            return Err(invalid(&format!("it has version {version}, not {VERSION}")));
        }
        let kept = |wire: WireKept| {
            Ok(Kept {
                namespace: Namespace::new(wire.namespace).map_err(|error| invalid(&error))?,
                name: AdapterName::new(wire.name).map_err(|error| invalid(&error))?,
                digest: wire.digest.parse().map_err(|error| invalid(&error))?,
            })
        };
        Ok(Some(Record { stamp, adapters: adapters.into_iter().map(kept).collect::<io::Result<_>>()? }))
    }

    /// Writes it, whole or not at all. Blocks.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Error> {
        let failed = |doing| move |source| Error::Record { doing, path: self.0.clone(), source };
        let kept = |kept: &Kept| WireKept {
            namespace: kept.namespace.to_string(),
            name: kept.name.to_string(),
            digest: kept.digest.to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let kept = Kept {
            namespace: Namespace::default_namespace(),
            name: "sql".parse().unwrap(),
            digest: Digest::from_bytes([7; 32]),
        };
        Record { stamp: Some(Stamp { lease_created: 1, transitions: 2, revision: 3 }), adapters: vec![kept] }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::new(dir.path().join("record.json"));
        assert_eq!(book.read(), Record::default(), "at the very first start");
        book.write(&record()).unwrap();
        assert_eq!(book.read(), record());
        book.write(&Record::default()).unwrap();
        assert_eq!(book.read(), Record::default());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_cannot_be_understood_is_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        let book = Book::new(&path);
        book.write(&record()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for broken in [
            &text[..text.len() / 2],
            "",
            &text.replace("\"version\":1", "\"version\":2"),
            &text.replace("sha256:07", "x"),
        ] {
            fs::write(&path, broken).unwrap();
            assert_eq!(book.read(), Record::default(), "{broken}");
        }
    }
}
