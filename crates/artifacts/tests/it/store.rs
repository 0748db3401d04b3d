//! The store's promises.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Barrier};

use longshore_artifacts::{BaseShapes, Expect, Store};
use longshore_types::{Digest, Root};

use crate::adapter::{Adapter, BASE, CONFIG, WEIGHTS};

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("deep/store")).unwrap();
    Adapter::tiny(1).write(&dir.path().join("a"));
    Bench { dir, store }
}

impl Bench {
    fn put(&self) -> Digest {
        self.store.put_local(&self.dir.path().join("a"), &Expect::default()).unwrap().verified.digest
    }
    fn staged(&self) -> usize {
        let sessions = fs::read_dir(self.store.view().prefix().to_owned() + "/.staging").unwrap();
        let inside = |entry: fs::DirEntry| fs::read_dir(entry.path()).map_or(0, |dir| dir.count() - 1);
        sessions.map(|entry| inside(entry.unwrap())).sum()
    }
}

#[test]
fn i2_what_is_stored_is_named_by_its_digest_and_found_again_by_its_path() {
    let bench = bench();
    let digest = bench.put();
    let path = bench.store.path_of(&digest);
    assert!(path.ends_with(format!("sha256-{}", digest.hex())));
    assert!(bench.store.contains(&digest));
    assert_eq!(bench.store.entries().unwrap(), [digest]);
    assert_eq!(bench.store.digest_of(path.to_str().unwrap()), Some(digest));
    assert_eq!(bench.store.root_of("/elsewhere"), Root::Other("/elsewhere".into()));
    assert_eq!(bench.store.audit(&digest).unwrap().digest, digest);
    assert_eq!(bench.staged(), 0);
}

#[test]
fn i2_stored_files_are_copies_that_nobody_writes_and_everybody_reads() {
    let bench = bench();
    let digest = bench.put();
    let entry = bench.store.path_of(&digest);
    for name in [CONFIG, WEIGHTS] {
        let stored = fs::metadata(entry.join(name)).unwrap();
        assert_eq!(stored.permissions().mode() & 0o777, 0o444, "{name}");
        assert_eq!(stored.nlink(), 1, "{name} is hard-linked");
        assert_ne!(stored.ino(), fs::metadata(bench.dir.path().join("a").join(name)).unwrap().ino());
    }
    assert_eq!(fs::metadata(&entry).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(bench.store.view().prefix()).unwrap().permissions().mode() & 0o777, 0o755);

    // The user's file may change; ours does not.
    fs::write(bench.dir.path().join("a").join(WEIGHTS), b"overwritten").unwrap();
    bench.store.audit(&digest).unwrap();
}

#[test]
fn another_user_can_read_an_entry() {
    let bench = bench();
    let digest = bench.put();
    // Only root can become somebody else; then the modes above are all that can be checked.
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    for dir in [bench.dir.path().to_owned(), bench.dir.path().join("deep")] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let file = bench.store.path_of(&digest).join(WEIGHTS);
    let read = |path: &std::path::Path| Command::new("cat").arg(path).uid(65534).gid(65534).output().unwrap();
    let output = read(&file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, fs::read(&file).unwrap());
    let staging = bench.store.view().prefix().to_owned() + "/.staging/lock";
    assert!(!read(staging.as_ref()).status.success(), "the staging area is open to others");
}

#[test]
fn many_puts_of_one_adapter_at_once_make_one_entry() {
    let bench = bench();
    let barrier = Barrier::new(8);
    let digests: Vec<Digest> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    bench.put()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    assert_eq!(bench.store.entries().unwrap(), [digests[0]]);
    bench.store.audit(&digests[0]).unwrap();
    assert_eq!(bench.staged(), 0);
}

#[test]
fn two_processes_may_share_a_store() {
    let bench = bench();
    let other = Store::open(bench.store.view().prefix()).unwrap();
    let staging = bench.store.stage(None).unwrap();
    // Opening it a third time sweeps, and must leave alone what belongs to the living.
    drop(Store::open(bench.store.view().prefix()).unwrap());
    assert_eq!(bench.staged(), 1);
    drop(staging);
    let digest = bench.put();
    assert!(other.contains(&digest));
    other.audit(&digest).unwrap();
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let bench = bench();
    let source = bench.dir.path().join("bad");
    Adapter::tiny(1).set("r", serde_json::json!(3)).write(&source);
    let error = bench.store.put_local(&source, &Expect::default()).unwrap_err();
    assert_eq!(error.reason(), "RankMismatch");
    let pinned = Expect { pinned: Some(Digest::from_bytes([1; 32])), base: None };
    assert_eq!(bench.store.put_local(&bench.dir.path().join("a"), &pinned).unwrap_err().reason(), "DigestMismatch");
    assert_eq!(bench.store.entries().unwrap(), []);
    assert_eq!(bench.staged(), 0);
}

#[test]
fn a_damaged_entry_is_not_whole_and_is_replaced() {
    let bench = bench();
    let digest = bench.put();
    let weights = bench.store.path_of(&digest).join(WEIGHTS);
    fs::set_permissions(&weights, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&weights, b"short").unwrap();
    assert!(!bench.store.contains(&digest));
    assert!(bench.store.entry(&digest, None).unwrap().is_none());
    assert_eq!(bench.put(), digest);
    bench.store.audit(&digest).unwrap();
    assert_eq!(bench.staged(), 0);
    for gone in [CONFIG, ".longshore.json"] {
        fs::remove_file(bench.store.path_of(&digest).join(gone)).unwrap();
        assert!(!bench.store.contains(&digest), "{gone}");
        bench.put();
        assert!(bench.store.contains(&digest), "{gone}");
    }
}

#[test]
fn bytes_that_changed_on_disk_are_found_by_an_audit() {
    let bench = bench();
    let digest = bench.put();
    let weights = bench.store.path_of(&digest).join(WEIGHTS);
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::set_permissions(&weights, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&weights, bytes).unwrap();
    assert!(bench.store.contains(&digest), "sizes alone cannot tell");
    assert_eq!(bench.store.audit(&digest).unwrap_err().reason(), "DigestMismatch");
}

#[test]
fn an_entry_is_removed_whole_and_only_once() {
    let bench = bench();
    let digest = bench.put();
    assert!(bench.store.remove(&digest).unwrap());
    assert!(!bench.store.remove(&digest).unwrap());
    assert!(!bench.store.contains(&digest) && !bench.store.path_of(&digest).exists());
    assert_eq!(bench.staged(), 0);
    assert_eq!(bench.put(), digest);
}

#[test]
fn a_stored_adapter_is_held_against_another_base_model() {
    let bench = bench();
    let digest = bench.put();
    let base = |json: &str| Some(Arc::new(BaseShapes::from_config_json(json.as_bytes()).unwrap()));
    assert_eq!(bench.store.entry(&digest, base(BASE)).unwrap().unwrap().digest, digest);
    let wider = BASE.replace(r#""hidden_size":8"#, r#""hidden_size":16"#);
    assert_eq!(bench.store.entry(&digest, base(&wider)).unwrap_err().reason(), "ShapeMismatch");
}

#[test]
fn a_store_that_was_opened_by_a_link_knows_both_paths() {
    let bench = bench();
    let link = bench.dir.path().join("link");
    std::os::unix::fs::symlink(bench.store.view().prefix(), &link).unwrap();
    let store = Store::open(&link).unwrap();
    let digest = bench.put();
    let name = format!("sha256-{}", digest.hex());
    assert_eq!(store.view(), bench.store.view());
    assert_eq!(store.digest_of(link.join(&name).to_str().unwrap()), Some(digest));
    assert_eq!(store.digest_of(store.path_of(&digest).to_str().unwrap()), Some(digest));
}

#[test]
fn a_file_is_no_place_for_a_store() {
    let bench = bench();
    let error = Store::open(bench.dir.path().join("a").join(CONFIG)).unwrap_err();
    assert_eq!(error.reason(), "StoreFailed");
}
