//! What the API server alone takes: a loop that makes the same writes and does nothing else.

use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::{Api, Client, ResourceExt as _};
use longshore_api::labels::{FINALIZER, GROUP, KIND, MANAGED_BY, MANAGER, SERVICE_NAME, SLICE_ADAPTER, VERSION};
use serde_json::{Value, json};

use super::fleet::{self, MODEL};
use super::row::Rows;
use super::say;
use super::seen::Seen;
use crate::scene::{CONTROLLER, SYSTEM};
use crate::{Cluster, manifests};

/// The row that others are compared with.
pub(super) const CREATE: &str = "create to routable, a bare loop with the same writes";
/// The row that a hundred adapters by ten engines are compared with.
pub(super) const MANY: &str = "100 adapters, a bare loop with the least writes, all routable";
/// The same until their status is written.
pub(super) const MANY_FINAL: &str = "100 adapters, a bare loop with the least writes, all status final";
/// The row that deletions are compared with.
pub(super) const DELETE: &str = "delete to gone, a bare loop with the same writes";

const PHASES: &[&str] = &["Pending", "Scheduled", "Loading", "Bound", "Running"];

/// Where nothing listens: nobody calls it.
const ADDRESS: &str = "10.245.255.254";

/// How many objects there are when there are many.
const OBJECTS: usize = 100;
/// Engines of each of those.
const ENGINES: u8 = 10;
/// How many of those the loop takes up at once.
const AT_ONCE: usize = 8;

#[derive(Clone)]
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
    let of_this = Loop { client: client.clone(), namespace: namespace.clone() };
    // It watches before there is anything to see.
    let events = of_this.events().await;
    let task = tokio::spawn(of_this.run(events));
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
    many(cluster, client, rows).await;
}

/// What a hundred objects take when all that is known of each is written at once: finalizer, Service, slice, last status.
async fn many(cluster: &Cluster, client: Client, rows: &mut Rows) {
    let namespace = cluster.namespace("bare").await;
    let seen = Seen::of(cluster, &namespace).await;
    let admin = objects(cluster.client().clone(), &namespace);
    let of_this = Loop { client, namespace: namespace.clone() };
    let events = of_this.events().await;
    let task = tokio::spawn(of_this.run_many(events));
    let names = fleet::names("bare", OBJECTS);
    let begun = Instant::now();
    let creating = stream::iter(&names).for_each_concurrent(fleet::AT_ONCE, async |name| {
        let object = manifests::adapter(&namespace, name, MODEL, "/nowhere");
        let object = serde_json::from_value(object).unwrap_or_else(|error| panic!("{name}: {error}"));
        admin.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    });
    let complete = OBJECTS * usize::from(ENGINES);
    let ((), routable) = tokio::join!(creating, seen.until("all endpoints", |state| state.count() == complete));
    let done = |state: &super::seen::State| names.iter().all(|name| state.is_final(name, 1));
    let last = seen.until("all statuses", done).await;
    task.abort();
    rows.add(MANY, (routable - begun).as_secs_f64(), "s");
    rows.add(MANY_FINAL, (last - begun).as_secs_f64(), "s");
    clear(cluster, &namespace, &names).await;
    seen.until("nothing left", |state| names.iter().all(|name| state.is_gone(name))).await;
}

/// Takes all of it away. The garbage collector would do much of that some time later, in the middle of something else.
async fn clear(cluster: &Cluster, namespace: &str, names: &[String]) {
    let (admin, now) = (objects(cluster.client().clone(), namespace), DeleteParams::default());
    let (services, slices): (Api<Service>, Api<EndpointSlice>) = (cluster.api(namespace), cluster.api(namespace));
    for name in names {
        let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let cleared = async {
            services.delete(name, &now).await?;
            slices.delete(name, &now).await?;
            admin.patch(name, &PatchParams::default(), &none).await?;
            admin.delete(name, &now).await
        };
        if let Err(error) = cleared.await {
            panic!("{name}: {error}");
        }
    }
}

fn objects(client: Client, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, KIND), "modeladapters");
    Api::namespaced_with(client, namespace, &resource)
}

impl Loop {
    async fn events(&self) -> impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + use<> {
        let api = objects(self.client.clone(), &self.namespace);
        let list = api.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("the loop's list: {error}"));
        let version = list.metadata.resource_version.unwrap_or_default();
        let events = api.watch(&WatchParams::default(), &version).await;
        events.unwrap_or_else(|error| panic!("the loop's watch: {error}"))
    }

    async fn run_many(self, events: impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>>) {
        let api = objects(self.client.clone(), &self.namespace);
        let addresses: Vec<_> = (0..ENGINES).map(|last| format!("10.245.255.{last}")).collect();
        let step = async |event| {
            let Ok(WatchEvent::Added(object)) = event else { return };
            if let Err(error) = self.bring_up(&api, &object, &addresses, &PHASES[4..]).await {
                panic!("the loop: {error}");
            }
        };
        events.for_each_concurrent(AT_ONCE, step).await;
    }

    async fn run(self, events: impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>>) {
        let api = objects(self.client.clone(), &self.namespace);
        let mut events = std::pin::pin!(events);
        while let Ok(Some(event)) = events.try_next().await {
            let step = match &event {
                WatchEvent::Added(object) => self.bring_up(&api, object, &[ADDRESS.to_owned()], PHASES).await,
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

    async fn bring_up(
        &self,
        api: &Api<DynamicObject>,
        object: &DynamicObject,
        addresses: &[String],
        phases: &[&str],
    ) -> kube::Result<()> {
        let name = object.name_any();
        let finalizer = json!({"metadata": {"finalizers": [FINALIZER]}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(finalizer)).await?;
        let (service, slice) = self.routes(object, addresses);
        let (client, force) = (&self.client, PatchParams::apply(MANAGER).force());
        let core = ApiResource::erase::<Service>(&());
        let discovery = ApiResource::erase::<EndpointSlice>(&());
        let services: Api<DynamicObject> = Api::namespaced_with(client.clone(), &self.namespace, &core);
        let slices: Api<DynamicObject> = Api::namespaced_with(client.clone(), &self.namespace, &discovery);
        let (service, slice) = (Patch::Apply(service), Patch::Apply(slice));
        tokio::try_join!(services.patch(&name, &force, &service), slices.patch(&name, &force, &slice))?;
        for phase in phases {
            let ready = u8::from(*phase == "Running");
            let status = json!({"status": {"phase": phase, "readyReplicas": ready, "desiredReplicas": 1}});
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
        }
        Ok(())
    }

    /// The slice, then the finalizer, after which nothing of the object is left. Its Service is its garbage collector's.
    async fn let_go(&self, api: &Api<DynamicObject>, object: &DynamicObject) -> kube::Result<()> {
        let name = object.name_any();
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
        slices.delete(&name, &DeleteParams::default()).await?;
        let none = json!({"metadata": {"finalizers": null}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(none)).await.map(drop)
    }

    fn routes(&self, object: &DynamicObject, addresses: &[String]) -> (Value, Value) {
        let name = object.name_any();
        let endpoint = |address| json!({"addresses": [address], "conditions": {"ready": true, "serving": true}});
        let endpoints: Vec<_> = addresses.iter().map(endpoint).collect();
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
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        });
        (service, slice)
    }
}
