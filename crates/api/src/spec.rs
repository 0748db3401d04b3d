//! The internal form: one [`AdapterSpec`] per loadable adapter, whatever dialect declared it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_types::{AdapterKey, ArtifactUrl, BaseModel, Digest, Secret, Timestamp};

/// One adapter that somebody wants served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterSpec {
    /// Namespace, declaring object and served name.
    pub key: AdapterKey,
    /// Generation of the declaring object.
    pub generation: i64,
    /// When the declaring object was created: of two that claim one name, the older keeps it.
    pub created: Timestamp,
    /// Compared with the engine's own base model when given.
    pub base_model: Option<BaseModel>,
    /// Which engines of the namespace may hold it.
    pub selector: EngineSelector,
    /// Where its files come from.
    pub artifact: ArtifactUrl,
    /// The digest that its files must have, when pinned.
    pub pinned: Option<Digest>,
    /// On how many engines.
    pub replicas: Replicas,
    /// Placement policy by name; whether it is known is the scheduler's to say.
    pub policy: String,
    /// Higher comes first.
    pub priority: i32,
    /// Whether it may displace adapters of lower priority.
    pub preemption: Preemption,
    /// Memory that it needs on an engine, in bytes.
    pub memory: Option<u64>,
    /// Name of the Secret with the source's credentials, in the object's namespace.
    pub source_credentials: Option<String>,
    /// The engine's bearer token for this adapter's own loads and unloads.
    pub engine_key: Option<EngineKey>,
    /// How a change of the artifact is carried out.
    pub update: UpdateStrategy,
    /// Whether an adapter of this name that somebody else loaded is taken over (`longshore.dev/adopt: "true"`).
    pub adopt: bool,
}

impl AdapterSpec {
    /// Whether anything of it comes from the Secret `name`.
    pub fn uses_secret(&self, name: &str) -> bool {
        let of_engine = match &self.engine_key {
            Some(EngineKey::Secret { name, .. }) => Some(name.as_str()),
            Some(EngineKey::Inline(_)) | None => None,
        };
        [self.source_credentials.as_deref(), of_engine].contains(&Some(name))
    }
}

/// On how many engines an adapter is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// On every engine that the selector matches.
    All,
    /// On this many.
    Count(u32),
}

/// Whether an adapter that fits nowhere may displace others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preemption {
    /// Strictly lower priorities may be displaced.
    #[default]
    LowerPriority,
    /// It waits.
    Never,
}

/// Where an engine's bearer token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineKey {
    /// Written in the manifest (`additionalConfig.api-key`).
    Inline(Secret),
    /// A key of a Secret in the object's namespace.
    Secret {
        /// The Secret's name.
        name: String,
        /// The key in it.
        key: String,
    },
}

/// How a change of the artifact is carried out on the engines that hold the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateStrategy {
    /// Replicas that may be away at once; at least 1. With `replicas: 1` a spare engine is used first where there is one.
    pub max_unavailable: u32,
    /// Upper bound of the drain before each unload; the controller's own where absent.
    pub drain: Option<Duration>,
}

impl Default for UpdateStrategy {
    fn default() -> Self {
        Self { max_unavailable: 1, drain: None }
    }
}

/// A label selector: every label and every expression must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EngineSelector {
    /// Labels that must have exactly these values.
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    pub match_expressions: Vec<Requirement>,
}

/// One `matchExpressions` entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What must hold for it.
    pub operator: Operator,
}

/// What a requirement asks of its label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// Present with one of these values.
    In(BTreeSet<String>),
    /// Absent, or with none of these values.
    NotIn(BTreeSet<String>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl EngineSelector {
    /// Whether `labels` satisfy every part. An empty selector matches nothing: it is refused at the border, and what
    /// slips through must not take over a whole namespace.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let empty = self.match_labels.is_empty() && self.match_expressions.is_empty();
        !empty
            && self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn an_empty_selector_matches_nothing() {
        assert!(!EngineSelector::default().matches(&labels(&[("a", "b")])));
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let set = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect();
        let selector = EngineSelector {
            match_labels: labels(&[("app", "vllm")]),
            match_expressions: vec![
                Requirement { key: "tier".into(), operator: Operator::In(set(&["gold", "silver"])) },
                Requirement { key: "zone".into(), operator: Operator::NotIn(set(&["b"])) },
                Requirement { key: "gpu".into(), operator: Operator::Exists },
                Requirement { key: "old".into(), operator: Operator::DoesNotExist },
            ],
        };
        let good = [("app", "vllm"), ("tier", "gold"), ("gpu", "")];
        assert!(selector.matches(&labels(&good)));
        for (key, value) in [("app", "other"), ("tier", "bronze"), ("zone", "b"), ("old", "1")] {
            let mut bad = labels(&good);
            bad.insert(key.into(), value.into());
            assert!(!selector.matches(&bad), "{key}={value}");
        }
        assert!(!selector.matches(&labels(&good[..2])));
    }
}
