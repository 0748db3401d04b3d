//! Whole adapters, each in a directory that its digest names and that never changes.
//!
//! ```text
//! <store>/sha256-<64 hex digits>/    an entry: the adapter's kept files and .longshore.json, which lists them
//! <store>/.lock                      held for moments by who changes which entries there are, or pins one
//! <store>/.pins/                     who needs which entry, see `pins`
//! <store>/.known/                    what references stood for, see `known`
//! <store>/.staging/lock              held for a moment by who opens or cleans
//! <store>/.staging/<session>/        one per process, with a lock that it holds while it lives
//! <store>/.staging/<session>/<n>/    an adapter on its way in, or an entry on its way out
//! <store>/.staging/*.flight          see `flight`
//! ```
//!
//! An entry appears by one rename, after all of it is on disk, and goes by one rename, so it is whole whenever it is there.
//! What a process leaves in staging when it dies is removed by the next one that opens the store. Whatever else is in the
//! directory is left alone.

pub(crate) mod account;
pub(crate) mod flight;
pub(crate) mod holds;
pub(crate) mod options;
pub(crate) mod pins;
pub(crate) mod repair;
pub(crate) mod staging;
pub(crate) mod view;

mod known;
mod lock;
pub(crate) mod manifest;
mod room;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use longshore_types::{Digest, Root};

use crate::error::Error;
use crate::resolve::{Expect, Fetched};
use crate::source::local::Listing;
use crate::verify::base::BaseShapes;
use crate::verify::{Verified, verify_dir, verify_headers};
use account::unless_gone;
use holds::Holds;
use manifest::Manifest;
use options::StoreOptions;
use repair::Repaired;
use room::{Away, Room, remove_whatever};
use session::Session;
use staging::{DIR_MODE, Limits, Staging};
use view::{StoreView, digest_of_entry};

/// A directory of adapters. Cheap to clone; all clones are the same store. Every method blocks on the file system.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    view: StoreView,
    /// Further paths under which the same store is listed.
    aliases: Vec<StoreView>,
    session: Session,
    options: StoreOptions,
    holds: Arc<Holds>,
    repaired: OnceLock<Repaired>,
    steps: Option<Box<Steps>>,
}

/// Called at each step, so that tests can make any of them fail or be the last.
type Steps = dyn Fn(Step) -> io::Result<()> + Send + Sync;

/// What is done to the file system on the way in and out, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    StagingMade,
    FileCreated,
    FileWritten,
    FileSynced,
    ManifestSynced,
    StagingSynced,
    Renamed,
    StoreSynced,
    MovedAway,
    Removed,
}

impl Store {
    /// Opens the store at `path`, which is made where it does not exist, and removes what dead processes left behind. There is
    /// no quota.
    ///
    /// # Errors
    /// [`Error::StorePath`] for a path that engines could not be told, [`Error::Store`] where the directory cannot be used.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, StoreOptions::default())
    }

    /// The same with other options.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, Error> {
        Self::open_to_watch(path.as_ref(), options, None)
    }

    fn open_to_watch(path: &Path, options: StoreOptions, steps: Option<Box<Steps>>) -> Result<Self, Error> {
        let failed = |source| Error::store("open", path, source);
        if !path.is_dir() {
            fs::create_dir_all(path).map_err(failed)?;
            // Engines that run under another user have to get in, whatever this process's umask says.
            fs::set_permissions(path, fs::Permissions::from_mode(DIR_MODE)).map_err(failed)?;
        }
        let real = path.canonicalize().map_err(failed)?;
        let text = |path: &Path| path.to_str().map(str::to_owned);
        let problem = "engines are told paths as text, and it is not UTF-8";
        let real_text = text(&real).ok_or_else(|| Error::StorePath { path: real.clone(), problem })?;
        let view = StoreView::new(&real_text)?;
        // An engine may have been given the path as it was written, by a process before this one.
        let given = text(path).and_then(|path| StoreView::new(&path).ok()).filter(|given| *given != view);
        let session = Session::open(&real)?;
        let (aliases, holds, repaired) = (given.into_iter().collect(), Arc::default(), OnceLock::new());
        let store = Self(Arc::new(Inner { view, aliases, session, options, holds, repaired, steps }));
        // Nobody else has it yet, so it is not set.
        let _ = store.0.repaired.set(store.repair()?);
        Ok(store)
    }

    /// What was found damaged when it was opened.
    pub fn repaired(&self) -> &Repaired {
        self.0.repaired.get_or_init(Repaired::default)
    }

    /// How it is used.
    pub fn options(&self) -> &StoreOptions {
        &self.0.options
    }

    /// The store as this process sees it.
    pub fn view(&self) -> &StoreView {
        &self.0.view
    }

    /// The digest of what is loaded from `path`, as this process or one before it would have told an engine. Pure; see
    /// [`StoreView::digest_of`]. For an engine that sees the store elsewhere, ask its own [`StoreView`].
    pub fn digest_of(&self, path: &str) -> Option<Digest> {
        std::iter::once(&self.0.view).chain(&self.0.aliases).find_map(|view| view.digest_of(path))
    }

    /// The same as a root.
    pub fn root_of(&self, path: &str) -> Root {
        self.digest_of(path).map_or_else(|| Root::Other(path.into()), Root::Store)
    }

    /// Where the entry of `digest` is, or would be.
    pub fn path_of(&self, digest: &Digest) -> PathBuf {
        PathBuf::from(self.0.view.path_of(digest))
    }

    /// Whether there is a whole entry of `digest`: its list of files has that digest, and each is there with its size. The
    /// bytes are not read again; [`Store::audit`] does that.
    pub fn contains(&self, digest: &Digest) -> bool {
        Manifest::read(&self.path_of(digest)).is_some_and(|manifest| manifest.is_whole(digest))
    }

    /// The whole entry of `digest`, held against the base model's shapes; none where there is none.
    ///
    /// # Errors
    /// Where it does not fit the base model, or cannot be read.
    pub fn entry(&self, digest: &Digest, base: Option<Arc<BaseShapes>>) -> Result<Option<Verified>, Error> {
        let path = self.path_of(digest);
        match Manifest::read(&path).filter(|manifest| manifest.is_whole(digest)) {
            None => Ok(None),
            Some(manifest) => verify_headers(&path, manifest.files(), base).map(Some),
        }
    }

    /// Hands out the whole entry of `digest`, held against the base model's shapes, which counts as a use of it; none where
    /// there is none.
    pub(crate) fn hand_out(&self, digest: &Digest, base: Option<Arc<BaseShapes>>) -> Result<Option<Fetched>, Error> {
        let hold = self.holds().hold(*digest);
        let Some(verified) = self.entry(digest, base)? else { return Ok(None) };
        self.touch(digest);
        Ok(Some(Fetched { verified, path: self.path_of(digest), hold }))
    }

    /// The digests of all entries, damaged ones too, in order.
    ///
    /// # Errors
    /// [`Error::Store`] where the store cannot be read.
    pub fn entries(&self) -> Result<Vec<Digest>, Error> {
        let failed = |source| Error::store("list", self.0.view.prefix(), source);
        let mut digests = Vec::new();
        for entry in fs::read_dir(self.0.view.prefix()).map_err(failed)? {
            digests.extend(entry.map_err(failed)?.file_name().to_str().and_then(digest_of_entry));
        }
        digests.sort_unstable();
        Ok(digests)
    }

    /// Reads every byte of the entry of `digest` again.
    ///
    /// # Errors
    /// What is wrong with it; [`Error::DigestMismatch`] where the bytes are no longer those that were stored.
    pub fn audit(&self, digest: &Digest) -> Result<Verified, Error> {
        let verified = verify_dir(&self.path_of(digest), None)?;
        if verified.digest == *digest {
            Ok(verified)
        } else {
            Err(Error::DigestMismatch { expected: *digest, found: verified.digest })
        }
    }

    /// Copies the adapter in the directory `source` into the store, checking and hashing what is stored.
    ///
    /// # Errors
    /// Why it cannot be read, what is wrong with it, or what is wrong with the store.
    pub fn put_local(&self, source: &Path, expect: &Expect) -> Result<Fetched, Error> {
        let mut staging = self.stage(expect.base.clone())?;
        Listing::open(source)?.copy_into(&mut staging)?;
        self.commit(staging, expect)
    }

    /// A place to put an adapter together.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn stage(&self, base: Option<Arc<BaseShapes>>) -> Result<Staging, Error> {
        let dir = self.fresh();
        let failed = |source| Error::store("create", &dir, source);
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
        let staging = Staging::new(self.clone(), dir.clone(), base);
        self.step(Step::StagingMade, &dir)?;
        Ok(staging)
    }

    /// Makes an entry of what was staged, if it is sound, and is what is expected. Where there is such an entry already, that
    /// one stays.
    ///
    /// # Errors
    /// What is missing or does not fit, [`Error::DigestMismatch`], or what is wrong with the store.
    pub fn commit(&self, mut staging: Staging, expect: &Expect) -> Result<Fetched, Error> {
        let verified = staging.conclude()?;
        let digest = verified.digest;
        if let Some(expected) = expect.pinned.filter(|pinned| *pinned != digest) {
            return Err(Error::DigestMismatch { expected, found: digest });
        }
        let (path, hold) = (self.path_of(&digest), self.holds().hold(digest));
        let fetched = Fetched { verified, path, hold };
        if self.contains(&digest) {
            self.touch(&digest);
            return Ok(fetched);
        }
        let dir = staging.dir().to_owned();
        Manifest::write(&dir, &fetched.verified.files)?;
        self.step(Step::ManifestSynced, &dir)?;
        let mode = fs::Permissions::from_mode(DIR_MODE);
        fs::set_permissions(&dir, mode).map_err(|source| Error::store("open up", &dir, source))?;
        sync_dir(&dir)?;
        self.step(Step::StagingSynced, &dir)?;
        let mut away = Away::default();
        let published = self.publish_where_there_is_room(&mut staging, &digest, &fetched.path, &mut away);
        self.discard(away)?;
        published?;
        sync_dir(self.root())?;
        self.step(Step::StoreSynced, &fetched.path)?;
        Ok(fetched)
    }

    fn publish_where_there_is_room(
        &self,
        staging: &mut Staging,
        digest: &Digest,
        path: &Path,
        away: &mut Away,
    ) -> Result<(), Error> {
        let dir = staging.dir().to_owned();
        let room = Room { store: self, guard: lock::take(self.root())?, staged: &dir };
        let bytes = account::size_on_disk(&dir).map_err(|source| Error::store("measure", &dir, source))?;
        room.make(bytes, Some(digest), away)?;
        self.publish(staging, path)?;
        self.step(Step::Renamed, path)
    }

    /// Gives the staged directory its name.
    fn publish(&self, staging: &mut Staging, path: &Path) -> Result<(), Error> {
        match fs::rename(staging.dir(), path) {
            Ok(()) => {
                staging.committed();
                Ok(())
            }
            // Somebody else was first, with the same bytes: the name says so.
            Err(error) if is_taken(&error) && Manifest::read(path).is_some_and(|m| m.is_whole_at(path)) => Ok(()),
            // What is there is damaged. It changes places with ours in one step, since an engine may be about to read it, and
            // is removed in ours' stead.
            Err(error) if is_taken(&error) => {
                exchange(staging.dir(), path).map_err(|source| Error::store("replace", path, source))
            }
            Err(error) => Err(Error::store("rename", path, error)),
        }
    }

    /// Removes the entry of `digest`, damaged or not; says whether there was one.
    ///
    /// It is refused where somebody has pinned it. Beyond that nothing here knows who uses it. An engine that has an adapter
    /// registered reads its files again long after it was loaded, and dies where they are gone: unload it, wait until it is
    /// idle, and only then call this (I5).
    ///
    /// # Errors
    /// [`Error::InUse`], or [`Error::Store`]: also where the file system has no locks, since then somebody may be about to pin
    /// it.
    pub fn remove(&self, digest: &Digest) -> Result<bool, Error> {
        let path = self.path_of(digest);
        let away = self.fresh();
        {
            let guard = lock::take(self.root())?;
            if !guard.is_exclusive() {
                return Err(Error::store("lock for a removal", self.root(), io::ErrorKind::Unsupported.into()));
            }
            if let Some(holders) = self.all_pins()?.holders_of(digest) {
                return Err(Error::InUse { digest: *digest, holders });
            }
            let moved = unless_gone(fs::rename(&path, &away));
            if moved.map_err(|source| Error::store("move away", &path, source))?.is_none() {
                return Ok(false);
            }
        }
        self.step(Step::MovedAway, &path)?;
        remove_whatever(&away).map_err(|source| Error::store("remove", &away, source))?;
        self.step(Step::Removed, &path)?;
        Ok(true)
    }

    fn limits(&self) -> &Limits {
        &self.0.options.limits
    }

    fn root(&self) -> &Path {
        Path::new(self.0.view.prefix())
    }

    fn holds(&self) -> &Arc<Holds> {
        &self.0.holds
    }

    /// A path in our own staging area that nobody has had before.
    fn fresh(&self) -> PathBuf {
        self.0.session.fresh()
    }

    /// Remembers that the entry of `digest` is used now.
    fn touch(&self, digest: &Digest) {
        if let Err(error) = Manifest::touch(&self.path_of(digest)) {
            // It belongs to another user, or is just gone. At worst it goes before its turn.
            tracing::debug!(%digest, error = &error as &dyn std::error::Error, "Cannot write down that an entry is used");
        }
    }

    fn step(&self, step: Step, path: &Path) -> Result<(), Error> {
        match &self.0.steps {
            None => Ok(()),
            Some(steps) => steps(step).map_err(|source| Error::store("go on with", path, source)),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.0.view)
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
    )
}

/// Swaps two names at once.
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

/// Brings the names in a directory to disk.
fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|source| Error::store("sync", path, source))
}
