//! A store with a quota: what goes, what stays, and what is told when nothing may go.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longshore_artifacts::{Artifacts, Error, Expect, Fetched, Holder, Store, StoreOptions, Usage};
use longshore_types::Digest;

use crate::adapter::Adapter;
use crate::store_shelf::Shelf;

/// What one small adapter takes on this disk.
fn one() -> u64 {
    let dir = tempfile::tempdir().unwrap();
    Adapter::tiny(1).write(&dir.path().join("a"));
    let store = Store::open(dir.path().join("store")).unwrap();
    store.put_local(&dir.path().join("a"), &Expect::default()).unwrap();
    store.usage().unwrap().bytes
}

struct Bench {
    dir: tempfile::TempDir,
    shelf: Arc<Shelf>,
    artifacts: Artifacts,
}

/// With room for `many` small adapters.
fn bench(many: u64) -> Bench {
    bench_with(many, Shelf::default())
}

fn bench_with(many: u64, shelf: Shelf) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(shelf);
    let artifacts = Artifacts::new(open(dir.path(), many * one())).with_source(shelf.clone());
    Bench { dir, shelf, artifacts }
}

fn open(path: &std::path::Path, quota: u64) -> Store {
    Store::open_with(path, StoreOptions { quota: Some(quota), ..StoreOptions::default() }).unwrap()
}

fn holder() -> Holder {
    Holder::new("pod-1").unwrap()
}

impl Bench {
    async fn fetch(&self, n: u8) -> Fetched {
        self.artifacts.fetch(&Shelf::url(n), None).await.unwrap()
    }
    /// Fetches it and lets go of it.
    async fn store(&self, n: u8) -> Digest {
        self.fetch(n).await.verified.digest
    }
    async fn refused(&self, n: u8) -> Error {
        self.artifacts.fetch(&Shelf::url(n), None).await.unwrap_err()
    }
    fn holds(&self, digest: &Digest) -> bool {
        self.artifacts.store().contains(digest)
    }
    fn staged(&self) -> usize {
        let sessions = fs::read_dir(self.dir.path().join(".staging")).unwrap();
        let inside = |entry: fs::DirEntry| fs::read_dir(entry.path()).map_or(0, |dir| dir.count() - 1);
        sessions.map(|entry| inside(entry.unwrap())).sum()
    }
}

#[tokio::test]
async fn what_was_not_used_for_longest_makes_room() {
    let bench = bench(3);
    let (a, b, c) = (bench.store(1).await, bench.store(2).await, bench.store(3).await);
    bench.store(1).await;
    assert_eq!(bench.shelf.fetches(), 3, "the last one was a use of what was there");
    let d = bench.store(4).await;
    assert_eq!([a, b, c, d].map(|digest| bench.holds(&digest)), [true, false, true, true]);
    // Uses are remembered over a restart.
    bench.store(3).await;
    let again = Artifacts::new(open(bench.dir.path(), 3 * one())).with_source(bench.shelf.clone());
    again.fetch(&Shelf::url(5), None).await.unwrap();
    assert_eq!([a, c, d].map(|digest| bench.holds(&digest)), [false, true, true]);
    let usage = again.store().usage().unwrap();
    assert_eq!(usage, Usage { bytes: 3 * one(), entries: 3, pinned: 0, claimed: 0, quota: Some(3 * one()) });
    assert_eq!(bench.staged(), 0);
}

#[tokio::test]
async fn usage_is_what_the_disk_says() {
    let bench = bench(3);
    let digest = bench.store(1).await;
    let path = bench.artifacts.store().path_of(&digest);
    let blocks = |path: &std::path::Path| fs::metadata(path).unwrap().blocks() * 512;
    let files: u64 = fs::read_dir(&path).unwrap().map(|entry| blocks(&entry.unwrap().path())).sum();
    let bytes = bench.artifacts.store().usage().unwrap().bytes;
    // Some file systems tell of fewer blocks than there are bytes.
    assert!(bytes >= files + blocks(&path) && bytes > 0, "{bytes}");
}

#[tokio::test]
async fn i5_what_is_pinned_never_goes_and_a_full_store_says_what_to_do() {
    let bench = bench(2);
    let store = bench.artifacts.store();
    let (a, b) = (bench.store(1).await, bench.store(2).await);
    let pins = [a, b].map(|digest| store.pin(&holder(), &digest).unwrap().unwrap());
    let error = bench.refused(3).await;
    assert_eq!((error.reason(), error.is_transient()), ("StoreFull", true));
    let (text, figure) = (error.to_string(), (2 * one()).to_string());
    assert!(text.contains("raise the quota") && text.matches(&figure).count() == 2, "{text}");
    assert!(bench.holds(&a) && bench.holds(&b));
    assert_eq!(bench.staged(), 0);
    assert_eq!(store.usage().unwrap().pinned, 2);

    // Another process is bound by them as well.
    let other = open(bench.dir.path(), one());
    let source = tempfile::tempdir().unwrap();
    Adapter::tiny(9).write(source.path());
    assert_eq!(other.put_local(source.path(), &Expect::default()).unwrap_err().reason(), "StoreFull");
    let in_use = other.remove(&a).unwrap_err();
    assert_eq!((in_use.reason(), in_use.is_transient()), ("AdapterInUse", true));
    assert!(in_use.to_string().contains("pod-1"), "{in_use}");

    let [first, _] = pins;
    first.release().unwrap();
    bench.store(3).await;
    assert!(!bench.holds(&a) && bench.holds(&b));
}

#[tokio::test]
async fn i5_pins_outlive_the_process_that_made_them_and_are_found_again() {
    let Bench { dir, shelf, artifacts } = bench(1);
    let digest = artifacts.fetch(&Shelf::url(1), None).await.unwrap().verified.digest;
    drop(artifacts.store().pin(&holder(), &digest).unwrap());
    drop(artifacts);

    let artifacts = Artifacts::new(open(dir.path(), one())).with_source(shelf);
    let store = artifacts.store();
    assert_eq!(artifacts.fetch(&Shelf::url(2), None).await.unwrap_err().reason(), "StoreFull");
    let [pin] = store.pins(&holder()).unwrap().try_into().unwrap();
    assert_eq!((pin.digest(), pin.path()), (&digest, store.path_of(&digest)));
    assert!(store.heartbeat(&holder()).unwrap());
    // Two pins of one holder are one, and one of each holder is needed.
    let other = Holder::new("pod-2").unwrap();
    assert!(store.pins(&other).unwrap().is_empty());
    drop(store.pin(&holder(), &digest).unwrap().unwrap());
    let others = store.pin(&other, &digest).unwrap().unwrap();
    pin.release().unwrap();
    assert!(store.pins(&holder()).unwrap().is_empty());
    assert_eq!(store.remove(&digest).unwrap_err().reason(), "AdapterInUse");
    others.release().unwrap();
    assert!(store.remove(&digest).unwrap());
}

#[tokio::test]
async fn a_pin_falls_with_a_holder_that_is_silent_for_a_day() {
    let bench = bench(1);
    let store = bench.artifacts.store();
    let digest = bench.store(1).await;
    drop(store.pin(&holder(), &digest).unwrap().unwrap());
    let heard = |hours: u64| {
        let dir = File::open(bench.dir.path().join(".pins/pod-1")).unwrap();
        dir.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    heard(23);
    assert_eq!(bench.refused(2).await.reason(), "StoreFull");
    assert!(store.heartbeat(&holder()).unwrap());
    heard(25);
    // One word in time, and nothing has happened.
    assert!(store.heartbeat(&holder()).unwrap());
    assert_eq!(bench.refused(2).await.reason(), "StoreFull");
    heard(25);
    bench.store(2).await;
    assert!(!bench.holds(&digest));
    assert!(!store.heartbeat(&holder()).unwrap(), "it is told that it has lost its pins");
    assert!(store.pins(&holder()).unwrap().is_empty());
}

#[tokio::test]
async fn what_has_just_gone_cannot_be_pinned() {
    let bench = bench(1);
    let digest = bench.store(1).await;
    bench.store(2).await;
    assert!(bench.artifacts.store().pin(&holder(), &digest).unwrap().is_none());
    assert!(bench.artifacts.store().pins(&holder()).unwrap().is_empty());
}

#[tokio::test]
async fn what_is_handed_out_stays_until_it_is_let_go() {
    let bench = bench(1);
    let fetched = bench.fetch(1).await;
    let clone = fetched.clone();
    drop(fetched);
    assert_eq!(bench.refused(2).await.reason(), "StoreFull");
    let again = bench.fetch(1).await;
    drop(clone);
    assert_eq!(bench.refused(2).await.reason(), "StoreFull");
    drop(again);
    bench.store(2).await;
}

#[tokio::test]
async fn what_there_is_no_room_for_is_not_downloaded_where_its_size_is_known() {
    for unsized_ in [false, true] {
        let bench = bench_with(1, Shelf { unsized_, ..Shelf::default() });
        let held = bench.fetch(1).await;
        assert_eq!(bench.refused(2).await.reason(), "StoreFull", "sizes are unknown: {unsized_}");
        assert_eq!(bench.staged(), 0);
        assert_eq!(bench.artifacts.store().usage().unwrap().claimed, 0);
        drop(held);
        bench.store(2).await;
    }
}

#[test]
fn fetches_side_by_side_do_not_promise_themselves_the_same_room() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(dir.path(), 100_000), open(dir.path(), 100_000));
    let (mut first, mut second) = (one.stage(None).unwrap(), two.stage(None).unwrap());
    first.reserve(60_000).unwrap();
    assert_eq!(one.usage().unwrap().claimed, 60_000);
    let error = second.reserve(60_000).unwrap_err();
    assert_eq!(error.reason(), "StoreFull");
    assert!(error.to_string().contains("60000 by fetches under way"), "{error}");
    second.reserve(40_000).unwrap();
    drop(first);
    second.reserve(60_000).unwrap();
    // What a process has claimed falls with it.
    drop(second);
    assert_eq!(one.usage().unwrap().claimed, 0);
}

#[tokio::test]
async fn nothing_goes_for_what_would_not_fit_anyway() {
    let bench = bench(2);
    let (a, b) = (bench.store(1).await, bench.store(2).await);
    let mut staging = bench.artifacts.store().stage(None).unwrap();
    assert_eq!(staging.reserve(3 * one()).unwrap_err().reason(), "StoreFull");
    assert!(bench.holds(&a) && bench.holds(&b));
}

#[tokio::test]
async fn i5_two_processes_that_fill_a_store_and_pin_never_lose_what_is_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let quota = 4 * one();
    let lives = (0..2_u8).map(|life| {
        let path = dir.path().to_owned();
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let artifacts = Artifacts::new(open(&path, quota)).with_source(Arc::new(Shelf::default()));
            let (store, holder) = (artifacts.store(), Holder::new(format!("pod-{life}")).unwrap());
            let mut lost = 0;
            for n in 0..40 {
                let fetched = match runtime.block_on(artifacts.fetch(&Shelf::url((n % 9 * 7 + life * 3) % 9), None)) {
                    Ok(fetched) => fetched,
                    Err(error) => {
                        // The other one's claims and pins may leave no room for a moment.
                        assert_eq!(error.reason(), "StoreFull", "{error}");
                        continue;
                    }
                };
                let digest = fetched.verified.digest;
                // Gone again before it could be pinned: it would have to be fetched once more.
                let Some(pin) = store.pin(&holder, &digest).unwrap() else {
                    lost += 1;
                    continue;
                };
                drop(fetched);
                std::thread::yield_now();
                store.audit(&digest).unwrap();
                pin.release().unwrap();
            }
            lost
        })
    });
    for lost in futures::future::join_all(lives).await {
        assert!(lost.unwrap() < 40, "nothing could ever be pinned");
    }
    let store = open(dir.path(), quota);
    assert!(store.usage().unwrap().bytes <= quota);
    for digest in store.entries().unwrap() {
        store.audit(&digest).unwrap();
    }
}
