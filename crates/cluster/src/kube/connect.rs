//! How the engine in a pod is reached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_engine::{BaseUrl, CONNECT_TIMEOUT, Engine, Models, Signals, Vllm, VllmConfig};
use longshore_types::{AdapterName, EngineId, EngineKind, Fault, Namespace, Scope, Secret};

use super::fence::Fence;
use super::pods::{Access, KeySource};
use super::secrets::SecretReader;
use crate::link::{Keys, Roots};

/// Makes the connection to the engine in a pod.
pub(super) trait Connect: Send + Sync + 'static {
    /// The engine at `access`, which a pod without an address does not have yet. Does not reach out to it.
    fn connect(&self, id: &EngineId, access: Option<&Access>) -> Arc<dyn Engine>;
}

/// A Secret that holds the key of engines whose pods name none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineKeySecret {
    /// Its name in each engine's namespace.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// A listing takes milliseconds; with less than this left for it, nothing is begun.
const LEAST_LISTING: Duration = Duration::from_millis(200);

/// Connects to pods, all through one client.
pub(super) struct ConnectPods {
    client: reqwest::Client,
    secrets: Arc<SecretReader>,
    fence: Fence,
    fallback: Option<EngineKeySecret>,
}

impl ConnectPods {
    /// `client` is shared by all engines.
    pub(super) fn new(
        client: reqwest::Client,
        secrets: Arc<SecretReader>,
        fence: Fence,
        fallback: Option<EngineKeySecret>,
    ) -> Self {
        Self { client, secrets, fence, fallback }
    }
}

impl Connect for ConnectPods {
    fn connect(&self, id: &EngineId, access: Option<&Access>) -> Arc<dyn Engine> {
        let Some(access) = access else {
            let message = format!("{id} has no address yet");
            return Arc::new(Refused(Fault::new(Scope::Transient, "NoAddress", message)));
        };
        if access.kind == EngineKind::Sglang {
            let message = format!("{id} is SGLang, which is not spoken yet: take it out of spec.podSelector");
            return Arc::new(Refused(Fault::new(Scope::Engine, "UnsupportedEngine", message)));
        }
        match access.base_url.parse() {
            Ok(base_url) => Arc::new(PodEngine {
                client: self.client.clone(),
                base_url,
                namespace: id.namespace.clone(),
                key: access.api_key.clone(),
                secrets: self.secrets.clone(),
                fence: self.fence.clone(),
                fallback: self.fallback.clone(),
            }),
            Err(error) => {
                let error: longshore_engine::Error = error;
                Arc::new(Refused(Fault::new(Scope::Engine, error.reason(), error.to_string())))
            }
        }
    }
}

/// An engine whose key may lie in a Secret, which is read when it is needed.
struct PodEngine {
    client: reqwest::Client,
    base_url: BaseUrl,
    namespace: Namespace,
    key: KeySource,
    secrets: Arc<SecretReader>,
    fence: Fence,
    fallback: Option<EngineKeySecret>,
}

impl PodEngine {
    async fn config(&self) -> Result<VllmConfig, Fault> {
        let mut api_key = self.secrets.of(&self.namespace, &self.key).await?;
        if let (None, Some(EngineKeySecret { name, key })) = (&api_key, &self.fallback) {
            api_key = match self.secrets.key(&self.namespace, name, key).await {
                // A namespace without that Secret has engines without a key.
                Err(fault) if fault.reason == "SecretNotFound" => None,
                other => Some(other?),
            };
        }
        Ok(VllmConfig { api_key, ..VllmConfig::new(self.base_url.clone()) })
    }

    /// To look at it.
    async fn reader(&self) -> Result<Vllm, Fault> {
        Ok(Vllm::new(self.client.clone(), self.config().await?))
    }

    /// To change it once, here and now. It is listed first, and then asked for the change: once a connection stands, the
    /// request is there. So the listing has what the fence leaves beside that.
    async fn writer(&self) -> Result<Vllm, Fault> {
        let config = self.config().await?;
        let left = self.fence.left().and_then(|left| left.checked_sub(CONNECT_TIMEOUT));
        let Some(left) = left.filter(|left| *left >= LEAST_LISTING) else {
            return Err(Fault::new(Scope::Transient, "NotLeading", "this process does not lead any more"));
        };
        let call_timeout = config.call_timeout.min(left);
        Ok(Vllm::new(self.client.clone(), VllmConfig { call_timeout, ..config }))
    }
}

#[async_trait]
impl Engine for PodEngine {
    async fn models(&self) -> Result<Models, Fault> {
        self.reader().await?.models().await
    }

    async fn signals(&self) -> Result<Signals, Fault> {
        self.reader().await?.signals().await
    }

    async fn load(&self, name: &AdapterName, path: &str, key: Option<&Secret>) -> Result<(), Fault> {
        self.writer().await?.load(name, path, key).await
    }

    async fn unload(&self, name: &AdapterName, key: Option<&Secret>) -> Result<(), Fault> {
        self.writer().await?.unload(name, key).await
    }
}

/// An engine that cannot be spoken to, and why.
pub(super) struct Refused(pub Fault);

#[async_trait]
impl Engine for Refused {
    async fn models(&self) -> Result<Models, Fault> {
        Err(self.0.clone())
    }
    async fn signals(&self) -> Result<Signals, Fault> {
        Err(self.0.clone())
    }
    async fn load(&self, _: &AdapterName, _: &str, _: Option<&Secret>) -> Result<(), Fault> {
        Err(self.0.clone())
    }
    async fn unload(&self, _: &AdapterName, _: Option<&Secret>) -> Result<(), Fault> {
        Err(self.0.clone())
    }
}

/// Nothing of ours lies where an engine without our sidecar could see it.
pub(super) struct NoStore;

impl Roots for NoStore {
    fn path_of(&self, digest: longshore_types::Digest) -> String {
        digest.to_string()
    }
    fn digest_of(&self, _: &str) -> Option<longshore_types::Digest> {
        None
    }
}

/// Secrets of one namespace, for what objects name.
pub(super) struct NamespaceKeys {
    pub namespace: Namespace,
    pub secrets: Arc<SecretReader>,
}

#[async_trait]
impl Keys for NamespaceKeys {
    async fn secret(&self, name: &str, key: &str) -> Result<Secret, Fault> {
        self.secrets.key(&self.namespace, name, key).await
    }
}

impl fmt::Debug for ConnectPods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectPods").field("fallback", &self.fallback).finish_non_exhaustive()
    }
}
