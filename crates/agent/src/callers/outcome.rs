//! What comes of one adapter that somebody waits for.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use longshore_api::fleet::Adapter;
use longshore_cluster::fleet::{FleetStore, Update};
use longshore_cluster::local::Declared;
use longshore_types::{AdapterName, Namespace};
use tokio::time::{Instant, sleep_until, timeout};

use crate::agent::Agent;

/// How long nothing may happen before a caller is told to come back. A fetch that goes on is something.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an unload is waited for: the drain before it, and the call.
const UNLOAD: Duration = Duration::from_secs(60);
/// When a caller who is told to come back should.
const COME_BACK: Duration = Duration::from_secs(5);

/// Why it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    /// Our own word.
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), message: message.into(), retry_after: None }
    }

    /// A request that makes no sense.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// Something that may go well the next time.
    fn for_now(reason: &str, message: &str) -> Self {
        let failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, message);
        Self { retry_after: Some(COME_BACK), ..failure }
    }

    /// What an adapter says that is not served, and will not be by waiting.
    fn of(adapter: &Adapter) -> Self {
        let status = match adapter.reason.as_str() {
            "ArtifactNotFound" => StatusCode::NOT_FOUND,
            "AccessDenied" | "CredentialInvalid" | "AddressRefused" => StatusCode::FORBIDDEN,
            "NameTaken" | "ForeignAdapter" => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, adapter.reason.clone(), adapter.message.clone())
    }

    /// Whether the same request may go well later.
    pub(super) fn is_transient(&self) -> bool {
        self.status.is_server_error()
    }
}

/// Asks for `declared` and waits until it is loaded. One that cannot be had is wanted no more when this returns; a caller who
/// goes away while it waits still wants it.
pub(super) async fn load(agent: &Agent, declared: Declared) -> Result<Arc<Adapter>, Failure> {
    let (namespace, name) = (declared.namespace.clone(), declared.name.clone());
    let url = declared.artifact.to_string();
    let fleet = agent.fleet();
    let before = fleet.adapter(namespace.as_str(), name.as_str()).map(|adapter| adapter.generation);
    let Some(changed) = agent.ask(declared).await else {
        let message =
            format!("{name} is wanted by a controller, from another place: take its object away, or change it");
        return Err(Failure::new(StatusCode::CONFLICT, "WantedByController", message));
    };
    let loaded = wait(&fleet, &namespace, &name, &url, before.filter(|_| changed)).await;
    if loaded.is_err() {
        agent.forget(&name).await;
    }
    loaded
}

/// Waits until the adapter is loaded from `url`, in another generation than `before` where there is one.
async fn wait(
    fleet: &FleetStore,
    namespace: &Namespace,
    name: &AdapterName,
    url: &str,
    mut before: Option<i64>,
) -> Result<Arc<Adapter>, Failure> {
    let mut watch = {
        let (namespace, name) = (namespace.to_string(), name.to_string());
        fleet.watch_adapters(None, move |adapter| adapter.name == name && adapter.namespace == namespace)
    };
    let mut patience = Instant::now() + PATIENCE;
    let (mut last, mut fetched) = (None::<Arc<Adapter>>, 0);
    loop {
        let update = tokio::select! {
            update = watch.next() => update,
            () = sleep_until(patience) => return Err(impatient(last.as_deref())),
        };
        let adapter = match update {
            None => return Err(Failure::for_now("Stopping", "the sidecar is stopping")),
            Some(Update::Delete { .. }) => {
                before = None;
                continue;
            }
            Some(Update::Upsert { item, .. }) => item,
            Some(Update::Snapshot(snapshot)) => match snapshot.items.into_iter().next() {
                Some(item) => item,
                None => {
                    before = None;
                    continue;
                }
            },
        };
        if before == Some(adapter.generation) || adapter.artifact_url != url {
            continue;
        }
        if let Some(fetching) = adapter.fetching.as_ref().filter(|fetching| fetching.bytes != fetched) {
            fetched = fetching.bytes;
            patience = Instant::now() + PATIENCE;
        }
        match adapter.phase.as_str() {
            "Running" if adapter.reason.is_empty() => return Ok(adapter),
            // The version before is served, and this one is not.
            "Running" if adapter.reason == "UpdateFailed" => return Err(Failure::of(&adapter)),
            "Failed" => return Err(Failure::of(&adapter)),
            _ => last = Some(adapter),
        }
    }
}

fn impatient(last: Option<&Adapter>) -> Failure {
    match last {
        Some(adapter) if !adapter.message.is_empty() => Failure::for_now(&adapter.reason, &adapter.message),
        _ => Failure::for_now("Loading", "it is not loaded yet"),
    }
}

/// Wants `name` no more, and waits until it is unloaded.
pub(super) async fn unload(agent: &Agent, namespace: &Namespace, name: &AdapterName) -> Result<(), Failure> {
    let fleet = agent.fleet();
    let held = |fleet: &FleetStore| fleet.adapter(namespace.as_str(), name.as_str()).is_some();
    if !agent.forget(name).await {
        return Err(if held(&fleet) {
            let message = format!("{name} is wanted by a controller: take its object away");
            Failure::new(StatusCode::CONFLICT, "WantedByController", message)
        } else {
            Failure::new(StatusCode::NOT_FOUND, "AdapterNotFound", format!("there is no adapter {name}"))
        });
    }
    let gone = async {
        let wanted = name.to_string();
        let mut watch = fleet.watch_adapters(None, move |adapter| adapter.name == wanted);
        while held(&fleet) && watch.next().await.is_some() {}
    };
    let waited = timeout(UNLOAD, gone).await;
    waited.map_err(|_| Failure::for_now("Unloading", "the engine has not unloaded it yet; it is tried on"))
}
