//! The HTTP side: the native API.

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use longshore_api::fleet::{ErrorBody, ErrorDetail};
use longshore_api::sidecar::{DesiredSet, InForce};
use longshore_cluster::fleet::{FleetApi, Guard, guarded, router as fleet_router};
use serde::Serialize;

use crate::agent::Agent;
use crate::error::Error;

/// The largest set: ten thousand adapters of 1.6 KB.
const BODY_LIMIT: usize = 16 << 20;

/// What the API answers from.
#[derive(Clone, Debug)]
pub struct Api {
    agent: Agent,
    guard: Guard,
}

impl Api {
    /// The API of `agent`, for whom `guard` admits.
    pub fn new(agent: Agent, guard: Guard) -> Self {
        Self { agent, guard }
    }
}

/// Every path that needs the guard: `/v1/desired`, `/v1/sidecar`, and the fleet API over the one engine.
pub fn router(api: Api) -> Router {
    let own = Router::new()
        .route("/v1/sidecar", get(sidecar))
        .route("/v1/desired", put(desire).get(in_force).layer(DefaultBodyLimit::max(BODY_LIMIT)))
        .with_state(api.agent.clone());
    let fleet = fleet_router(FleetApi::new(api.agent.fleet(), api.agent.demand()));
    guarded(own.merge(fleet), api.guard)
}

/// What tells our sidecar from others that listen on the same port.
#[derive(Serialize)]
struct About {
    sidecar: &'static str,
    version: &'static str,
    ready: bool,
    /// What readiness waits for.
    waiting: Vec<String>,
}

async fn sidecar(State(agent): State<Agent>) -> Response {
    let readiness = agent.readiness();
    let about = About {
        sidecar: "longshore",
        version: env!("CARGO_PKG_VERSION"),
        ready: readiness.ready,
        waiting: readiness.waiting,
    };
    Json(about).into_response()
}

async fn desire(State(agent): State<Agent>, set: Result<Json<DesiredSet>, JsonRejection>) -> Response {
    let Json(set) = match set {
        Ok(set) => set,
        Err(rejection) => {
            // Its words name fields and places, never values of theirs: but a value of a wrong type is quoted.
            let (status, problem) = (
                rejection.status(),
                "the body is not a desired set: stamp, namespace and adapters, each with name and artifactURL",
            );
            return failure(status, "BadRequest", problem.to_owned());
        }
    };
    match agent.desire(set).await {
        Ok(accepted) => Json(accepted).into_response(),
        Err(error) => {
            let status = match &error {
                Error::StaleStamp { .. } | Error::StampReused { .. } | Error::WantedByController { .. } => {
                    StatusCode::CONFLICT
                }
                Error::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
                Error::Record { .. } => StatusCode::SERVICE_UNAVAILABLE,
            };
            if error.is_transient() {
                tracing::warn!(error = &error as &dyn std::error::Error, "Cannot take in what a leader wants");
            }
            failure(status, error.reason(), error.to_string())
        }
    }
}

async fn in_force(State(agent): State<Agent>) -> Json<InForce> {
    Json(agent.in_force().await)
}

fn failure(status: StatusCode, code: &str, message: String) -> Response {
    let body = ErrorBody { error: ErrorDetail { code: code.to_owned(), message } };
    (status, Json(body)).into_response()
}
