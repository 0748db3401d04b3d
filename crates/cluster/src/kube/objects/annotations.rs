//! The annotations that tell of attempts on engines.

use std::collections::BTreeMap;

use longshore_api::labels::{LAST_RETRY_TIME, RETRY_COUNT, last_retry_time, retry_count};
use serde_json::{Map, Value, json};

use super::Attempts;

/// The merge patch that makes the retry annotations of `shown` exactly these; none where they are.
pub(super) fn patch(uid: &str, attempts: &[Attempts], shown: &BTreeMap<String, String>) -> Option<Value> {
    let mut wanted = BTreeMap::new();
    for attempt in attempts {
        wanted.insert(retry_count(&attempt.pod), attempt.count.to_string());
        wanted.insert(last_retry_time(&attempt.pod), attempt.last.to_string());
    }
    let ours = |key: &&String| key.starts_with(RETRY_COUNT) || key.starts_with(LAST_RETRY_TIME);
    let gone = shown.keys().filter(ours).filter(|key| !wanted.contains_key(*key));
    let mut changes: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    let new = wanted.iter().filter(|(key, value)| shown.get(*key) != Some(value));
    changes.extend(new.map(|(key, value)| (key.clone(), json!(value))));
    // The uid cannot be changed, so naming it makes it a condition.
    (!changes.is_empty()).then(|| json!({"metadata": {"uid": uid, "annotations": changes}}))
}
