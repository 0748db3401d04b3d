//! Which API server, and as whom.

use std::time::Duration;

use http::{HeaderValue, header};

/// An API server that does not accept a connection within this time is taken for away.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum NoCluster {
    /// Neither a kubeconfig nor a ServiceAccount's files say where the API server is.
    #[error("no cluster is known: neither KUBECONFIG, nor ~/.kube/config, nor a pod's ServiceAccount can be read")]
    Config(#[from] kube::config::InferConfigError),
    /// What they say cannot be used.
    #[error("the cluster's settings cannot be used")]
    Client(#[from] kube::Error),
    /// The name of this program cannot be sent.
    #[error("the name of this program cannot be sent to an API server")]
    Agent(#[from] header::InvalidHeaderValue),
}

/// A client for the cluster that `KUBECONFIG`, `~/.kube/config` or the pod's own ServiceAccount names, in this order.
/// `agent` is what the API server's audit log calls this program: `longshore-router/0.1.0`.
///
/// # Errors
/// None of the three can be used. Whether the API server answers is not asked.
pub async fn connect(agent: &str) -> Result<kube::Client, NoCluster> {
    let mut config = kube::Config::infer().await?;
    config.connect_timeout = Some(CONNECT_WITHIN);
    // Whoever follows a list decides itself when to ask again.
    config.default_retry = false;
    config.headers.push((header::USER_AGENT, HeaderValue::from_str(agent)?));
    Ok(kube::Client::try_from(config)?)
}
