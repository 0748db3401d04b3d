//! What happens when any step fails, or is the last that a process does.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use longshore_types::{ArtifactUrl, Scheme};

use super::*;
use crate::origin::Origin;
use crate::resolve::Artifacts;
use crate::source::local::Local;
use crate::source::{Fingerprint, Source};
use adapter::{Adapter, WEIGHTS};

#[path = "../../tests/it/adapter.rs"]
mod adapter;

const CHILD: &str = "LONGSHORE_TEST_STORE_CHILD";

fn open_with(path: &Path, steps: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static) -> Store {
    open_with_quota(path, None, steps)
}

fn open_with_quota(
    path: &Path,
    quota: Option<u64>,
    steps: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static,
) -> Store {
    let options = StoreOptions { quota, ..StoreOptions::default() };
    Store::open_to_watch(path, options, Some(Box::new(steps))).unwrap()
}

/// Every step of a put of the adapter in `source`, in order.
fn steps_of_a_put(source: &Path) -> Vec<Step> {
    let dir = tempfile::tempdir().unwrap();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let store = open_with(dir.path(), {
        let seen = seen.clone();
        move |step| {
            seen.lock().unwrap().push(step);
            Ok(())
        }
    });
    store.put_local(source, &Expect::default()).unwrap();
    let steps = seen.lock().unwrap();
    steps.clone()
}

/// Names in the staging area but for the locks.
fn staged(store: &Store) -> Vec<PathBuf> {
    let session = |entry: fs::DirEntry| fs::read_dir(entry.path()).into_iter().flatten();
    let area = Path::new(store.view().prefix()).join(session::STAGING);
    let names =
        fs::read_dir(area).unwrap().flat_map(|entry| session(entry.unwrap())).map(|entry| entry.unwrap().path());
    names.filter(|path| path.file_name().is_some_and(|name| name != "lock")).collect()
}

#[test]
fn a_put_takes_the_steps_that_make_it_durable_in_order() {
    use Step::*;
    let dir = tempfile::tempdir().unwrap();
    Adapter::tiny(1).write(dir.path());
    let expected = [
        StagingMade,
        FileCreated,
        FileWritten,
        FileSynced,
        FileCreated,
        FileWritten,
        FileSynced,
        ManifestSynced,
        StagingSynced,
        Renamed,
        StoreSynced,
    ];
    assert_eq!(steps_of_a_put(dir.path()), expected);
}

#[test]
fn a_disk_that_is_full_at_any_step_leaves_a_whole_entry_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("a");
    Adapter::tiny(1).write(&source);
    let steps = steps_of_a_put(&source);
    for full_at in 0..steps.len() {
        let count = AtomicUsize::new(0);
        let store = open_with(&dir.path().join(format!("store{full_at}")), move |_| {
            let full = count.fetch_add(1, Ordering::Relaxed) == full_at;
            if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        let error = store.put_local(&source, &Expect::default()).unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("StoreFull", true), "step {full_at}");
        for digest in store.entries().unwrap() {
            assert!(full_at >= steps.iter().position(|step| *step == Step::Renamed).unwrap(), "step {full_at}");
            store.audit(&digest).unwrap();
        }
        assert_eq!(staged(&store), Vec::<PathBuf>::new(), "step {full_at}");
        // The next try finds room.
        let digest = store.put_local(&source, &Expect::default()).unwrap().verified.digest;
        store.audit(&digest).unwrap();
    }
}

/// Not a test by itself: what those below start, to be killed at the step that they say.
#[test]
fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let [what, die_at, dir] = order.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let (dir, die_at): (&Path, usize) = (Path::new(dir), die_at.parse().unwrap());
    let count = AtomicUsize::new(0);
    // There is room for what is there, and for no more.
    let quota = (what == "make-room").then(|| Store::open(dir.join("store")).unwrap().usage().unwrap().bytes);
    let store = open_with_quota(&dir.join("store"), quota, move |_| {
        if count.fetch_add(1, Ordering::Relaxed) == die_at {
            std::process::abort();
        }
        Ok(())
    });
    match what {
        "make-room" => drop(store.put_local(&dir.join("b"), &Expect::default()).unwrap()),
        "put" => drop(store.put_local(&dir.join("a"), &Expect::default()).unwrap()),
        _ => {
            for digest in store.entries().unwrap() {
                store.remove(&digest).unwrap();
            }
        }
    }
}

/// Runs `what` in a process that dies at its `die_at`th step; says whether it lived on.
fn lives_on(what: &str, die_at: usize, dir: &Path) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "store::tests::child"]).env(CHILD, format!("{what} {die_at} {}", dir.display()));
    let output = child.output().unwrap();
    let aborted = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(6);
    assert!(output.status.success() || aborted, "{}", String::from_utf8_lossy(&output.stdout));
    output.status.success()
}

#[test]
fn a_crash_at_any_step_of_a_put_leaves_a_whole_entry_or_none() {
    let dir = tempfile::tempdir().unwrap();
    Adapter::tiny(1).write(&dir.path().join("a"));
    let steps = steps_of_a_put(&dir.path().join("a"));
    for (die_at, step) in steps.iter().enumerate() {
        assert!(!lives_on("put", die_at, dir.path()), "{step:?}");
        let store = Store::open(dir.path().join("store")).unwrap();
        assert_eq!(staged(&store), Vec::<PathBuf>::new(), "what died at {step:?} was not swept");
        let entries = store.entries().unwrap();
        let renamed = die_at >= steps.iter().position(|step| *step == Step::Renamed).unwrap();
        assert_eq!(entries.len(), usize::from(renamed), "{step:?}");
        for digest in entries {
            store.audit(&digest).unwrap();
            assert!(store.contains(&digest));
            store.remove(&digest).unwrap();
        }
    }
    assert!(lives_on("put", steps.len(), dir.path()));
}

#[test]
fn a_crash_at_any_step_of_a_removal_leaves_a_whole_entry_or_none() {
    let dir = tempfile::tempdir().unwrap();
    Adapter::tiny(1).write(&dir.path().join("a"));
    for die_at in 0..2 {
        assert!(lives_on("put", usize::MAX, dir.path()));
        assert!(!lives_on("remove", die_at, dir.path()));
        let store = Store::open(dir.path().join("store")).unwrap();
        assert_eq!(store.entries().unwrap(), []);
        assert_eq!(staged(&store), Vec::<PathBuf>::new());
    }
    assert!(lives_on("put", usize::MAX, dir.path()));
    assert!(lives_on("remove", 2, dir.path()));
}

#[test]
fn a_crash_at_any_step_of_making_room_leaves_whole_entries_and_no_more_than_there_is_room_for() {
    let dir = tempfile::tempdir().unwrap();
    Adapter::tiny(1).write(&dir.path().join("a"));
    Adapter::tiny(2).write(&dir.path().join("b"));
    let path = dir.path().join("store");
    let (mut die_at, mut survivors) = (0, Vec::new());
    loop {
        let store = Store::open(&path).unwrap();
        let old = store.put_local(&dir.path().join("a"), &Expect::default()).unwrap().verified.digest;
        let room = store.usage().unwrap().bytes;
        drop(store);
        let lived = lives_on("make-room", die_at, dir.path());
        let store = Store::open(&path).unwrap();
        assert_eq!(staged(&store), Vec::<PathBuf>::new(), "step {die_at}");
        assert!(store.usage().unwrap().bytes <= room, "step {die_at}");
        let entries = store.entries().unwrap();
        for digest in &entries {
            store.audit(digest).unwrap();
            store.remove(digest).unwrap();
        }
        survivors.push(if entries.is_empty() {
            "none"
        } else if entries == [old] {
            "old"
        } else {
            "new"
        });
        if lived {
            break;
        }
        die_at += 1;
    }
    survivors.dedup();
    assert_eq!(survivors, ["old", "none", "new"]);
}

#[test]
fn a_file_that_changes_while_it_is_copied_is_not_stored() {
    type Edit = fn(&Path);
    let edits: [(&str, Edit); 4] = [
        ("grown", |path| {
            io::Write::write_all(&mut fs::OpenOptions::new().append(true).open(path).unwrap(), b"x").unwrap()
        }),
        ("overwritten", |path| fs::write(path, Adapter::tiny(2).weights()).unwrap()),
        ("cut", |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(64).unwrap()),
        ("replaced", |path| {
            let new = path.with_extension("new");
            fs::write(&new, Adapter::tiny(2).weights()).unwrap();
            fs::rename(new, path).unwrap();
        }),
    ];
    for (what, edit) in edits {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a");
        Adapter::tiny(1).write(&source);
        let (count, weights) = (AtomicUsize::new(0), source.join(WEIGHTS));
        // The second file that is written is the weights.
        let store = open_with(&dir.path().join("store"), move |step| {
            if step == Step::FileWritten && count.fetch_add(1, Ordering::Relaxed) == 1 {
                edit(&weights);
            }
            Ok(())
        });
        let error = store.put_local(&source, &Expect::default()).unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("ArtifactChanged", true), "{what}: {error}");
        assert_eq!(store.entries().unwrap(), [], "{what}");
    }
}

#[tokio::test]
async fn a_file_that_comes_while_others_are_copied_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("a");
    Adapter::tiny(1).write(&source);
    let url = ArtifactUrl::new(source.to_str().unwrap()).unwrap();
    let store = open_with(&dir.path().join("store"), move |step| {
        if step == Step::FileSynced { fs::write(source.join("tokenizer.json"), b"{}") } else { Ok(()) }
    });
    let artifacts = Artifacts::new(store);
    assert_eq!(artifacts.fetch(&url, None).await.unwrap_err().reason(), "ArtifactChanged");
    assert_eq!(artifacts.store().entries().unwrap(), []);
}

#[test]
fn a_fetch_that_nobody_waits_for_stops_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("a");
    Adapter::tiny(1).write(&source);
    let url = ArtifactUrl::new(source.to_str().unwrap()).unwrap();
    let (reached, at_first_file) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let (reached, gate) = (std::sync::Mutex::new(reached), std::sync::Mutex::new(gate));
    let store = open_with(&dir.path().join("store"), move |step| {
        if step == Step::FileCreated {
            reached.lock().unwrap().send(()).unwrap();
            let _ = gate.lock().unwrap().recv();
        }
        Ok(())
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let artifacts = Arc::new(Artifacts::new(store.clone()));
    let fetch = runtime.spawn(async move { artifacts.fetch(&url, None).await });
    at_first_file.recv().unwrap();
    fetch.abort();
    assert!(runtime.block_on(fetch).unwrap_err().is_cancelled());
    drop(go_on);
    // Waits for work that blocks.
    drop(runtime);
    assert_eq!(store.entries().unwrap(), []);
    assert_eq!(staged(&store), Vec::<PathBuf>::new());
}

/// A directory behind a source that knows its revision, as remote ones do: no waiting until file times are old enough.
struct Revisions {
    dir: ArtifactUrl,
    revision: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl Source for Revisions {
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme::Oci]
    }
    fn takes(&self) -> &'static str {
        "oci:// references"
    }
    async fn fingerprint(&self, _: &Origin) -> Result<Fingerprint, Error> {
        Ok(Fingerprint::new(self.revision.load(Ordering::Relaxed).to_string(), true))
    }
    async fn fetch(&self, _: &Origin, staging: Staging) -> Result<Staging, Error> {
        Local.fetch(&Origin::public(self.dir.clone()), staging).await
    }
}

#[tokio::test]
async fn what_has_not_changed_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("a");
    Adapter::tiny(1).write(&source);
    let puts = Arc::new(AtomicUsize::new(0));
    let store = open_with(&dir.path().join("store"), {
        let puts = puts.clone();
        move |step| {
            puts.fetch_add(usize::from(step == Step::StagingMade), Ordering::Relaxed);
            Ok(())
        }
    });
    let revision = Arc::new(AtomicUsize::new(1));
    let source = Revisions { dir: source.to_str().unwrap().parse().unwrap(), revision: revision.clone() };
    let artifacts = Artifacts::new(store).with_source(Arc::new(source));
    let url: ArtifactUrl = "oci://registry/adapter:v1".parse().unwrap();
    let puts = || puts.load(Ordering::Relaxed);

    let first = artifacts.fetch(&url, None).await.unwrap();
    assert_eq!(artifacts.fetch(&url, None).await.unwrap(), first);
    assert_eq!(puts(), 1);
    let mismatch = artifacts.fetch(&url, Some(&Digest::from_bytes([1; 32]))).await.unwrap_err();
    assert_eq!((mismatch.reason(), puts()), ("DigestMismatch", 1));
    // An entry that is gone is made again, whatever is remembered.
    artifacts.store().remove(&first.verified.digest).unwrap();
    assert_eq!(artifacts.fetch(&url, None).await.unwrap(), first);
    assert_eq!(puts(), 2);
    revision.store(2, Ordering::Relaxed);
    artifacts.fetch(&url, None).await.unwrap();
    assert_eq!(puts(), 3);
}
