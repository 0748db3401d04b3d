//! Connections to the API server.

mod gate;

use std::path::{Path, PathBuf};

use axum::http::{HeaderValue, header};
use kube::Client;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::calls::REACH;
use super::fence::Fence;
use gate::{Bucket, GateLayer};

/// Where the API server is and who we are to it.
#[derive(Clone, Debug)]
pub struct Cluster(kube::Config);

/// How many requests are made at most. What is over that waits its turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    per_second: f64,
    burst: u32,
}

/// Why no API server can be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum NoCluster {
    /// The kubeconfig that was named cannot be used.
    #[error("the kubeconfig {} cannot be used", path.display())]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// There is neither a kubeconfig nor a pod's ServiceAccount.
    #[error("no cluster: not in a pod, and no kubeconfig to go by")]
    Nowhere(#[source] Box<kube::config::InferConfigError>),
    /// The name of this program is none for a header.
    #[error("the name of this program cannot be sent")]
    Agent(#[from] header::InvalidHeaderValue),
    /// No connection can be made with these settings.
    #[error("the settings of the cluster cannot be used")]
    Settings(#[source] Box<kube::Error>),
}

impl RateLimit {
    /// `per_second` requests in the long run, and `burst` at once where there was no request for a while. None where
    /// `per_second` is nothing that limits: not above zero.
    pub fn new(per_second: f64, burst: u32) -> Option<Self> {
        // A thousandth is one request in 17 minutes: nobody means less, and waits have to stay representable.
        (per_second > 0.0).then(|| Self { per_second: per_second.max(0.001), burst: burst.max(1) })
    }
}

impl Cluster {
    /// What `kubeconfig` says; where none is named, what KUBECONFIG or `~/.kube/config` says, else this pod's own
    /// ServiceAccount. The API server's audit log shows `agent`: `program/version`.
    ///
    /// # Errors
    /// [`NoCluster`]. The API server is not asked for anything yet.
    pub async fn find(kubeconfig: Option<&Path>, agent: &str) -> Result<Self, NoCluster> {
        let mut config = match kubeconfig {
            Some(path) => read(path).await?,
            None => kube::Config::infer().await.map_err(|error| NoCluster::Nowhere(Box::new(error)))?,
        };
        // A connection that takes longer could carry an effect to where another leads by then.
        config.connect_timeout = Some(REACH);
        // A watch is silent for minutes; every other call has a bound of its own.
        config.read_timeout = None;
        // Whoever calls decides itself when to try again; a loop below it would only hide that, for minutes.
        config.default_retry = false;
        config.headers.push((header::USER_AGENT, HeaderValue::from_str(agent)?));
        Ok(Self(config))
    }

    /// The namespace of the pod's ServiceAccount, or that the kubeconfig names.
    pub fn namespace(&self) -> &str {
        &self.0.default_namespace
    }

    /// A client that nothing holds back: for the Lease, which must not wait behind thousands of writes.
    ///
    /// # Errors
    /// [`NoCluster::Settings`].
    pub fn client(&self) -> Result<Client, NoCluster> {
        Client::try_from(self.0.clone()).map_err(|error| NoCluster::Settings(Box::new(error)))
    }

    /// A client for whoever leads as long as `fence` allows, with connections of its own. What has waited for its turn is
    /// looked at again before it goes: past the fence, only reads do.
    ///
    /// # Errors
    /// [`NoCluster::Settings`].
    pub fn fenced(&self, fence: Fence, limit: Option<RateLimit>) -> Result<Client, NoCluster> {
        let builder = ClientBuilder::try_from(self.0.clone()).map_err(|error| NoCluster::Settings(Box::new(error)))?;
        Ok(builder.with_layer(&GateLayer { fence, bucket: limit.map(Bucket::full) }).build())
    }
}

async fn read(path: &Path) -> Result<kube::Config, NoCluster> {
    let failed = |source| NoCluster::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let file = Kubeconfig::read_from(path).map_err(failed)?;
    kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: u, user: {token: hunter2}}]
contexts: [{name: here, context: {cluster: c, user: u, namespace: adapters}}]
";

    #[tokio::test]
    async fn a_kubeconfig_that_is_named_says_where_and_who_and_nothing_retries_or_times_out_below_us() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KUBECONFIG).unwrap();
        let cluster = Cluster::find(Some(file.path()), "longshore-test/1").await.unwrap();
        assert_eq!(cluster.namespace(), "adapters");
        let config = &cluster.0;
        assert_eq!((config.default_retry, config.read_timeout, config.connect_timeout), (false, None, Some(REACH)));
        assert!(config.headers.iter().any(|(name, value)| name == header::USER_AGENT && value == "longshore-test/1"));
        assert!(!format!("{cluster:?}").contains("hunter2"), "i8");
        assert!(cluster.client().is_ok());
        assert!(cluster.fenced(Fence::open(), RateLimit::new(5.0, 10)).is_ok());
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named() {
        let error = Cluster::find(Some(Path::new("/nowhere/config")), "longshore-test/1").await.unwrap_err();
        assert_eq!(error.to_string(), "the kubeconfig /nowhere/config cannot be used");
        assert!(error.source().is_some());
    }

    #[test]
    fn what_limits_nothing_is_no_limit() {
        for none in [0.0, -1.0, f64::NAN] {
            assert_eq!(RateLimit::new(none, 10), None);
        }
        assert_eq!(RateLimit::new(20.0, 0), Some(RateLimit { per_second: 20.0, burst: 1 }));
    }
}
