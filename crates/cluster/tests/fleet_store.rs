//! The store and its watchers, without HTTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use futures::FutureExt;
use longshore_api::fleet::{Adapter, Engine, Gone, Load, Resident};
use longshore_cluster::fleet::{FleetStore, Subscription, Update};

fn adapter(namespace: &str, name: &str, phase: &str) -> Adapter {
    Adapter { namespace: namespace.into(), name: name.into(), phase: phase.into(), ..Adapter::default() }
}

/// What a watcher is told now, in short; none where it would have to wait.
fn told(watch: &mut Subscription<Adapter>) -> Option<String> {
    watch.next().now_or_never().map(|update| match update {
        None => "closed".to_owned(),
        Some(Update::Snapshot(snapshot)) => {
            let items: Vec<_> = snapshot.items.iter().map(|item| format!("{}:{}", item.name, item.phase)).collect();
            format!("snapshot {}", items.join(" "))
        }
        Some(Update::Upsert { item, .. }) => format!("upsert {}:{}", item.name, item.phase),
        Some(Update::Delete { gone: Gone { name, .. }, .. }) => format!("delete {name}"),
    })
}

/// The revision behind everything that is in the store now.
fn revision(store: &FleetStore) -> String {
    store.adapters().revision
}

#[test]
fn objects_are_ordered_by_namespace_and_name() {
    let store = FleetStore::new();
    for (namespace, name) in [("b", "a"), ("a", "z"), ("a", "b")] {
        assert!(store.put_adapter(adapter(namespace, name, "Pending")));
    }
    let names: Vec<_> = store.adapters().items.iter().map(|item| format!("{}/{}", item.namespace, item.name)).collect();
    assert_eq!(names, ["a/b", "a/z", "b/a"]);
}

#[test]
fn i10_putting_the_same_again_changes_nothing() {
    let store = FleetStore::new();
    store.put_adapter(adapter("default", "a", "Running"));
    let before = revision(&store);
    assert!(!store.put_adapter(adapter("default", "a", "Running")));
    assert!(!store.remove_adapter("default", "other"));
    assert_eq!(revision(&store), before);
    assert!(store.remove_adapter("default", "a"));
    assert_ne!(revision(&store), before);
}

#[test]
fn a_watcher_is_told_everything_once_and_then_each_change() {
    let store = FleetStore::new();
    store.put_adapter(adapter("default", "a", "Pending"));
    let mut watch = store.watch_adapters(None, |_| true);
    assert_eq!(told(&mut watch).as_deref(), Some("snapshot a:Pending"));
    assert_eq!(told(&mut watch), None);
    store.put_adapter(adapter("default", "a", "Running"));
    store.put_adapter(adapter("default", "b", "Pending"));
    store.remove_adapter("default", "a");
    assert_eq!(told(&mut watch).as_deref(), Some("upsert a:Running"));
    assert_eq!(told(&mut watch).as_deref(), Some("upsert b:Pending"));
    assert_eq!(told(&mut watch).as_deref(), Some("delete a"));
    assert_eq!(told(&mut watch), None);
}

#[test]
fn an_object_that_stops_matching_is_a_delete_to_that_watcher() {
    let store = FleetStore::new();
    let mut watch = store.watch_adapters(None, |adapter| adapter.phase == "Running");
    assert_eq!(told(&mut watch).as_deref(), Some("snapshot "));
    store.put_adapter(adapter("default", "a", "Loading"));
    store.put_adapter(adapter("default", "a", "Running"));
    store.put_adapter(adapter("default", "a", "Failed"));
    store.remove_adapter("default", "a");
    assert_eq!(told(&mut watch).as_deref(), Some("upsert a:Running"));
    assert_eq!(told(&mut watch).as_deref(), Some("delete a"));
    assert_eq!(told(&mut watch), None, "what it never saw is no news to it");
}

#[test]
fn a_watcher_that_comes_back_goes_on_where_it_was() {
    let store = FleetStore::new();
    store.put_adapter(adapter("default", "a", "Pending"));
    let seen = revision(&store);
    store.put_adapter(adapter("default", "a", "Running"));
    let mut watch = store.watch_adapters(Some(&seen), |_| true);
    assert_eq!(told(&mut watch).as_deref(), Some("upsert a:Running"));
    assert_eq!(told(&mut watch), None);
}

#[test]
fn a_watcher_that_comes_back_too_late_is_given_a_snapshot() {
    let store = FleetStore::new();
    store.put_adapter(adapter("default", "a", "Pending"));
    let seen = revision(&store);
    let mut slow = store.watch_adapters(Some(&seen), |_| true);
    for count in 0..10_000 {
        store.put_adapter(Adapter { generation: count, ..adapter("default", "a", "Running") });
    }
    let mut late = store.watch_adapters(Some(&seen), |_| true);
    for watch in [&mut late, &mut slow] {
        assert_eq!(told(watch).as_deref(), Some("snapshot a:Running"));
        assert_eq!(told(watch), None);
    }
}

#[test]
fn changes_of_engines_with_many_adapters_are_not_kept_as_long_as_of_those_with_few() {
    let engine = |residents: usize, running: u32| Engine {
        engine: "e".into(),
        resident: vec![Resident::default(); residents],
        load: Load { running, ..Load::default() },
        ..Engine::default()
    };
    for (residents, kept) in [(1, true), (1000, false)] {
        let store = FleetStore::new();
        store.put_engine(engine(residents, 0));
        let seen = store.engines().revision;
        for running in 1..=1000 {
            store.put_engine(engine(residents, running));
        }
        let mut late = store.watch_engines(Some(&seen), |_| true);
        let first = late.next().now_or_never().flatten();
        assert_eq!(matches!(first, Some(Update::Upsert { .. })), kept, "{residents}: {first:?}");
        let latest = store.engines().revision;
        store.put_engine(engine(residents, 0));
        let mut prompt = store.watch_engines(Some(&latest), |_| true);
        let next = prompt.next().now_or_never().flatten();
        assert!(matches!(next, Some(Update::Upsert { .. })), "whoever keeps up is told each change: {next:?}");
    }
}

#[test]
fn a_revision_of_another_process_or_kind_or_time_is_answered_with_a_snapshot() {
    let (store, other) = (FleetStore::new(), FleetStore::new());
    store.put_adapter(adapter("default", "a", "Running"));
    other.put_adapter(adapter("default", "a", "Running"));
    let mut ahead = revision(&store);
    ahead.push('0');
    for unknown in [revision(&other), store.engines().revision, ahead, String::new(), "x-1".into()] {
        let mut watch = store.watch_adapters(Some(&unknown), |_| true);
        assert_eq!(told(&mut watch).as_deref(), Some("snapshot a:Running"), "{unknown}");
    }
}

#[tokio::test]
async fn a_waiting_watcher_is_woken_by_a_change() {
    let store = FleetStore::new();
    let mut watch = store.watch_adapters(None, |_| true);
    assert_eq!(told(&mut watch).as_deref(), Some("snapshot "));
    let waiting = tokio::spawn(async move { watch.next().await });
    tokio::task::yield_now().await;
    store.put_adapter(adapter("default", "a", "Pending"));
    assert!(matches!(waiting.await.unwrap(), Some(Update::Upsert { item, .. }) if item.name == "a"));
}

#[tokio::test]
async fn closing_ends_every_watch() {
    let store = FleetStore::new();
    let mut watch = store.watch_adapters(None, |_| true);
    assert_eq!(told(&mut watch).as_deref(), Some("snapshot "));
    let waiting = tokio::spawn(async move { watch.next().await.is_none() });
    tokio::task::yield_now().await;
    store.close();
    assert!(waiting.await.unwrap());
}
