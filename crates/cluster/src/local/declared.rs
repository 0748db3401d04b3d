//! Adapters that are declared by word of mouth, to a process that is told them by another.

use std::collections::BTreeMap;

use longshore_api::labels;
use longshore_api::spec::{
    AdapterSpec, EngineKey, EngineSelector, Operator, Preemption, Replicas, Requirement, UpdateStrategy,
};
use longshore_types::{
    AdapterKey, AdapterName, ArtifactUrl, Digest, Namespace, ObjectKey, ObjectName, OwnerKind, Secret, Timestamp,
};
use sha2::{Digest as _, Sha256};

use super::secrets::Secrets;

/// One adapter that every engine here shall hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The namespace of whoever declares it.
    pub namespace: Namespace,
    /// Its name on the engines.
    pub name: AdapterName,
    /// Where its files come from.
    pub artifact: ArtifactUrl,
    /// The digest that they must have.
    pub pinned: Option<Digest>,
    /// What its source is shown, by name.
    pub credentials: BTreeMap<String, Secret>,
    /// The engine's bearer token for its own loads and unloads.
    pub engine_key: Option<Secret>,
    /// Whether an adapter of this name that somebody else loaded is taken over.
    pub adopt: bool,
}

impl Declared {
    /// The object that stands for it. Its name is made of a digest, since adapters' names may be what objects' may not.
    pub fn key(&self) -> ObjectKey {
        Self::object_of(&self.namespace, &self.name)
    }

    /// The object that stands for an adapter of this name.
    pub fn object_of(namespace: &Namespace, name: &AdapterName) -> ObjectKey {
        let digest = Sha256::digest(name.as_str());
        let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let name = ObjectName::new(format!("declared-{name}")).expect("letters, digits and a hyphen");
        ObjectKey { namespace: namespace.clone(), kind: OwnerKind::ModelAdapter, name }
    }

    /// The adapter, but for what only the reader of it can say: generation and age.
    pub(super) fn spec(&self, key: &ObjectKey) -> AdapterSpec {
        AdapterSpec {
            key: AdapterKey { object: key.clone(), name: self.name.clone() },
            generation: 0,
            created: Timestamp::ZERO,
            base_model: None,
            selector: EngineSelector { match_expressions: vec![every_engine()], ..EngineSelector::default() },
            artifact: self.artifact.clone(),
            pinned: self.pinned,
            replicas: Replicas::All,
            policy: "default".into(),
            priority: 0,
            preemption: Preemption::default(),
            memory: None,
            source_credentials: (!self.credentials.is_empty()).then(|| key.name.to_string()),
            engine_key: self.engine_key.clone().map(EngineKey::Inline),
            update: UpdateStrategy::default(),
            adopt: self.adopt,
        }
    }

    /// Its credentials under the name that its specification has for them.
    pub(super) fn secret(&self, into: &mut Secrets) {
        if !self.credentials.is_empty() {
            let name = (self.namespace.clone(), self.key().name.to_string());
            into.insert(name, self.credentials.clone());
        }
    }
}

/// Every engine has this label once it has said what its base model is.
fn every_engine() -> Requirement {
    Requirement { key: labels::MODEL_NAME.to_owned(), operator: Operator::Exists }
}
