//! Where the workspace is, and how cargo is called in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};

/// A checkout of the workspace, and the folder that builds go to.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The workspace that this program was started for: cargo says where this crate is; without cargo, the nearest
    /// folder upwards of the current one whose `Cargo.toml` has a `[workspace]`.
    pub fn find() -> Result<Self> {
        let start = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => env::current_dir().context("no current folder")?,
        };
        let is_root = |dir: &&Path| {
            std::fs::read_to_string(dir.join("Cargo.toml"))
                .is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
        };
        let root = start
            .ancestors()
            .find(is_root)
            .with_context(|| format!("no workspace at or above {}", start.display()))?
            .to_path_buf();
        let target = target_folder(env::var_os("CARGO_TARGET_DIR"), env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"))
            .unwrap_or_else(|| root.join("target"));
        Ok(Self::at(root, target))
    }

    /// The workspace at `root`, whose builds go to `target`.
    pub fn at(root: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), target: target.into() }
    }

    /// The folder with the workspace's `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that every build goes to. See [`Workspace::cargo`].
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// `cargo SUBCOMMAND` in the root. It builds into `CARGO_TARGET_DIR`, and where that is unset into
    /// `longshore/target` of the user's cache folder, so that a clone stays small and a second clone builds warm.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(cargo());
        command.arg(subcommand).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // `cargo run` tells this program of the package xtask. Build scripts that ask for such variables would take a cargo
        // that has them and one that has not for different builds, and build all that depends on them anew each time.
        for (name, _) in env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command
    }

    /// The workspace's own packages as cargo sees them, without their dependencies.
    pub fn metadata(&self) -> Result<Metadata> {
        members(&self.root)
    }
}

/// The packages of the workspace at `root`, without their dependencies; asks no registry.
pub(crate) fn members(root: &Path) -> Result<Metadata> {
    MetadataCommand::new()
        .cargo_path(cargo())
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .with_context(|| format!("cargo metadata fails in {}", root.display()))
}

/// The cargo that started this program, else the one on the path.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn target_folder(
    explicit: Option<std::ffi::OsString>,
    cache: Option<std::ffi::OsString>,
    home: Option<std::ffi::OsString>,
) -> Option<PathBuf> {
    let named = |value: Option<std::ffi::OsString>| value.filter(|value| !value.is_empty()).map(PathBuf::from);
    named(explicit).or_else(|| {
        let cache = named(cache).or_else(|| named(home).map(|home| home.join(".cache")))?;
        Some(cache.join("longshore/target"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_go_where_the_user_says_and_else_outside_the_clone() {
        let os = |text: &str| Some(text.into());
        assert_eq!(target_folder(os("/t"), os("/c"), os("/h")), Some("/t".into()));
        assert_eq!(target_folder(None, os("/c"), os("/h")), Some("/c/longshore/target".into()));
        assert_eq!(target_folder(os(""), os(""), os("/h")), Some("/h/.cache/longshore/target".into()));
        assert_eq!(target_folder(None, None, None), None);
    }

    #[test]
    fn the_workspace_is_found_from_this_crate() {
        let workspace = Workspace::find().unwrap();
        assert!(workspace.root().join("xtask/Cargo.toml").is_file());
    }
}
