//! Processes that are killed while they fetch, pin and make room.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use longshore_artifacts::{Artifacts, Expect, Holder, Pin, Store, StoreOptions};

use crate::adapter::Adapter;
use crate::store_shelf::Shelf;

const CHILD: &str = "LONGSHORE_TEST_CRASH_CHILD";
const FULL: &str = "LONGSHORE_TEST_FULL_CHILD";
/// Of the moments at which processes are killed.
const SEED: u64 = 0x10c5;
/// Small adapters that there is room for, and those that there are.
const ROOM: u64 = 4;
const ADAPTERS: u8 = 7;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn open(path: &Path, quota: u64) -> Store {
    Store::open_with(path, StoreOptions { quota: Some(quota), remove_damaged: true, ..StoreOptions::default() })
        .unwrap()
}

/// Not a test by itself: fetches slowly, pins and lets go for ever, until it is killed.
#[test]
fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let [dir, quota, holder, seed] = order.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let mut random = Random(seed.parse().unwrap());
    let shelf = Shelf { pace: Duration::from_millis(1), unsized_: random.below(2) == 0, ..Shelf::default() };
    let artifacts = Artifacts::new(open(Path::new(dir), quota.parse().unwrap())).with_source(Arc::new(shelf));
    let (store, holder) = (artifacts.store(), Holder::new(holder).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut pins: Vec<Pin> = store.pins(&holder).unwrap();
    println!("\nbegun");
    loop {
        let n = u8::try_from(random.below(u64::from(ADAPTERS))).unwrap();
        match runtime.block_on(artifacts.fetch(&Shelf::url(n), None)) {
            Ok(fetched) => pins.extend(store.pin(&holder, &fetched.verified.digest).unwrap()),
            Err(error) => assert_eq!(error.reason(), "StoreFull", "{error}"),
        }
        if pins.len() > 1 {
            pins.remove(0).release().unwrap();
        }
    }
}

struct Life {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Life {
    /// Begins one in the store at `dir`, and waits until it fetches.
    fn begin(dir: &Path, quota: u64, holder: &str, seed: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "crash::child", "--nocapture"]).stdout(Stdio::piped());
        let mut child = command.env(CHILD, format!("{} {quota} {holder} {seed}", dir.display())).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.ends_with("begun\n") {
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended by itself: {line}");
        }
        Self { child, out }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        let _ = std::io::Read::read_to_string(&mut self.out, &mut said);
        assert_eq!(status.signal(), Some(9), "it ended by itself: {said}");
    }
}

/// What one small adapter takes on this disk.
fn one() -> u64 {
    let dir = tempfile::tempdir().unwrap();
    Adapter::tiny(1).write(&dir.path().join("a"));
    let store = Store::open(dir.path().join("store")).unwrap();
    store.put_local(&dir.path().join("a"), &Expect::default()).unwrap();
    store.usage().unwrap().bytes
}

/// What is in the staging area of sessions that are not `store`'s own, and of its own.
fn staged(dir: &Path) -> Vec<PathBuf> {
    let sessions =
        fs::read_dir(dir.join(".staging")).unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_dir());
    let inside = |session: PathBuf| fs::read_dir(session).unwrap().map(|entry| entry.unwrap().path());
    sessions.flat_map(inside).filter(|path| !path.ends_with("lock")).collect()
}

/// What holds whenever everybody is dead.
fn is_sound(dir: &Path, quota: u64, holders: &[&str], when: &str) {
    let store = open(dir, quota);
    assert_eq!(store.repaired(), &Default::default(), "{when}: a damaged entry");
    assert_eq!(staged(dir), Vec::<PathBuf>::new(), "{when}: left in staging");
    for digest in store.entries().unwrap() {
        store.audit(&digest).unwrap_or_else(|error| panic!("{when}: {digest}: {error}"));
        assert!(store.contains(&digest), "{when}");
    }
    for holder in holders {
        for pin in store.pins(&Holder::new(*holder).unwrap()).unwrap() {
            assert!(store.contains(pin.digest()), "{when}: pinned by {holder}, and gone");
        }
    }
    let usage = store.usage().unwrap();
    assert!(usage.bytes <= quota && usage.claimed == 0, "{when}: {usage:?}");
}

#[tokio::test]
async fn killed_at_fifty_random_points_of_a_fetch_it_leaves_whole_entries_and_the_next_fetch_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let (path, quota) = (dir.path().join("store"), ROOM * one());
    let mut random = Random(SEED);
    for round in 0..50 {
        let life = Life::begin(&path, quota, "a", round);
        let moment = Duration::from_micros(random.below(40_000));
        std::thread::sleep(moment);
        life.kill();
        let when = format!("seed {SEED:#x}, round {round}, killed after {moment:?}");
        is_sound(&path, quota, &["a"], &when);
        let artifacts = Artifacts::new(open(&path, quota)).with_source(Arc::new(Shelf::default()));
        let n = u8::try_from(random.below(u64::from(ADAPTERS))).unwrap();
        let fetched = artifacts.fetch(&Shelf::url(n), None).await.unwrap_or_else(|error| panic!("{when}: {error}"));
        artifacts.store().audit(&fetched.verified.digest).unwrap();
    }
}

#[test]
fn two_processes_under_random_kills_never_take_from_each_other_what_is_pinned() {
    let dir = tempfile::tempdir().unwrap();
    // Each pins two at most for a moment, and somebody here one for good.
    let (path, quota) = (dir.path().join("store"), ROOM * one());
    let store = open(&path, quota);
    Adapter::tiny(200).write(&dir.path().join("own"));
    let own = store.put_local(&dir.path().join("own"), &Expect::default()).unwrap().verified.digest;
    store.pin(&Holder::new("own").unwrap(), &own).unwrap().unwrap();
    let mut random = Random(SEED);
    let holders = ["a", "b"];
    let mut lives = holders.map(|holder| Some(Life::begin(&path, quota, holder, 1)));
    for round in 0..30 {
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        let which = usize::try_from(random.below(2)).unwrap();
        lives[which].take().unwrap().kill();
        let when = format!("seed {SEED:#x}, round {round}");
        store.audit(&own).unwrap_or_else(|error| panic!("{when}: {error}"));
        // Its pins are the dead one's still, while the other goes on making room.
        for pin in store.pins(&Holder::new(holders[which]).unwrap()).unwrap() {
            store.audit(pin.digest()).unwrap_or_else(|error| panic!("{when}: pinned by the dead: {error}"));
        }
        lives[which] = Some(Life::begin(&path, quota, holders[which], round));
    }
    lives.into_iter().flatten().for_each(Life::kill);
    drop(store);
    is_sound(&path, quota, &["a", "b", "own"], "at the end");
}

/// Not a test by itself: runs where the directory has 256 KiB.
#[test]
fn full_disk_child() {
    let Ok(dir) = std::env::var(FULL) else { return };
    let dir = Path::new(&dir);
    let sources = tempfile::tempdir().unwrap();
    let mut large = Adapter::tiny(1);
    large.add("model.layers.0.self_attn.o_proj", 2, 100_000, 8, 1);
    large.write(&sources.path().join("large"));
    Adapter::tiny(2).write(&sources.path().join("small"));
    let store = Store::open(dir.join("store")).unwrap();
    let error = store.put_local(&sources.path().join("large"), &Expect::default()).unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("StoreFull", true), "{error}");
    assert!(store.entries().unwrap().is_empty());
    assert_eq!(staged(&dir.join("store")), Vec::<PathBuf>::new());
    let digest = store.put_local(&sources.path().join("small"), &Expect::default()).unwrap().verified.digest;
    store.audit(&digest).unwrap();
    println!("\nrefused and recovered");
}

#[test]
fn a_disk_that_is_really_full_refuses_an_adapter_and_keeps_nothing_of_it() {
    // A file system of one's own takes a user namespace. Where there is none, the same is shown step by step in the store's
    // own tests.
    let in_own_namespace = || {
        let mut command = Command::new("unshare");
        command.arg("-rm");
        command
    };
    if !in_own_namespace().arg("true").output().is_ok_and(|output| output.status.success()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = in_own_namespace();
    let script = r#"mount -t tmpfs -o size=256k tmpfs "$0" && exec "$1" --exact crash::full_disk_child --nocapture"#;
    command.args(["sh", "-c", script]).arg(dir.path()).arg(std::env::current_exe().unwrap());
    let output = command.env(FULL, dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("refused and recovered"), "{said}");
}
