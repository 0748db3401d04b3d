//! Servers that answer as vLLM does, or as nobody should.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use longshore_engine::{Vllm, VllmConfig, http_client};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const BASE: &str = "tiny-base";
pub const MODELS: &str = "/v1/models";
pub const METRICS: &str = "/metrics";
pub const HEALTH: &str = "/health";
pub const LOAD: &str = "/v1/load_lora_adapter";
pub const UNLOAD: &str = "/v1/unload_lora_adapter";

/// Which vLLM it answers as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V0_11,
    V0_32,
}

/// What it says to a path instead of what that vLLM would.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status and body.
    Say(u16, String),
    /// This status and body, with `{key}` standing for the bearer token that came with the request.
    Echo(u16, &'static str),
    /// Nothing, ever.
    Hang,
    /// It does what is asked, and never says so.
    DoAndHang,
    /// It does what is asked, and says this.
    DoAndSay(u16, String),
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub key: Option<String>,
    pub body: Value,
}

#[derive(Default)]
struct Inner {
    adapters: BTreeMap<String, String>,
    answers: BTreeMap<&'static str, Answer>,
    seen: Vec<Seen>,
}

pub struct Server {
    address: SocketAddr,
    version: Version,
    inner: Arc<Mutex<Inner>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(version: Version) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner::default()));
        let app = Router::new().fallback(handle).with_state((version, Arc::clone(&inner)));
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, version, inner, task }
    }

    pub fn engine(&self) -> Vllm {
        self.engine_with(|_| {})
    }

    pub fn engine_with(&self, set: impl FnOnce(&mut VllmConfig)) -> Vllm {
        engine_at(self.address, set)
    }

    /// From now on `path` is answered so.
    pub fn answer(&self, path: &'static str, answer: Answer) {
        self.inner.lock().unwrap().answers.insert(path, answer);
    }

    pub fn put(&self, name: &str, root: &str) {
        self.inner.lock().unwrap().adapters.insert(name.into(), root.into());
    }

    pub fn adapters(&self) -> BTreeMap<String, String> {
        self.inner.lock().unwrap().adapters.clone()
    }

    pub fn seen(&self, path: &str) -> Vec<Seen> {
        self.inner.lock().unwrap().seen.iter().filter(|seen| seen.path == path).cloned().collect()
    }

    pub fn version(&self) -> Version {
        self.version
    }
}

/// An engine with timeouts that no healthy call comes near, however slow the machine.
pub fn engine_at(address: SocketAddr, set: impl FnOnce(&mut VllmConfig)) -> Vllm {
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut config = VllmConfig::new(format!("http://{address}").parse().unwrap());
    config.call_timeout = std::time::Duration::from_secs(60);
    config.unload_timeout = config.call_timeout;
    config.load_timeout = config.call_timeout;
    set(&mut config);
    Vllm::new(http_client().unwrap(), config)
}

async fn handle(
    State((version, inner)): State<(Version, Arc<Mutex<Inner>>)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let key = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let answer = {
        let mut inner = inner.lock().unwrap();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        inner.seen.push(Seen { path: uri.path().into(), key: key.clone(), body });
        inner.answers.get(uri.path()).cloned()
    };
    let say = |status: u16, text: String| (StatusCode::from_u16(status).unwrap(), text).into_response();
    match answer {
        None => respond(version, &inner, &method, uri.path(), &body),
        Some(Answer::Say(status, text)) => say(status, text),
        Some(Answer::Echo(status, text)) => {
            let key = key.unwrap_or_default();
            let text = text.replace("{key}", key.trim_start_matches("Bearer "));
            let location = format!("/elsewhere?key={}", key.trim_start_matches("Bearer "));
            (StatusCode::from_u16(status).unwrap(), [(header::LOCATION, location)], text).into_response()
        }
        Some(Answer::Hang) => std::future::pending().await,
        Some(Answer::DoAndHang) => {
            respond(version, &inner, &method, uri.path(), &body);
            std::future::pending().await
        }
        Some(Answer::DoAndSay(status, text)) => {
            respond(version, &inner, &method, uri.path(), &body);
            say(status, text)
        }
    }
}

pub fn error(message: &str, kind: &str, code: u16) -> String {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string()
}

fn respond(version: Version, inner: &Mutex<Inner>, method: &Method, path: &str, body: &[u8]) -> Response {
    let mut inner = inner.lock().unwrap();
    let no = |status: u16, kind: &str, message: String| {
        (StatusCode::from_u16(status).unwrap(), error(&message, kind, status)).into_response()
    };
    if *method == Method::GET {
        return match path {
            MODELS => {
                let mut data = vec![json!({"id": BASE, "object": "model", "root": "/m", "parent": null})];
                data.extend(inner.adapters.iter().map(
                    |(id, root)| json!({"id": id, "object": "model", "root": root, "parent": BASE, "max_model_len": null}),
                ));
                json!({"object": "list", "data": data}).to_string().into_response()
            }
            METRICS => include_str!("../fixtures/metrics-idle.txt").into_response(),
            HEALTH => ().into_response(),
            _ => (StatusCode::NOT_FOUND, r#"{"detail":"Not Found"}"#).into_response(),
        };
    }
    let body: Value = serde_json::from_slice(body).unwrap();
    let name = body["lora_name"].as_str().unwrap().to_owned();
    match path {
        LOAD if name == BASE && version == Version::V0_32 => {
            no(400, "InvalidUserInput", format!("The lora adapter '{name}' conflicts with a served base model."))
        }
        LOAD if inner.adapters.contains_key(&name) => {
            let advice = match version {
                Version::V0_11 => "",
                Version::V0_32 => " If you want to load the adapter in place, set 'load_inplace' to True.",
            };
            no(400, "InvalidUserInput", format!("The lora adapter '{name}' has already been loaded.{advice}"))
        }
        LOAD => {
            let path = body["lora_path"].as_str().unwrap().to_owned();
            let text = format!("Success: LoRA adapter '{name}' added successfully.");
            inner.adapters.insert(name, path);
            text.into_response()
        }
        UNLOAD if inner.adapters.remove(&name).is_some() => {
            format!("Success: LoRA adapter '{name}' removed successfully.").into_response()
        }
        UNLOAD => no(404, "NotFoundError", format!("The lora adapter '{name}' cannot be found.")),
        _ => (StatusCode::NOT_FOUND, r#"{"detail":"Not Found"}"#).into_response(),
    }
}

/// A server below HTTP: it reads a request's head, writes the bytes that `answer` gives for its path, and says
/// no more.
pub async fn raw(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            // The client may be gone already, having read enough.
            let _ = stream.write_all(&answer(path)).await;
            let _ = stream.shutdown().await;
            // Closing with a part of the request unread would reset the connection, and the answer with it.
            while stream.read_buf(&mut Vec::with_capacity(1024)).await.is_ok_and(|length| length > 0) {}
        }
    });
    (address, task)
}

/// A whole answer, for [`raw`].
pub fn whole(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// What [`MODELS`] says of an engine without adapters.
pub fn base_only() -> String {
    json!({"object": "list", "data": [{"id": BASE, "root": "/m", "parent": null}]}).to_string()
}
