//! Repositories: commits that never change, and names for them that do.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::Access;

/// Larger files are kept apart, as at Hugging Face, whatever they are called.
const LARGE: usize = 10 << 20;
/// Names that are kept apart by the `.gitattributes` that each new repository has.
const APART: [&str; 5] = [".safetensors", ".bin", ".pt", ".model", ".gz"];

/// One repository.
#[derive(Default)]
pub(super) struct Repo {
    pub(super) access: Access,
    /// Branches, tags and pull requests.
    pub(super) heads: BTreeMap<String, String>,
    commits: BTreeMap<String, BTreeMap<String, File>>,
}

/// One file of one commit.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) bytes: Bytes,
    /// The SHA-1 that Git has for it.
    pub(super) git: String,
    pub(super) sha256: String,
}

impl File {
    pub(super) fn new(bytes: Bytes) -> Self {
        let git = hex(&Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(&bytes).finalize());
        let sha256 = hex(&Sha256::digest(&bytes));
        Self { bytes, git, sha256 }
    }

    /// Whether it is kept apart (LFS) under this name.
    pub(super) fn is_apart(&self, name: &str) -> bool {
        self.bytes.len() > LARGE || APART.iter().any(|end| name.ends_with(end))
    }
}

impl Repo {
    /// Makes a commit of `files`, and has `branch` lead to it.
    pub(super) fn commit(&mut self, branch: &str, files: BTreeMap<String, File>) -> String {
        // Another one each time, even of the same files.
        let mut hash = Sha1::new().chain_update(format!("commit {}\0", self.commits.len()));
        for (name, file) in &files {
            hash.update(format!("{} {name}\n", file.git));
        }
        let commit = hex(&hash.finalize());
        self.commits.insert(commit.clone(), files);
        self.heads.insert(branch.to_owned(), commit.clone());
        commit
    }

    /// The commit that `revision` stands for.
    pub(super) fn resolve(&self, revision: &str) -> Option<&str> {
        self.heads
            .get(revision)
            .or_else(|| self.commits.get_key_value(revision).map(|(commit, _)| commit))
            .map(String::as_str)
    }

    /// Every file of every commit.
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &File)> {
        self.commits.values().flatten()
    }

    /// The files of what `revision` stands for.
    pub(super) fn files(&self, revision: &str) -> Option<&BTreeMap<String, File>> {
        self.commits.get(self.resolve(revision)?)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_digests_that_git_and_sha256sum_have_for_it() {
        // printf 'abc' | git hash-object --stdin; printf 'abc' | sha256sum
        let file = File::new(Bytes::from_static(b"abc"));
        assert_eq!(file.git, "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f");
        assert_eq!(file.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_commit_stays_what_it_was_when_its_branch_moves_on() {
        let mut repo = Repo::default();
        let files =
            |text: &'static str| BTreeMap::from([("a".to_owned(), File::new(Bytes::from_static(text.as_bytes())))]);
        let first = repo.commit("main", files("1"));
        let second = repo.commit("main", files("2"));
        let third = repo.commit("main", files("2"));
        assert!(first != second && second != third);
        assert_eq!(repo.resolve("main"), Some(third.as_str()));
        assert_eq!(repo.files(&first).unwrap()["a"].bytes, "1");
        assert!(repo.files("none").is_none());
    }
}
