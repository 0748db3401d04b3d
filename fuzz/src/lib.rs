//! What the fuzz targets share: how an input is cut into parts, and what must hold of everything that is said.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use longshore_artifacts::{Defect, Error, Store};
use tempfile::TempDir;

/// Cuts `data` at its first NULs into `N` parts, the last of which has the rest. JSON and names have no NUL, so that inputs
/// stay readable, and mutations of one part leave the others alone.
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// What is said of a defect can be shown: one line, not long, with a reason that is a word.
pub fn check_words(defect: &Defect) {
    let message = defect.to_string();
    assert!(message.len() < 4096 && !message.chars().any(char::is_control), "{message:?}");
    assert!(defect.reason().bytes().all(|byte| byte.is_ascii_alphanumeric()), "{}", defect.reason());
}

/// Unpacks `archive` into a store in memory. Afterwards there is what was there before, in the store and beside it.
pub fn unpack(archive: &[u8]) {
    thread_local!(static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) });
    PLACE.with_borrow_mut(|place| {
        let Place { dir, store, empty } = place.get_or_insert_with(Place::new);
        match longshore_artifacts::fuzzing::unpack(store, archive) {
            Ok(()) => {}
            Err(Error::Invalid(defect)) => check_words(&defect),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error:?}"),
        }
        assert_eq!(below(dir.path()), *empty, "something was left behind");
    });
}

/// A folder in memory with a store in it.
struct Place {
    dir: TempDir,
    store: Store,
    empty: BTreeSet<PathBuf>,
}

impl Place {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a folder");
        let store = Store::open(dir.path().join("store")).expect("a store in an empty folder");
        let empty = below(dir.path());
        Self { dir, store, empty }
    }
}

/// Every path below `dir`.
fn below(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let mut paths = if is_dir { below(&entry.path()) } else { BTreeSet::new() };
            paths.insert(entry.path());
            paths
        })
        .collect()
}
