//! Lists and watches.

use std::collections::BTreeMap;
use std::io;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep_until};

use super::{Seen, Server};

/// How often a watch sends a bookmark, as a real API server does.
const BOOKMARK: Duration = Duration::from_secs(60);

/// Something that has happened to an object.
pub(super) struct Event {
    pub revision: u64,
    pub kind: &'static str,
    pub path: String,
    pub object: Value,
}

/// The objects of one kind, of one namespace or of all, that a request selects.
pub(super) struct Collection {
    /// `/apis/GROUP/VERSION`.
    prefix: String,
    namespace: Option<String>,
    plural: String,
    /// Labels with their value, or that have only to be there.
    labels: Vec<(String, Option<String>)>,
    name: Option<String>,
}

impl Collection {
    /// The collection at `path`; nothing where that is one object's.
    pub(super) fn of(path: &str, query: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (prefix, rest) = parts.split_at(if parts.first() == Some(&"api") { 2 } else { 3 });
        let (namespace, plural) = match rest {
            ["namespaces", namespace, plural] => (Some((*namespace).to_owned()), *plural),
            [plural] => (None, *plural),
            _ => return None,
        };
        let query = parameters(query);
        let labels = query.get("labelSelector").map(String::as_str).unwrap_or_default();
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| match label.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (label.to_owned(), None),
        });
        let name = query.get("fieldSelector").and_then(|field| field.strip_prefix("metadata.name="));
        Some(Self {
            prefix: format!("/{}", prefix.join("/")),
            namespace,
            plural: plural.to_owned(),
            labels: labels.collect(),
            name: name.map(str::to_owned),
        })
    }

    /// Whether the object at this path is in it.
    pub(super) fn has(&self, path: &str, object: &Value) -> bool {
        let rest = path.strip_prefix(self.prefix.as_str()).map(|rest| rest.split('/').skip(1).collect::<Vec<_>>());
        let Some(["namespaces", namespace, plural, name]) = rest.as_deref() else { return false };
        let labelled = self.labels.iter().all(|(key, value)| {
            let label = object["metadata"]["labels"][key].as_str();
            label.is_some_and(|label| value.as_ref().is_none_or(|value| value == label))
        });
        labelled
            && *plural == self.plural
            && self.namespace.as_ref().is_none_or(|own| own == namespace)
            && self.name.as_ref().is_none_or(|own| own == name)
    }
}

/// The parameters of a query, decoded.
fn parameters(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        out.push(u8::from_str_radix(code, 16).map_or('?', char::from));
        out.push_str(rest);
    }
    out
}

/// A watch: everything after the version that is asked for, and from then on.
pub(super) fn watch(server: &Server, seen: &Seen) -> Response {
    let Some(collection) = Collection::of(&seen.path, &seen.query) else {
        return axum::http::StatusCode::NOT_FOUND.into_response();
    };
    let query = parameters(&seen.query);
    let number = |name: &str| query.get(name).and_then(|number| number.parse().ok());
    let from: u64 = number("resourceVersion").unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(number("timeoutSeconds").unwrap_or(300));
    let state = (server.clone(), collection, from, end);
    Body::from_stream(stream::unfold(state, next)).into_response()
}

type State = (Server, Collection, u64, Instant);

async fn next((server, collection, from, end): State) -> Option<(Result<String, io::Error>, State)> {
    let mut latest = server.world(|world| world.latest.subscribe());
    let bookmark = Instant::now() + BOOKMARK;
    loop {
        let (lines, revision) = server.world(|world| {
            let news = world.events.iter().filter(|event| event.revision > from);
            let ours = news.filter(|event| collection.has(&event.path, &event.object));
            let lines: String =
                ours.map(|event| format!("{}\n", json!({"type": event.kind, "object": event.object}))).collect();
            (lines, world.revision)
        });
        if !lines.is_empty() {
            return Some((Ok(lines), (server, collection, revision, end)));
        }
        tokio::select! {
            _ = latest.changed() => {}
            () = sleep_until(end) => return None,
            () = sleep_until(bookmark) => {
                let object = json!({"kind": "Any", "apiVersion": "v1", "metadata": {"resourceVersion": revision.to_string()}});
                let line = format!("{}\n", json!({"type": "BOOKMARK", "object": object}));
                return Some((Ok(line), (server, collection, revision, end)));
            }
        }
    }
}
