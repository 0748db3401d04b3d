//! What the fuzz targets share: how an input is cut into parts, and what must hold of everything that is said.

use std::cell::RefCell;

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

/// Unpacks `archive` into a store in memory. Afterwards there is nothing in the store, and nothing beside it.
pub fn unpack(archive: &[u8]) {
    thread_local!(static PLACE: RefCell<Option<(TempDir, Store)>> = const { RefCell::new(None) });
    PLACE.with_borrow_mut(|place| {
        let (dir, store) = place.get_or_insert_with(|| {
            let memory = ["/dev/shm", "/tmp"].into_iter().find(|dir| std::path::Path::new(dir).is_dir());
            let dir = TempDir::new_in(memory.unwrap_or(".")).expect("a folder in memory");
            let store = Store::open(dir.path().join("store")).expect("a store in an empty folder");
            (dir, store)
        });
        match longshore_artifacts::fuzzing::unpack(store, archive) {
            Ok(()) => {}
            Err(Error::Invalid(defect)) => check_words(&defect),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error:?}"),
        }
        let beside: Vec<_> = std::fs::read_dir(dir.path()).expect("the folder").flatten().collect();
        assert!(beside.len() == 1, "written beside the store: {beside:?}");
        let staged: Vec<_> = std::fs::read_dir(dir.path().join("store/tmp")).into_iter().flatten().flatten().collect();
        assert!(staged.is_empty(), "left behind: {staged:?}");
    });
}
