//! What reaching an engine means where there is no cluster.

use std::sync::Arc;

use async_trait::async_trait;
use longshore_types::{Digest, Fault, Scope, Secret};

use super::depot::Paths;
use crate::link::{Keys, Roots};

impl Roots for Paths {
    fn path_of(&self, digest: Digest) -> String {
        self.of(digest)
    }

    fn digest_of(&self, path: &str) -> Option<Digest> {
        self.digest(path)
    }
}

/// There are no Secrets to read.
pub(crate) struct NoSecrets;

impl NoSecrets {
    pub(super) fn shared() -> Arc<dyn Keys> {
        Arc::new(Self)
    }
}

#[async_trait]
impl Keys for NoSecrets {
    async fn secret(&self, name: &str, key: &str) -> Result<Secret, Fault> {
        let message = format!(
            "there are no Secrets outside Kubernetes, so spec.engineApiKeySecretRef (Secret {name:?}, key {key:?}) leads \
             nowhere: take it out and give the engine's key with --engine-api-key-file"
        );
        Err(Fault::new(Scope::Engine, "SecretNotFound", message))
    }
}
