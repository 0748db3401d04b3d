//! Small engines, tables, and a running proxy.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use longshore_proxy::{Missing, Proxy, ProxyConfig};
use longshore_routing::{BaseRoute, Endpoint, NotReady, Route, RouteState, Table};
use longshore_types::{Address, Boot, Digest, EngineId, EngineKind, Namespace};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No test waits for so long unless something that it waits for never comes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What an engine has been asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;
type Handler = Arc<dyn Fn(Asked) -> Answer + Send + Sync>;

/// An engine that answers as it is told and remembers what it was asked.
pub struct Engine {
    pub name: &'static str,
    pub address: SocketAddr,
    asked: mpsc::UnboundedReceiver<Asked>,
    server: JoinHandle<()>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Engine {
    /// An engine whose answers `handler` gives.
    pub async fn with<F, A>(name: &'static str, handler: F) -> Self
    where
        F: Fn(Asked) -> A + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |asked| Box::pin(handler(asked)));
        let (sender, asked) = mpsc::unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(serve).with_state((sender, handler));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { name, address, asked, server }
    }

    /// An engine that always answers 200 with its own name.
    pub async fn ok(name: &'static str) -> Self {
        Self::with(name, move |_| async move { answer(StatusCode::OK, name) }).await
    }

    /// An engine that always gives this answer.
    pub async fn always(name: &'static str, status: u16, body: &'static str) -> Self {
        Self::with(name, move |_| async move { answer(StatusCode::from_u16(status).unwrap(), body) }).await
    }

    /// An engine at whose address nothing listens.
    pub async fn dead(name: &'static str) -> Self {
        let mut engine = Self::ok(name).await;
        engine.server.abort();
        let _ = (&mut engine.server).await;
        engine
    }

    /// The next thing that it has been asked.
    pub async fn asked(&mut self) -> Asked {
        tokio::time::timeout(PATIENCE, self.asked.recv()).await.expect("the engine is asked").unwrap()
    }

    /// Everything that it has been asked and that was not looked at.
    pub fn asked_so_far(&mut self) -> Vec<Asked> {
        std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
    }

    /// Where it is, for a table.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            engine: EngineId::new(Namespace::default_namespace(), self.name),
            boot: Boot::new("boot-1"),
            kind: EngineKind::Vllm,
            address: Address::new(self.address.ip().to_string(), self.address.port()),
            digest: Some(Digest::from_bytes([0xab; 32])),
            base_model: Some("tiny".parse().unwrap()),
            confirmation: Arc::from("1"),
        }
    }
}

async fn serve(State((sender, handler)): State<(mpsc::UnboundedSender<Asked>, Handler)>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else { return answer(StatusCode::BAD_REQUEST, "") };
    let path = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let asked = Asked { method: head.method, path, headers: head.headers, body };
    let _ = sender.send(asked.clone());
    handler(asked).await
}

/// A short answer.
pub fn answer(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

/// What vLLM answers for a model that it does not have.
pub fn lacks(model: &str) -> Response {
    let message = format!("The model `{model}` does not exist. Valid aliases: tiny.");
    let error = serde_json::json!({"message": message, "type": "NotFoundError", "param": "model", "code": 404});
    answer(StatusCode::NOT_FOUND, serde_json::json!({ "error": error }).to_string())
}

/// A body that comes from a channel, chunk by chunk.
pub fn streamed() -> (mpsc::UnboundedSender<&'static str>, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        let chunk: &'static str = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(Bytes::from(chunk)), receiver))
    });
    (sender, Body::from_stream(stream))
}

/// The adapter `name` in this state.
pub fn adapter(name: &str, state: RouteState) -> Route {
    Route {
        namespace: Namespace::default_namespace(),
        name: name.parse().unwrap(),
        artifact_url: Arc::from(format!("s3://bucket/{name}")),
        base_model: Some("tiny".parse().unwrap()),
        state,
    }
}

/// The adapter `name` on these engines.
pub fn on(name: &str, engines: &[&Engine]) -> Route {
    adapter(name, RouteState::Ready(engines.iter().map(|engine| engine.endpoint()).collect()))
}

/// The adapter `name`, declared and on no engine.
pub fn not_ready(name: &str, phase: &str, reason: &str, message: &str) -> Route {
    let retryable = phase != "Failed";
    adapter(
        name,
        RouteState::NotReady(NotReady {
            phase: phase.into(),
            reason: reason.into(),
            message: message.into(),
            retryable,
        }),
    )
}

/// The base model `tiny` on these engines.
pub fn base(engines: &[&Engine]) -> BaseRoute {
    let endpoints = engines.iter().map(|engine| Endpoint { digest: None, ..engine.endpoint() }).collect();
    BaseRoute { namespace: Namespace::default_namespace(), name: "tiny".parse().unwrap(), endpoints }
}

/// A table of these adapters and of the base model on all engines that they are on.
pub fn table(adapters: Vec<Route>, bases: Vec<BaseRoute>) -> Table {
    Table::new(adapters, bases)
}

/// A proxy that serves on a port of its own.
pub struct Router {
    pub address: SocketAddr,
    pub proxy: Proxy,
    pub tables: watch::Sender<Arc<Table>>,
    pub missing: mpsc::Receiver<Missing>,
    pub stop: CancellationToken,
    pub serving: JoinHandle<std::io::Result<()>>,
    pub client: Client<HttpConnector, Full<Bytes>>,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Router {
    pub async fn start(table: Table) -> Self {
        Self::configured(ProxyConfig::default(), table).await
    }

    pub async fn configured(config: ProxyConfig, table: Table) -> Self {
        Self::draining(config, table, PATIENCE).await
    }

    pub async fn draining(config: ProxyConfig, table: Table, drain: Duration) -> Self {
        let (tables, receiver) = watch::channel(Arc::new(table));
        let (report, missing) = mpsc::channel(16);
        let proxy = Proxy::new(config, receiver, Some(report));
        let mut router = Self::serving(proxy, drain).await;
        (router.tables, router.missing) = (tables, missing);
        router
    }

    /// A router of this proxy, whose tables and reports go elsewhere than through what is here.
    pub async fn with(proxy: Proxy) -> Self {
        Self::serving(proxy, PATIENCE).await
    }

    async fn serving(proxy: Proxy, drain: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(proxy.clone().serve(listener, stop.clone(), drain));
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (tables, missing) = (watch::Sender::new(Arc::new(Table::default())), mpsc::channel(1).1);
        Self { address, proxy, tables, missing, stop, serving, client }
    }

    /// What it measures, as it is scraped.
    pub fn metrics(&self) -> String {
        let mut registry = Registry::with_prefix("longshore_router");
        self.proxy.register_metrics(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    pub fn publish(&self, table: Table) {
        self.tables.send_replace(Arc::new(table));
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: http::Request<Full<Bytes>>) -> Answered {
        let response =
            tokio::time::timeout(PATIENCE, self.client.request(request)).await.expect("there is an answer").unwrap();
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("the answer ends").unwrap().to_bytes();
        Answered { status: head.status.as_u16(), headers: head.headers, body }
    }

    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        http::Request::builder().method(method).uri(format!("http://{}{path}", self.address))
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answered {
        self.send(self.request(Method::POST, path).body(Full::new(body.into())).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.send(self.request(Method::GET, path).body(Full::default()).unwrap()).await
    }

    /// Asks for a completion by `model`.
    pub async fn ask(&self, model: &str) -> Answered {
        self.post("/v1/completions", asking(model)).await
    }

    /// A connection of one's own, for what no client library would send.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes on a connection of their own and reads until the proxy closes it.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("the connection is closed")
            .unwrap();
        String::from_utf8(answer).unwrap()
    }
}

/// A completion request for `model`.
pub fn asking(model: &str) -> String {
    serde_json::json!({"model": model, "prompt": "hello"}).to_string()
}

/// A whole answer.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answered {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The status and `code` of an error, whose form is checked on the way.
    pub fn error(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert!(error["type"].is_string() && error.get("param").is_some(), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        (self.status, error["code"].as_str().unwrap().to_owned())
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}
