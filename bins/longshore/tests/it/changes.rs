//! Manifests and artifacts that change while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::*;

#[test]
fn manifests_that_are_edited_deleted_and_added_take_effect_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    make_adapter(dir.path(), "two", 2);
    manifest(dir.path(), "a", "./one", "  replicas: 1\n");
    let up = Up::start(dir.path(), &["--simulate", "2", "-f", "."]);
    up.until_ready("a", 1);
    // Added.
    manifest(dir.path(), "b", "./two", "");
    up.until_ready("b", 2);
    assert!(up.ask("b").is_by("b"));
    // Edited.
    manifest(dir.path(), "a", "./one", "  replicas: 2\n");
    up.until_ready("a", 2);
    // Deleted.
    std::fs::remove_file(dir.path().join("b.yaml")).unwrap();
    until("b is gone", || up.ask("b").status == 404);
    assert_eq!(up.ask("b").json()["error"]["code"], "model_not_found");
    until("no engine holds b", || {
        let engines = up.fleet("/v1/engines");
        let engines = engines["engines"].as_array().unwrap().clone();
        engines.iter().all(|engine| engine["resident"].as_array().unwrap().iter().all(|r| r["name"] != "b"))
    });
    assert!(up.ask("a").is_by("a"));
}

/// Asks again and again until told to stop: (answers, failures, longest wait, digests in order).
fn ask_all_the_time(router: &str, name: &str, stop: &AtomicBool) -> (usize, Vec<String>, Duration, Vec<String>) {
    let (mut answers, mut failures, mut longest, mut digests) = (0, Vec::new(), Duration::ZERO, Vec::<String>::new());
    let body = format!(r#"{{"model": "{name}", "prompt": "Hello", "max_tokens": 4, "temperature": 0}}"#);
    while !stop.load(Ordering::SeqCst) {
        let begin = Instant::now();
        let answer = post(router, "/v1/completions", &body);
        longest = longest.max(begin.elapsed());
        answers += 1;
        if answer.is_by(name) {
            let digest = answer.served_by().to_owned();
            if digests.last() != Some(&digest) {
                digests.push(digest);
            }
        } else {
            failures.push(format!("{answer:?}"));
        }
    }
    (answers, failures, longest, digests)
}

/// Changes the artifact while two clients ask without a pause. Figures are printed; only failures are failures.
fn change_under_load(engines: &str, how: impl Fn(&std::path::Path)) {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    make_adapter(dir.path(), "two", 2);
    manifest(dir.path(), "sql", "./one", "");
    let up = Up::start(dir.path(), &["--simulate", engines, "-f", "."]);
    up.until_ready("sql", engines.parse().unwrap());
    let before = up.adapter("sql")["digest"].clone();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (router, stop) = (up.router.clone(), stop.clone());
            std::thread::spawn(move || ask_all_the_time(&router, "sql", &stop))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    how(dir.path());
    until("the new bytes are everywhere", || {
        let adapter = up.adapter("sql");
        adapter["digest"] != before
            && adapter["readyReplicas"].as_u64() == engines.parse().ok()
            && adapter["endpoints"].as_array().unwrap().iter().all(|endpoint| endpoint["digest"] == adapter["digest"])
    });
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        let (answers, failures, longest, digests) = client.join().unwrap();
        println!("{engines} engines: {answers} answers, longest {longest:?}, {digests:?}");
        assert!(failures.is_empty(), "{} of {answers} failed: {}", failures.len(), failures[0]);
        assert!(digests.len() >= 2, "the change was not seen: {digests:?}");
    }
}

#[test]
fn i1_a_changed_artifact_url_fails_no_request_with_two_engines() {
    change_under_load("2", |dir| manifest(dir, "sql", "./two", ""));
}

#[test]
fn i1_a_changed_artifact_url_fails_no_request_with_one_engine() {
    change_under_load("1", |dir| manifest(dir, "sql", "./two", ""));
}

#[test]
fn i2_files_that_change_under_an_unchanged_url_are_served_under_a_new_digest() {
    change_under_load("2", |dir| {
        // As a trainer does that writes a new version beside the old one.
        std::fs::rename(dir.join("one"), dir.join("old")).unwrap();
        std::fs::rename(dir.join("two"), dir.join("one")).unwrap();
    });
}

#[test]
fn a_change_to_a_broken_artifact_leaves_the_old_one_served() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    manifest(dir.path(), "sql", "./one", "");
    let up = Up::start(dir.path(), &["--simulate", "2", "-f", "."]);
    up.until_ready("sql", 2);
    manifest(dir.path(), "sql", "./missing", "");
    up.process.line_with("missing");
    until("the new generation is known", || up.adapter("sql")["artifactURL"].as_str().unwrap().ends_with("missing"));
    until("it is said", || up.adapter("sql")["reason"] == "UpdateFailed");
    assert_eq!(up.ready("sql"), 2);
    assert!(up.ask("sql").is_by("sql"));
}
