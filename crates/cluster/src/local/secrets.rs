//! The Secrets that manifests hold, for adapters that name them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use longshore_artifacts::Credentials;
use longshore_types::{Fault, Namespace, Scope, Secret};

use crate::link::Keys;

/// Secrets by namespace and name, each with its values by key.
pub(super) type Secrets = BTreeMap<(Namespace, String), BTreeMap<String, Secret>>;

/// The Secrets as the files have them now. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub(super) struct SecretBook(Arc<Mutex<Secrets>>);

impl SecretBook {
    fn open(&self) -> MutexGuard<'_, Secrets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the files have now, and says which are new, gone or different.
    pub(super) fn replace(&self, secrets: Secrets) -> BTreeSet<(Namespace, String)> {
        let mut book = self.open();
        let differs = |name: &&(Namespace, String)| book.get(*name) != secrets.get(*name);
        let changed = book.keys().chain(secrets.keys()).filter(differs).cloned().collect();
        *book = secrets;
        changed
    }

    /// What the Secret `name` holds, for a source.
    pub(super) fn credentials(&self, namespace: &Namespace, name: &str) -> Result<Credentials, Fault> {
        let book = self.open();
        let values = book.get(&(namespace.clone(), name.to_owned()));
        let values = values.ok_or_else(|| missing(Scope::Artifact, namespace, name, "spec.credentialsSecretRef"))?;
        Ok(Credentials::new(values.iter().map(|(key, value)| (key, value.clone()))))
    }

    /// The same for engines of one namespace.
    pub(super) fn keys(&self, namespace: Namespace) -> Arc<dyn Keys> {
        Arc::new(EngineKeys { book: self.clone(), namespace })
    }
}

/// The keys that objects name for their own loads.
struct EngineKeys {
    book: SecretBook,
    namespace: Namespace,
}

#[async_trait]
impl Keys for EngineKeys {
    async fn secret(&self, name: &str, key: &str) -> Result<Secret, Fault> {
        let book = self.book.open();
        let values = book.get(&(self.namespace.clone(), name.to_owned()));
        let values =
            values.ok_or_else(|| missing(Scope::Engine, &self.namespace, name, "spec.engineApiKeySecretRef"))?;
        let value = values.get(key).map(|value| Secret::new(value.expose().trim()));
        value.ok_or_else(|| {
            let message = format!("the Secret {name:?} in the manifests has no key {key:?}: add it");
            Fault::new(Scope::Engine, "SecretKeyNotFound", message)
        })
    }
}

fn missing(scope: Scope, namespace: &Namespace, name: &str, field: &str) -> Fault {
    let message = format!(
        "no manifest holds the Secret {name:?} (namespace {namespace}) that {field} names: put a document of kind Secret \
         beside the adapter's"
    );
    Fault::new(scope, "SecretNotFound", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> (Namespace, String) {
        (Namespace::default_namespace(), name.to_owned())
    }

    fn holding(key: &str, value: &str) -> BTreeMap<String, Secret> {
        [(key.to_owned(), Secret::new(value))].into()
    }

    #[test]
    fn what_is_new_gone_or_different_is_told() {
        let book = SecretBook::default();
        let all =
            |values: &[(&str, &str)]| values.iter().map(|(name, value)| (named(name), holding("k", value))).collect();
        assert_eq!(book.replace(all(&[("a", "1"), ("b", "1")])), [named("a"), named("b")].into());
        assert_eq!(book.replace(all(&[("a", "1"), ("b", "1")])), [].into());
        assert_eq!(book.replace(all(&[("a", "2"), ("c", "1")])), [named("a"), named("b"), named("c")].into());
    }

    #[tokio::test]
    async fn i7_a_secret_of_another_namespace_is_not_there() {
        let book = SecretBook::default();
        book.replace([(named("hub"), holding("huggingface_token", "hf_x\n"))].into());
        let other = Namespace::new("other").unwrap();
        let found = book.credentials(&Namespace::default_namespace(), "hub").unwrap();
        assert_eq!(found.get(&["huggingface_token"]).unwrap().expose(), "hf_x");
        assert_eq!(book.credentials(&other, "hub").unwrap_err().reason, "SecretNotFound");
        let keys = book.keys(Namespace::default_namespace());
        assert_eq!(keys.secret("hub", "huggingface_token").await.unwrap().expose(), "hf_x");
        assert_eq!(keys.secret("hub", "x").await.unwrap_err().reason, "SecretKeyNotFound");
        assert_eq!(book.keys(other).secret("hub", "huggingface_token").await.unwrap_err().reason, "SecretNotFound");
    }
}
