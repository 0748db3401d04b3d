//! Files that are written by a program and committed: a stale one is found by a test.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::Workspace;

/// One such file, as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// From the workspace's root.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
    /// The task of `cargo xtask` that writes it.
    pub task: &'static str,
}

impl Generated {
    /// Why the committed file is not what it should be; `None` where it is.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub fn stale(&self, workspace: &Workspace) -> Result<Option<String>> {
        let path = workspace.root().join(&self.path);
        if !path.exists() {
            return Ok(Some(format!("{} is missing: run `cargo xtask {}`", self.path.display(), self.task)));
        }
        let found = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if found == self.text {
            return Ok(None);
        }
        let line = found.lines().zip(self.text.lines()).take_while(|(a, b)| a == b).count() + 1;
        Ok(Some(format!("{}:{line} is stale: run `cargo xtask {}`", self.path.display(), self.task)))
    }
}

/// Writes the files, or only checks them. A file that is right already is not touched.
pub(crate) fn settle(workspace: &Workspace, files: &[Generated], check: bool) -> Result<()> {
    let mut stale = Vec::new();
    for file in files {
        let Some(why) = file.stale(workspace)? else { continue };
        if check {
            println!("{why}");
            stale.push(file);
            continue;
        }
        let path = workspace.root().join(&file.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(&path, &file.text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", file.path.display());
    }
    if !stale.is_empty() {
        bail!("{} of {} generated files are stale", stale.len(), files.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_a_changed_file_are_told_with_the_task_that_mends_them() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(dir.path(), dir.path());
        let file = Generated { path: "deploy/a.yaml".into(), text: "a\nb\n".into(), task: "crds" };
        assert_eq!(file.stale(&workspace).unwrap().unwrap(), "deploy/a.yaml is missing: run `cargo xtask crds`");
        assert!(settle(&workspace, std::slice::from_ref(&file), true).is_err());

        settle(&workspace, std::slice::from_ref(&file), false).unwrap();
        assert_eq!(file.stale(&workspace).unwrap(), None);

        fs::write(dir.path().join(&file.path), "a\nc\n").unwrap();
        assert_eq!(file.stale(&workspace).unwrap().unwrap(), "deploy/a.yaml:2 is stale: run `cargo xtask crds`");
    }
}
