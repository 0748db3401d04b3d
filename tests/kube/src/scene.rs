//! What scenes begin with: the product installed from `deploy/`, adapters to load, and what is seen of them.

mod ask;
pub mod engines;
mod events;
mod leader;
mod phases;
mod writes;

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use longshore_testkit::adapters::{AdapterRecipe, write};
use serde_json::{Value, json};

pub use ask::{Answered, Router};
pub use events::Told;
pub use phases::Phases;

use crate::Cluster;

/// Where `deploy/` installs.
pub const SYSTEM: &str = "longshore-system";
/// The name of the controller: its Deployment, Service, account and Lease.
pub const CONTROLLER: &str = "longshore-controller";
/// The name of the router.
pub const ROUTER: &str = "longshore-router";

/// A guard against hanging: far more than anything in a scene takes.
pub const SOON: Duration = Duration::from_secs(60);

/// How the product is installed.
#[derive(Clone, Debug, Default)]
pub struct Install {
    flags: Vec<String>,
    replicas: Option<u32>,
}

impl Install {
    /// With these flags of the controller besides those in `deploy/`.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// With so many controllers.
    pub fn controllers(mut self, replicas: u32) -> Self {
        self.replicas = Some(replicas);
        self
    }

    fn change(&self, document: &mut Value) {
        if document["kind"] != "Deployment" || document["metadata"]["name"] != CONTROLLER {
            return;
        }
        if let Some(args) = document["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut() {
            args.extend(self.flags.iter().map(|flag| json!(flag)));
        }
        if let Some(replicas) = self.replicas {
            document["spec"]["replicas"] = json!(replicas);
        }
    }
}

impl Cluster {
    /// Applies `deploy/` as it stands, and waits until all of it is rolled out.
    pub async fn install(&self) {
        self.apply_folder("deploy").await;
        self.rolled_out(SYSTEM).await;
    }

    /// The same with something changed.
    pub async fn install_with(&self, install: &Install) {
        self.apply(&self.rendered("deploy", |document| install.change(document)).await).await;
        self.rolled_out(SYSTEM).await;
    }

    /// Applies `deploy/namespaced` to the namespace `default`, which it serves, with the definition of the resource and the
    /// token that it needs, and waits until it is rolled out.
    pub async fn install_namespaced(&self, install: &Install) {
        self.apply_folder("deploy/crds").await;
        let token = "--from-literal=token=known-to-both";
        self.kubectl(&["create", "secret", "generic", "longshore-fleet-token", token]).await.expect_success();
        self.apply(&self.rendered("deploy/namespaced", |document| install.change(document)).await).await;
        self.rolled_out("default").await;
    }

    /// What `kubectl apply -k` of a folder of the workspace would apply, each document changed as `change` says.
    pub async fn rendered(&self, folder: &str, change: impl Fn(&mut Value)) -> String {
        let path = crate::kit::sources().join("../..").join(folder);
        let text = self.kubectl(&["kustomize", &path.to_string_lossy()]).await.expect_success();
        let mut documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{folder}: {error}"));
        documents.iter_mut().for_each(change);
        documents.iter().map(|document| format!("---\n{document}\n")).collect()
    }

    /// Waits until all Deployments of a namespace are rolled out.
    pub async fn rolled_out(&self, namespace: &str) {
        let args = ["rollout", "status", "--timeout=120s", "--namespace", namespace, "deployment"];
        self.kubectl(&args).await.expect_success();
    }

    /// So many replicas of a Deployment from now on. All of them are Ready, and what there were too many of is gone, when
    /// this returns.
    pub async fn scale(&self, namespace: &str, deployment: &str, replicas: usize) {
        let count = format!("--replicas={replicas}");
        self.kubectl(&["scale", "deployment", deployment, "--namespace", namespace, &count]).await.expect_success();
        self.rolled_out(namespace).await;
        let deployments: Api<Deployment> = self.api(namespace);
        let found = deployments.get(deployment).await.unwrap_or_else(|error| panic!("{deployment}: {error}"));
        let labels = found.spec.and_then(|spec| spec.selector.match_labels).unwrap_or_default();
        let labels = labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        self.wait_for(&format!("{replicas} pods of {deployment}"), SOON, async || {
            match self.pods(namespace, &labels).await.len() {
                found if found == replicas => Ok(()),
                found => Err(format!("{found}")),
            }
        })
        .await;
    }

    /// The pods of a namespace with these labels, by name.
    pub async fn pods(&self, namespace: &str, labels: &str) -> Vec<Pod> {
        let pods: Api<Pod> = self.api(namespace);
        let found = pods.list(&ListParams::default().labels(labels)).await;
        let mut found = found.unwrap_or_else(|error| panic!("pods {labels}: {error}")).items;
        found.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        found
    }

    /// The names of those pods.
    pub async fn pod_names(&self, namespace: &str, labels: &str) -> Vec<String> {
        self.pods(namespace, labels).await.into_iter().filter_map(|pod| pod.metadata.name).collect()
    }

    /// Puts a good adapter of rank 8 where engines download `repository` from; another seed is another adapter.
    pub fn hub_adapter(&self, repository: &str, seed: u64) {
        let folder = self.hub().join(repository);
        if let Err(error) = write(&folder, &AdapterRecipe::seeded(seed)) {
            panic!("{}: {error}", folder.display());
        }
    }

    /// What the controllers have logged so far, those included that are gone.
    pub fn controller_logs(&self) -> String {
        self.logs(SYSTEM, "controller")
    }

    /// Waits until an object has this condition, by `kubectl wait`: `Ready`, or `Ready=False`.
    pub async fn condition(&self, namespace: &str, adapter: &str, condition: &str) {
        let (object, condition) = (format!("modeladapter/{adapter}"), format!("--for=condition={condition}"));
        self.kubectl(&["wait", &condition, &object, "--namespace", namespace, "--timeout=60s"]).await.expect_success();
    }
}
