//! What reaching an engine means where there is no cluster.

use longshore_types::Digest;

use super::depot::Paths;
use crate::link::Roots;

impl Roots for Paths {
    fn path_of(&self, digest: Digest) -> String {
        self.of(digest)
    }

    fn digest_of(&self, path: &str) -> Option<Digest> {
        self.digest(path)
    }
}
