//! Many who want one adapter: in one process, in several, and one after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longshore_artifacts::{Artifacts, Store};

use crate::store_shelf::Shelf;

fn artifacts(dir: &tempfile::TempDir, shelf: &Arc<Shelf>) -> Artifacts {
    Artifacts::new(Store::open(dir.path()).unwrap()).with_source(shelf.clone())
}

#[tokio::test]
async fn a_hundred_who_want_one_adapter_get_it_from_one_download_each_by_their_own_right() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf { tokens: vec!["a", "b", "c"], pace: Duration::from_millis(2), ..Shelf::default() };
    let shelf = Arc::new(shelf);
    let artifacts = artifacts(&dir, &shelf);
    let orders: Vec<_> = (0..100).map(|n| Shelf::order(1, ["a", "b", "c", "thief"][n % 4])).collect();
    let all = futures::future::join_all(orders.iter().map(|order| artifacts.fulfil(order))).await;
    assert_eq!(shelf.fetches(), 1);
    for (n, result) in all.iter().enumerate() {
        match result {
            Ok(fetched) => assert_eq!(Some(fetched), all[0].as_ref().ok()),
            Err(error) => assert_eq!((error.reason(), n % 4), ("AccessDenied", 3)),
        }
    }
    assert_eq!(all.iter().filter(|result| result.is_err()).count(), 25);
    let admitted = shelf.admitted.lock().unwrap();
    for token in ["a", "b", "c"] {
        assert!(admitted.iter().filter(|admitted| *admitted == token).count() >= 25, "{token} came in on another's");
    }
}

#[tokio::test]
async fn two_processes_that_want_one_reference_download_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf { pace: Duration::from_millis(5), ..Shelf::default() });
    // Each has its own session and its own locks, as in another process.
    let (one, two) = (artifacts(&dir, &shelf), artifacts(&dir, &shelf));
    let url = Shelf::url(1);
    let (a, b) = futures::future::join(one.fetch(&url, None), two.fetch(&url, None)).await;
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(shelf.fetches(), 1);
}

#[tokio::test]
async fn whoever_waits_for_another_process_may_give_up() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf { pace: Duration::from_millis(5), ..Shelf::default() });
    let (one, two) = (artifacts(&dir, &shelf), artifacts(&dir, &shelf));
    let url = Shelf::url(1);
    let mut first = Box::pin(one.fetch(&url, None));
    while shelf.fetches() == 0 {
        assert!(futures::poll!(&mut first).is_pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut second = Box::pin(two.fetch(&url, None));
    assert!(futures::poll!(&mut second).is_pending());
    drop(second);
    first.await.unwrap();
    // And one who gives up while it fetches lets the others go on.
    shelf.revision.store(2, Ordering::Relaxed);
    let mut third = Box::pin(one.fetch(&url, None));
    while shelf.fetches() == 1 {
        assert!(futures::poll!(&mut third).is_pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(third);
    two.fetch(&url, None).await.unwrap();
    assert_eq!(shelf.fetches(), 3);
}

#[tokio::test]
async fn a_restart_downloads_nothing_that_its_source_proves_unchanged_and_still_asks_the_source() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf { tokens: vec!["a"], ..Shelf::default() });
    let first = artifacts(&dir, &shelf).fulfil(&Shelf::order(1, "a")).await.unwrap();

    let again = artifacts(&dir, &shelf);
    assert_eq!(again.fulfil(&Shelf::order(1, "a")).await.unwrap(), first);
    assert_eq!(shelf.fetches(), 1);
    assert_eq!(again.fulfil(&Shelf::order(1, "b")).await.unwrap_err().reason(), "AccessDenied");

    // What the source says now is what counts, and so is whether the entry is there.
    shelf.revision.store(1, Ordering::Relaxed);
    artifacts(&dir, &shelf).fulfil(&Shelf::order(1, "a")).await.unwrap();
    assert_eq!(shelf.fetches(), 2);
    let digest = first.verified.digest;
    assert!(again.store().remove(&digest).unwrap());
    artifacts(&dir, &shelf).fulfil(&Shelf::order(1, "a")).await.unwrap();
    assert_eq!(shelf.fetches(), 3);
    again.store().audit(&digest).unwrap();
}
