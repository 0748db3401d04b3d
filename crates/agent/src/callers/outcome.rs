//! What comes of one adapter that somebody waits for.

use std::time::Duration;

use axum::http::StatusCode;
use longshore_api::fleet::Adapter;
use longshore_cluster::local::Declared;
use longshore_types::AdapterName;
use tokio::time::{Instant, sleep, timeout};

use crate::agent::Agent;
use crate::error::Error;

/// How long nothing may happen before a caller is told to come back. A fetch that goes on is something.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an unload is waited for: the drain before it, and the call.
const UNLOAD: Duration = Duration::from_secs(60);
/// Between two looks while somebody waits. Most adapters are there within some.
const LOOK: Duration = Duration::from_millis(20);
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
            "NameTaken" | "NameConflict" | "ForeignAdapter" => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, adapter.reason.clone(), adapter.message.clone())
    }

    /// Whether the same request may go well later.
    pub(super) fn is_transient(&self) -> bool {
        self.status.is_server_error()
    }
}

/// What is there.
pub(super) struct Loaded {
    /// The digest of its files, `sha256:…`.
    pub(super) digest: Option<String>,
}

/// Asks for `declared` and waits until the engine has exactly that. What cannot be had is wanted no more when this returns, and
/// what was wanted before is wanted again; a caller who goes away while it waits still wants it.
pub(super) async fn load(agent: &Agent, declared: Declared) -> Result<Loaded, Failure> {
    let asked = agent.ask(declared.clone()).await?;
    let loaded = wait(agent, &declared, asked.generation).await;
    if loaded.is_err()
        && let Some(before) = asked.before
    {
        agent.take_back(declared, before).await;
    }
    loaded
}

/// Waits until the adapter is as it should be in `generation` or a later one; without one, in the first that comes after the
/// adapter of that name which has to go first.
async fn wait(agent: &Agent, declared: &Declared, generation: Option<i64>) -> Result<Loaded, Failure> {
    let (key, local, fleet) = (declared.key(), agent.local(), agent.fleet());
    let shown = || fleet.adapter(declared.namespace.as_str(), declared.name.as_str());
    let (mut wanted, mut fetched, mut patience) = (generation, 0, Instant::now() + PATIENCE);
    loop {
        let status = local.status(&key);
        match (wanted, &status) {
            (None, None) => wanted = Some(1),
            (Some(generation), Some(status)) if status.observed_generation >= Some(generation) => {
                let condition = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
                let is = |type_: &str, values: &[&str]| {
                    condition(type_).is_some_and(|condition| values.contains(&condition.status.as_str()))
                };
                if is("Ready", &["True"]) && is("UpToDate", &["True", "Unknown"]) {
                    return Ok(Loaded { digest: shown().and_then(|adapter| adapter.digest.clone()) });
                }
                // What an earlier artifact came to says nothing of this one.
                let resolved = local.resolved(&key) >= Some(generation);
                let failed = condition("UpToDate").filter(|condition| resolved && condition.reason == "UpdateFailed");
                if let Some(condition) = failed {
                    return Err(Failure::new(StatusCode::BAD_REQUEST, "UpdateFailed", condition.message.clone()));
                }
                let adapter = shown().filter(|adapter| adapter.generation >= generation && adapter.phase == "Failed");
                if let Some(adapter) = adapter.filter(|adapter| resolved && !may_pass(&adapter.reason)) {
                    return Err(Failure::of(&adapter));
                }
            }
            _ => {}
        }
        let fetching = shown().and_then(|adapter| adapter.fetching.as_ref().map(|fetching| fetching.bytes));
        if let Some(bytes) = fetching.filter(|bytes| *bytes != fetched) {
            fetched = bytes;
            patience = Instant::now() + PATIENCE;
        }
        if Instant::now() >= patience {
            return Err(impatient(shown().as_deref()));
        }
        sleep(LOOK).await;
    }
}

/// Whether a failure of the artifact may pass by itself: it is tried again.
fn may_pass(reason: &str) -> bool {
    const PASSING: [&str; 8] = [
        "Abandoned",
        "AdapterInUse",
        "ArtifactChanged",
        "ArtifactCorrupted",
        "SourceFailed",
        "SourceUnavailable",
        "StoreFailed",
        "StoreFull",
    ];
    PASSING.contains(&reason)
}

fn impatient(last: Option<&Adapter>) -> Failure {
    match last {
        Some(adapter) if !adapter.message.is_empty() => Failure::for_now(&adapter.reason, &adapter.message),
        _ => Failure::for_now("Loading", "it is not loaded yet"),
    }
}

/// Wants `name` no more, and waits until it is unloaded and nothing of it is left to do.
pub(super) async fn unload(agent: &Agent, name: &AdapterName) -> Result<(), Failure> {
    if !agent.forget(name).await? {
        let message = format!("there is no adapter {name} that was asked for by these paths");
        return Err(Failure::new(StatusCode::NOT_FOUND, "AdapterNotFound", message));
    }
    let key = Declared::object_of(agent.namespace(), name);
    let gone = async {
        while agent.local().status(&key).is_some() {
            sleep(LOOK).await;
        }
    };
    let waited = timeout(UNLOAD, gone).await;
    waited.map_err(|_| Failure::for_now("Unloading", "the engine has not unloaded it yet; it is tried on"))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::WantedByController { .. } => Self::new(StatusCode::CONFLICT, error.reason(), error.to_string()),
            _ => Self::for_now(error.reason(), &error.to_string()),
        }
    }
}
