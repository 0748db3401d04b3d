use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::*;

pub(in crate::kube) mod log;
mod recovery;
mod silence;

/// What the API server does with one request. Requests beyond the script hang.
enum Answer {
    Json(Value),
    Status(u16),
    /// A watch: each line in its turn; it hangs behind the last one unless that is [`Line::End`].
    Watch(Vec<Line>),
    Hang,
}

enum Line {
    Event(&'static str, Value),
    Text(&'static str),
    Wait(Duration),
    End,
}

/// One request: its query, and when it came.
#[derive(Clone, Debug)]
struct Asked {
    query: String,
    at: Instant,
}

impl Asked {
    fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }

    fn has(&self, part: &str) -> bool {
        self.query.split('&').any(|each| each == part)
    }
}

#[derive(Default)]
struct Server {
    script: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Asked>>,
}

impl Server {
    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(State(server): State<Arc<Server>>, uri: Uri) -> Response {
    let asked = Asked { query: uri.query().unwrap_or_default().to_owned(), at: Instant::now() };
    server.asked.lock().unwrap().push(asked);
    let answer = server.script.lock().unwrap().pop_front().unwrap_or(Answer::Hang);
    match answer {
        Answer::Json(value) => value.to_string().into_response(),
        Answer::Status(code) => (StatusCode::from_u16(code).unwrap(), status(code).to_string()).into_response(),
        Answer::Watch(lines) => Body::from_stream(stream::unfold(VecDeque::from(lines), next_line)).into_response(),
        Answer::Hang => std::future::pending().await,
    }
}

async fn next_line(mut lines: VecDeque<Line>) -> Option<(Result<String, std::io::Error>, VecDeque<Line>)> {
    loop {
        let line = match lines.pop_front() {
            Some(Line::Event(kind, object)) => json!({"type": kind, "object": object}).to_string(),
            Some(Line::Text(text)) => text.to_owned(),
            Some(Line::Wait(time)) => {
                sleep(time).await;
                continue;
            }
            Some(Line::End) => return None,
            None => std::future::pending().await,
        };
        return Some((Ok(line + "\n"), lines));
    }
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no", "code": code})
}

fn object(name: &str, version: u32) -> Value {
    let metadata =
        json!({"namespace": "ns", "name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string()});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
}

/// One whose name can be read and nothing else.
fn malformed(name: &str, version: u32) -> Value {
    let mut object = object(name, version);
    object["data"] = json!("no map");
    object
}

fn page(version: u32, token: &str, items: &[Value]) -> Answer {
    let metadata = json!({"resourceVersion": version.to_string(), "continue": token});
    Answer::Json(json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items}))
}

fn list(version: u32, items: &[Value]) -> Answer {
    page(version, "", items)
}

fn bookmark(version: u32) -> Line {
    let metadata = json!({"resourceVersion": version.to_string()});
    Line::Event("BOOKMARK", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
}

/// A watch of a server that follows `script`.
struct Watching {
    server: Arc<Server>,
    health: WatchHealth,
    changes: UnboundedReceiver<Change<String>>,
    task: JoinHandle<Infallible>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let server = Arc::new(Server { script: Mutex::new(script.into_iter().collect()), ..Server::default() });
        let router = Router::new().fallback(serve).with_state(server.clone());
        let client = Client::new(router.into_service::<kube::client::Body>(), "default");
        let (sender, changes) = unbounded_channel();
        let health = WatchHealth::new("configmaps");
        let trim = |map: ConfigMap| match names(&map.metadata) {
            (_, name) if name.starts_with("refused") => Err("refused".to_owned()),
            (_, name) => Ok(format!("{name}@{}", map.metadata.resource_version.unwrap_or_default())),
        };
        let selection = Selection { labels: Some("tier=gold".into()), fields: None };
        let send = move |change| drop(sender.send(change));
        let task = tokio::spawn(follow(Api::all(client), selection, health.clone(), trim, send));
        Self { server, health, changes, task }
    }

    /// Every change within `time`, in a short form.
    async fn within(&mut self, time: Duration) -> Vec<String> {
        let until = Instant::now() + time;
        let mut changes = Vec::new();
        while let Ok(Some(change)) = timeout_at(until, self.changes.recv()).await {
            changes.push(match change {
                Change::Put(object) => format!("+{object}"),
                Change::Broken { name, .. } => format!("!{name}"),
                Change::Gone { name, uid, .. } => format!("-{name}/{}", uid.unwrap_or_default()),
                Change::Listed => "listed".to_owned(),
            });
        }
        changes
    }

    async fn soon(&mut self) -> Vec<String> {
        self.within(Duration::from_secs(1)).await
    }

    fn lists(&self) -> Vec<Asked> {
        self.server.asked().into_iter().filter(|asked| !asked.is_watch()).collect()
    }

    fn watches(&self) -> Vec<Asked> {
        self.server.asked().into_iter().filter(Asked::is_watch).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_is_there_is_told_page_by_page_and_then_what_changes() {
    let mut watching = Watching::start([
        page(7, "next", &[object("a", 1), object("b", 2)]),
        list(7, &[object("c", 3)]),
        Answer::Watch(vec![
            Line::Event("ADDED", object("d", 8)),
            Line::Event("MODIFIED", object("a", 9)),
            Line::Event("DELETED", object("b", 10)),
        ]),
    ]);
    let expected = ["+a@1", "+b@2", "+c@3", "listed", "+d@8", "+a@9", "-b/uid-b"];
    assert_eq!(watching.soon().await, expected);
    let lists = watching.lists();
    assert!(lists.iter().all(|list| list.has("limit=500") && list.has("labelSelector=tier%3Dgold")), "{lists:?}");
    assert!(lists[1].has("continue=next") && !lists[0].query.contains("resourceVersion"), "{lists:?}");
    let watches = watching.watches();
    assert!(watches[0].has("resourceVersion=7") && watches[0].has("allowWatchBookmarks=true"), "{watches:?}");
    assert!(watches[0].has("labelSelector=tier%3Dgold"), "{watches:?}");
    let state = watching.health.state();
    assert!(state.listed && state.failing.is_none() && state.heard.is_some() && state.troubles.is_empty());
    assert_eq!((state.lists, state.watches, watching.health.kind()), (1, 1, "configmaps"));
}

#[tokio::test(start_paused = true)]
async fn i11_an_object_that_cannot_be_read_is_said_to_be_broken_and_stops_no_other() {
    let mut watching = Watching::start([
        list(5, &[object("a", 1), malformed("b", 2), object("refused", 3), object("d", 4)]),
        Answer::Watch(vec![
            Line::Event("MODIFIED", malformed("a", 6)),
            Line::Text("{\"type\":\"ADDED\",\"object\":{\"metadata\":7}}"),
            Line::Text("nonsense"),
            Line::Event("MODIFIED", object("b", 7)),
            Line::Event("DELETED", malformed("a", 8)),
        ]),
    ]);
    let expected = ["+a@1", "!b", "!refused", "+d@4", "listed", "!a", "+b@7", "-a/uid-a"];
    assert_eq!(watching.soon().await, expected);
    let state = watching.health.state();
    assert_eq!(state.troubles.get(&Trouble::Unreadable), Some(&5));
    assert!(state.failing.is_none(), "the watch itself goes on");
}

#[tokio::test(start_paused = true)]
async fn i8_what_cannot_be_read_is_quoted_nowhere() {
    let log = log::Log::of(tracing::Level::TRACE);
    let mut secret = object("a", 1);
    secret["data"] = json!("hunter2");
    let mut watching = Watching::start([
        Answer::Json(json!({"metadata": {"resourceVersion": "5"}, "items": "hunter2"})),
        list(5, &[secret.clone()]),
        Answer::Watch(vec![
            Line::Event("MODIFIED", secret),
            Line::Event("MODIFIED", json!({"metadata": "hunter2"})),
            Line::Text("\"hunter2\""),
            Line::Event("ADDED", object("b", 9)),
        ]),
    ]);
    let mut told = Vec::new();
    while !matches!(told.last(), Some(Change::Put(_))) {
        told.push(watching.changes.recv().await.unwrap());
    }
    assert!(matches!(told[..], [Change::Broken { .. }, Change::Listed, Change::Put(_)]), "{told:?}");
    let shown = format!("{told:?} {:?} {:#?}", watching.health.state(), log.lines());
    assert!(shown.contains("is interrupted") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_the_name_of_another_is_told_behind_the_others_end() {
    let mut successor = object("a", 9);
    successor["metadata"]["uid"] = json!("uid-2");
    let mut watching = Watching::start([
        list(5, &[object("a", 1)]),
        Answer::Watch(vec![Line::Event("MODIFIED", successor), Line::Event("DELETED", object("a", 10))]),
    ]);
    assert_eq!(watching.soon().await, ["+a@1", "listed", "-a/uid-a", "+a@9"], "the other's late end is no news");
}

#[tokio::test(start_paused = true)]
async fn what_was_never_told_is_not_told_to_be_gone() {
    let mut watching = Watching::start([list(5, &[]), Answer::Watch(vec![Line::Event("DELETED", object("a", 6))])]);
    assert_eq!(watching.soon().await, ["listed"]);
}
