//! What is found damaged when a store is opened.

use std::fs;

use longshore_artifacts::{Expect, Holder, Store, StoreOptions};
use longshore_types::Digest;

use crate::adapter::{Adapter, CONFIG, WEIGHTS};

/// A store with an adapter for each way to damage one, its way, and what is said of it.
fn damaged() -> (tempfile::TempDir, Vec<(Digest, &'static str)>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let sources = tempfile::tempdir().unwrap();
    let damages = [
        ("no readable list", (|entry| fs::remove_file(entry.join(".longshore.json")).unwrap()) as fn(&std::path::Path)),
        ("no readable list", |entry| fs::write(entry.join(".longshore.json"), "{").unwrap()),
        ("has 3 bytes", |entry| fs::write(entry.join(WEIGHTS), "cut").unwrap()),
        (CONFIG, |entry| fs::remove_file(entry.join(CONFIG)).unwrap()),
        ("not a file", |entry| {
            fs::remove_file(entry.join(CONFIG)).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", entry.join(CONFIG)).unwrap();
        }),
        ("adapter_model.bin was added", |entry| fs::write(entry.join("adapter_model.bin"), "pickle").unwrap()),
        ("tokenizer.json was added", |entry| fs::write(entry.join("tokenizer.json"), "{}").unwrap()),
    ];
    let mut digests = Vec::new();
    for ((problem, damage), seed) in damages.into_iter().zip(1..) {
        let source = sources.path().join(seed.to_string());
        Adapter::tiny(seed).write(&source);
        let digest = store.put_local(&source, &Expect::default()).unwrap().verified.digest;
        let entry = store.path_of(&digest);
        for name in [CONFIG, WEIGHTS, ".longshore.json"] {
            // Nobody but root writes to a sealed file.
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(entry.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        damage(&entry);
        digests.push((digest, problem));
    }
    // A list that is another adapter's, and a file in the place of an entry.
    let whole = digests[0].0;
    Adapter::tiny(99).write(&sources.path().join("whole"));
    let other = store.put_local(&sources.path().join("whole"), &Expect::default()).unwrap().verified.digest;
    let taken = Digest::from_bytes([0xab; 32]);
    fs::write(store.path_of(&taken), "a file").unwrap();
    digests.push((taken, "no readable list"));
    let copy = Digest::from_bytes([0xcd; 32]);
    fs::create_dir(store.path_of(&copy)).unwrap();
    for name in [CONFIG, WEIGHTS, ".longshore.json"] {
        fs::copy(store.path_of(&other).join(name), store.path_of(&copy).join(name)).unwrap();
    }
    digests.push((copy, "another adapter's"));
    assert!(!store.contains(&whole) && store.contains(&other));
    (dir, digests)
}

#[test]
fn damaged_entries_are_removed_and_told_of_where_nobody_has_pinned_them() {
    let (dir, digests) = damaged();
    let foreign = ["lost+found", "sha256-short", "notes.txt"];
    for name in foreign {
        fs::write(dir.path().join(name), "not ours").unwrap();
    }
    let whole = Store::open(dir.path()).unwrap().entries().unwrap().len() - digests.len();
    let store = Store::open_with(dir.path(), StoreOptions { remove_damaged: true, ..StoreOptions::default() }).unwrap();
    let repaired = store.repaired();
    assert!(repaired.kept.is_empty());
    assert_eq!(repaired.removed.len(), digests.len());
    for (digest, problem) in digests {
        let found = repaired.removed.iter().find(|damaged| damaged.digest == digest).unwrap();
        assert!(found.problem.contains(problem), "{}: {problem}", found.problem);
        assert!(!store.path_of(&digest).exists());
    }
    assert_eq!(store.entries().unwrap().len(), whole);
    for name in foreign {
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "not ours");
    }
    let again = Store::open_with(dir.path(), store.options().clone()).unwrap();
    assert_eq!(again.repaired(), &Default::default());
}

#[test]
fn i5_damaged_entries_stay_where_they_are_pinned_or_nobody_said_that_they_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("a");
    Adapter::tiny(1).write(&source);
    let path = dir.path().join("store");
    let options = StoreOptions { remove_damaged: true, ..StoreOptions::default() };
    let store = Store::open_with(&path, options.clone()).unwrap();
    let holder = Holder::new("engine").unwrap();
    let digest = store.put_local(&source, &Expect::default()).unwrap().verified.digest;
    let pin = store.pin(&holder, &digest).unwrap().unwrap();
    fs::remove_file(pin.path().join(CONFIG)).unwrap();

    let store = Store::open_with(&path, options.clone()).unwrap();
    assert_eq!((store.repaired().kept.len(), store.repaired().removed.len()), (1, 0));
    assert!(store.path_of(&digest).join(WEIGHTS).exists());
    pin.release().unwrap();
    assert_eq!(Store::open(&path).unwrap().repaired().kept.len(), 1);
    assert_eq!(Store::open_with(&path, options).unwrap().repaired().removed.len(), 1);
    assert!(!store.path_of(&digest).exists());
}

#[test]
fn what_no_engine_reads_does_no_harm_to_an_entry() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("a");
    Adapter::tiny(1).write(&source);
    let store = Store::open(dir.path().join("store")).unwrap();
    let digest = store.put_local(&source, &Expect::default()).unwrap().verified.digest;
    // What NFS leaves of a file that somebody still reads.
    fs::write(store.path_of(&digest).join(".nfs000000000000000100000001"), "").unwrap();
    assert!(store.contains(&digest));
    let options = StoreOptions { remove_damaged: true, ..StoreOptions::default() };
    assert_eq!(Store::open_with(dir.path().join("store"), options).unwrap().repaired(), &Default::default());
}
