//! What people are told of an adapter.

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;

use crate::Cluster;

/// An event, as far as a scene looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether it is a Warning.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub note: String,
    /// The pod that it is about, where it is about one.
    pub pod: Option<String>,
}

impl Cluster {
    /// The events about an adapter, in the order in which they were written.
    pub async fn told(&self, namespace: &str, adapter: &str) -> Vec<Told> {
        let events: Api<Event> = self.api(namespace);
        let listed = events.list(&ListParams::default()).await;
        let mut found = listed.unwrap_or_else(|error| panic!("events: {error}")).items;
        found.retain(|event| event.regarding.as_ref().and_then(|it| it.name.as_deref()) == Some(adapter));
        found.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let told = found.into_iter().map(|event| Told {
            warning: event.type_.as_deref() == Some("Warning"),
            reason: event.reason.unwrap_or_default(),
            note: event.note.unwrap_or_default(),
            pod: event.related.and_then(|pod| pod.name),
        });
        told.collect()
    }
}
