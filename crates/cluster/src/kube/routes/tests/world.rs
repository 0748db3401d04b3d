//! A writer beside its API server, with watches that show what was written a little later.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use longshore_api::labels;
use longshore_reconciler::{Endpoint, Route};
use longshore_types::{
    AdapterKey, Address, BaseModel, Boot, Digest, EngineId, EngineKind, Namespace, ObjectKey, ObjectName, OwnerKind,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::super::calls::Calls;
use super::super::super::fence::Fence;
use super::super::super::slices::{BaseWrite, RouteWrite, ServiceSeen, SliceSeen};
use super::super::super::urgent::Urgent;
use super::super::{Answered, Change, Routes};
use super::store::{Answer, Event, Key, Store};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    /// Refused with this code, and nothing done.
    Code(u16),
    /// Never answered, and nothing done.
    Hangs,
    /// Done, and never answered.
    Lost,
}

/// A call as `VERB plural/name`.
type Judge = Box<dyn FnMut(&str) -> Fate + Send>;

#[derive(Clone)]
pub(super) struct Server {
    pub store: Arc<Mutex<Store>>,
    pub calls: Arc<Mutex<Vec<String>>>,
    judge: Arc<Mutex<Judge>>,
    /// How long each call takes, before it is done and after.
    latency: Arc<Mutex<Box<dyn FnMut() -> Duration + Send>>>,
    /// How many are on their way, and how many were at most.
    pub busy: Arc<Mutex<(usize, usize)>>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            store: Arc::default(),
            calls: Arc::default(),
            judge: Arc::new(Mutex::new(Box::new(|_| Fate::Done))),
            latency: Arc::new(Mutex::new(Box::new(|| Duration::from_millis(1)))),
            busy: Arc::default(),
        }
    }

    pub(super) fn judge(&self, judge: impl FnMut(&str) -> Fate + Send + 'static) {
        *self.judge.lock().unwrap() = Box::new(judge);
    }

    pub(super) fn latency(&self, latency: impl FnMut() -> Duration + Send + 'static) {
        *self.latency.lock().unwrap() = Box::new(latency);
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let router = Router::new().fallback(move |request: Request| server.clone().answer(request));
        Client::new(router.into_service::<kube::client::Body>(), "default")
    }

    async fn answer(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let body: Value = if body.is_empty() { json!({}) } else { serde_json::from_slice(&body).unwrap() };
        let path: Vec<_> = parts.uri.path().split('/').collect();
        let at = path.iter().position(|part| *part == "namespaces").unwrap();
        let plural = path[at + 2].to_owned();
        let name = path.get(at + 3).map_or_else(|| body["metadata"]["name"].as_str().unwrap(), |name| *name).to_owned();
        let key: Key = (plural, path[at + 1].to_owned(), name);
        let call = format!("{} {}/{}", parts.method, key.0, key.2);
        self.calls.lock().unwrap().push(call.clone());
        let fate = (self.judge.lock().unwrap())(&call);
        {
            let mut busy = self.busy.lock().unwrap();
            busy.0 += 1;
            busy.1 = busy.1.max(busy.0);
        }
        let _free = Free(self.busy.clone());
        let (before, after) = {
            let mut latency = self.latency.lock().unwrap();
            (latency(), latency())
        };
        sleep(before).await;
        let query = parts.uri.query().unwrap_or_default();
        let manager = "longshore-controller";
        let answer: Answer = match fate {
            Fate::Hangs => std::future::pending().await,
            Fate::Code(code) => {
                let message =
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no"});
                (code, message)
            }
            Fate::Done | Fate::Lost => {
                let mut store = self.store.lock().unwrap();
                let kind = parts.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
                match parts.method {
                    Method::GET => store.get(&key),
                    Method::POST => {
                        assert!(query.contains("fieldManager=longshore-controller"), "{query}");
                        store.create(&key, manager, &body)
                    }
                    Method::PATCH if kind.contains("apply") => {
                        assert!(query.contains("fieldManager=longshore-controller"), "{query}");
                        store.apply(&key, manager, query.contains("force=true"), &body)
                    }
                    Method::PATCH => store.merge(&key, manager, &body),
                    Method::DELETE => {
                        let uid = body["preconditions"]["uid"].as_str().expect("a deletion without a uid");
                        store.delete(&key, Some(uid))
                    }
                    ref other => panic!("{other}"),
                }
            }
        };
        if fate == Fate::Lost {
            std::future::pending::<()>().await;
        }
        sleep(after).await;
        (StatusCode::from_u16(answer.0).unwrap(), Body::from(answer.1.to_string())).into_response()
    }
}

struct Free(Arc<Mutex<(usize, usize)>>);

impl Drop for Free {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

/// The writer and what it says.
pub(super) struct World {
    pub server: Server,
    pub routes: Routes,
    pub urgent: Urgent,
    pub fence: Fence,
    answers: Arc<Mutex<Vec<Answered>>>,
    /// How many events the watches have shown.
    shown: usize,
}

impl World {
    pub(super) fn new(server: Server) -> Self {
        let (fence, urgent) = (Fence::open(), Urgent::new());
        let answers = Arc::<Mutex<Vec<Answered>>>::default();
        let told = answers.clone();
        let calls = Calls::new(server.client(), fence.clone());
        let routes = Routes::start(calls, urgent.clone(), move |answered| told.lock().unwrap().push(answered));
        Self { server, routes, urgent, fence, answers, shown: 0 }
    }

    /// With everything listed.
    pub(super) async fn listed() -> Self {
        let mut world = Self::new(Server::new());
        world.list();
        world.run(Duration::ZERO).await;
        world
    }

    /// The process starts over on what is there.
    pub(super) async fn restart(self) -> Self {
        let Self { server, routes, .. } = self;
        routes.stop().await;
        Self::new(server)
    }

    /// What a first list shows.
    pub(super) fn list(&mut self) {
        let objects: Vec<_> = {
            let store = self.server.store.lock().unwrap();
            self.shown = store.events.len();
            store.objects.iter().map(|(key, object)| (key.clone(), object.json(key))).collect()
        };
        for (key, json) in objects {
            self.show(&Event::Put(key, json));
        }
        self.routes.slice(Change::Listed);
        self.routes.service(Change::Listed);
    }

    fn show(&self, event: &Event) {
        let is_shown = |plural: &str, json: &Value| {
            let labels = &json["metadata"]["labels"];
            if plural == "services" {
                labels.get(labels::ADAPTER_NAME).is_some()
            } else {
                labels.get(labels::MANAGED_BY) == Some(&json!(labels::MANAGER))
            }
        };
        match event {
            Event::Put((plural, ..), json) if is_shown(plural, json) => {
                if plural == "services" {
                    let service: Service = serde_json::from_value(json.clone()).unwrap();
                    self.routes.service(Change::Put(ServiceSeen::of(&service).unwrap()));
                } else {
                    let slice: EndpointSlice = serde_json::from_value(json.clone()).unwrap();
                    self.routes.slice(Change::Put(SliceSeen::of(&slice).unwrap()));
                }
            }
            // One that loses its label leaves the watch.
            Event::Put((plural, namespace, name), json) => {
                self.show_gone(plural, namespace, name, json["metadata"]["uid"].as_str().unwrap());
            }
            Event::Gone((plural, namespace, name), uid) => self.show_gone(plural, namespace, name, uid),
        }
    }

    fn show_gone(&self, plural: &str, namespace: &str, name: &str, uid: &str) {
        let (namespace, name, uid) = (namespace.to_owned(), name.to_owned(), Some(uid.to_owned()));
        if plural == "services" {
            self.routes.service(Change::Gone { namespace, name, uid });
        } else {
            self.routes.slice(Change::Gone { namespace, name, uid });
        }
    }

    /// The watches show up to `count` more of what has happened.
    pub(super) fn watch(&mut self, count: usize) {
        let events: Vec<_> = {
            let store = self.server.store.lock().unwrap();
            store.events[self.shown..].iter().take(count).cloned().collect()
        };
        self.shown += events.len();
        for event in &events {
            self.show(event);
        }
    }

    /// Time passes, and the watches show what happens in it.
    pub(super) async fn run(&mut self, time: Duration) {
        const FINE: Duration = Duration::from_micros(500);
        let end = tokio::time::Instant::now() + time;
        let step = FINE.max(time / 1000);
        loop {
            self.watch(usize::MAX);
            // What is ready to run does so before time moves on.
            sleep(step).await;
            if tokio::time::Instant::now() >= end {
                self.watch(usize::MAX);
                sleep(FINE).await;
                return;
            }
        }
    }

    pub(super) fn answers(&self) -> Vec<Answered> {
        std::mem::take(&mut self.answers.lock().unwrap())
    }

    /// Forgets what was said, written and called so far.
    pub(super) fn forget(&self) {
        self.answers();
        self.writes();
        self.calls();
    }

    /// The writes since the last time.
    pub(super) fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.server.store.lock().unwrap().writes)
    }

    /// The calls since the last time.
    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.server.calls.lock().unwrap())
    }

    /// Somebody else writes.
    pub(super) fn edit(&self, key: &Key, patch: &Value) {
        let (code, answer) = self.server.store.lock().unwrap().merge(key, "kubectl", patch);
        assert_eq!(code, 200, "{answer}");
    }

    pub(super) fn put(&self, plural: &str, body: &Value) {
        let meta = &body["metadata"];
        let text = |key: &str| meta[key].as_str().unwrap().to_owned();
        let key = (plural.to_owned(), text("namespace"), text("name"));
        let (code, answer) = self.server.store.lock().unwrap().create(&key, "kubectl", body);
        assert_eq!(code, 200, "{answer}");
    }

    pub(super) fn delete(&self, key: &Key) {
        assert_eq!(self.server.store.lock().unwrap().delete(key, None).0, 200);
    }

    pub(super) fn keys(&self, plural: &str) -> Vec<Key> {
        self.server.store.lock().unwrap().objects.keys().filter(|key| key.0 == plural).cloned().collect()
    }

    pub(super) fn json(&self, key: &Key) -> Value {
        self.server.store.lock().unwrap().get(key).1
    }

    /// All slices of ours, read.
    pub(super) fn slices(&self) -> Vec<SliceSeen> {
        let read = |key: &Key| SliceSeen::of(&serde_json::from_value(self.json(key)).unwrap()).unwrap();
        self.keys("endpointslices").iter().map(read).filter(|slice| slice.managed).collect()
    }

    /// The pods of all slices of `name`.
    pub(super) fn pods(&self, name: &str) -> BTreeSet<String> {
        let slices = self
            .slices()
            .into_iter()
            .filter(|slice| slice.subject.as_ref().is_some_and(|subject| subject.model() == name));
        slices.flat_map(|slice| slice.content.unwrap().targets).map(|target| target.pod.to_string()).collect()
    }
}

pub(super) fn adapter(name: &str) -> AdapterKey {
    let object = ObjectKey {
        namespace: Namespace::default_namespace(),
        kind: OwnerKind::ModelAdapter,
        name: ObjectName::new(name).unwrap(),
    };
    AdapterKey { object, name: name.parse().unwrap() }
}

pub(super) fn endpoint(number: u8) -> Endpoint {
    let ip = IpAddr::from([10, 244, 0, number]);
    let mut address = Address::new(ip.to_string(), 8000);
    address.node = Some(format!("node-{}", number % 3).into());
    address.zone = (!number.is_multiple_of(3)).then(|| format!("zone-{}", number % 3).into());
    Endpoint {
        engine: EngineId::new(Namespace::default_namespace(), format!("pod-{number}")),
        boot: Boot::new("boot"),
        kind: EngineKind::Vllm,
        address,
        digest: Some(Digest::from_bytes([7; 32])),
        base_model: Some(BaseModel::new("qwen/base").unwrap()),
    }
}

/// `name`'s route over the engines with these numbers.
pub(super) fn route(name: &str, sequence: u64, engines: impl IntoIterator<Item = u8>) -> RouteWrite {
    let endpoints: Vec<_> = engines.into_iter().map(endpoint).collect();
    RouteWrite {
        pods: pods(&endpoints),
        route: Route { adapter: adapter(name), sequence, endpoints, swapping: false },
        uid: format!("uid-of-{name}").into(),
    }
}

pub(super) fn base(engines: impl IntoIterator<Item = u8>) -> BaseWrite {
    let endpoints: Vec<_> = engines.into_iter().map(|number| Endpoint { digest: None, ..endpoint(number) }).collect();
    let base_model = BaseModel::new("qwen/base").unwrap();
    BaseWrite { namespace: Namespace::default_namespace(), base_model, pods: pods(&endpoints), endpoints }
}

fn pods(endpoints: &[Endpoint]) -> BTreeMap<EngineId, Arc<str>> {
    endpoints.iter().map(|e| (e.engine.clone(), format!("uid-{}", e.engine.name).into())).collect()
}

pub(super) fn service(name: &str) -> Key {
    ("services".to_owned(), "default".to_owned(), name.to_owned())
}
