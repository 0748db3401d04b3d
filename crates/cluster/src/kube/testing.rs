//! For tests: as much of an API server as the driver needs, in this process, with faults on demand. It lists and watches, and
//! knows finalizers, generations, uids, preconditions and the status subresource. What fields are whose it does not know: an
//! apply overwrites.

mod collection;
mod patch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep};

use crate::kube::calls::Calls;
use crate::kube::fence::Fence;
use collection::{Collection, Event};
use patch::{merge, operate};

/// One request, as it came.
#[derive(Clone, Debug)]
pub(in crate::kube) struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    pub content_type: String,
    pub body: Value,
    pub at: Instant,
}

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub(in crate::kube) enum Trouble {
    /// It is answered with this code and message, and not done.
    Answer(u16, &'static str),
    /// It is answered with a 403 whose cause is this, and not done.
    Forbidden(&'static str),
    /// It is not done, and never answered.
    Hang,
    /// It is done, and never answered.
    Lost,
    /// It is done after this time.
    Slow(Duration),
    /// Just before it, somebody else does this to the object at this path.
    Before(&'static str, Value),
}

type Troubles = Box<dyn FnMut(&Seen) -> Option<Trouble> + Send>;

/// The API server. Clones are one.
#[derive(Clone)]
pub(in crate::kube) struct Server(Arc<Mutex<World>>);

struct World {
    /// By path.
    objects: BTreeMap<String, Value>,
    revision: u64,
    /// All that has happened, for watches.
    events: Vec<Event>,
    /// The revision of the last of them.
    latest: watch::Sender<u64>,
    seen: Vec<Seen>,
    troubles: Troubles,
    under_way: usize,
    most_under_way: usize,
}

impl Server {
    pub(in crate::kube) fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            objects: BTreeMap::new(),
            revision: 0,
            events: Vec::new(),
            latest: watch::Sender::new(0),
            seen: Vec::new(),
            troubles: Box::new(|_| None),
            under_way: 0,
            most_under_way: 0,
        })))
    }

    /// Calls to this one, for somebody who may lead for ever.
    pub(in crate::kube) fn calls(&self) -> Calls {
        self.calls_within(Fence::open())
    }

    pub(in crate::kube) fn calls_within(&self, fence: Fence) -> Calls {
        Calls::new(self.client(), fence)
    }

    pub(in crate::kube) fn client(&self) -> Client {
        let router = Router::new().fallback(serve).with_state(self.clone());
        Client::new(router.into_service::<kube::client::Body>(), "default")
    }

    /// From now on this says what goes wrong.
    pub(in crate::kube) fn trouble(&self, troubles: impl FnMut(&Seen) -> Option<Trouble> + Send + 'static) {
        self.world(|world| world.troubles = Box::new(troubles));
    }

    pub(in crate::kube) fn put(&self, path: &str, object: Value) {
        self.world(|world| world.store(path, object));
    }

    pub(in crate::kube) fn remove(&self, path: &str) {
        self.world(|world| world.drop_object(path));
    }

    /// As a person would who deletes it: what a finalizer holds stays.
    pub(in crate::kube) fn delete(&self, path: &str) {
        self.world(|world| world.delete(path, &Value::Null));
    }

    /// As a person would who changes it by this merge patch, `/status` included.
    pub(in crate::kube) fn change(&self, path: &str, patch: &Value) {
        self.world(|world| {
            let mut object = world.objects.get(path).cloned().unwrap_or_default();
            merge(&mut object, patch);
            world.store(path, object);
        });
    }

    pub(in crate::kube) fn get(&self, path: &str) -> Option<Value> {
        self.world(|world| world.objects.get(path).cloned())
    }

    /// Every object below this path.
    pub(in crate::kube) fn below(&self, path: &str) -> Vec<Value> {
        self.world(|world| {
            world.objects.iter().filter(|(at, _)| at.starts_with(path)).map(|(_, object)| object.clone()).collect()
        })
    }

    /// Every request since this was last asked.
    pub(in crate::kube) fn take_seen(&self) -> Vec<Seen> {
        self.world(|world| std::mem::take(&mut world.seen))
    }

    /// The same, reads left out.
    pub(in crate::kube) fn take_writes(&self) -> Vec<Seen> {
        let mut seen = self.take_seen();
        seen.retain(|seen| seen.method != "GET");
        seen
    }

    /// The most requests that were under way at once.
    pub(in crate::kube) fn most_under_way(&self) -> usize {
        self.world(|world| world.most_under_way)
    }

    fn world<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts a request that is under way, also where the client goes away.
struct UnderWay(Server);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.world(|world| world.under_way -= 1);
    }
}

async fn serve(State(server): State<Server>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let seen = Seen {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type: header("content-type"),
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
        at: Instant::now(),
    };
    let trouble = server.world(|world| {
        world.under_way += 1;
        world.most_under_way = world.most_under_way.max(world.under_way);
        world.seen.push(seen.clone());
        (world.troubles)(&seen)
    });
    let _under_way = UnderWay(server.clone());
    match trouble {
        Some(Trouble::Answer(code, message)) => return no(code, message).into_response(),
        Some(Trouble::Forbidden(cause)) => {
            let mut status = no(403, "forbidden").1;
            status["details"] = json!({"causes": [{"reason": cause, "message": cause}]});
            return Answer(403, status).into_response();
        }
        Some(Trouble::Hang) => std::future::pending().await,
        Some(Trouble::Lost) => {
            server.world(|world| world.answer(&seen));
            std::future::pending().await
        }
        Some(Trouble::Slow(time)) => sleep(time).await,
        Some(Trouble::Before(path, operations)) => server.world(|world| {
            let other = Seen { content_type: JSON_PATCH.to_owned(), body: operations, ..seen.clone() };
            world.patch(path, false, &other);
        }),
        None => {}
    }
    match seen.method.as_str() {
        "GET" if seen.query.contains("watch=true") => collection::watch(&server, &seen),
        _ => server.world(|world| world.answer(&seen)).into_response(),
    }
}

struct Answer(u16, Value);

impl Answer {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, [("content-type", "application/json")], self.1.to_string()).into_response()
    }
}

fn no(code: u16, message: &str) -> Answer {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code
    });
    Answer(code, status)
}

const JSON_PATCH: &str = "application/json-patch+json";
/// What a real one says of a JSON patch whose test fails.
const REJECTED: &str = "the server rejected our request due to an error in our request";

impl World {
    /// Makes it so, and tells watches where that is a difference.
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        let before = self.objects.get(path).cloned();
        let strip = |object: &Value| {
            let mut object = object.clone();
            object["metadata"]["resourceVersion"].take();
            object
        };
        if let Some(before) = before.as_ref().filter(|before| strip(before) == strip(&object)) {
            return before.clone();
        }
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let wants = |object: &Value| (object["spec"].clone(), object["metadata"]["deletionTimestamp"].clone());
        let generation = match &before {
            Some(before) if wants(before) != wants(&object) => {
                before["metadata"]["generation"].as_i64().unwrap_or(1) + 1
            }
            Some(before) => before["metadata"]["generation"].as_i64().unwrap_or(1),
            None => 1,
        };
        object["metadata"]["generation"] = json!(generation);
        let deleting = !object["metadata"]["deletionTimestamp"].is_null();
        if deleting && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            self.drop_object(path);
        } else {
            self.objects.insert(path.to_owned(), object.clone());
            let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
            self.record(kind, path, &object);
        }
        object
    }

    fn drop_object(&mut self, path: &str) -> Option<Value> {
        let object = self.objects.remove(path)?;
        self.revision += 1;
        let mut last = object.clone();
        last["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.record("DELETED", path, &last);
        Some(object)
    }

    fn record(&mut self, kind: &'static str, path: &str, object: &Value) {
        let (revision, path, object) = (self.revision, path.to_owned(), object.clone());
        self.events.push(Event { revision, kind, path, object });
        self.latest.send_replace(revision);
    }

    fn answer(&mut self, seen: &Seen) -> Answer {
        let (path, status_only) = match seen.path.strip_suffix("/status") {
            Some(path) => (path, true),
            None => (seen.path.as_str(), false),
        };
        if let Some(collection) = Collection::of(path, &seen.query).filter(|_| seen.method == "GET") {
            return self.list(&collection);
        }
        match seen.method.as_str() {
            "GET" => self.objects.get(path).map_or_else(|| no(404, "not found"), |object| Answer(200, object.clone())),
            "POST" => self.create(path, seen),
            "PATCH" => self.patch(path, status_only, seen),
            "DELETE" => self.delete(path, &seen.body),
            _ => no(405, "not allowed"),
        }
    }

    fn list(&self, collection: &Collection) -> Answer {
        let items: Vec<_> = self.objects.iter().filter(|(path, object)| collection.has(path, object)).collect();
        let items: Vec<_> = items.into_iter().map(|(_, item)| item).collect();
        let metadata = json!({"resourceVersion": self.revision.max(1).to_string()});
        Answer(200, json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items}))
    }

    fn create(&mut self, path: &str, seen: &Seen) -> Answer {
        let mut object = seen.body.clone();
        object["metadata"]["managedFields"] = managers(seen);
        let at = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
        if self.objects.contains_key(&at) {
            return no(409, "already exists");
        }
        if let Some(namespace) = path.split('/').skip_while(|part| *part != "namespaces").nth(1) {
            object["metadata"]["namespace"] = json!(namespace);
        }
        object["metadata"]["uid"] = json!(format!("uid-{}", self.revision));
        Answer(201, self.store(&at, object))
    }

    fn patch(&mut self, path: &str, status_only: bool, seen: &Seen) -> Answer {
        let applies = seen.content_type == "application/apply-patch+yaml";
        let Some(before) = self.objects.get(path).cloned() else {
            let parent = path.rsplit_once('/').map_or(path, |(parent, _)| parent);
            return if applies { self.create(parent, seen) } else { no(404, "not found") };
        };
        let mut after = before.clone();
        match seen.content_type.as_str() {
            JSON_PATCH => {
                for operation in seen.body.as_array().into_iter().flatten() {
                    if operate(&mut after, operation).is_none() {
                        return no(422, REJECTED);
                    }
                }
            }
            "application/merge-patch+json" => {
                let version = &seen.body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != before["metadata"]["resourceVersion"] {
                    return no(409, "the object has been modified");
                }
                merge(&mut after, &seen.body);
                if after["metadata"]["uid"] != before["metadata"]["uid"] {
                    return no(422, "metadata.uid: field is immutable");
                }
            }
            _ if applies => {
                merge(&mut after, &seen.body);
                after["metadata"]["managedFields"] = managers(seen);
            }
            other => panic!("a patch of type {other}"),
        }
        if status_only {
            let status = after["status"].take();
            after = before;
            after["status"] = status;
        } else {
            after["status"] = before["status"].clone();
        }
        Answer(200, self.store(path, after))
    }

    fn delete(&mut self, path: &str, options: &Value) -> Answer {
        let Some(object) = self.objects.get(path) else { return no(404, "not found") };
        for precondition in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][precondition];
            if !wanted.is_null() && *wanted != object["metadata"][precondition] {
                return no(409, "precondition failed");
            }
        }
        if object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            return Answer(200, self.drop_object(path).unwrap_or_default());
        }
        let mut object = object.clone();
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Answer(200, self.store(path, object))
    }
}

/// Whoever has created or applied last: as much of it as is looked at.
fn managers(seen: &Seen) -> Value {
    let manager = seen.query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
    json!([{"manager": manager, "operation": "Apply"}])
}
