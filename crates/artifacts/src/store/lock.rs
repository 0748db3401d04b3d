//! Locks between processes that share a store. They are the kernel's, so they fall with the process that holds them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Error;

/// In the store's own directory; no digest has this name.
const NAME: &str = ".lock";
/// Whoever holds it looks at every entry once and renames some, which is milliseconds. One that takes longer than this is
/// stopped, or its disk is.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(2);

/// The right to change what is in the store: entries come, go and are pinned only while it is held, so that each of them
/// sees what the others did.
#[derive(Debug)]
pub(super) struct Guard(Option<File>);

impl Guard {
    /// Whether nobody else can have it now. `false` where the file system has no locks: then nothing may be taken out, since
    /// somebody may be about to pin it.
    pub(super) fn is_exclusive(&self) -> bool {
        self.0.is_some()
    }
}

/// Waits for the right to change what is in the store at `root`. Blocks, for moments.
///
/// # Errors
/// [`Error::Store`] where it cannot be had in time.
pub(super) fn take(root: &Path) -> Result<Guard, Error> {
    let path = root.join(NAME);
    let failed = |source| Error::store("lock", &path, source);
    let file = open(&path).map_err(failed)?;
    let began = Instant::now();
    loop {
        match try_lock(&file).map_err(failed)? {
            Tried::Taken => return Ok(Guard(Some(file))),
            Tried::Unsupported => return Ok(Guard(None)),
            Tried::Busy if began.elapsed() > PATIENCE => return Err(failed(io::ErrorKind::TimedOut.into())),
            Tried::Busy => std::thread::sleep(PAUSE),
        }
    }
}

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// It is ours until the file is closed.
    Taken,
    /// It is somebody else's.
    Busy,
    /// The file system has no locks.
    Unsupported,
}

/// Tries to lock `file`.
pub(super) fn try_lock(file: &File) -> io::Result<Tried> {
    match file.try_lock() {
        Ok(()) => Ok(Tried::Taken),
        Err(TryLockError::WouldBlock) => Ok(Tried::Busy),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(Tried::Unsupported),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Waits for the lock of `file`; `false` where the file system has none.
pub(super) fn lock(file: &File) -> io::Result<bool> {
    match file.lock() {
        Ok(()) => Ok(true),
        Err(error) if is_unsupported(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens or makes the file that is locked.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// An NFS mount without a lock daemon says `ENOLCK`.
fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::NOLCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_store_and_it_falls_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let guard = take(dir.path()).unwrap();
        assert!(guard.is_exclusive());
        let file = open(&dir.path().join(NAME)).unwrap();
        assert_eq!(try_lock(&file).unwrap(), Tried::Busy);
        drop(guard);
        assert_eq!(try_lock(&file).unwrap(), Tried::Taken);
    }

    #[test]
    fn a_file_system_without_locks_is_known_by_what_it_says() {
        assert!(is_unsupported(&rustix::io::Errno::NOLCK.into()));
        assert!(is_unsupported(&rustix::io::Errno::OPNOTSUPP.into()));
        assert!(!is_unsupported(&rustix::io::Errno::IO.into()));
    }
}
