//! From a declaring object to the internal form.

mod fields;
mod path;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use longshore_types::{AdapterKey, AdapterName, Fault, Namespace, ObjectKey, ObjectName, OwnerKind, Scope, Timestamp};

use crate::labels;
use crate::model_adapter::{self as rules, ModelAdapter, PreemptionPolicy};
use crate::spec::{AdapterSpec, Preemption, Replicas};
use crate::text::shown;

/// Condition reason of an object that cannot be lowered.
pub const INVALID_SPEC: &str = "InvalidSpec";
/// Warning: an api key stands in the object in the clear.
pub const INSECURE_API_KEY: &str = "InsecureApiKey";
/// Warning: `additionalConfig` has an entry that nothing reads.
pub const UNKNOWN_CONFIG: &str = "UnknownConfig";

/// What an artifact reference that is a relative path means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelativePaths<'a> {
    /// Nothing: the object comes from a cluster and has no directory.
    #[default]
    Refused,
    /// A path below this absolute directory, that of the manifest. Joined as text: nothing is looked up, links are not
    /// followed, so `a/../b` is `b`.
    From(&'a Path),
}

/// A rule that an object breaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The field, such as `spec.podSelector.matchExpressions[0].operator`.
    pub field: String,
    /// What is wrong and what to do, without the value where that could be a secret (I8).
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The adapters that `object` declares, one for a `ModelAdapter`. Enforces everything that the resource's CEL rules and
/// schema bounds do, and the rest of what they cannot say.
///
/// # Errors
/// A [`Fault`] of scope [`Scope::Artifact`] and reason [`INVALID_SPEC`] that names every field that is wrong.
pub fn lower(object: &ModelAdapter, relative: RelativePaths<'_>) -> Result<Vec<AdapterSpec>, Fault> {
    read(object, relative).map(|spec| vec![spec]).map_err(|broken| fault(&broken))
}

/// Every rule that `object` breaks, ordered as the fields are in the resource; none means that [`lower`] succeeds.
pub fn violations(object: &ModelAdapter, relative: RelativePaths<'_>) -> Vec<Violation> {
    read(object, relative).err().unwrap_or_default()
}

/// The key of `object`, also where its spec is wrong. The namespace is `default` where there is none.
///
/// # Errors
/// A [`Fault`] of reason [`INVALID_SPEC`] when its name or namespace is no Kubernetes name.
pub fn object_key(object: &ModelAdapter) -> Result<ObjectKey, Fault> {
    let mut broken = Broken::default();
    read_key(object, &mut broken).ok_or_else(|| fault(&broken.0))
}

/// What is allowed but not wise in `object`, as (reason, message).
pub fn warnings(object: &ModelAdapter) -> Vec<(&'static str, String)> {
    let Some(config) = &object.spec.additional_config else { return Vec::new() };
    let mut warnings = Vec::new();
    if config.contains_key(labels::API_KEY) {
        warnings.push((
            INSECURE_API_KEY,
            "spec.additionalConfig.api-key shows the engine's key to everybody who may read this object: put it into a \
             Secret and name that in spec.engineApiKeySecretRef {name, key}"
                .to_owned(),
        ));
    }
    warnings.extend(config.keys().filter(|key| *key != labels::API_KEY).map(|key| {
        let key = shown(key);
        (UNKNOWN_CONFIG, format!("spec.additionalConfig has `{key}`, which nothing reads; known is `api-key`"))
    }));
    warnings
}

/// The rules broken so far. A field that breaks one has no value; the others are read on, so that all are named at once.
#[derive(Default)]
struct Broken(Vec<Violation>);

impl Broken {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Violation { field: field.into(), message: message.into() });
    }

    /// Notes `message` unless `holds`.
    fn unless(&mut self, holds: bool, field: &str, message: impl Into<String>) -> bool {
        if !holds {
            self.add(field, message);
        }
        holds
    }
}

fn fault(broken: &[Violation]) -> Fault {
    let all: Vec<String> = broken.iter().map(ToString::to_string).collect();
    Fault::new(Scope::Artifact, INVALID_SPEC, all.join("; "))
}

fn read_key(object: &ModelAdapter, broken: &mut Broken) -> Option<ObjectKey> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let parsed = ObjectName::new(name);
    broken.unless(parsed.is_ok(), "metadata.name", if name.is_empty() { "missing" } else { rules::NAME.message });
    let namespace = match object.metadata.namespace.as_deref() {
        None => Some(Namespace::default_namespace()),
        Some(namespace) => match Namespace::new(namespace) {
            Ok(namespace) => Some(namespace),
            Err(invalid) => {
                broken.add("metadata.namespace", format!("must be {}", invalid.rule));
                None
            }
        },
    };
    Some(ObjectKey { namespace: namespace?, kind: OwnerKind::ModelAdapter, name: parsed.ok()? })
}

fn read(object: &ModelAdapter, relative: RelativePaths<'_>) -> Result<AdapterSpec, Vec<Violation>> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let mut broken = Broken::default();
    let key = read_key(object, &mut broken);
    let name = key.as_ref().and_then(|key| {
        let valid = labels::is_dns_1035_label(key.name.as_str());
        broken.unless(valid, "metadata.name", rules::NAME.message);
        AdapterName::new(key.name.as_str()).ok()
    });
    let base_model = fields::base_model(spec, &mut broken);
    let selector = fields::selector(&spec.pod_selector, &mut broken);
    let artifact = fields::artifact(&spec.artifact_url, relative, &mut broken);
    fields::policy(&spec.scheduler_name, &mut broken);
    let replicas = match spec.replicas {
        None => Replicas::All,
        Some(n) => Replicas::Count(u32::try_from(n).unwrap_or_else(|_| {
            broken.add("spec.replicas", rules::REPLICAS.message);
            0
        })),
    };
    let source_credentials = fields::source_credentials(spec, &mut broken);
    let engine_key = fields::engine_key(spec, &mut broken);
    let pinned = fields::digest(spec, &mut broken);
    let update = fields::update(spec, &mut broken);

    let (Some(key), Some(name), Some(artifact), true) = (key, name, artifact, broken.0.is_empty()) else {
        return Err(broken.0);
    };
    let created = meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond());
    Ok(AdapterSpec {
        key: AdapterKey { object: key, name },
        // An API server gives a new object generation 1; a manifest from a file says nothing.
        generation: meta.generation.unwrap_or(1),
        created: Timestamp::from_millis(u64::try_from(created).unwrap_or(0)),
        base_model,
        selector,
        artifact,
        pinned,
        replicas,
        policy: spec.scheduler_name.clone(),
        priority: spec.priority.unwrap_or(0),
        preemption: match spec.preemption_policy.unwrap_or_default() {
            PreemptionPolicy::LowerPriority => Preemption::LowerPriority,
            PreemptionPolicy::Never => Preemption::Never,
        },
        memory: None,
        source_credentials,
        engine_key,
        update,
        adopt: meta.annotations.as_ref().and_then(|all| all.get(labels::ADOPT)).is_some_and(|value| value == "true"),
    })
}
