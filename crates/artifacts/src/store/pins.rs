//! Who needs an entry, over the ends of processes.
//!
//! ```text
//! <store>/.pins/<holder>/               its time is when the holder was last heard of
//! <store>/.pins/<holder>/<64 hex digits>  one of its pins
//! ```
//!
//! An engine goes on reading an adapter's files when the sidecar that loaded it is killed, and dies where they are gone. So a
//! pin does not fall with its process: it is released, or its holder is not heard of for [`StoreOptions::pin_ttl`]. Nothing
//! here is synced to disk: no engine lives on when the machine does not.
//!
//! [`StoreOptions::pin_ttl`]: super::StoreOptions::pin_ttl

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use longshore_types::Digest;

use super::account::unless_gone;
use super::{Store, lock};
use crate::error::Error;

const PINS: &str = ".pins";
/// A file's name may have 255 bytes nearly everywhere; no name of a pod and a container comes near this.
const LONGEST_HOLDER: usize = 200;

/// Who pins: one name per engine, the same whenever the process that looks after it starts again. A pod's uid is one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(String);

impl Holder {
    /// The holder of this name: 1 to 200 letters, digits, `-`, `_` and `.`, the first one no `.`.
    ///
    /// # Errors
    /// [`Error::HolderInvalid`].
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if (1..=LONGEST_HOLDER).contains(&name.len()) && !name.starts_with('.') && name.chars().all(fits) {
            Ok(Self(name))
        } else {
            Err(Error::HolderInvalid { name })
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Holder {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Holder({})", self.0)
    }
}

/// An entry that its holder needs. Dropping it releases nothing: [`Pin::release`] does.
#[derive(Clone, Debug)]
pub struct Pin {
    store: Store,
    holder: Holder,
    digest: Digest,
}

impl Pin {
    /// What is pinned.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Who needs it.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The directory, as this process sees it.
    pub fn path(&self) -> PathBuf {
        self.store.path_of(&self.digest)
    }

    /// The holder needs it no more: it is unloaded everywhere, and no request that names it is queued (I5). A holder's pins of
    /// one digest are one pin. Blocks.
    ///
    /// # Errors
    /// [`Error::Store`]; then it is pinned still.
    pub fn release(self) -> Result<(), Error> {
        let root = self.store.root();
        let _guard = lock::take(root)?;
        let dir = dir_of(root, &self.holder);
        let path = dir.join(self.digest.hex());
        unless_gone(fs::remove_file(&path)).map_err(|source| Error::store("unpin", &path, source))?;
        // Goes with its last pin. It does not while there are others, and there is nothing wrong with that.
        let _ = fs::remove_dir(&dir);
        Ok(())
    }
}

impl Store {
    /// Keeps the entry of `digest` until the pin is released, whatever becomes of this process; none where there is no whole
    /// entry, as when it was removed just now: fetch it again. Counts as a word from `holder`. Blocks.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn pin(&self, holder: &Holder, digest: &Digest) -> Result<Option<Pin>, Error> {
        let guard = lock::take(self.root())?;
        let dir = dir_of(self.root(), holder);
        let path = dir.join(digest.hex());
        let failed = |source| Error::store("pin", &path, source);
        if guard.is_exclusive() && !self.contains(digest) {
            return Ok(None);
        }
        make_private(&self.root().join(PINS)).and_then(|()| make_private(&dir)).map_err(failed)?;
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
        touch(&dir).map_err(failed)?;
        let pin = Pin { store: self.clone(), holder: holder.clone(), digest: *digest };
        // Where nothing can be locked nothing is removed by us, but perhaps by hand.
        if !guard.is_exclusive() && !self.contains(digest) {
            pin.release()?;
            return Ok(None);
        }
        self.touch(digest);
        Ok(Some(pin))
    }

    /// What `holder` has pinned, also in an earlier life, in order of digests. Blocks.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn pins(&self, holder: &Holder) -> Result<Vec<Pin>, Error> {
        let dir = dir_of(self.root(), holder);
        let digests = digests_in(&dir).map_err(|source| Error::store("read", &dir, source))?;
        Ok(digests.into_iter().map(|digest| Pin { store: self.clone(), holder: holder.clone(), digest }).collect())
    }

    /// Says that `holder` is there. It has to be said several times within [`pin_ttl`](super::StoreOptions::pin_ttl). `false`
    /// where it has no pins, which it may have lost by silence: then look what is still there and pin it again. Blocks.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn heartbeat(&self, holder: &Holder) -> Result<bool, Error> {
        // Somebody may just have found that it was silent for too long.
        let _guard = lock::take(self.root())?;
        let dir = dir_of(self.root(), holder);
        let touched = unless_gone(touch(&dir)).map_err(|source| Error::store("pin in", &dir, source))?;
        Ok(touched.is_some())
    }

    /// Who needs what now.
    pub(super) fn all_pins(&self) -> Result<Pins, Error> {
        let dir = self.root().join(PINS);
        let ttl = self.options().pin_ttl;
        Pins::read(&dir, SystemTime::now(), ttl).map_err(|source| Error::store("read", &dir, source))
    }

    /// Forgets the pins of holders that have been silent for too long. Only while the store is locked.
    pub(super) fn forget_silent_holders(&self, pins: &Pins) {
        for dir in &pins.silent {
            match fs::remove_dir_all(dir) {
                Ok(()) => {
                    tracing::warn!(dir = %dir.display(), "Forgot the pins of a holder that is not heard of any more");
                }
                Err(error) => {
                    tracing::warn!(dir = %dir.display(), error = &error as &dyn std::error::Error, "Cannot forget pins");
                }
            }
        }
    }
}

/// All pins in a store.
#[derive(Debug, Default)]
pub(super) struct Pins {
    /// The names of those who need it, by digest.
    holders: BTreeMap<Digest, Vec<String>>,
    /// Directories of holders that were not heard of for too long.
    silent: Vec<PathBuf>,
}

impl Pins {
    fn read(dir: &Path, now: SystemTime, ttl: Duration) -> io::Result<Self> {
        let mut pins = Self::default();
        for entry in unless_gone(fs::read_dir(dir))?.into_iter().flatten() {
            let entry = entry?;
            let Some(metadata) = unless_gone(entry.metadata())?.filter(fs::Metadata::is_dir) else { continue };
            // A time to come is no silence: the clock was put back.
            if now.duration_since(metadata.modified()?).is_ok_and(|silence| silence > ttl) {
                pins.silent.push(entry.path());
                continue;
            }
            let holder = entry.file_name().to_string_lossy().into_owned();
            for digest in digests_in(&entry.path())? {
                pins.holders.entry(digest).or_default().push(holder.clone());
            }
        }
        Ok(pins)
    }

    /// Whether somebody needs it.
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.holders.contains_key(digest)
    }

    /// Who needs it, for a message; none where nobody does.
    pub(super) fn holders_of(&self, digest: &Digest) -> Option<String> {
        self.holders.get(digest).map(|holders| holders.join(", "))
    }
}

fn dir_of(root: &Path, holder: &Holder) -> PathBuf {
    root.join(PINS).join(&holder.0)
}

fn digests_in(dir: &Path) -> io::Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for entry in unless_gone(fs::read_dir(dir))?.into_iter().flatten() {
        digests.extend(entry?.file_name().to_str().and_then(|name| Digest::from_hex(name).ok()));
    }
    digests.sort_unstable();
    Ok(digests)
}

fn make_private(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn touch(path: &Path) -> io::Result<()> {
    File::open(path)?.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_a_name_that_can_be_a_files() {
        for good in ["a", "0f9c7a52-6c1b-4d70-9f0e-1f1a5f0a8a11", "pod_engine.0"] {
            assert_eq!(Holder::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".x", "a/b", "a b", "a\0", "ü", &"a".repeat(201)] {
            let error = Holder::new(bad).unwrap_err();
            assert_eq!((error.reason(), error.is_transient()), ("InvalidHolder", false), "{bad}");
        }
    }

    #[test]
    fn a_pin_falls_when_its_holder_is_silent_for_longer_than_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let (digest, ttl) = (Digest::from_bytes([1; 32]), Duration::from_secs(60));
        for holder in ["a", "b"] {
            fs::create_dir(dir.path().join(holder)).unwrap();
            fs::write(dir.path().join(holder).join(digest.hex()), "").unwrap();
        }
        let heard = |holder: &str, ago: u64| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 - ago);
            File::open(dir.path().join(holder)).unwrap().set_modified(time).unwrap();
        };
        let pins = || Pins::read(dir.path(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000), ttl).unwrap();
        heard("a", 60);
        heard("b", 60);
        let mut both: Vec<String> = pins().holders[&digest].clone();
        both.sort();
        assert_eq!(both, ["a", "b"]);
        heard("a", 61);
        assert_eq!(pins().holders_of(&digest).unwrap(), "b");
        assert_eq!(pins().silent, [dir.path().join("a")]);
        heard("b", 61);
        assert!(!pins().contains(&digest));
        // Put back, as clocks are at a start.
        File::open(dir.path().join("a")).unwrap().set_modified(SystemTime::now()).unwrap();
        assert!(pins().contains(&digest));
    }
}
