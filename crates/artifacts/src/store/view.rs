//! The store as one engine sees it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use longshore_types::{Digest, Root};

use crate::error::Error;

/// What the names of entries begin with. A colon, as digests are written with elsewhere, separates paths in many places.
const PREFIX: &str = "sha256-";

/// A path under which the store is seen: our own, or an engine's, which may run in a container that mounts it elsewhere.
/// Pure text; it never looks at a file system.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreView(Arc<str>);

impl StoreView {
    /// The view of a store that is seen at `path`.
    ///
    /// # Errors
    /// [`Error::StorePath`] unless it is absolute, without `.` and `..`, and not `/` itself.
    pub fn new(path: &str) -> Result<Self, Error> {
        let wrong = |problem| Error::StorePath { path: PathBuf::from(path), problem };
        let parts = parts(path).ok_or_else(|| wrong("it is not an absolute path without `.` and `..`"))?;
        if parts.is_empty() {
            return Err(wrong("it is the root of the file system"));
        }
        Ok(Self(format!("/{}", parts.join("/")).into()))
    }

    /// Where the store is seen, without a slash at the end.
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// What an engine with this view is told to load.
    pub fn path_of(&self, digest: &Digest) -> String {
        format!("{}/{}", self.0, entry_name(digest))
    }

    /// The digest of what an engine with this view says that it holds from `path`; none for every path that is not exactly
    /// that of an entry. Doubled slashes and one at the end are the same path; `..` never is.
    pub fn digest_of(&self, path: &str) -> Option<Digest> {
        let (path, prefix) = (parts(path)?, parts(&self.0)?);
        match path.strip_prefix(prefix.as_slice())? {
            [name] => digest_of_entry(name),
            _ => None,
        }
    }

    /// The root that `path` stands for, for whoever reads an engine's listing.
    pub fn root_of(&self, path: &str) -> Root {
        self.digest_of(path).map_or_else(|| Root::Other(path.into()), Root::Store)
    }
}

impl fmt::Display for StoreView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoreView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreView({})", self.0)
    }
}

/// The name of the directory of `digest`.
fn entry_name(digest: &Digest) -> String {
    format!("{PREFIX}{}", digest.hex())
}

/// The digest whose directory has this name.
pub(super) fn digest_of_entry(name: &str) -> Option<Digest> {
    Digest::from_hex(name.strip_prefix(PREFIX)?).ok()
}

/// The parts of an absolute path; none for any other, and none where a part would lead elsewhere than it says.
fn parts(path: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').filter(|part| !part.is_empty()).collect();
    parts.iter().all(|part| *part != "." && *part != "..").then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i2_a_path_under_the_store_tells_its_digest() {
        let digest = Digest::from_bytes([0xab; 32]);
        let view = StoreView::new("/var/lib/longshore/store/").unwrap();
        let path = view.path_of(&digest);
        assert_eq!(path, format!("/var/lib/longshore/store/sha256-{}", "ab".repeat(32)));
        for same in [path.clone(), format!("{path}/"), path.replace("/store", "//store/"), format!("/{path}")] {
            assert_eq!(view.digest_of(&same), Some(digest), "{same}");
        }
        assert_eq!(view.root_of(&path), Root::Store(digest));
    }

    #[test]
    fn i2_no_other_path_tells_one() {
        let hex = "ab".repeat(32);
        let view = StoreView::new("/store").unwrap();
        for other in [
            format!("/store2/sha256-{hex}"),
            format!("/stor/e/sha256-{hex}"),
            format!("/x/store/sha256-{hex}"),
            format!("store/sha256-{hex}"),
            format!("/store/sha256-{hex}/x"),
            format!("/store/sha256-{hex}/.."),
            format!("/store/../store/sha256-{hex}"),
            format!("/store/./sha256-{hex}"),
            format!("/store/sha256:{hex}"),
            format!("/store/sha256-{}", hex.to_uppercase()),
            format!("/store/sha256-{}", &hex[1..]),
            format!("/store/sha256-{hex}0"),
            format!("/store/{hex}"),
            format!("/sha256-{hex}"),
            "/store".into(),
            "/".into(),
            String::new(),
            "org/name".into(),
        ] {
            assert_eq!(view.digest_of(&other), None, "{other}");
            assert_eq!(view.root_of(&other), Root::Other(other.as_str().into()));
        }
    }

    #[test]
    fn a_store_is_at_an_absolute_path() {
        for bad in ["", "store", "./store", "/a/../b", "/", "//", "/./a"] {
            assert_eq!(StoreView::new(bad).unwrap_err().reason(), "InvalidStore", "{bad}");
        }
    }
}
