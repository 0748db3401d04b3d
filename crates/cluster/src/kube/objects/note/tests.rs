use std::io::Write;

use serde_json::Value;
use tokio::time::Duration;

use super::*;
use crate::kube::testing::{Server, Trouble};

const NOTE: &str = "/api/v1/namespaces/default/configmaps/longshore-unfinished";
const NOW: Timestamp = Timestamp::from_millis(1_739_733_290_000);

fn default() -> Namespace {
    Namespace::new("default").unwrap()
}

fn entry_of(namespace: &Namespace, name: &str) -> NoteEntry {
    NoteEntry {
        engine: EngineId::new(namespace.clone(), "pod-1"),
        boot: Boot::new("0b1c/containerd://ab#0"),
        name: AdapterName::new(name).unwrap(),
        root: Root::Other("/models/sql".into()),
    }
}

fn entry(name: &str) -> NoteEntry {
    entry_of(&default(), name)
}

async fn all(notes: &Notes) -> Vec<NoteEntry> {
    let mut all = notes.read_all(None).await.unwrap();
    all.sort();
    all
}

#[tokio::test(start_paused = true)]
async fn what_is_noted_is_found_after_a_restart_and_goes_when_it_is_done() {
    let server = Server::new();
    let notes = Notes::new(server.calls());
    let other = Namespace::new("team-b").unwrap();
    notes.add(&default(), &[entry("sql"), entry("code")], NOW).await.unwrap();
    notes.add(&other, &[entry_of(&other, "sql")], NOW).await.unwrap();
    let after = Notes::new(server.calls());
    assert_eq!(all(&after).await, [entry("code"), entry("sql"), entry_of(&other, "sql")]);
    let mine = after.read_all(Some(&[default(), Namespace::new("empty").unwrap()])).await.unwrap();
    assert_eq!(mine.len(), 2);
    after.remove(&default(), &[entry("sql")]).await.unwrap();
    assert_eq!(after.read_all(Some(&[default()])).await.unwrap(), [entry("code")]);
    after.remove(&default(), &[entry("code")]).await.unwrap();
    assert_eq!(server.get(NOTE), None, "an empty note is no note");
    after.remove(&default(), &[entry("code")]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_where_nothing_changes() {
    let server = Server::new();
    let notes = Notes::new(server.calls());
    notes.add(&default(), &[entry("sql")], NOW).await.unwrap();
    server.take_seen();
    notes.add(&default(), &[entry("sql")], NOW).await.unwrap();
    notes.remove(&default(), &[entry("code")]).await.unwrap();
    assert!(server.take_writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_note_is_written_is_written_in_one_go() {
    let server = Server::new();
    server.trouble(|_| Some(Trouble::Slow(Duration::from_millis(3))));
    let notes = Notes::new(server.calls());
    let adds = (0..500).map(|index| {
        let notes = notes.clone();
        async move { notes.add(&default(), &[entry(&format!("a{index}"))], NOW).await }
    });
    for added in futures::future::join_all(adds).await {
        added.unwrap();
    }
    assert_eq!(all(&notes).await.len(), 500);
    let writes = server.take_writes().len();
    assert!(writes <= 2, "{writes}");
}

#[tokio::test(start_paused = true)]
async fn somebody_who_changes_the_note_meanwhile_loses_nothing() {
    let server = Server::new();
    let notes = Notes::new(server.calls());
    notes.add(&default(), &[entry("sql")], NOW).await.unwrap();
    // Another leader notes something between our read and our write.
    let other = entries::plan(&default(), &BTreeMap::new(), &[Change::Add(entry("theirs"), NOW)]);
    let (Plan::Write(theirs), 0) = other else { unreachable!("it is new") };
    let (key, value) = theirs.into_iter().next().unwrap();
    let operation = json!([{"op": "add", "path": format!("/data/{key}"), "value": value}]);
    let mut left = Some(Trouble::Before(NOTE, operation));
    server.trouble(move |seen| if seen.method == "PATCH" { left.take() } else { None });
    server.take_seen();
    notes.add(&default(), &[entry("code")], NOW).await.unwrap();
    assert_eq!(server.take_writes().len(), 2, "what was made for another note is refused, and made anew");
    assert_eq!(all(&notes).await, [entry("code"), entry("sql"), entry("theirs")]);
}

#[tokio::test(start_paused = true)]
async fn a_note_that_somebody_adds_to_is_not_deleted() {
    let server = Server::new();
    let notes = Notes::new(server.calls());
    notes.add(&default(), &[entry("sql")], NOW).await.unwrap();
    let operation = json!([{"op": "add", "path": "/data/odd", "value": "x"}]);
    let mut left = Some(Trouble::Before(NOTE, operation));
    server.trouble(move |seen| if seen.method == "DELETE" { left.take() } else { None });
    notes.remove(&default(), &[entry("sql")]).await.unwrap();
    let deletes = server.take_seen().into_iter().filter(|seen| seen.method == "DELETE").count();
    assert_eq!((deletes, server.get(NOTE)), (2, None), "what is no entry of ours does not keep it");
}

#[tokio::test(start_paused = true)]
async fn there_is_no_note_in_a_namespace_that_is_being_deleted_or_gone() {
    for trouble in
        [Trouble::Forbidden("NamespaceTerminating"), Trouble::Answer(404, "namespaces \"default\" not found")]
    {
        let server = Server::new();
        server.trouble(move |seen| (seen.method == "POST").then(|| trouble.clone()));
        Notes::new(server.calls()).add(&default(), &[entry("sql")], NOW).await.unwrap();
        assert_eq!(server.take_writes().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_what_may_not_is_told_to_whom_it_concerns() {
    let sick = Server::new();
    let mut left = vec![Trouble::Answer(500, "no"), Trouble::Answer(409, "exists"), Trouble::Hang, Trouble::Lost];
    sick.trouble(move |_| left.pop());
    Notes::new(sick.calls()).add(&default(), &[entry("sql")], NOW).await.unwrap();
    assert_eq!(all(&Notes::new(sick.calls())).await, [entry("sql")]);
    let forbidden = Server::new();
    forbidden.trouble(|seen| (seen.method != "GET").then_some(Trouble::Answer(403, "forbidden")));
    let notes = Notes::new(forbidden.calls());
    let (sql, code) = ([entry("sql")], [entry("code")]);
    let (namespace, other) = (default(), default());
    let (first, second) = tokio::join!(notes.add(&namespace, &sql, NOW), notes.add(&other, &code, NOW));
    assert_eq!(
        (first.unwrap_err().to_string(), second.unwrap_err().to_string()),
        ("forbidden".into(), "forbidden".into())
    );
    forbidden.trouble(|_| None);
    notes.add(&default(), &[], NOW).await.unwrap();
    assert!(all(&notes).await.is_empty(), "what was told to have failed is not done later");
}

#[tokio::test(start_paused = true)]
async fn a_note_that_is_not_waited_for_any_more_is_not_written_by_the_next() {
    let server = Server::new();
    server.trouble(|seen| (seen.method == "GET").then_some(Trouble::Slow(Duration::from_secs(1))));
    let notes = Notes::new(server.calls());
    let namespace = default();
    let given_up = [entry("sql")];
    tokio::time::timeout(Duration::from_millis(1), notes.add(&namespace, &given_up, NOW)).await.unwrap_err();
    notes.add(&namespace, &[entry("code")], NOW).await.unwrap();
    assert_eq!(all(&notes).await, [entry("code")]);
}

/// Everything that is logged while it lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn i8_entries_that_are_none_are_told_of_without_their_text() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Server::new();
    server.put(NOTE, json!({
        "metadata": {"name": "longshore-unfinished", "namespace": "default"}, "data": {"hunter2": "password=hunter2"}
    }));
    let notes = Notes::new(server.calls());
    assert!(all(&notes).await.is_empty());
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(said.contains("longshore-unfinished") && !said.contains("hunter2"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn i7_an_entry_is_about_an_engine_of_the_notes_own_namespace() {
    let server = Server::new();
    let value = r#"{"engine":"pod-1","namespace":"team-b","boot":"b","adapter":"sql","root":"/a","since":""}"#;
    server
        .put(NOTE, json!({"metadata": {"name": "longshore-unfinished", "namespace": "default"}, "data": {"k": value}}));
    let [read] = <[_; 1]>::try_from(all(&Notes::new(server.calls())).await).unwrap();
    assert_eq!(read.engine.namespace, default());
    let body: Value = serde_json::from_str(value).unwrap();
    assert_eq!(body["namespace"], "team-b");
}
