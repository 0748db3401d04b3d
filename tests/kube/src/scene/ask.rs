//! Requests of clients.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::{ROUTER, SYSTEM};
use crate::Cluster;

/// The port on which the router's pods answer clients.
const PORT: u16 = 8080;

/// A router, as clients see it. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Router {
    base: String,
    client: reqwest::Client,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; null where that is no JSON.
    pub body: Value,
}

impl Answered {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The text of a completion, where there is one.
    pub fn text(&self) -> Option<&str> {
        self.body["choices"][0]["text"].as_str()
    }
}

impl Router {
    /// One of the installed ones that is Ready.
    pub async fn of(cluster: &Cluster) -> Self {
        Self::of_namespace(cluster, SYSTEM).await
    }

    /// Each of the installed ones that is Ready.
    pub async fn all(cluster: &Cluster) -> Vec<Self> {
        let pods = cluster.pods(SYSTEM, &format!("app.kubernetes.io/name={ROUTER}")).await;
        let addresses = pods.iter().filter_map(ready_address).filter_map(|address| address.parse().ok());
        addresses.map(|address| Self::at(SocketAddr::new(address, PORT))).collect()
    }

    /// The same of another namespace.
    pub async fn of_namespace(cluster: &Cluster, namespace: &str) -> Self {
        let labels = format!("app.kubernetes.io/name={ROUTER}");
        let address = cluster
            .wait_for("a router that is Ready", super::SOON, async || {
                let pods = cluster.pods(namespace, &labels).await;
                let addresses: Vec<_> = pods.iter().filter_map(ready_address).collect();
                addresses.first().cloned().ok_or_else(|| format!("{} pods, none Ready", pods.len()))
            })
            .await;
        let address = address.parse().unwrap_or_else(|error| panic!("{address}: {error}"));
        Self::at(SocketAddr::new(address, PORT))
    }

    /// The one that listens there.
    pub fn at(address: SocketAddr) -> Self {
        Self { base: format!("http://{address}"), client: reqwest::Client::new() }
    }

    /// Where it answers.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A completion of a few tokens by a model; with a bearer token, where there is one.
    pub async fn complete(&self, model: &str, key: Option<&str>) -> Answered {
        let body = json!({"model": model, "prompt": "San Francisco is a", "max_tokens": 8, "temperature": 0});
        let mut request = self.client.post(format!("{}/v1/completions", self.base)).json(&body);
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        self.answered(request).await
    }

    /// What it answers to a GET.
    pub async fn get(&self, path: &str) -> Answered {
        self.answered(self.client.get(format!("{}{path}", self.base))).await
    }

    /// The same with a bearer token.
    pub async fn get_as(&self, path: &str, token: &str) -> Answered {
        self.answered(self.client.get(format!("{}{path}", self.base)).bearer_auth(token)).await
    }

    async fn answered(&self, request: reqwest::RequestBuilder) -> Answered {
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => panic!("{}: {error}", self.base),
        };
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap_or_else(|error| panic!("{}: {error}", self.base));
        Answered { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null) }
    }
}

fn ready_address(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = pod.status.as_ref()?;
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    status.pod_ip.clone().filter(|_| ready)
}
