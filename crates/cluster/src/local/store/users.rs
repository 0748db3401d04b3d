//! Who uses a store, so that nobody takes files out of it that another process serves from.
//!
//! ```text
//! <store>/.users/lock      held while somebody enters, and while somebody who is alone takes something out
//! <store>/.users/<user>    one per process, locked while that lives
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";

/// This process, as a user of one store.
#[derive(Debug)]
pub(super) struct Users {
    directory: PathBuf,
    own: PathBuf,
    /// Held as long as this lives.
    _lock: File,
}

impl Users {
    /// Becomes a user of `store`.
    ///
    /// # Errors
    /// Where the directory cannot be written to, or its file system has no locks.
    pub(super) fn enter(store: &Path) -> io::Result<Self> {
        let directory = store.join(".users");
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let _entering = exclusive(&directory)?;
        // `RandomState` is keyed from the system's randomness: one process may use a store twice.
        let unique = RandomState::new().build_hasher().finish();
        let own = directory.join(format!("{}-{unique:016x}", std::process::id()));
        let lock = open(&own)?;
        lock.lock()?;
        Ok(Self { directory, own, _lock: lock })
    }

    /// Does `work` if nobody else uses the store, and keeps everybody else from entering meanwhile.
    ///
    /// # Errors
    /// Where that cannot be found out.
    pub(super) fn while_alone<T>(&self, work: impl FnOnce() -> T) -> io::Result<Option<T>> {
        let _alone = exclusive(&self.directory)?;
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path == self.own || path.file_name().is_some_and(|name| name == LOCK) {
                continue;
            }
            match open(&path)?.try_lock() {
                // Whoever it was is dead.
                Ok(()) => fs::remove_file(&path)?,
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(Some(work()))
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        // What stays behind is unlocked, and taken for dead.
        let _ = fs::remove_file(&self.own);
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Holds the lock of the directory until it is dropped.
fn exclusive(directory: &Path) -> io::Result<File> {
    let file = open(&directory.join(LOCK))?;
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i5_files_are_taken_out_only_by_whoever_is_alone() {
        let store = tempfile::tempdir().unwrap();
        let one = Users::enter(store.path()).unwrap();
        assert_eq!(one.while_alone(|| 1).unwrap(), Some(1));
        let two = Users::enter(store.path()).unwrap();
        assert_eq!(one.while_alone(|| 1).unwrap(), None);
        assert_eq!(two.while_alone(|| 2).unwrap(), None);
        drop(one);
        assert_eq!(two.while_alone(|| 2).unwrap(), Some(2));
    }

    #[test]
    fn one_that_died_without_a_word_is_not_waited_for() {
        let store = tempfile::tempdir().unwrap();
        let one = Users::enter(store.path()).unwrap();
        fs::write(store.path().join(".users/4711-00"), "").unwrap();
        assert_eq!(one.while_alone(|| 1).unwrap(), Some(1));
        assert!(!store.path().join(".users/4711-00").exists());
    }
}
