//! The list of models, answered from the table.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{Response, StatusCode};
use longshore_routing::{Model, Table};
use serde::Serialize;

use crate::answer::{Problem, json};
use crate::body::ProxyBody;

/// `GET /v1/models`.
#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
}

/// One model, with the two fields that vLLM adds to OpenAI's.
#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    root: Option<&'a str>,
    parent: Option<&'a str>,
}

fn entry<'a>(model: &'a Model<'_>, created: u64) -> Entry<'a> {
    let Model { id, root, parent } = model;
    Entry { id, object: "model", created, owned_by: "longshore", root: *root, parent: *parent }
}

/// Everything that can be asked for now.
pub(crate) fn list(table: &Table) -> Result<Response<ProxyBody>, Problem> {
    if !table.is_known() {
        return Err(Problem::nothing_known());
    }
    let models: Vec<_> = table.models().collect();
    let created = now();
    let data = models.iter().map(|model| entry(model, created)).collect();
    Ok(json(StatusCode::OK, &List { object: "list", data }))
}

/// One model that can be asked for now.
pub(crate) fn one(table: &Table, id: &str) -> Result<Response<ProxyBody>, Problem> {
    if !table.is_known() {
        return Err(Problem::nothing_known());
    }
    let model = table.model(id).ok_or_else(|| Problem::unknown_model(id))?;
    Ok(json(StatusCode::OK, &entry(&model, now())))
}

/// `created` in seconds since the epoch: the time of the question, as vLLM answers.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
