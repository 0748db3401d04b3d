//! Listing, loading and unloading.

use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::adapter::Refusal;
use super::config::Version;
use super::engine;
use super::errors::{self, Handler, Problem};
use super::faults::What;
use super::gauges::unix_now;
use super::http::{self as bodies, Reply, json_reply, text_reply};
use super::life::{Life, NotLoaded};
use super::python;

const LOAD: Handler =
    Handler { path: "/v1/load_lora_adapter", file: "openai/api_server.py", line: 1217, function: "load_lora_adapter" };
const UNLOAD: Handler = Handler {
    path: "/v1/unload_lora_adapter",
    file: "openai/api_server.py",
    line: 1229,
    function: "unload_lora_adapter",
};

/// `GET /v1/models`. `created` is the time of the call.
pub(super) fn models(life: &Life) -> Reply {
    let now = unix_now() as u64;
    let card = |index: usize, id: &str, root: &str, parent: Value, length: Value| {
        let permission = json!({
            "id": format!("modelperm-{:08x}{index:08x}", now & 0xffff_ffff),
            "object": "model_permission",
            "created": now,
            "allow_create_engine": false,
            "allow_sampling": true,
            "allow_logprobs": true,
            "allow_search_indices": false,
            "allow_view": true,
            "allow_fine_tuning": false,
            "organization": "*",
            "group": null,
            "is_blocking": false,
        });
        json!({
            "id": id,
            "object": "model",
            "created": now,
            "owned_by": "vllm",
            "root": root,
            "parent": parent,
            "max_model_len": length,
            "permission": [permission],
        })
    };
    let config = &life.config;
    let mut data = vec![card(0, &config.base_name, &config.base_root, Value::Null, json!(config.max_model_len))];
    for (index, lora) in life.adapters().iter().enumerate() {
        data.push(card(index + 1, &lora.name, &lora.path, json!(config.base_name), Value::Null));
    }
    json_reply(StatusCode::OK, &json!({"object": "list", "data": data}))
}

/// `POST /v1/load_lora_adapter`.
pub(super) async fn load(life: &Arc<Life>, request: Request<Incoming>) -> Reply {
    let version = life.config.version;
    let body = match bodies::read_object(request, version, &LOAD).await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let (mut problems, strings) = strings(&body, &["lora_name", "lora_path"]);
    let inplace = flag(&body, "load_inplace").filter(|_| version == Version::V0_32_0);
    if let Some(Err(problem)) = &inplace {
        problems.push(problem.clone());
    }
    let [name, path] = strings.as_slice() else { return errors::invalid(version, &LOAD, &problems) };
    if !problems.is_empty() {
        return errors::invalid(version, &LOAD, &problems);
    }
    let inplace = matches!(inplace, Some(Ok(true)));
    finish_load(life, name, path, inplace).await
}

/// `POST /adapters`, the form of SageMaker.
pub(super) async fn register(life: &Arc<Life>, request: Request<Incoming>) -> Reply {
    let version = life.config.version;
    let bytes = bodies::read(request).await;
    let body = python::parse(&String::from_utf8_lossy(&bytes)).unwrap_or_else(|_| json!(""));
    let mut problems = Vec::new();
    let mut values = Vec::new();
    for field in ["name", "src"] {
        let (kind, message, input, context) = match body.get(field) {
            Some(Value::String(text)) if text.is_empty() => {
                let why = format!("The parameter {field} cannot be an empty string");
                let context = format!(",\"ctx\":{{\"error\":\"{why}\"}}");
                ("value_error", format!("Value error, {why}"), json!(""), context)
            }
            Some(Value::String(text)) => {
                values.push(text.clone());
                continue;
            }
            Some(other) => ("string_type", "Input should be a valid string".into(), other.clone(), String::new()),
            None => ("missing", "Field required".into(), body.clone(), String::new()),
        };
        let head = format!("\"type\":\"{kind}\",\"loc\":[\"{field}\"],\"msg\":\"{message}\"");
        problems.push(format!("{{{head},\"input\":{input}{context}}}"));
    }
    let [name, path] = values.as_slice() else {
        let message = format!("[{}]", problems.join(","));
        return errors::error(version, StatusCode::BAD_REQUEST, "Bad Request", None, &message);
    };
    let reply = finish_load(life, name, path, false).await;
    if reply.status() == StatusCode::OK {
        return text_reply(StatusCode::OK, None, format!("Adapter {name} registered"));
    }
    reply
}

/// Loads whether or not the caller waits: a client that gives up does not stop a load.
async fn finish_load(life: &Arc<Life>, name: &str, path: &str, inplace: bool) -> Reply {
    let (life, name, path) = (Arc::clone(life), name.to_owned(), path.to_owned());
    let work = tokio::spawn(async move {
        let (status, kind, text) = try_load(&life, &name, &path, inplace).await;
        life.record(What::Load, &name, &path, status.as_u16(), text.clone());
        match kind {
            None => text_reply(status, None, text),
            Some(Kind::Error(kind)) => errors::error(life.config.version, status, kind, None, &text),
            Some(Kind::Dead) => errors::dead(life.config.version, true),
        }
    });
    work.await.unwrap_or_else(|_| errors::crashed())
}

enum Kind {
    Error(&'static str),
    Dead,
}

async fn try_load(life: &Arc<Life>, name: &str, path: &str, inplace: bool) -> (StatusCode, Option<Kind>, String) {
    let version = life.config.version;
    let refused = |text: String| (StatusCode::BAD_REQUEST, Some(Kind::Error("InvalidUserInput")), text);
    let made_up = life.faults.borrow().load_answer.clone();
    if let Some(answer) = made_up {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return (status, Some(Kind::Error("InternalServerError")), answer.text);
    }
    let lock = life.name_lock(name);
    let _held = lock.lock().await;
    if name.is_empty() || path.is_empty() {
        return refused("Both 'lora_name' and 'lora_path' must be provided.".into());
    }
    if version == Version::V0_32_0 && name == life.config.base_name {
        return refused(format!("The lora adapter '{name}' conflicts with a served base model."));
    }
    let known = life.find(name);
    if known.is_some() && !inplace {
        let hint = match version {
            Version::V0_32_0 => " If you want to load the adapter in place, set 'load_inplace' to True.",
            Version::V0_11_0 => "",
        };
        return refused(format!("The lora adapter '{name}' has already been loaded.{hint}"));
    }
    let mut lora = life.new_lora(name, path, inplace);
    // In place means under the number that it has.
    lora.number = known.map_or(lora.number, |known| known.number);
    match life.add(lora.clone()).await {
        Ok(()) => {
            life.insert(lora);
            (StatusCode::OK, None, format!("Success: LoRA adapter '{name}' added successfully."))
        }
        Err(NotLoaded::Dead) => {
            let status = errors::dead(version, true).status();
            (status, Some(Kind::Dead), "the engine is dead".into())
        }
        Err(NotLoaded::Refused(refusal)) => {
            let text = engine::explain(&lora, &refusal);
            match (version, refusal) {
                (Version::V0_32_0, Refusal::NotFound) => {
                    (StatusCode::NOT_FOUND, Some(Kind::Error("NotFoundError")), text)
                }
                (Version::V0_11_0, Refusal::NotFound) => {
                    let text = format!("Call to add_lora method failed: {text}");
                    (StatusCode::NOT_FOUND, Some(Kind::Error("NotFoundError")), text)
                }
                (Version::V0_32_0, Refusal::Invalid(_)) => {
                    let text = format!(
                        "Call to add_lora method failed: Worker failed with error '{text}', please check the stack \
                         trace above for the root cause"
                    );
                    (StatusCode::INTERNAL_SERVER_ERROR, Some(Kind::Error("InternalServerError")), text)
                }
                (Version::V0_11_0, Refusal::Invalid(_)) => {
                    let text = format!("Call to add_lora method failed: {text}");
                    (StatusCode::BAD_REQUEST, Some(Kind::Error("BadRequestError")), text)
                }
            }
        }
    }
}

/// `POST /v1/unload_lora_adapter`.
pub(super) async fn unload(life: &Arc<Life>, request: Request<Incoming>) -> Reply {
    let version = life.config.version;
    let body = match bodies::read_object(request, version, &UNLOAD).await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let (problems, strings) = strings(&body, &["lora_name"]);
    let [name] = strings.as_slice() else { return errors::invalid(version, &UNLOAD, &problems) };
    finish_unload(life, name, format!("Success: LoRA adapter '{name}' removed successfully.")).await
}

/// `DELETE /adapters/{name}`, the form of SageMaker.
pub(super) async fn unregister(life: &Arc<Life>, name: &str) -> Reply {
    finish_unload(life, name, format!("Adapter {name} unregistered")).await
}

/// Takes the name out of the list and answers. It waits neither for running requests nor for the engine.
async fn finish_unload(life: &Arc<Life>, name: &str, success: String) -> Reply {
    let version = life.config.version;
    let lock = life.name_lock(name);
    let _held = lock.lock().await;
    let (status, kind, text) = if name.is_empty() {
        let text = "'lora_name' needs to be provided to unload a LoRA adapter.".to_owned();
        (StatusCode::BAD_REQUEST, Some("InvalidUserInput"), text)
    } else if life.remove(name) {
        (StatusCode::OK, None, success)
    } else {
        (StatusCode::NOT_FOUND, Some("NotFoundError"), format!("The lora adapter '{name}' cannot be found."))
    };
    life.record(What::Unload, name, "", status.as_u16(), text.clone());
    match kind {
        None => text_reply(status, None, text),
        Some(kind) => errors::error(version, status, kind, None, &text),
    }
}

/// The values of these fields, and what is wrong with them. Where nothing is, there is a value for each.
fn strings(body: &Value, fields: &[&str]) -> (Vec<Problem>, Vec<String>) {
    let mut problems = Vec::new();
    let mut values = Vec::new();
    for field in fields {
        match body.get(*field) {
            Some(Value::String(text)) => values.push(text.clone()),
            Some(other) => {
                problems.push(Problem::of("string_type", Some(field), "Input should be a valid string", other));
            }
            None => problems.push(Problem::missing(field, body)),
        }
    }
    (problems, values)
}

/// A truth value as pydantic takes it.
fn flag(body: &Value, field: &str) -> Option<Result<bool, Problem>> {
    let value = body.get(field)?;
    let word = match value {
        Value::Bool(flag) => return Some(Ok(*flag)),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.to_lowercase(),
        other => return Some(Err(Problem::of("bool_type", Some(field), "Input should be a valid boolean", other))),
    };
    Some(match word.as_str() {
        "1" | "true" | "t" | "yes" | "y" | "on" => Ok(true),
        "0" | "false" | "f" | "no" | "n" | "off" => Ok(false),
        _ => {
            let message = "Input should be a valid boolean, unable to interpret input";
            Err(Problem::of("bool_parsing", Some(field), message, value))
        }
    })
}
