//! Where adapters are kept.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use longshore_artifacts::Store;

/// Held by the one process that may take files out of a store.
const LOCK: &str = ".longshore.lock";

/// Opens the store, and keeps others from it for as long as the second value lives: who takes files away that are not
/// needed here must be the only one who needs any (I5).
pub fn open(named: Option<&Path>) -> Result<(Store, File)> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => default_path()?,
    };
    std::fs::create_dir_all(&path).with_context(|| format!("--store {}", path.display()))?;
    let path = path.canonicalize().with_context(|| format!("--store {}", path.display()))?;
    let lock = File::create(path.join(LOCK)).with_context(|| format!("--store {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!(
            "the store {} is in use by another longshore: stop it, or give this one another directory with --store",
            path.display()
        ),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock the store {}", path.display()));
        }
    }
    let store = Store::open(&path).with_context(|| format!("--store {}", path.display()))?;
    Ok((store, lock))
}

/// The same on each start, so that what engines hold from it is known again.
fn default_path() -> Result<PathBuf> {
    Ok(data_dir()?.join("store"))
}

/// `$XDG_DATA_HOME/longshore`, by default below the home directory.
pub fn data_dir() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    let data = data.context("neither XDG_DATA_HOME nor HOME is set: say where adapters are kept with --store")?;
    Ok(data.join("longshore"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i5_one_store_has_one_keeper() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(Some(dir.path())).unwrap();
        let error = open(Some(dir.path())).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("--store"), "{error}");
        drop(first);
        open(Some(dir.path())).unwrap();
    }
}
