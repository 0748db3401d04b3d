//! Where an adapter is put together before it is an entry of the store.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use longshore_types::Digest;

use super::room::Claim;
use super::{Step, Store};

use crate::error::{Defect, Error};
use crate::progress::Progress;
use crate::source::Fingerprint;
use crate::source::local::MAX_FILES;
use crate::verify::base::BaseShapes;
use crate::verify::{CHUNK, FileVerifier, Verified, Verifier};

/// Engines may run under another user, and mostly do. Nobody writes to a file again.
pub(super) const FILE_MODE: u32 = 0o444;
/// The owner keeps the right to write, since it must be able to move and remove the directory.
pub(super) const DIR_MODE: u32 = 0o755;

/// What the name of a file begins with that stands for the lack of another (the image specification's layers).
pub(crate) const WHITEOUT: &str = ".wh.";

/// How large an adapter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All kept files together, in bytes.
    pub bytes: u64,
    /// Kept files.
    pub files: usize,
}

impl Default for Limits {
    /// 64 GiB, which is rank 512 on every module of a model with 400 billion weights in float32; 64 files.
    fn default() -> Self {
        Self { bytes: 64 << 30, files: MAX_FILES }
    }
}

/// A private directory in the store that one adapter's files are written to, and checked on their way. Dropping it removes
/// everything.
#[derive(Debug)]
pub struct Staging {
    store: Store,
    dir: PathBuf,
    verifier: Verifier,
    abandoned: Arc<AtomicBool>,
    files: usize,
    bytes: u64,
    progress: Progress,
    whiteout: Option<String>,
    stands_for: Option<Fingerprint>,
    claim: Claim,
    committed: bool,
}

impl Staging {
    pub(super) fn new(store: Store, dir: PathBuf, base: Option<Arc<BaseShapes>>) -> Self {
        let (verifier, abandoned, claim) = (Verifier::new(base), Arc::default(), Claim::new(dir.clone()));
        Self {
            store,
            dir,
            verifier,
            abandoned,
            files: 0,
            bytes: 0,
            progress: Progress::default(),
            whiteout: None,
            stands_for: None,
            claim,
            committed: false,
        }
    }

    /// Whether nobody waits for it any more.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// How far the fetch has come, for the source to say: bytes that came from it, not what became of them.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Shows how far it has come there.
    pub(crate) fn show_progress(&mut self, progress: Progress) {
        progress.reset();
        self.progress = progress;
    }

    /// How large an adapter may be.
    pub(crate) fn limits(&self) -> &Limits {
        self.store.limits()
    }

    /// Setting this makes the next write fail.
    pub(crate) fn abandon_handle(&self) -> Arc<AtomicBool> {
        self.abandoned.clone()
    }

    /// Says what the reference stood for when the files were found: it may have been another thing both before and after.
    pub fn found_at(&mut self, fingerprint: Fingerprint) {
        self.stands_for = Some(fingerprint);
    }

    /// What it stood for, where the source has said so.
    pub(crate) fn stands_for(&self) -> Option<&Fingerprint> {
        self.stands_for.as_ref()
    }

    /// Tells of a file that is not kept.
    pub fn passed_over(&mut self, name: &str) {
        if name.rsplit('/').next().is_some_and(|last| last.starts_with(WHITEOUT)) {
            self.whiteout.get_or_insert_with(|| name.to_owned());
        }
        self.verifier.passed_over(name);
    }

    /// A name that says, in a layer of an image, that a file of the layers below it is not there.
    pub(crate) fn whiteout(&self) -> Option<&str> {
        self.whiteout.as_deref()
    }

    /// The names of the kept files that are whole.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.verifier.names()
    }

    pub(crate) fn hint(&mut self, hint: String) {
        self.verifier.hint(hint);
    }

    /// Forgets and removes every file, where they turn out not to be the adapter's. Blocks.
    pub(crate) fn start_over(&mut self) -> Result<(), Error> {
        let failed = |source| Error::store("empty", &self.dir, source);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
        }
        self.verifier = self.verifier.anew();
        (self.files, self.bytes) = (0, 0);
        Ok(())
    }

    /// Makes sure that there is room for `bytes` of kept files altogether. A source that knows them calls this before it reads
    /// the first, since what there is no room for need not be read. Blocks.
    ///
    /// # Errors
    /// [`Error::QuotaFull`], or what is wrong with the store.
    pub fn reserve(&mut self, bytes: u64) -> Result<(), Error> {
        self.claim.cover(&self.store, self.bytes, bytes)
    }

    /// Begins a kept file.
    ///
    /// # Errors
    /// A name that is not kept, a file too many, or what keeps the store from making it.
    pub fn file(&mut self, name: &str, size: Option<u64>) -> Result<StagedFile<'_>, Error> {
        let limits = self.store.limits();
        if self.files == limits.files {
            return Err(Defect::TooLarge { problem: format!("it has more than {} files", limits.files) }.into());
        }
        self.files += 1;
        if size.is_some_and(|size| size > limits.bytes.saturating_sub(self.bytes)) {
            return Err(too_many_bytes(limits));
        }
        // Checks the name, before there is a path made of it.
        let check = self.verifier.file(name, size)?;
        if let Some(size) = size {
            self.claim.cover(&self.store, self.bytes, self.bytes.saturating_add(size))?;
        }
        let path = self.dir.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path).map_err(|source| Error::store("create", &path, source))?;
        self.store.step(Step::FileCreated, &path)?;
        let (store, bytes, claim) = (&self.store, &mut self.bytes, &mut self.claim);
        Ok(StagedFile { store, bytes, claim, abandoned: &self.abandoned, path, file, check })
    }

    /// The conclusion, and where the files are.
    pub(super) fn conclude(&mut self) -> Result<Verified, Error> {
        Ok(std::mem::take(&mut self.verifier).finish()?)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory has become an entry, or is removed by somebody else.
    pub(super) fn committed(&mut self) {
        self.committed = true;
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.committed {
            // What stays is removed with the session's directory, or by the next process to open the store.
            if let Err(error) = fs::remove_dir_all(&self.dir) {
                tracing::debug!(dir = %self.dir.display(), error = &error as &dyn std::error::Error, "Staging stays");
            }
        }
    }
}

/// One file on its way into the store.
#[derive(Debug)]
pub struct StagedFile<'s> {
    store: &'s Store,
    bytes: &'s mut u64,
    claim: &'s mut Claim,
    abandoned: &'s AtomicBool,
    path: PathBuf,
    file: File,
    check: FileVerifier<'s>,
}

impl StagedFile<'_> {
    /// Checks and appends `bytes`. Blocks.
    ///
    /// # Errors
    /// What is wrong with them, or with the store.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.admit(bytes)?;
        self.file.write_all(bytes).map_err(|source| Error::store("write", &self.path, source))?;
        self.store.step(Step::FileWritten, &self.path)
    }

    /// Shares the blocks of `source` where the file system can (`FICLONE`), then checks the shared bytes. Says whether it
    /// could. A later write to either file gives the writer blocks of its own, so this is a copy in all but cost.
    ///
    /// # Errors
    /// What is wrong with the bytes, or with the store.
    pub fn share(&mut self, source: &File) -> Result<bool, Error> {
        if !reflink(&self.file, source) {
            return Ok(false);
        }
        self.store.step(Step::FileWritten, &self.path)?;
        let failed = |path: &Path, source| Error::store("read", path, source);
        self.file.rewind().map_err(|source| failed(&self.path, source))?;
        let mut buffer = vec![0; CHUNK];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(n) => self.admit(&buffer[..n])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.path, error)),
            }
        }
    }

    fn admit(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(Error::Abandoned);
        }
        *self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if *self.bytes > self.store.limits().bytes {
            return Err(too_many_bytes(self.store.limits()));
        }
        self.check.feed(bytes)?;
        self.claim.cover(self.store, *self.bytes, 0)
    }

    /// Hashes `bytes` and does nothing else with them: after a defect, to learn whether the source has it too.
    pub(crate) fn hash_only(&mut self, bytes: &[u8]) {
        self.check.hash_only(bytes);
    }

    /// The SHA-256 of everything until now.
    pub(crate) fn digest_so_far(&self) -> Digest {
        self.check.digest_so_far()
    }

    /// The file is whole: it is checked, and on disk when this returns. Blocks.
    ///
    /// # Errors
    /// What is wrong with it as a whole, or with the store.
    pub fn finish(self) -> Result<(), Error> {
        self.check.finish()?;
        seal(&self.file, &self.path)?;
        self.store.step(Step::FileSynced, &self.path)
    }
}

/// Gives a file its final mode and brings it to disk. The mode is set here and not when it is created, since the process's
/// umask has a say there.
pub(super) fn seal(file: &File, path: &Path) -> Result<(), Error> {
    let mode = Permissions::from_mode(FILE_MODE);
    file.set_permissions(mode).and_then(|()| file.sync_all()).map_err(|source| Error::store("sync", path, source))
}

fn too_many_bytes(limits: &Limits) -> Error {
    Defect::TooLarge { problem: format!("it has more than {} bytes", limits.bytes) }.into()
}

#[cfg(target_os = "linux")]
fn reflink(to: &File, from: &File) -> bool {
    // Any failure only means that the bytes have to be copied, where a real problem shows again.
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn reflink(_: &File, _: &File) -> bool {
    false
}
