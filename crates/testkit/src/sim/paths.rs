//! Which path does what, in which version, and what the rest is answered.

use std::sync::Arc;

use http::header::{ALLOW, AUTHORIZATION, HOST, HeaderValue, LOCATION, VARY};
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::config::Version;
use super::errors::{self, Handler, Problem};
use super::forms::Form;
use super::generate;
use super::http::{self as bodies, Reply, json_reply, text_reply};
use super::life::Life;
use super::{forms, manage, metrics};
use crate::tiny;

#[derive(Clone, Copy)]
enum Route {
    Health,
    Ping,
    Version,
    ServerLoad,
    KvEventSources,
    Metrics,
    Models,
    Load,
    Unload,
    Register,
    Unregister,
    Generate(Form),
    Invocations,
    Tokenize,
    Detokenize,
    /// Something that this model cannot do, though the path is there: its name, and the fields that are looked for.
    Unable(&'static str, &'static [&'static str]),
}

/// The route of a path and the method that it takes.
fn route(path: &str, config: &super::SimConfig) -> Option<(Method, Route)> {
    let newer = config.version == Version::V0_32_0;
    let updating = config.runtime_updating;
    let sagemaker = newer && updating;
    let (get, post) = (Method::GET, Method::POST);
    Some(match path {
        "/health" => (get, Route::Health),
        "/ping" => (get, Route::Ping),
        "/version" => (get, Route::Version),
        "/load" => (get, Route::ServerLoad),
        "/kv_event_sources" if newer => (get, Route::KvEventSources),
        "/v1/models" => (get, Route::Models),
        "/v1/load_lora_adapter" if updating => (post, Route::Load),
        "/v1/unload_lora_adapter" if updating => (post, Route::Unload),
        "/adapters" if sagemaker => (post, Route::Register),
        "/v1/completions" => (post, Route::Generate(Form::Completion)),
        "/v1/chat/completions" => (post, Route::Generate(Form::Chat)),
        "/v1/responses" => (post, Route::Generate(Form::Responses)),
        "/v1/messages" if newer => (post, Route::Generate(Form::Messages)),
        "/invocations" => (post, Route::Invocations),
        "/tokenize" => (post, Route::Tokenize),
        "/detokenize" => (post, Route::Detokenize),
        _ if path.starts_with("/metrics") => (get, Route::Metrics),
        _ if sagemaker
            && path.strip_prefix("/adapters/").is_some_and(|name| !name.is_empty() && !name.contains('/')) =>
        {
            (Method::DELETE, Route::Unregister)
        }
        _ if newer => return None,
        "/v1/embeddings" => (post, Route::Unable("Embeddings", &["input"])),
        "/pooling" => (post, Route::Unable("Pooling", &["input"])),
        "/classify" => (post, Route::Unable("Classification", &["input"])),
        "/v1/score" | "/score" => (post, Route::Unable("Score", &["text_1", "text_2"])),
        "/v1/rerank" | "/v2/rerank" | "/rerank" => (post, Route::Unable("Rerank (Score)", &["query", "documents"])),
        "/v1/audio/transcriptions" => (post, Route::Unable("Transcriptions", &[])),
        "/v1/audio/translations" => (post, Route::Unable("Translations", &[])),
        _ => return None,
    })
}

/// Answers one request.
pub(super) async fn answer(life: &Arc<Life>, request: Request<Incoming>) -> Reply {
    let config = &life.config;
    let path = request.uri().path().to_owned();
    let guarded: &[&str] = match config.version {
        Version::V0_32_0 => &["/v1", "/v2", "/inference"],
        Version::V0_11_0 => &["/v1"],
    };
    if request.method() != Method::OPTIONS
        && guarded.iter().any(|prefix| path.starts_with(prefix))
        && !authorized(life, request.headers())
    {
        let mut reply = json_reply(StatusCode::UNAUTHORIZED, &json!({"error": "Unauthorized"}));
        // The check comes before the layer that adds this header.
        reply.headers_mut().remove(VARY);
        return reply;
    }
    let Some((method, route)) = route(&path, config) else { return not_found(config, &path, request.headers()) };
    let any = matches!(route, Route::Metrics) || (matches!(route, Route::Ping) && request.method() == Method::POST);
    if *request.method() != method && !any {
        let mut reply = errors::detail(StatusCode::METHOD_NOT_ALLOWED);
        let allow = HeaderValue::from_str(method.as_str()).expect("a method's name is a header's value");
        reply.headers_mut().insert(ALLOW, allow);
        return reply;
    }
    serve(life, route, &path, request).await
}

async fn serve(life: &Arc<Life>, route: Route, path: &str, request: Request<Incoming>) -> Reply {
    let mut faults = life.faults.clone();
    // The faults' sender outlives every life; without it there is nothing to wait for.
    match route {
        Route::Models => drop(faults.wait_for(|faults| !faults.hang_list).await),
        Route::Metrics => drop(faults.wait_for(|faults| !faults.hang_metrics).await),
        _ => {}
    }
    match route {
        Route::Health | Route::Ping => {
            let status = if life.is_dead() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            text_reply(status, None, "")
        }
        Route::Version => json_reply(StatusCode::OK, &json!({"version": life.config.version.as_str()})),
        Route::ServerLoad => json_reply(StatusCode::OK, &json!({"server_load": 0})),
        Route::KvEventSources => json_reply(StatusCode::OK, &json!({})),
        Route::Metrics => metrics::metrics(life),
        Route::Models => manage::models(life),
        Route::Load => manage::load(life, request).await,
        Route::Unload => manage::unload(life, request).await,
        Route::Register => manage::register(life, request).await,
        Route::Unregister => manage::unregister(life, &percent_decoded(&path["/adapters/".len()..])).await,
        Route::Generate(form) => generate::answer(life, form, request).await,
        Route::Invocations => generate::invoke(life, request).await,
        Route::Tokenize => tokens(life, request, true).await,
        Route::Detokenize => tokens(life, request, false).await,
        Route::Unable(task, fields) => unable(life, request, task, fields).await,
    }
}

fn authorized(life: &Life, headers: &HeaderMap) -> bool {
    let Some(key) = &life.config.api_key else { return true };
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, token) = given.split_once(' ').unwrap_or((given, ""));
    scheme.eq_ignore_ascii_case("bearer") && token == key.expose()
}

/// 404, or a redirect where only a slash at the end is too many.
fn not_found(config: &super::SimConfig, path: &str, headers: &HeaderMap) -> Reply {
    let trimmed = path.strip_suffix('/').filter(|trimmed| !trimmed.is_empty() && route(trimmed, config).is_some());
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let target = trimmed.zip(host).and_then(|(path, host)| HeaderValue::from_str(&format!("http://{host}{path}")).ok());
    let Some(target) = target else { return errors::detail(StatusCode::NOT_FOUND) };
    let mut reply = text_reply(StatusCode::TEMPORARY_REDIRECT, None, "");
    reply.headers_mut().insert(LOCATION, target);
    reply
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `/tokenize` and `/detokenize`.
async fn tokens(life: &Arc<Life>, request: Request<Incoming>, encode: bool) -> Reply {
    let config = &life.config;
    let (path, line, function) =
        if encode { ("/tokenize", 382, "tokenize") } else { ("/detokenize", 420, "detokenize") };
    let handler = Handler { path, file: "utils.py", line, function };
    let body = match bodies::read_object(request, config.version, &handler).await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let fields: &[&str] = if encode { &["prompt", "messages"] } else { &["tokens"] };
    if fields.iter().all(|field| body.get(*field).is_none()) {
        let missing: Vec<Problem> = fields.iter().map(|field| Problem::missing(field, &body)).collect();
        return errors::invalid(config.version, &handler, &missing);
    }
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if !model.is_empty() && model != config.base_name && life.find(model).is_none() {
        return errors::unknown_model(config.version, model, &config.base_name);
    }
    if !encode {
        let ids: Vec<u32> =
            body["tokens"].as_array().into_iter().flatten().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect();
        return json_reply(StatusCode::OK, &json!({"prompt": tiny::decode(&ids)}));
    }
    let text = match body.get("messages").and_then(Value::as_array) {
        Some(messages) => forms::chat(messages),
        None => body["prompt"].as_str().unwrap_or_default().to_owned(),
    };
    let tokens = tiny::encode(&text);
    let length = config.max_model_len;
    let answer = json!({"count": tokens.len(), "max_model_len": length, "tokens": tokens, "token_strs": null});
    json_reply(StatusCode::OK, &answer)
}

/// The older version serves paths for tasks that the model has not got, and answers them with status 200 and an error.
async fn unable(life: &Arc<Life>, request: Request<Incoming>, task: &str, fields: &[&str]) -> Reply {
    let version = life.config.version;
    if !fields.is_empty() {
        let handler = Handler { path: "/v1/embeddings", file: "utils.py", line: 668, function: "create_embedding" };
        let body = match bodies::read_object(request, version, &handler).await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let missing: Vec<Problem> =
            fields.iter().filter(|f| body.get(**f).is_none()).map(|f| Problem::missing(f, &body)).collect();
        if !missing.is_empty() {
            return errors::invalid(version, &handler, &missing);
        }
    }
    let message = format!("The model does not support {task} API");
    let body = json!({"error": {"message": message, "type": "BadRequestError", "param": null, "code": 400}});
    json_reply(StatusCode::OK, &body)
}
