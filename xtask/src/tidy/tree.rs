//! The workspace as tidy sees it, read once: its crates with their manifests, and its text files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::manifest::Manifest;
use super::source::Source;
use crate::workspace::members;

/// Folders with nothing of ours in them: build outputs, version control, Python's environments and caches.
const SKIPPED: &[&str] = &["target", ".git", "node_modules", "__pycache__"];

/// Larger files are data.
const MAX_TEXT: u64 = 1 << 20;

/// One workspace.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) crates: Vec<Crate>,
    pub(super) files: Vec<TextFile>,
    pub(super) sources: Vec<Source>,
}

/// One crate of ours.
pub(super) struct Crate {
    pub(super) name: String,
    /// Relative to the root.
    pub(super) folder: PathBuf,
    pub(super) manifest: Manifest,
}

/// One file that is UTF-8 and not huge.
pub(super) struct TextFile {
    /// Relative to the root.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Tree {
    /// Reads the workspace at `root`.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let root = fs::canonicalize(root).with_context(|| format!("no folder {}", root.display()))?;
        let metadata = members(&root)?;
        let mut crates = Vec::new();
        for package in &metadata.packages {
            let path = package.manifest_path.as_std_path();
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let path = path.strip_prefix(&root).with_context(|| format!("{} is outside", path.display()))?;
            crates.push(Crate {
                name: package.name.to_string(),
                folder: path.parent().unwrap_or(Path::new("")).to_path_buf(),
                manifest: Manifest::parse(path, &text)?,
            });
        }
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        let mut files = Vec::new();
        walk(&root, &root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let sources = Source::parse_all(&files, &crates);
        Ok(Self { root, crates, files, sources })
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<TextFile>) -> Result<()> {
    let unreadable = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().with_context(unreadable)?;
        if kind.is_dir() {
            if !SKIPPED.contains(&name.as_str()) && !name.starts_with(".venv") {
                walk(root, &path, files)?;
            }
        } else if kind.is_file() && entry.metadata().with_context(unreadable)?.len() <= MAX_TEXT {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            if let Ok(text) = String::from_utf8(bytes) {
                let path = path.strip_prefix(root).expect("the walk starts at the root").to_path_buf();
                files.push(TextFile { path, text });
            }
        }
    }
    Ok(())
}
