//! One fetch of a reference at a time, among all processes that share a store.
//!
//! ```text
//! <store>/.staging/<key>.flight   locked by whoever fetches it; its time is the last sign of life
//! ```
//!
//! This saves a download and nothing else: two that fetch the same at once make the same entry. So whatever keeps the lock
//! from being had only means that we fetch too.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Store;
use super::lock::{self, Tried};
use super::session::STAGING;
use crate::error::Error;
use crate::source::local::blocking;

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(10);
/// Without a sign of life for six beats, whoever holds the lock is stopped or hangs; we fetch beside it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between the first two looks, and between later ones: half a second is little beside a download.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// The right to fetch one reference. It falls with the process.
#[derive(Debug)]
pub(crate) struct Flight {
    /// None where we fetch without it.
    lock: Option<Arc<File>>,
    path: PathBuf,
    waited: bool,
}

impl Store {
    /// Waits until no other process fetches what has this [key](crate::source::Fingerprint::key), as long as that one shows
    /// signs of life. Dropping the future gives up.
    pub(crate) async fn flight(&self, key: &str) -> Flight {
        let path = self.root().join(STAGING).join(format!("{key}.flight"));
        let (lock, waited) = wait_for(&path).await;
        Flight { lock, path, waited }
    }
}

/// The lock, if there is one to be had, and whether somebody else had it before.
async fn wait_for(path: &Path) -> (Option<Arc<File>>, bool) {
    let (mut seen, mut pause) = ((None, Instant::now()), PAUSES.0);
    loop {
        let at = path.to_owned();
        match blocking(move || look(&at).map_err(|source| Error::store("lock", at, source))).await {
            Ok(Look::Ours(lock)) => return (Some(Arc::new(lock)), seen.0.is_some()),
            Ok(Look::Unsupported) => return (None, false),
            Ok(Look::Theirs(beat)) => {
                // Compared with itself alone: theirs may be another machine's clock.
                if seen.0 != Some(beat) {
                    seen = (Some(beat), Instant::now());
                } else if seen.1.elapsed() >= PATIENCE {
                    tracing::info!(path = %path.display(), "Another process has fetched this for long without a sign of life");
                    return (None, true);
                }
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "Fetching whether or not others do");
                return (None, seen.0.is_some());
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

enum Look {
    Ours(File),
    /// And when it last showed a sign of life.
    Theirs(SystemTime),
    Unsupported,
}

fn look(path: &Path) -> io::Result<Look> {
    loop {
        let file = lock::open(path)?;
        match lock::try_lock(&file)? {
            Tried::Unsupported => return Ok(Look::Unsupported),
            Tried::Busy => return file.metadata()?.modified().map(Look::Theirs),
            Tried::Taken => {}
        }
        // Whoever had it has removed it before we got it: then it keeps nobody else out.
        match fs::symlink_metadata(path) {
            Ok(there) if there.ino() == file.metadata()?.ino() => return Ok(Look::Ours(file)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

impl Flight {
    /// Whether another process was found to fetch it.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited
    }

    /// Does `work`, and shows that we live meanwhile.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(BEAT, &mut work).await {
                Ok(done) => return done,
                Err(_) => {
                    if let Some(lock) = self.lock.clone() {
                        // Where this fails, others stop waiting, and that is all.
                        let _ = blocking(move || Ok(lock.set_modified(SystemTime::now()))).await;
                    }
                }
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // While it is still locked, so that it is ours. What stays costs a name.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reference_is_fetched_by_one_process_at_a_time_and_its_lock_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Store::open(dir.path()).unwrap(), Store::open(dir.path()).unwrap());
        let url = "one";
        let first = a.flight(url).await;
        assert!(first.lock.is_some());
        let mut second = Box::pin(b.flight(url));
        assert!(futures::poll!(&mut second).is_pending());
        // Nobody waits for another reference.
        assert!(b.flight("other").await.lock.is_some());
        let path = first.path.clone();
        drop(first);
        let second = second.await;
        assert!(second.lock.is_some() && path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn one_that_shows_no_sign_of_life_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.flight");
        let held = lock::open(&path).unwrap();
        assert_eq!(lock::try_lock(&held).unwrap(), Tried::Taken);
        tokio::time::pause();
        assert!(wait_for(&path).await.0.is_none());
    }

    #[tokio::test]
    async fn one_that_shows_signs_of_life_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.flight");
        let held = lock::open(&path).unwrap();
        assert_eq!(lock::try_lock(&held).unwrap(), Tried::Taken);
        let flight = Flight { lock: Some(Arc::new(held)), path: path.clone(), waited: false };
        tokio::time::pause();
        let long = flight.during(tokio::time::sleep(PATIENCE * 5));
        let waits = wait_for(&path);
        tokio::pin!(waits);
        tokio::select! {
            biased;
            _ = &mut waits => panic!("it did not wait"),
            () = long => {}
        }
        drop(flight);
        assert!(waits.await.0.is_some());
    }
}
