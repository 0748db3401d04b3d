//! What references stood for, over restarts and for all processes that share a store.
//!
//! ```text
//! <store>/.known/<sha256 of both>   the digest of what a reference's source said of it, and that of the entry
//! ```
//!
//! Neither a reference nor what a source said is written down: both may hold secrets. What is known is never trusted beyond
//! the source: it is asked again each time, and only what it says now is compared.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use longshore_types::{ArtifactUrl, Digest};
use serde::{Deserialize, Serialize};

use super::Store;
use super::account::unless_gone;
use crate::error::Error;
use crate::source::Fingerprint;

const KNOWN: &str = ".known";
/// References known. Beyond it, those that were learnt first are forgotten, a quarter at once; they are fetched once more.
const MOST: usize = 4096;
/// Two digests in hex, with room.
const LARGEST: u64 = 1 << 10;
/// Changes when its meaning does, or when other files make up an adapter.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Wire {
    version: u32,
    fingerprint: String,
    digest: String,
}

impl Store {
    /// The digest of what `url` stood for when its source said the same of it as `now`. Blocks.
    pub(crate) fn known(&self, url: &ArtifactUrl, now: &Fingerprint) -> Option<Digest> {
        let (path, now) = (self.root().join(KNOWN).join(now.key(url)), now.durable()?);
        if fs::symlink_metadata(&path).ok()?.len() > LARGEST {
            return None;
        }
        let wire: Wire = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        if wire.version != VERSION || Digest::from_hex(&wire.fingerprint).ok()? != now {
            return None;
        }
        Digest::from_hex(&wire.digest).ok()
    }

    /// Writes down that `url` stands for the entry of `digest` while its source says of it what `fingerprint` holds, if that
    /// is anything to rely on. Where it cannot be written down, it will be fetched again. Blocks.
    pub(crate) fn learn(&self, url: &ArtifactUrl, fingerprint: &Fingerprint, digest: &Digest) {
        let Some(known) = fingerprint.durable() else { return };
        if let Err(error) = self.write_known(&fingerprint.key(url), &known, digest) {
            tracing::debug!(error = &error as &dyn std::error::Error, "Cannot write down what a reference stands for");
        }
    }

    fn write_known(&self, name: &str, fingerprint: &Digest, digest: &Digest) -> Result<(), Error> {
        let dir = self.root().join(KNOWN);
        let failed = |source| Error::store("write in", &dir, source);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        forget_first(&dir, MOST).map_err(failed)?;
        let wire = Wire { version: VERSION, fingerprint: fingerprint.hex(), digest: digest.hex() };
        let text = serde_json::to_vec(&wire).map_err(|error| failed(error.into()))?;
        // Whole or not at all while the system lives. What a crash of it tears does not parse.
        let new = self.fresh();
        fs::write(&new, text).and_then(|()| fs::rename(&new, dir.join(name))).map_err(|source| {
            let _ = fs::remove_file(&new);
            failed(source)
        })
    }
}

/// Makes room for one more where there are `most`.
fn forget_first(dir: &Path, most: usize) -> io::Result<()> {
    let names = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    if names.len() < most {
        return Ok(());
    }
    let learnt =
        |path: &PathBuf| fs::symlink_metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut paths: Vec<PathBuf> = names.into_iter().map(|entry| entry.path()).collect();
    paths.sort_by_cached_key(learnt);
    for path in paths.into_iter().take(most.div_ceil(4)) {
        unless_gone(fs::remove_file(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_learnt_first_is_forgotten_when_there_is_too_much() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..8 {
            let path = dir.path().join(n.to_string());
            fs::write(&path, "").unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(n);
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        forget_first(dir.path(), 9).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 8);
        forget_first(dir.path(), 8).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["2", "3", "4", "5", "6", "7"]);
    }

    #[test]
    fn i8_neither_a_reference_nor_what_its_source_says_is_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let url: ArtifactUrl = "https://user:hunter2@example.com/a.tgz?sig=hunter2".parse().unwrap();
        let (now, digest) = (Fingerprint::new("etag hunter2", true), Digest::from_bytes([1; 32]));
        store.learn(&url, &now, &digest);
        assert_eq!(store.known(&url, &now), Some(digest));
        let [file] = fs::read_dir(dir.path().join(KNOWN)).unwrap().collect::<Vec<_>>().try_into().unwrap();
        let file = file.unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("example"), "{text}");
        assert_eq!(file.file_name().len(), 64);
    }

    #[test]
    fn only_what_others_may_rely_on_is_known_and_only_while_the_source_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let url: ArtifactUrl = "hf://org/repo".parse().unwrap();
        let digest = Digest::from_bytes([1; 32]);
        for unsafe_ in [Fingerprint::new("1", false), Fingerprint::new("1", true).for_this_process()] {
            store.learn(&url, &unsafe_, &digest);
            assert_eq!(store.known(&url, &unsafe_), None);
        }
        store.learn(&url, &Fingerprint::new("1", true), &digest);
        assert_eq!(store.known(&url, &Fingerprint::new("2", true)), None);
        assert_eq!(store.known(&"hf://org/other".parse().unwrap(), &Fingerprint::new("1", true)), None);
        // Torn by a crash of the machine.
        let path = dir.path().join(KNOWN).join(Fingerprint::new("1", true).key(&url));
        fs::write(path, r#"{"version":1,"fing"#).unwrap();
        assert_eq!(store.known(&url, &Fingerprint::new("1", true)), None);
    }
}
