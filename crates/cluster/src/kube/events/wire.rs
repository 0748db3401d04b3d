//! Events as the API server takes them.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use longshore_api::labels;
use longshore_types::{ObjectKey, OwnerKind};
use serde_json::{Value, json};

use super::queue::Entry;

/// Who says it, as the API server demands it: a qualified name. `kubectl describe` shows it under `From`.
const CONTROLLER: &str = "longshore.dev/controller";
/// The API server's bounds, in bytes.
const LONGEST_NOTE: usize = 1024;
const LONGEST_INSTANCE: usize = 128;

/// `entry` as an event of its own.
pub(super) fn event(entry: &Entry, name: &str, instance: &str) -> Event {
    let said = &entry.event;
    let namespace = said.object.namespace.as_str();
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(time(entry.first)),
        type_: Some(if said.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(said.reason.to_owned()),
        action: Some(action(said.reason).to_owned()),
        note: Some(cut(&said.message, LONGEST_NOTE)),
        regarding: Some(regarding(&said.object, &entry.uid)),
        related: said.related.as_ref().map(|engine| ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(engine.namespace.to_string()),
            name: Some(engine.name.to_string()),
            uid: entry.pod.clone(),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(cut(instance, LONGEST_INSTANCE)),
        series: (entry.count > 1).then(|| EventSeries {
            count: i32::try_from(entry.count).unwrap_or(i32::MAX),
            last_observed_time: time(entry.last),
        }),
        ..Event::default()
    }
}

/// The merge patch that makes an event one that has happened `count` times, lastly now.
pub(super) fn series(entry: &Entry, count: u32) -> Value {
    json!({"series": {"count": count, "lastObservedTime": time(entry.last)}})
}

fn regarding(object: &ObjectKey, uid: &str) -> ObjectReference {
    let api_version = match object.kind {
        OwnerKind::ModelAdapter => labels::API_VERSION,
    };
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(object.kind.to_string()),
        namespace: Some(object.namespace.to_string()),
        name: Some(object.name.to_string()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// What was being done, which the API server wants to know of each event.
fn action(reason: &str) -> &'static str {
    match reason {
        "Scheduled" | "Overcommitted" => "Schedule",
        "Loaded" | "LoadFailed" | "MaxRetriesExceeded" => "Load",
        "Unloaded" | "Preempted" => "Unload",
        _ => "Reconcile",
    }
}

fn time(micros: u64) -> MicroTime {
    let time = i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    MicroTime(time.unwrap_or(Timestamp::MAX))
}

/// At most `longest` bytes of `text`, with a sign that some are missing.
fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(longest - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_to_the_bytes_that_are_allowed() {
        assert_eq!(cut("short", 5), "short");
        let long = cut(&"ä".repeat(600), 1024);
        assert!(long.len() <= 1024 && long.len() > 1018 && long.ends_with("ä…"), "{}", long.len());
    }
}
