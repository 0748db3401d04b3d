//! What the body of a test does to its cluster, and sees of it.

mod outage;
mod processes;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Config};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

pub use outage::Outage;

use crate::audit::{self, AuditEntry};
use crate::inside::DIR;

/// Longest wait for a kubectl: longer than its own longest, of `kubectl wait`, that tests ask for.
const KUBECTL_WITHIN: Duration = Duration::from_secs(180);
/// How often conditions are looked at.
const POLL: Duration = Duration::from_millis(10);
/// Everything of this range is the test's own to listen on, and pods reach it there.
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 245, 0, 0);

/// A cluster. Clones are the same one.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    config: Config,
    /// The kit's folder, where it is the kit's cluster.
    dir: Option<Arc<Path>>,
    addresses: Arc<AtomicU32>,
}

/// What a program said, and how it ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Said {
    /// Its output, where it ended well.
    ///
    /// # Panics
    /// Where it did not, with all that it said.
    pub fn expect_success(self) -> String {
        assert!(self.status.success(), "{}: {}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// What it said about its failure.
    ///
    /// # Panics
    /// Where it ended well.
    pub fn expect_failure(self) -> String {
        assert!(!self.status.success(), "it should have failed: {}{}", self.stdout, self.stderr);
        self.stderr
    }
}

impl Cluster {
    /// The kit's, in which this process runs.
    pub(crate) async fn of_the_kit() -> Self {
        let dir = std::env::var_os(DIR).map(PathBuf::from).unwrap_or_else(|| panic!("the kit sets {DIR}"));
        Self::connect(Some(dir)).await
    }

    /// The one of `KUBECONFIG`.
    pub(crate) async fn of_kubeconfig() -> Self {
        Self::connect(None).await
    }

    async fn connect(dir: Option<PathBuf>) -> Self {
        let mut config = Config::infer().await.unwrap_or_else(|error| panic!("KUBECONFIG: {error}"));
        // A call that waits for an API server which a test has stopped is meant to wait.
        config.read_timeout = None;
        let client = Client::try_from(config.clone()).unwrap_or_else(|error| panic!("KUBECONFIG: {error}"));
        Self { client, config, dir: dir.map(Arc::from), addresses: Arc::new(AtomicU32::new(1)) }
    }

    /// The administrator's client. What it does is not in the audit log.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// An `Api` of a kind of object in a namespace, for the administrator.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType: Default>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn kit_dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The folder with the cluster's files: `logs/`, `pods/`, `kubeconfig` and so on.
    ///
    /// # Panics
    /// Where the cluster is not the kit's.
    pub fn dir(&self) -> &Path {
        self.kit_dir().unwrap_or_else(|| panic!("this needs the kit: take `any_cluster` out of the test's options"))
    }

    /// A folder that every container sees live under this same path. Of the rest of the machine a container sees a copy
    /// as of its start.
    pub fn shared(&self) -> PathBuf {
        self.dir().join("shared")
    }

    /// What stands for the hub that engines download from by themselves: `org/name` is its folder `org/name`.
    pub fn hub(&self) -> PathBuf {
        self.shared().join("hub")
    }

    /// An address that nobody else has been given, on which this process can listen and which pods reach.
    pub fn local_address(&self) -> Ipv4Addr {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed);
        assert!(number < 1 << 16, "the range has no more addresses");
        Ipv4Addr::from_bits(LOCAL.to_bits() + number)
    }

    /// `kubectl` as the administrator.
    pub async fn kubectl(&self, args: &[&str]) -> Said {
        self.kubectl_with(args, "").await
    }

    /// The same with something on its standard input.
    pub async fn kubectl_with(&self, args: &[&str], stdin: &str) -> Said {
        let run = async {
            let mut child = tokio::process::Command::new("kubectl")
                .args(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            if let Some(mut pipe) = child.stdin.take() {
                // It may end without reading all of it, and then says why.
                let _ = pipe.write_all(stdin.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        match timeout(KUBECTL_WITHIN, run).await {
            Ok(Ok(output)) => Said {
                status: output.status,
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            },
            Ok(Err(error)) => panic!("kubectl {}: {error}", args.join(" ")),
            Err(_) => panic!("kubectl {} takes more than {} s", args.join(" "), KUBECTL_WITHIN.as_secs()),
        }
    }

    /// `kubectl apply --server-side` of one or more documents; what it said.
    pub async fn apply(&self, yaml: &str) -> String {
        self.kubectl_with(&["apply", "--server-side", "-f", "-"], yaml).await.expect_success()
    }

    /// `kubectl apply --server-side -k` of a folder of the workspace, such as `deploy`.
    pub async fn apply_folder(&self, folder: &str) -> String {
        let path = crate::kit::sources().join("../..").join(folder);
        self.kubectl(&["apply", "--server-side", "-k", &path.to_string_lossy()]).await.expect_success()
    }

    /// A new namespace, in which pods can be made at once. On a cluster that is not the kit's it is the test's to delete.
    pub async fn namespace(&self, prefix: &str) -> String {
        let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let asked = Namespace { metadata, ..Namespace::default() };
        let made = Api::all(self.client.clone()).create(&PostParams::default(), &asked).await;
        let name = made.ok().and_then(|made: Namespace| made.metadata.name);
        let name = name.unwrap_or_else(|| panic!("no namespace {prefix}-"));
        let accounts: Api<ServiceAccount> = self.api(&name);
        self.wait_for("the default service account", Duration::from_secs(60), async || {
            accounts.get("default").await.map_err(|error| error.to_string())
        })
        .await;
        name
    }

    /// Looks again and again until there is an answer; `Err` is what it sees instead.
    ///
    /// # Panics
    /// When there is none in time, with what it saw last.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl AsyncFnMut() -> Result<T, String>,
    ) -> T {
        let begun = Instant::now();
        let mut seen = "nothing".to_owned();
        while begun.elapsed() < within {
            match timeout(within.saturating_sub(begun.elapsed()), look()).await {
                Ok(Ok(found)) => return found,
                Ok(Err(other)) => seen = other,
                Err(_) => seen = format!("{seen}; the last look got no answer"),
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("{what}: not within {} s; last seen: {seen}", within.as_secs_f64());
    }

    /// The address of a pod, as soon as it has one.
    pub async fn pod_address(&self, namespace: &str, pod: &str) -> IpAddr {
        let pods: Api<Pod> = self.api(namespace);
        self.wait_for(&format!("the address of {namespace}/{pod}"), Duration::from_secs(60), async || {
            let found = pods.get(pod).await.map_err(|error| error.to_string())?;
            let address = found.status.and_then(|status| status.pod_ip).ok_or("no address yet")?;
            address.parse().map_err(|error| format!("{address}: {error}"))
        })
        .await
    }

    /// A token of a service account for the API server.
    pub async fn token(&self, namespace: &str, account: &str) -> String {
        let accounts: Api<ServiceAccount> = self.api(namespace);
        let asked = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let made = accounts.create_token_request(account, &PostParams::default(), &asked).await;
        let made = made.unwrap_or_else(|error| panic!("a token of {namespace}/{account}: {error}"));
        made.status.unwrap_or_else(|| panic!("no token of {namespace}/{account}")).token
    }

    /// A client that has just the rights of a service account.
    pub async fn client_of(&self, namespace: &str, account: &str) -> Client {
        let mut config = self.config.clone();
        config.auth_info =
            kube::config::AuthInfo { token: Some(self.token(namespace, account).await.into()), ..Default::default() };
        Client::try_from(config).unwrap_or_else(|error| panic!("a client of {namespace}/{account}: {error}"))
    }

    /// Every request so far but the administrator's, in the order of their ends. A watch that goes on is there, too.
    pub fn audit(&self) -> Vec<AuditEntry> {
        audit::read(&self.dir().join("logs/audit.log"))
    }

    /// All output of a container, of each of its lives, also when its pod is gone. For `deployment`-like names take
    /// `kubectl logs`.
    pub fn log(&self, namespace: &str, pod: &str, container: &str) -> String {
        let path = self.dir().join(format!("logs/{namespace}_{pod}_{container}.log"));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The output of every container of that name in a namespace: replicas, and pods that are gone.
    pub fn logs(&self, namespace: &str, container: &str) -> String {
        let mut all = String::new();
        let (prefix, suffix) = (format!("{namespace}_"), format!("_{container}.log"));
        let entries = std::fs::read_dir(self.dir().join("logs")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&prefix) && name.ends_with(&suffix) {
                all.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()));
            }
        }
        all
    }
}
