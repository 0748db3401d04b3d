//! Where adapters are kept.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use longshore_artifacts::Store;

/// Opens the store that was named, or the one that is the same on each start.
pub fn open(named: Option<&Path>) -> Result<Store> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => data_dir()?.join("store"),
    };
    let failed = || format!("{} cannot be the store of adapters: name another directory with --store", path.display());
    std::fs::create_dir_all(&path).with_context(failed)?;
    // Engines are given paths below it, and list them: they must be the same on each start.
    let path = path.canonicalize().with_context(failed)?;
    Store::open(&path).with_context(failed)
}

/// `$XDG_DATA_HOME/longshore`, by default below the home directory.
pub fn data_dir() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    let data = data.context("neither XDG_DATA_HOME nor HOME is set: say where adapters are kept with --store")?;
    Ok(data.join("longshore"))
}
