//! What is found damaged when a store is opened.

use std::fs;
use std::path::Path;

use longshore_types::Digest;

use super::account::unless_gone;
use super::manifest::Manifest;
use super::room::remove_whatever;
use super::{Store, lock};
use crate::error::Error;

/// What was found when the store was opened. Only names and sizes are looked at; [`Store::audit`] reads the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Entries that were damaged and that nobody had pinned. They are gone.
    pub removed: Vec<Damaged>,
    /// Entries that are damaged and stay, since somebody has pinned them or nothing may be removed
    /// ([`StoreOptions::remove_damaged`](super::StoreOptions::remove_damaged)). They are no entries to anybody, until the same
    /// adapter is fetched again and the whole one takes their place.
    pub kept: Vec<Damaged>,
}

/// An entry that is not as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The digest that its name says.
    pub digest: Digest,
    /// What is wrong with it.
    pub problem: String,
}

impl Store {
    /// Looks at every entry, and takes away what is damaged and may go.
    pub(super) fn repair(&self) -> Result<Repaired, Error> {
        let guard = lock::take(self.root())?;
        let pins = self.all_pins()?;
        if guard.is_exclusive() {
            self.forget_silent_holders(&pins);
        }
        let may_go = self.options().remove_damaged && guard.is_exclusive();
        let (mut repaired, mut away) = (Repaired::default(), Vec::new());
        for digest in self.entries()? {
            let path = self.path_of(&digest);
            let Some(problem) = damage(&path, &digest) else { continue };
            let found = Damaged { digest, problem };
            if !may_go || pins.contains(&digest) {
                tracing::warn!(%digest, problem = found.problem, "A damaged entry stays in the store");
                repaired.kept.push(found);
                continue;
            }
            let to = self.fresh();
            if unless_gone(fs::rename(&path, &to)).map_err(|source| Error::store("move away", &path, source))?.is_some()
            {
                tracing::warn!(%digest, problem = found.problem, "A damaged entry was removed from the store");
                away.push(to);
                repaired.removed.push(found);
            }
        }
        drop(guard);
        for path in away {
            // What stays goes with the session.
            if let Err(error) = remove_whatever(&path) {
                tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "Cannot remove an entry");
            }
        }
        Ok(repaired)
    }
}

/// What is wrong with the entry of `digest` at `path`, by names and sizes.
fn damage(path: &Path, digest: &Digest) -> Option<String> {
    match Manifest::read(path) {
        Some(manifest) => manifest.damage(digest),
        None => Some("it has no readable list of its files".into()),
    }
}
