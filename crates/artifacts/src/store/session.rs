//! The part of the staging area that belongs to one process, and the removal of what dead ones left.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::lock;
use crate::error::Error;

/// The name of the staging area, which no digest has.
pub(super) const STAGING: &str = ".staging";
/// In the staging area and in each session.
pub(super) const LOCK: &str = "lock";
/// What the names of claims end with.
const CLAIM: &str = "claim";

/// A directory of this process's own. It is removed when the process ends well; else its lock falls with the process, and
/// the next one sees that nobody holds it.
#[derive(Debug)]
pub(super) struct Session {
    dir: TempDir,
    next: AtomicU64,
    /// Dropped behind the directory.
    _lock: File,
}

impl Session {
    /// Begins a session in the store at `root`.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let area = root.join(STAGING);
        let failed = |source| Error::store("open", &area, source);
        match DirBuilder::new().mode(0o700).create(&area) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        // While this is held, a session is either not there yet or has its lock.
        let area_lock = lock::open(&area.join(LOCK)).map_err(failed)?;
        // Without locks nobody can be known to be dead, so nothing is swept.
        let can_lock = lock::lock(&area_lock).map_err(failed)?;
        if can_lock {
            sweep(&area).map_err(failed)?;
        }
        let dir = tempfile::Builder::new().prefix("session-").tempdir_in(&area).map_err(failed)?;
        let own = lock::open(&dir.path().join(LOCK)).map_err(failed)?;
        if can_lock {
            lock::lock(&own).map_err(failed)?;
        }
        Ok(Self { dir, next: AtomicU64::new(0), _lock: own })
    }

    /// A path in the session that nobody has had before.
    pub(super) fn fresh(&self) -> PathBuf {
        self.dir.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

/// Where it is written how much room what is staged at `staged` has.
pub(super) fn claim_of(staged: &Path) -> PathBuf {
    staged.with_extension(CLAIM)
}

/// Whether this is such a place.
pub(super) fn is_claim(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == CLAIM)
}

/// Removes the sessions that nobody holds. One that cannot be removed is left for the next.
fn sweep(area: &Path) -> io::Result<()> {
    for entry in fs::read_dir(area)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let dir = entry.path();
        let alive = match File::open(dir.join(LOCK)) {
            Ok(file) => !matches!(file.try_lock(), Ok(())),
            // It died before it had a lock, which is made while the area's is held.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(_) => true,
        };
        if alive {
            continue;
        }
        match fs::remove_dir_all(&dir) {
            Ok(()) => tracing::info!(dir = %dir.display(), "Removed what a dead process left in the store"),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), error = &error as &dyn std::error::Error, "Cannot clean the store");
            }
        }
    }
    Ok(())
}
