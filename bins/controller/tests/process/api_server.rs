//! As much of an API server as a controller without anything to do asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

/// An API server of one Lease, some pods in one namespace, and nothing else. Clones are one and the same.
#[derive(Clone)]
pub struct ApiServer {
    address: SocketAddr,
    world: World,
}

type World = Arc<Mutex<There>>;

#[derive(Default)]
struct There {
    lease: Option<Value>,
    version: u64,
    pods: BTreeMap<String, String>,
    forbidden: Option<&'static str>,
    agents: BTreeSet<String>,
}

impl There {
    fn put(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        lease["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        self.lease = Some(lease.clone());
        lease
    }
}

impl ApiServer {
    pub async fn start() -> Self {
        let world = World::default();
        let routes = Router::new()
            .route("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", post(create_lease))
            .route(
                "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}",
                get(read_lease).put(write_lease),
            )
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review))
            .route("/api/v1/namespaces/longshore-system/pods/{name}", get(read_pod))
            .route("/api/v1/{kind}", get(list))
            .route("/apis/{group}/{version}/{kind}", get(list_of_group))
            .layer(middleware::from_fn_with_state(world.clone(), note_agent))
            .with_state(world.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, world }
    }

    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: 'http://{}'}}}}]\n\
             users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            self.address
        )
    }

    pub fn pod(&self, name: &str, ip: &str) {
        self.world.lock().unwrap().pods.insert(name.to_owned(), ip.to_owned());
    }

    /// From now on nobody may list this kind.
    pub fn forbid(&self, kind: &'static str) {
        self.world.lock().unwrap().forbidden = Some(kind);
    }

    pub fn permit(&self) {
        self.world.lock().unwrap().forbidden = None;
    }

    fn lease(&self) -> Value {
        self.world.lock().unwrap().lease.clone().unwrap_or_default()
    }

    /// Who holds the Lease.
    pub fn holder(&self) -> String {
        self.lease()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    pub fn transitions(&self) -> u64 {
        self.lease()["spec"]["leaseTransitions"].as_u64().unwrap_or_default()
    }

    /// Writes another holder into the Lease.
    pub fn usurp(&self, holder: &str) {
        let mut world = self.world.lock().unwrap();
        let mut lease = world.lease.clone().unwrap();
        lease["spec"]["holderIdentity"] = holder.into();
        world.put(lease);
    }

    /// What called itself what.
    pub fn agents(&self) -> BTreeSet<String> {
        self.world.lock().unwrap().agents.clone()
    }
}

async fn note_agent(State(world): State<World>, request: Request, next: Next) -> Response {
    let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("nobody");
    world.lock().unwrap().agents.insert(agent.to_owned());
    next.run(request).await
}

fn refused(code: StatusCode, reason: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code.as_u16()
    });
    (code, Json(body)).into_response()
}

async fn read_lease(State(world): State<World>) -> Response {
    match &world.lock().unwrap().lease {
        Some(lease) => Json(lease.clone()).into_response(),
        None => refused(StatusCode::NOT_FOUND, "NotFound"),
    }
}

async fn create_lease(State(world): State<World>, Json(lease): Json<Value>) -> Response {
    let mut world = world.lock().unwrap();
    if world.lease.is_some() {
        return refused(StatusCode::CONFLICT, "AlreadyExists");
    }
    (StatusCode::CREATED, Json(world.put(lease))).into_response()
}

async fn write_lease(State(world): State<World>, Json(lease): Json<Value>) -> Response {
    let mut world = world.lock().unwrap();
    let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
    match &world.lease {
        Some(there) if version(there) == version(&lease) => Json(world.put(lease)).into_response(),
        Some(_) => refused(StatusCode::CONFLICT, "Conflict"),
        None => refused(StatusCode::NOT_FOUND, "NotFound"),
    }
}

async fn read_pod(State(world): State<World>, Path(name): Path<String>) -> Response {
    match world.lock().unwrap().pods.get(&name) {
        Some(ip) => Json(json!({"metadata": {"name": name}, "status": {"podIP": ip}})).into_response(),
        None => refused(StatusCode::NOT_FOUND, "NotFound"),
    }
}

/// A token says whose it is: `token-of-USERNAME`.
async fn review(Json(review): Json<Value>) -> Response {
    let status = match review["spec"]["token"].as_str().unwrap_or_default().strip_prefix("token-of-") {
        Some(user) => json!({"authenticated": true, "user": {"username": user}, "audiences": ["longshore"]}),
        None => json!({"authenticated": false}),
    };
    let body = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {}, "status": status});
    (StatusCode::CREATED, Json(body)).into_response()
}

async fn list(
    State(world): State<World>,
    Path(kind): Path<String>,
    query: Query<BTreeMap<String, String>>,
) -> Response {
    nothing(&world, &kind, query)
}

async fn list_of_group(
    State(world): State<World>,
    Path((_, _, kind)): Path<(String, String, String)>,
    query: Query<BTreeMap<String, String>>,
) -> Response {
    nothing(&world, &kind, query)
}

/// A list without items, or a watch of nothing.
fn nothing(world: &World, kind: &str, Query(query): Query<BTreeMap<String, String>>) -> Response {
    if world.lock().unwrap().forbidden == Some(kind) {
        return refused(StatusCode::FORBIDDEN, "Forbidden");
    }
    if query.contains_key("watch") {
        return Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>()).into_response();
    }
    Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []})).into_response()
}
