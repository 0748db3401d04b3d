//! What is watched: objects, pods, and what routers go by.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};
use longshore_api::{ModelAdapter, labels};
use longshore_types::Namespace;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::actor::Input;
use super::health::Health;
use super::object::ObjectFacts;
use super::pods::PodFacts;
use super::routes::{self, Routes};
use super::slices::{ServiceSeen, SliceSeen};
use super::watch::{Change, Selection, follow};

/// The watches of one kind that have not listed everything yet: what one namespace has is not all that there is.
#[derive(Clone, Debug)]
pub(super) struct FirstLists(Arc<Mutex<BTreeSet<usize>>>);

impl FirstLists {
    pub(super) fn of(watches: usize) -> Self {
        Self(Arc::new(Mutex::new((0..watches).collect())))
    }

    /// Whether each has listed everything, now that this one has.
    fn are_complete_with(&self, number: usize) -> bool {
        let mut missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        missing.remove(&number);
        missing.is_empty()
    }
}

/// A change as the writer of routes takes it. What cannot be read is not ours, or is written anew.
fn shown<T>(change: Change<T>, number: usize, lists: &FirstLists) -> Option<routes::Change<T>> {
    match change {
        Change::Put(there) => Some(routes::Change::Put(there)),
        Change::Gone { namespace, name, uid } => Some(routes::Change::Gone { namespace, name, uid }),
        Change::Listed => lists.are_complete_with(number).then_some(routes::Change::Listed),
        Change::Broken { namespace, name, error } => {
            tracing::warn!(namespace, name, error, "an object that looks like one of ours cannot be read");
            None
        }
    }
}

/// The watches of one namespace, or of all.
pub(super) struct Watches<'a> {
    pub client: &'a Client,
    pub scope: Option<&'a Namespace>,
    pub number: usize,
    pub health: &'a Health,
    pub slices: &'a FirstLists,
    pub services: &'a FirstLists,
}

impl Watches<'_> {
    pub(super) fn begin(
        &self,
        tasks: &mut JoinSet<()>,
        routes: &Arc<Routes>,
        inbox: &mpsc::UnboundedSender<Input>,
        policy: Option<Arc<str>>,
    ) {
        let number = self.number;
        let (slice_lists, service_lists) = (self.slices.clone(), self.services.clone());
        let objects = self.follow(
            Selection::default(),
            "modeladapters",
            move |object: ModelAdapter| ObjectFacts::of(object, policy.as_deref()).map(Box::new).map_err(|f| f.message),
            {
                let inbox = inbox.clone();
                move |change| drop(inbox.send(Input::Object(number, change)))
            },
        );
        let pods = self.follow(
            Selection::default(),
            "pods",
            |pod: Pod| PodFacts::of(&pod).map(Box::new).map_err(|invalid| invalid.to_string()),
            {
                let inbox = inbox.clone();
                move |change| drop(inbox.send(Input::Pod(number, change)))
            },
        );
        let ours = format!("{}={}", labels::MANAGED_BY, labels::MANAGER);
        let slices = self.follow(
            Selection { labels: Some(ours), fields: None },
            "endpointslices",
            |slice: EndpointSlice| SliceSeen::of(&slice).ok_or_else(|| "it has no name, uid or version".to_owned()),
            {
                let routes = routes.clone();
                move |change| {
                    if let Some(change) = shown(change, number, &slice_lists) {
                        routes.slice(change);
                    }
                }
            },
        );
        let services = self.follow(
            Selection { labels: Some(labels::ADAPTER_NAME.to_owned()), fields: None },
            "services",
            |service: Service| ServiceSeen::of(&service).ok_or_else(|| "it has no name, uid or version".to_owned()),
            {
                let routes = routes.clone();
                move |change| {
                    if let Some(change) = shown(change, number, &service_lists) {
                        routes.service(change);
                    }
                }
            },
        );
        tasks.spawn(objects);
        tasks.spawn(pods);
        tasks.spawn(slices);
        tasks.spawn(services);
    }

    fn follow<K, T>(
        &self,
        selection: Selection,
        kind: &str,
        trim: impl Fn(K) -> Result<T, String> + Send + Sync + 'static,
        send: impl FnMut(Change<T>) + Send + Sync + 'static,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
        T: Send + 'static,
    {
        let api = match self.scope {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace.as_str()),
            None => Api::all(self.client.clone()),
        };
        let health = self.health.watch(kind, self.scope);
        async move {
            follow::<K, T>(api, selection, health, trim, send).await;
        }
    }
}
