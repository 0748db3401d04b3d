//! A controller whose every answer the test gives.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use longshore_api::fleet;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::support::{PATIENCE, answer};

/// One request to the controller, to be answered by the test.
pub struct Call {
    pub path: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    pub reply: oneshot::Sender<Response>,
}

impl Call {
    pub fn last_event_id(&self) -> Option<&str> {
        self.headers.get("last-event-id").map(|value| value.to_str().unwrap())
    }

    /// Answers with a stream of events, which ends when the sender is dropped.
    pub fn stream(self) -> mpsc::UnboundedSender<String> {
        let (sender, receiver) = mpsc::unbounded_channel::<String>();
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            Some((Ok::<_, Infallible>(Bytes::from(receiver.recv().await?)), receiver))
        });
        let mut response = answer(StatusCode::OK, Body::from_stream(stream));
        response.headers_mut().insert("content-type", "text/event-stream; charset=utf-8".parse().unwrap());
        let _ = self.reply.send(response);
        sender
    }

    pub fn refuse(self, status: u16) {
        let _ = self.reply.send(answer(StatusCode::from_u16(status).unwrap(), ""));
    }
}

/// A controller whose every answer the test gives.
pub struct Controller {
    pub adapters: mpsc::UnboundedReceiver<Call>,
    pub engines: mpsc::UnboundedReceiver<Call>,
    pub demand: mpsc::UnboundedReceiver<Call>,
    pub url: String,
    server: JoinHandle<()>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.server.abort();
    }
}

type Senders = [mpsc::UnboundedSender<Call>; 3];

impl Controller {
    pub async fn start() -> Self {
        let (adapters_sender, adapters) = mpsc::unbounded_channel();
        let (engines_sender, engines) = mpsc::unbounded_channel();
        let (demand_sender, demand) = mpsc::unbounded_channel();
        let senders: Senders = [adapters_sender, engines_sender, demand_sender];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(call).with_state(Arc::new(senders));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { adapters, engines, demand, url, server }
    }
}

async fn call(State(senders): State<Arc<Senders>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let path = head.uri.to_string();
    let which = match head.uri.path() {
        "/v1/adapters" => 0,
        "/v1/engines" => 1,
        _ => 2,
    };
    let (reply, replied) = oneshot::channel();
    let _ = senders[which].send(Call { path, headers: head.headers, body, reply });
    replied.await.unwrap_or_else(|_| answer(StatusCode::SERVICE_UNAVAILABLE, ""))
}

pub async fn next(calls: &mut mpsc::UnboundedReceiver<Call>) -> Call {
    tokio::time::timeout(PATIENCE, calls.recv()).await.expect("the controller is called").unwrap()
}

pub fn adapter(name: &str) -> fleet::Adapter {
    fleet::Adapter {
        namespace: "default".into(),
        name: name.into(),
        phase: "Loading".into(),
        ..fleet::Adapter::default()
    }
}

pub fn snapshot(id: &str, names: &[&str]) -> String {
    let adapters = names.iter().map(|name| adapter(name)).collect();
    let list = fleet::AdapterList { revision: id.into(), adapters };
    format!("event: snapshot\nid: {id}\ndata: {}\n\n", serde_json::to_string(&list).unwrap())
}

pub fn upsert(id: &str, name: &str) -> String {
    format!("event: upsert\nid: {id}\ndata: {}\n\n", serde_json::to_string(&adapter(name)).unwrap())
}
