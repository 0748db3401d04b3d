//! The HTTP side.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream::{self, Stream};
use longshore_api::fleet::{Adapter, AdapterList, Demand, Engine, EngineList, PlacementList};
use longshore_types::{AdapterName, Namespace, Secret};
use serde::Serialize;
use tokio::sync::mpsc;

use super::OPENAPI;
use super::error::ApiError;
use super::guard::{self, Guard};
use super::query::{self, AdapterQuery, EngineQuery, Raw};
use super::store::{FleetStore, Item, Snapshot};
use super::watch::{Subscription, Update};

/// How often a silent watch is kept alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The largest demand report: 5,000 adapters at 200 bytes each.
pub(super) const BODY_LIMIT: usize = 1 << 20;

/// What the API answers from.
#[derive(Clone, Debug)]
pub struct FleetApi {
    store: Arc<FleetStore>,
    demand: mpsc::Sender<Demand>,
    guard: Guard,
}

impl FleetApi {
    /// The API over `store`. What routers report goes to `demand`; while that is full, they are told 503.
    pub fn new(store: Arc<FleetStore>, demand: mpsc::Sender<Demand>) -> Self {
        Self { store, demand, guard: Guard::open() }
    }

    /// Answers only requests that carry this bearer token. To be used wherever others than this machine can connect.
    #[must_use]
    pub fn with_token(self, token: Secret) -> Self {
        let guard = self.guard.or_token(token);
        Self { guard, ..self }
    }
}

/// The routes of the fleet API.
pub fn router(api: FleetApi) -> Router {
    let guard = api.guard.clone();
    routes(api).layer(middleware::from_fn_with_state(guard, guard::check))
}

/// The same for whoever has passed a guard already.
pub(super) fn routes(api: FleetApi) -> Router {
    Router::new()
        .route("/v1/adapters", get(list_adapters))
        .route("/v1/adapters/{name}", get(get_adapter))
        .route("/v1/adapters/{name}/pods", get(get_pods))
        .route("/v1/engines", get(list_engines))
        .route("/v1/engines/{engine}", get(get_engine))
        .route("/v1/demand", post(report_demand).layer(DefaultBodyLimit::max(BODY_LIMIT)))
        .route("/openapi.json", get(openapi))
        .fallback(async || ApiError::not_found("no such path; GET /openapi.json lists them"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .with_state(api)
}

impl FleetApi {
    /// The store, once it is complete.
    fn store(&self) -> Result<&Arc<FleetStore>, ApiError> {
        if self.store.is_open() {
            return Ok(&self.store);
        }
        Err(ApiError::unavailable("starting: the fleet is not known yet"))
    }

    fn one_adapter(&self, name: &str, namespace: Option<&str>) -> Result<(String, Arc<Adapter>), ApiError> {
        let store = self.store()?;
        one(store.adapters(), "adapter", name, namespace)
    }
}

async fn list_adapters(State(api): State<FleetApi>, raw: Raw, headers: HeaderMap) -> Result<Response, ApiError> {
    let query = AdapterQuery::parse(raw)?;
    let store = api.store()?;
    if query.watch {
        let watch = store.watch_adapters(last_event(&headers), move |adapter| query.matches(adapter));
        return Ok(events(watch, |Snapshot { revision, items }| AdapterList { revision, adapters: owned(items) }));
    }
    let Snapshot { revision, items } = store.adapters();
    let items = items.into_iter().filter(|adapter| query.matches(adapter)).collect();
    Ok(Json(AdapterList { revision, adapters: owned(items) }).into_response())
}

async fn get_adapter(State(api): State<FleetApi>, Path(name): Path<String>, raw: Raw) -> Result<Response, ApiError> {
    let [namespace] = query::only(raw, ["namespace"])?;
    let (_, adapter) = api.one_adapter(&name, namespace.as_deref())?;
    Ok(Json(&*adapter).into_response())
}

async fn get_pods(State(api): State<FleetApi>, Path(name): Path<String>, raw: Raw) -> Result<Response, ApiError> {
    let [namespace] = query::only(raw, ["namespace"])?;
    let (revision, adapter) = api.one_adapter(&name, namespace.as_deref())?;
    Ok(Json(PlacementList { revision, pods: adapter.endpoints.clone() }).into_response())
}

async fn list_engines(State(api): State<FleetApi>, raw: Raw, headers: HeaderMap) -> Result<Response, ApiError> {
    let query = EngineQuery::parse(raw)?;
    let store = api.store()?;
    if query.watch {
        let watch = store.watch_engines(last_event(&headers), move |engine| query.matches(engine));
        return Ok(events(watch, |Snapshot { revision, items }| EngineList { revision, engines: owned(items) }));
    }
    let Snapshot { revision, items } = store.engines();
    let items = items.into_iter().filter(|engine| query.matches(engine)).collect();
    Ok(Json(EngineList { revision, engines: owned(items) }).into_response())
}

async fn get_engine(State(api): State<FleetApi>, Path(name): Path<String>, raw: Raw) -> Result<Response, ApiError> {
    let [namespace] = query::only(raw, ["namespace"])?;
    let (_, engine): (_, Arc<Engine>) = one(api.store()?.engines(), "engine", &name, namespace.as_deref())?;
    Ok(Json(&*engine).into_response())
}

async fn report_demand(
    State(api): State<FleetApi>,
    raw: Raw,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    query::only(raw, [])?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(BODY_LIMIT),
        _ => ApiError::bad_request(rejection.body_text()),
    })?;
    let demand: Demand = serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let named = demand.adapters.iter().map(|one| (&one.namespace, &one.name));
    for (namespace, name) in named.chain(demand.missing.iter().map(|one| (&one.namespace, &one.name))) {
        Namespace::new(namespace).map_err(|error| ApiError::bad_request(error.to_string()))?;
        AdapterName::new(name).map_err(|error| ApiError::bad_request(error.to_string()))?;
    }
    let full =
        |_| ApiError::unavailable("too many reports are waiting; they are worth nothing later, so drop this one");
    api.demand.try_send(demand).map_err(full)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn openapi(raw: Raw) -> Result<Response, ApiError> {
    query::only(raw, [])?;
    Ok(([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response())
}

/// The one object called `name`, with the revision that it was found at.
fn one<T: Item>(
    all: Snapshot<T>,
    what: &str,
    name: &str,
    namespace: Option<&str>,
) -> Result<(String, Arc<T>), ApiError> {
    let wanted = |item: &Arc<T>| item.name() == name && namespace.is_none_or(|namespace| item.namespace() == namespace);
    let mut found: Vec<_> = all.items.into_iter().filter(wanted).collect();
    match (found.pop(), found.as_slice()) {
        (Some(item), []) => Ok((all.revision, item)),
        (Some(last), others) => {
            let namespaces: Vec<_> = others.iter().chain([&last]).map(|item| item.namespace()).collect();
            let namespaces = namespaces.join(", ");
            Err(ApiError::conflict(format!("{what} {name:?} is in several namespaces ({namespaces}): add ?namespace=")))
        }
        (None, _) => {
            let place = namespace.map(|namespace| format!(" in namespace {namespace:?}")).unwrap_or_default();
            Err(ApiError::not_found(format!("no {what} {name:?}{place}")))
        }
    }
}

/// What a watcher that comes back has seen last.
fn last_event(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id").and_then(|id| id.to_str().ok())
}

fn owned<T: Clone>(items: Vec<Arc<T>>) -> Vec<T> {
    items.into_iter().map(Arc::unwrap_or_clone).collect()
}

/// The updates of `watch` as server-sent events.
fn events<T: Item, L: Serialize + 'static>(watch: Subscription<T>, list: fn(Snapshot<T>) -> L) -> Response {
    let stream = stream::unfold(watch, move |mut watch| async move {
        let update = watch.next().await?;
        Some((Ok::<_, Infallible>(event(update, list)), watch))
    });
    sse(stream)
}

fn sse(stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    // Some proxies collect a response before they pass it on; this header tells the common one not to.
    let headers = [("x-accel-buffering", "no")];
    (headers, Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response()
}

fn event<T: Item, L: Serialize>(update: Update<T>, list: fn(Snapshot<T>) -> L) -> Event {
    let (name, revision, data) = match update {
        Update::Snapshot(snapshot) => {
            let revision = snapshot.revision.clone();
            ("snapshot", revision, serde_json::to_string(&list(snapshot)))
        }
        Update::Upsert { revision, item } => ("upsert", revision, serde_json::to_string(&*item)),
        Update::Delete { revision, gone } => ("delete", revision, serde_json::to_string(&gone)),
    };
    let data = data.expect("the wire types are plain structs with text keys, which always have a JSON form");
    Event::default().event(name).id(revision).data(data)
}
