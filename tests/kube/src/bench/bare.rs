//! What the API server alone takes: a loop that makes the same writes and does nothing else.

use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::{Api, Client, ResourceExt as _};
use longshore_api::labels::{FINALIZER, GROUP, KIND, MANAGED_BY, MANAGER, SERVICE_NAME, SLICE_ADAPTER, VERSION};
use serde_json::{Value, json};

use super::fleet::MODEL;
use super::row::Rows;
use super::say;
use super::seen::Seen;
use crate::scene::{CONTROLLER, SYSTEM};
use crate::{Cluster, manifests};

/// The row that others are compared with.
pub(super) const CREATE: &str = "create to routable, a bare loop with the same writes";
/// The same of deletions.
pub(super) const DELETE: &str = "delete to gone, a bare loop with the same writes";

const PHASES: &[&str] = &["Pending", "Scheduled", "Loading", "Bound", "Running"];

/// Where nothing listens: nobody calls it.
const ADDRESS: &str = "10.245.255.254";

struct Loop {
    client: Client,
    namespace: String,
}

pub(super) async fn measure(cluster: &Cluster, runs: usize, rows: &mut Rows) {
    say("a bare loop");
    let namespace = cluster.namespace("bare").await;
    let client = cluster.client_of(SYSTEM, CONTROLLER).await;
    let seen = Seen::of(cluster, &namespace).await;
    let api = objects(cluster.client().clone(), &namespace);
    let task = tokio::spawn(Loop { client, namespace: namespace.clone() }.run());
    let (mut created, mut deleted) = (Vec::new(), Vec::new());
    // One more, which opens connections.
    for number in 0..=runs {
        let name = format!("bare-{number}");
        let object = manifests::adapter(&namespace, &name, MODEL, "/nowhere");
        let object = serde_json::from_value(object).unwrap_or_else(|error| panic!("{name}: {error}"));
        let begun = Instant::now();
        api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let routable = seen.until("a slice", |state| state.has(&name, ADDRESS)).await;
        let running = |state: &super::seen::State| state.is_final(&name, 1);
        seen.until("the last status", running).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let asked = Instant::now();
        api.delete(&name, &DeleteParams::default()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let gone = seen.until("the object's end", |state| state.is_gone(&name)).await;
        if number > 0 {
            created.push(routable - begun);
            deleted.push(gone - asked);
        }
    }
    task.abort();
    rows.spread(CREATE, &created, None);
    rows.spread(DELETE, &deleted, None);
}

fn objects(client: Client, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, KIND), "modeladapters");
    Api::namespaced_with(client, namespace, &resource)
}

impl Loop {
    async fn run(self) {
        let api = objects(self.client.clone(), &self.namespace);
        let list = api.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("the loop's list: {error}"));
        let version = list.metadata.resource_version.unwrap_or_default();
        let events = api.watch(&WatchParams::default(), &version).await;
        let mut events = std::pin::pin!(events.unwrap_or_else(|error| panic!("the loop's watch: {error}")));
        while let Ok(Some(event)) = events.try_next().await {
            let step = match &event {
                WatchEvent::Added(object) => self.bring_up(&api, object).await,
                WatchEvent::Modified(object) if object.metadata.deletion_timestamp.is_some() => {
                    self.let_go(&api, object).await
                }
                _ => Ok(()),
            };
            if let Err(error) = step {
                panic!("the loop: {error}");
            }
        }
    }

    async fn bring_up(&self, api: &Api<DynamicObject>, object: &DynamicObject) -> kube::Result<()> {
        let name = object.name_any();
        let finalizer = json!({"metadata": {"finalizers": [FINALIZER]}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(finalizer)).await?;
        let (service, slice) = self.routes(object);
        let (client, force) = (&self.client, PatchParams::apply(MANAGER).force());
        let core = ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&());
        let discovery = ApiResource::erase::<k8s_openapi::api::discovery::v1::EndpointSlice>(&());
        let services: Api<DynamicObject> = Api::namespaced_with(client.clone(), &self.namespace, &core);
        let slices: Api<DynamicObject> = Api::namespaced_with(client.clone(), &self.namespace, &discovery);
        let (service, slice) = (Patch::Apply(service), Patch::Apply(slice));
        tokio::try_join!(services.patch(&name, &force, &service), slices.patch(&name, &force, &slice))?;
        for phase in PHASES {
            let ready = u8::from(*phase == "Running");
            let status = json!({"status": {"phase": phase, "readyReplicas": ready, "desiredReplicas": 1}});
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
        }
        Ok(())
    }

    /// The slice, then the finalizer, after which nothing of the object is left. Its Service is its garbage collector's.
    async fn let_go(&self, api: &Api<DynamicObject>, object: &DynamicObject) -> kube::Result<()> {
        let name = object.name_any();
        let slices: Api<k8s_openapi::api::discovery::v1::EndpointSlice> =
            Api::namespaced(self.client.clone(), &self.namespace);
        slices.delete(&name, &DeleteParams::default()).await?;
        let none = json!({"metadata": {"finalizers": null}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(none)).await.map(drop)
    }

    fn routes(&self, object: &DynamicObject) -> (Value, Value) {
        let name = object.name_any();
        let owner = json!([{
            "apiVersion": longshore_api::labels::API_VERSION, "kind": KIND, "name": name,
            "uid": object.metadata.uid, "controller": true, "blockOwnerDeletion": true,
        }]);
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "ownerReferences": owner},
            "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}]},
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name, "ownerReferences": owner,
                "labels": {SERVICE_NAME: name, MANAGED_BY: MANAGER},
                "annotations": {SLICE_ADAPTER: name},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": true, "serving": true}}],
            "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        });
        (service, slice)
    }
}
