//! What SageMaker calls in a container: `POST /adapters` and `DELETE /adapters/{name}`.

use std::collections::BTreeMap;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use axum::{Json, Router};
use longshore_types::AdapterName;
use serde::Deserialize;
use serde_json::json;

use super::Callers;
use super::outcome::{self, Failure};

/// The name that people know the adapter by, for messages.
const ALIAS: &str = "x-amzn-sagemaker-adapter-alias";

pub(super) fn routes(callers: Callers) -> Router {
    Router::new().route("/adapters", post(register)).route("/adapters/{name}", delete(unregister)).with_state(callers)
}

#[derive(Deserialize)]
struct Register {
    name: String,
    src: String,
    /// Adapters are loaded before they are answered for, in any case.
    #[serde(default = "yes", rename = "preload")]
    _preload: bool,
    /// Whatever is wanted here stays until it is taken back.
    #[serde(default, rename = "pin")]
    _pin: bool,
}

fn yes() -> bool {
    true
}

async fn register(
    State(callers): State<Callers>,
    headers: HeaderMap,
    body: Result<Json<Register>, JsonRejection>,
) -> Response {
    let registered = async {
        let Json(body) = body.map_err(|_| Failure::invalid("the body has to be JSON with name and src"))?;
        let credentials = callers.mounted(None).await.unwrap_or_else(|_| BTreeMap::new());
        let declared = callers.declared(&body.name, &body.src, credentials, None)?;
        outcome::load(&callers.agent, declared).await?;
        Ok(format!("Adapter {} registered", called(&headers, &body.name)).into_response())
    };
    registered.await.unwrap_or_else(|failure| fail(&failure))
}

async fn unregister(State(callers): State<Callers>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    let unregistered = async {
        let adapter = AdapterName::new(&name).map_err(|error| Failure::invalid(error.to_string()))?;
        outcome::unload(&callers.agent, &adapter).await?;
        Ok(format!("Adapter {} unregistered", called(&headers, &name)).into_response())
    };
    unregistered.await.unwrap_or_else(|failure| fail(&failure))
}

/// The name for people.
fn called<'a>(headers: &'a HeaderMap, name: &'a str) -> &'a str {
    headers.get(ALIAS).and_then(|alias| alias.to_str().ok()).filter(|alias| !alias.is_empty()).unwrap_or(name)
}

fn fail(failure: &Failure) -> Response {
    let status = match failure.status {
        // The platform's own clients know no other word for a request that makes no sense.
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        status => status,
    };
    let error = json!({"message": failure.message, "type": failure.reason, "param": null, "code": status.as_u16()});
    let mut response = (status, Json(json!({"error": error}))).into_response();
    if let Some(after) = failure.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
    }
    response
}
