//! What a declaring object says, trimmed to what is looked at. Pure.

use std::collections::BTreeMap;

use longshore_api::spec::AdapterSpec;
use longshore_api::status::ModelAdapterStatus;
use longshore_api::{ModelAdapter, RelativePaths, labels, lower, object_key, warnings};
use longshore_reconciler::ObjectSeen;
use longshore_types::{Fault, ObjectKey};

/// The policy that an object has which names none.
const DEFAULT_POLICY: &str = "default";

/// A `ModelAdapter` as a watch has shown it.
#[derive(Clone, Debug)]
pub(super) struct ObjectFacts {
    pub key: ObjectKey,
    /// One that is made anew under the same name has another.
    pub uid: String,
    pub generation: i64,
    /// Whether its deletion has been asked for.
    pub deleting: bool,
    /// The finalizers on it.
    pub finalizers: Vec<String>,
    pub lowered: Result<Vec<AdapterSpec>, Fault>,
    pub warnings: Vec<(&'static str, String)>,
    pub shown: Option<ModelAdapterStatus>,
    /// The retry annotations on it.
    pub retries: BTreeMap<String, String>,
}

impl ObjectFacts {
    /// What `object` says. `policy` takes the place of the default one.
    ///
    /// # Errors
    /// Where it has a name that is none.
    pub(super) fn of(object: ModelAdapter, policy: Option<&str>) -> Result<Self, Fault> {
        let key = object_key(&object)?;
        let mut lowered = lower(&object, RelativePaths::Refused);
        if let (Ok(specs), Some(policy)) = (&mut lowered, policy) {
            for spec in specs.iter_mut().filter(|spec| spec.policy == DEFAULT_POLICY) {
                policy.clone_into(&mut spec.policy);
            }
        }
        let warnings = warnings(&object);
        let meta = object.metadata;
        let is_retry = |key: &String| key.starts_with(labels::RETRY_COUNT) || key.starts_with(labels::LAST_RETRY_TIME);
        Ok(Self {
            key,
            uid: meta.uid.unwrap_or_default(),
            generation: meta.generation.unwrap_or(1),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.unwrap_or_default(),
            lowered,
            warnings,
            shown: object.status,
            retries: meta.annotations.unwrap_or_default().into_iter().filter(|(key, _)| is_retry(key)).collect(),
        })
    }

    /// Whether our finalizer is on it.
    pub(super) fn is_held(&self) -> bool {
        self.finalizers.iter().any(|one| one == labels::FINALIZER)
    }

    /// Whether there is anything in `self` that the reconciler has not been told with `before`. Status is ours to write,
    /// so that it is news only where the object is seen for the first time.
    pub(super) fn is_news(&self, before: &Self) -> bool {
        (self.generation, self.deleting, &self.lowered, &self.warnings)
            != (before.generation, before.deleting, &before.lowered, &before.warnings)
    }

    /// As the reconciler is told.
    pub(super) fn seen(&self) -> ObjectSeen {
        ObjectSeen {
            key: self.key.clone(),
            generation: self.generation,
            deleting: self.deleting,
            lowered: self.lowered.clone(),
            shown: self.shown.clone(),
            warnings: self.warnings.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn facts(change: impl FnOnce(&mut Value)) -> ObjectFacts {
        let mut object = json!({
            "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter",
            "metadata": {
                "name": "sql", "namespace": "team", "uid": "u-1", "generation": 3,
                "finalizers": ["other/one", "adapter.model.aibrix.ai/finalizer"],
                "annotations": {"adapter.model.aibrix.ai/retry-count.pod-1": "2", "mine": "kept out"}
            },
            "spec": {"podSelector": {"matchLabels": {"a": "b"}}, "artifactURL": "huggingface://org/sql"}
        });
        change(&mut object);
        ObjectFacts::of(serde_json::from_value(object).unwrap(), Some("least-adapters")).unwrap()
    }

    #[test]
    fn an_object_is_trimmed_to_what_is_looked_at() {
        let facts = facts(|_| {});
        assert_eq!((facts.key.to_string().as_str(), facts.uid.as_str()), ("team/sql", "u-1"));
        assert!(facts.is_held() && !facts.deleting && facts.shown.is_none());
        assert_eq!(facts.retries.keys().collect::<Vec<_>>(), ["adapter.model.aibrix.ai/retry-count.pod-1"]);
        assert_eq!(facts.lowered.unwrap()[0].policy, "least-adapters");
    }

    #[test]
    fn a_policy_that_is_named_is_kept() {
        let facts = facts(|object| object["spec"]["schedulerName"] = "bin-pack".into());
        assert_eq!(facts.lowered.unwrap()[0].policy, "bin-pack");
    }

    #[test]
    fn our_own_writes_are_no_news() {
        let before = facts(|_| {});
        let written = facts(|object| {
            object["status"] = json!({"phase": "Running", "candidates": 1, "desiredReplicas": 1, "readyReplicas": 1});
            object["metadata"]["annotations"] = json!({});
            object["metadata"]["finalizers"] = json!([]);
        });
        assert!(!written.is_news(&before));
        for (path, value) in [
            ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
            ("/metadata/generation", json!(4)),
            ("/metadata/annotations/longshore.dev~1adopt", json!("true")),
        ] {
            let changed = facts(|object| {
                let (parent, field) = path.rsplit_once('/').unwrap();
                object.pointer_mut(parent).unwrap()[field.replace("~1", "/")] = value;
            });
            assert!(changed.is_news(&before), "{path}");
        }
    }
}
