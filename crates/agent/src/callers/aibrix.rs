//! The paths of AIBrix's runtime sidecar (0.8.0), so that a controller written for it works with this one.
//!
//! What differs, on purpose: a failure has the status that it means instead of 500; an unload that the engine refused is
//! not called a success; `/ready` speaks of adapters; names are checked before anything is done with them; and nothing is
//! deleted that an engine may still read.

use std::collections::BTreeMap;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use longshore_types::{AdapterName, Secret};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Callers;
use super::outcome::{self, Failure};
use crate::agent::Agent;

/// A service account's key is 2.4 KB; this is room for many.
const BODY_LIMIT: usize = 1 << 20;

/// The key of `additional_config` that holds the engine's bearer token.
const API_KEY: &str = "api-key";

pub(super) fn probes(agent: Agent) -> Router {
    Router::new().route("/ready", get(ready)).with_state(agent)
}

pub(super) fn routes(callers: Callers) -> Router {
    let unsupported = async || {
        let message = "this sidecar looks after adapters; full models are not its business";
        fail(&Failure::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message))
    };
    Router::new()
        .route("/v1/lora_adapter/load", post(load))
        .route("/v1/lora_adapter/unload", post(unload))
        .route("/v1/models", get(models))
        .route("/v1/model/download", post(unsupported))
        .route("/v1/model/list", get(unsupported))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(callers)
}

async fn ready(State(agent): State<Agent>) -> Response {
    let readiness = agent.readiness();
    if readiness.ready {
        return Json(json!({"status": "ready"})).into_response();
    }
    let body = json!({"status": "not ready", "waiting": readiness.waiting});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

/// By an artifact that is fetched here, or by a path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    lora_name: String,
    artifact_url: Option<String>,
    lora_path: Option<String>,
    credentials_secret: Option<String>,
    #[serde(default)]
    credentials: Option<BTreeMap<String, String>>,
    #[serde(default)]
    additional_config: Option<BTreeMap<String, String>>,
    /// Taken and not used, as there: the store is where it is.
    #[serde(rename = "local_dir")]
    _local_dir: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unload {
    lora_name: String,
    /// Files go when nothing can read them any more, whatever is asked.
    #[serde(rename = "cleanup_local")]
    _cleanup_local: Option<bool>,
    #[serde(rename = "lora_int_id")]
    _lora_int_id: Option<i64>,
}

async fn load(State(callers): State<Callers>, body: Result<Json<Load>, JsonRejection>) -> Response {
    match try_load(&callers, body).await {
        Ok(response) => response,
        Err(failure) => fail(&failure),
    }
}

async fn try_load(callers: &Callers, body: Result<Json<Load>, JsonRejection>) -> Result<Response, Failure> {
    let load = understood(body, "lora_name with artifact_url or lora_path")?;
    let (url, is_path) = match (&load.artifact_url, &load.lora_path) {
        (Some(url), None) => (url, false),
        (None, Some(path)) if path.starts_with('/') => (path, true),
        (None, Some(_)) => return Err(Failure::invalid("lora_path must be an absolute path")),
        _ => return Err(Failure::invalid("give either artifact_url or lora_path")),
    };
    let mut credentials = BTreeMap::new();
    if !is_path {
        credentials = callers.mounted(load.credentials_secret.as_deref()).await?;
        let given = load.credentials.into_iter().flatten();
        credentials.extend(given.map(|(name, value)| (name, Secret::new(value))));
    }
    let engine_key = load.additional_config.unwrap_or_default().remove(API_KEY).map(Secret::new);
    let name = load.lora_name;
    let adapter = outcome::load(&callers.agent, callers.declared(&name, url, credentials, engine_key)?).await?;
    let engine_says = format!("Success: LoRA adapter '{name}' added successfully.");
    if is_path {
        return Ok(engine_says.into_response());
    }
    let local_path = adapter.digest.as_deref().and_then(|digest| callers.agent.path_of(digest));
    let answer = json!({
        "status": "success",
        "message": format!("LoRA adapter '{name}' is loaded"),
        "local_path": local_path,
        "engine_response": {"message": engine_says},
    });
    Ok(Json(answer).into_response())
}

async fn unload(State(callers): State<Callers>, body: Result<Json<Unload>, JsonRejection>) -> Response {
    let unloaded = async {
        let unload = understood(body, "lora_name")?;
        let name = AdapterName::new(&unload.lora_name).map_err(|error| Failure::invalid(error.to_string()))?;
        outcome::unload(&callers.agent, &name).await?;
        let message = format!("LoRA adapter '{name}' is unloaded");
        Ok(Json(json!({"status": "success", "message": message})).into_response())
    };
    unloaded.await.unwrap_or_else(|failure| fail(&failure))
}

/// What the engine lists, in the form that it lists it in.
async fn models(State(callers): State<Callers>) -> Response {
    match callers.engine.models().await {
        Ok(models) => {
            let base = models.base.first().map(|base| base.id.clone());
            let model = |id: &str, root: &str, parent: Option<&String>| json!({"id": id, "object": "model", "owned_by": "vllm", "root": root, "parent": parent});
            let bases = models.base.iter().map(|one| model(&one.id, &one.root, None));
            let adapters = models.adapters.iter().map(|one| model(&one.id, &one.root, base.as_ref()));
            let data: Vec<Value> = bases.chain(adapters).collect();
            Json(json!({"object": "list", "data": data})).into_response()
        }
        Err(fault) => fail(&Failure::new(StatusCode::BAD_GATEWAY, fault.reason, fault.message)),
    }
}

/// The body, where it is one. What the parser says quotes values, which may be secrets (I8).
fn understood<T>(body: Result<Json<T>, JsonRejection>, wanted: &str) -> Result<T, Failure> {
    body.map(|Json(body)| body).map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", format!("the body is over {BODY_LIMIT} bytes"))
        }
        _ => Failure::invalid(format!("the body has to be JSON with {wanted}, and no field that nobody knows")),
    })
}

/// AIBrix's `ErrorResponse`, and our own words beside it.
fn fail(failure: &Failure) -> Response {
    let kind = match failure.status.as_u16() {
        403 => "PermissionError",
        404 => "NotFoundError",
        409 => "ConflictError",
        400 | 413 | 422 => "ValidationError",
        501 => "NotImplementedError",
        502 => "ConnectionError",
        _ => "ServerError",
    };
    let body = json!({
        "object": "error",
        "message": failure.message,
        "type": kind,
        "param": null,
        "code": failure.status.as_u16(),
        "reason": failure.reason,
        "transient": failure.is_transient(),
    });
    let mut response = (failure.status, Json(body)).into_response();
    if let Some(after) = failure.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
    }
    response
}
