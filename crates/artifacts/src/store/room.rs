//! Making room.
//!
//! ```text
//! <store>/.staging/<session>/<n>.claim   how many bytes what is staged beside it will take
//! ```
//!
//! Where there is a quota, a fetch claims what it is going to take before it takes it, by what its source says where it says
//! anything, else step by step. So nothing is downloaded that there is no room for, and fetches side by side do not promise
//! themselves the same room.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use longshore_types::Digest;

use super::account::{Resident, Usage, plan, size_on_disk, unless_gone};
use super::lock::{self, Guard, Tried};
use super::manifest::Manifest;
use super::session::{self, STAGING};
use super::{Step, Store};
use crate::error::Error;

/// Claimed at once where nobody knows how much will come.
const STEP: u64 = 16 << 20;

/// Room for what is staged in one directory. Dropping it gives the room back.
#[derive(Debug)]
pub(super) struct Claim {
    staged: PathBuf,
    bytes: u64,
}

impl Claim {
    /// No room yet for what is staged at `staged`.
    pub(super) fn new(staged: PathBuf) -> Self {
        Self { staged, bytes: 0 }
    }

    /// Makes sure that there is room for `written` bytes, and for `sure` at least.
    pub(super) fn cover(&mut self, store: &Store, written: u64, sure: u64) -> Result<(), Error> {
        if store.options().quota.is_none() || written.max(sure) <= self.bytes {
            return Ok(());
        }
        let room = Room { store, guard: lock::take(store.root())?, staged: &self.staged };
        let mut away = Away::default();
        // Where more comes than anybody said, some is claimed ahead if it can be had; the end may be near.
        let ahead = written.saturating_add(STEP);
        let made = if sure >= written {
            room.make(sure, None, &mut away).map(|()| sure)
        } else {
            let made = room.make(ahead, None, &mut away).map(|()| ahead);
            made.or_else(|_| room.make(written, None, &mut away).map(|()| written))
        };
        let claimed = made.and_then(|bytes| {
            let path = session::claim_of(&self.staged);
            fs::write(&path, bytes.to_string()).map_err(|source| Error::store("write", &path, source))?;
            Ok(bytes)
        });
        drop(room);
        // What had to go is off the disk before anything comes in its stead.
        store.discard(away)?;
        self.bytes = claimed?;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // What stays goes with its session.
            let _ = fs::remove_file(session::claim_of(&self.staged));
        }
    }
}

/// Entries that have lost their names, and have yet to be removed from the disk.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Away(Vec<PathBuf>);

/// The right to make room for what is staged in one directory.
pub(super) struct Room<'s> {
    pub(super) store: &'s Store,
    pub(super) guard: Guard,
    pub(super) staged: &'s Path,
}

impl Room<'_> {
    /// Sees to it that `needed` bytes fit, in the stead of what was claimed for it and of the entry that it `replaces`.
    pub(super) fn make(&self, needed: u64, replaces: Option<&Digest>, away: &mut Away) -> Result<(), Error> {
        let Some(quota) = self.store.options().quota else { return Ok(()) };
        let own = session::claim_of(self.staged);
        loop {
            let mut residents = self.store.residents(self.guard.is_exclusive())?;
            residents.retain(|resident| Some(&resident.digest) != replaces);
            let claimed = self.store.claimed(Some(&own))?;
            let going = plan(residents, claimed, needed, quota).map_err(|shortage| Error::QuotaFull {
                needed,
                quota,
                kept: shortage.kept,
                claimed: shortage.claimed,
            })?;
            // One that was just handed out stays, and another has to go.
            if self.move_away(&going, away)? {
                return Ok(());
            }
        }
    }

    fn move_away(&self, going: &[Digest], away: &mut Away) -> Result<bool, Error> {
        for digest in going {
            let (path, to) = (self.store.path_of(digest), self.store.fresh());
            match self.store.holds().unless_held(digest, || fs::rename(&path, &to)) {
                None => return Ok(false),
                Some(moved) => {
                    moved.map_err(|source| Error::store("move away", &path, source))?;
                    away.0.push(to);
                    tracing::info!(%digest, "Removed an adapter that nobody uses, to make room for another");
                    self.store.step(Step::MovedAway, &path)?;
                }
            }
        }
        Ok(true)
    }
}

impl Store {
    /// What it holds, measured now. Blocks.
    ///
    /// # Errors
    /// [`Error::Store`] where it cannot be read.
    pub fn usage(&self) -> Result<Usage, Error> {
        let pins = self.all_pins()?;
        let mut usage = Usage { quota: self.options().quota, claimed: self.claimed(None)?, ..Usage::default() };
        for digest in self.entries()? {
            let path = self.path_of(&digest);
            usage.bytes += size_on_disk(&path).map_err(|source| Error::store("measure", &path, source))?;
            usage.entries += 1;
            usage.pinned += usize::from(pins.contains(&digest));
        }
        Ok(usage)
    }

    /// All entries, for whoever has to make room. Where they `may_go` at all, those do that nobody needs.
    fn residents(&self, may_go: bool) -> Result<Vec<Resident>, Error> {
        let pins = self.all_pins()?;
        if may_go {
            self.forget_silent_holders(&pins);
        }
        let resident = |digest: Digest| {
            let path = self.path_of(&digest);
            let failed = |source| Error::store("measure", &path, source);
            let bytes = size_on_disk(&path).map_err(failed)?;
            let used = Manifest::used(&path).unwrap_or(SystemTime::UNIX_EPOCH);
            let kept = !may_go || pins.contains(&digest) || self.holds().is_held(&digest);
            Ok(Resident { digest, bytes, used, kept })
        };
        self.entries()?.into_iter().map(resident).collect()
    }

    /// Bytes that fetches under way have claimed, in all processes that live, but for the claim at `own`.
    fn claimed(&self, own: Option<&Path>) -> Result<u64, Error> {
        let area = self.root().join(STAGING);
        let failed = |source| Error::store("read", &area, source);
        let (mut claimed, mut alive) = (0_u64, BTreeMap::new());
        for session in fs::read_dir(&area).map_err(failed)? {
            let session = session.map_err(failed)?.path();
            for claim in fs::read_dir(&session).into_iter().flatten().flatten() {
                let path = claim.path();
                if !session::is_claim(&path) || own == Some(path.as_path()) {
                    continue;
                }
                let alive = *alive.entry(session.clone()).or_insert_with(|| is_alive(&session));
                // One that cannot be read is gone, or was never finished by who died.
                let bytes = fs::read_to_string(path).ok().and_then(|bytes| bytes.parse::<u64>().ok());
                claimed = claimed.saturating_add(bytes.filter(|_| alive).unwrap_or(0));
            }
        }
        Ok(claimed)
    }

    /// Removes from the disk what has lost its name.
    pub(super) fn discard(&self, away: Away) -> Result<(), Error> {
        for path in away.0 {
            // What stays goes with the session.
            if let Err(error) = remove_whatever(&path) {
                tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "Cannot remove an entry");
            }
            self.step(Step::Removed, &path)?;
        }
        Ok(())
    }
}

/// Whether the process that a session belongs to lives.
fn is_alive(session: &Path) -> bool {
    let lock = File::open(session.join(session::LOCK));
    // Where that cannot be known, the room is not ours.
    lock.is_ok_and(|lock| !matches!(lock::try_lock(&lock), Ok(Tried::Taken)))
}

/// Removes a directory with what is in it, or a file that has taken its name.
pub(super) fn remove_whatever(path: &Path) -> std::io::Result<()> {
    let Some(metadata) = unless_gone(fs::symlink_metadata(path))? else { return Ok(()) };
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
