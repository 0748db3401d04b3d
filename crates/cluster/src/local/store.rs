//! The store on this machine, as the driver's depot.

mod users;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use longshore_artifacts::{Artifacts, Error, Fingerprint, Order, Origin, Store, StoreView};
use longshore_types::{Digest, Fault};

use super::depot::{Depot, Stored};
use users::Users;

/// A store and its sources.
pub(super) struct ArtifactDepot {
    artifacts: Artifacts,
    /// None where it cannot be known who else uses the store; then nothing is ever taken out of it.
    users: Option<Arc<Users>>,
}

impl ArtifactDepot {
    pub(super) fn new(artifacts: Artifacts) -> Self {
        let users = Users::enter(artifacts.store().view().prefix().as_ref());
        if let Err(error) = &users {
            tracing::warn!(%error, "cannot tell who else uses the store, so nothing is ever taken out of it");
        }
        Self { artifacts, users: users.ok().map(Arc::new) }
    }

    /// Does something with the store that blocks.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let store = self.artifacts.store().clone();
        tokio::task::spawn_blocking(move || work(&store)).await.map_err(|error| error.to_string())?
    }
}

#[async_trait]
impl Depot for ArtifactDepot {
    fn view(&self) -> &StoreView {
        self.artifacts.store().view()
    }

    fn digest_of(&self, path: &str) -> Option<Digest> {
        self.artifacts.store().digest_of(path)
    }

    async fn fetch(&self, order: &Order) -> Result<Stored, Fault> {
        let verified = self.artifacts.fulfil(order).await.map_err(|error| error.fault())?.verified;
        Ok(Stored {
            digest: verified.digest,
            bytes: verified.bytes,
            rank: Some(verified.rank),
            warnings: verified.warnings,
        })
    }

    async fn fingerprint(&self, origin: &Origin) -> Option<Fingerprint> {
        self.artifacts.fingerprint(origin).await.ok()
    }

    async fn contains(&self, digest: Digest) -> bool {
        self.blocking(move |store| Ok(store.contains(&digest))).await.unwrap_or(false)
    }

    async fn entries(&self) -> Result<Vec<(Digest, Duration)>, String> {
        self.blocking(|store| {
            let digests = store.entries().map_err(|error| words(&error))?;
            let now = SystemTime::now();
            let lain = |digest: &Digest| {
                let written = std::fs::metadata(store.path_of(digest)).and_then(|metadata| metadata.modified()).ok()?;
                now.duration_since(written).ok()
            };
            Ok(digests.into_iter().map(|digest| (digest, lain(&digest).unwrap_or_default())).collect())
        })
        .await
    }

    async fn remove(&self, digest: Digest) -> Result<bool, String> {
        let Some(users) = self.users.clone() else { return Ok(false) };
        self.blocking(move |store| {
            let removed = users.while_alone(|| store.remove(&digest)).map_err(|error| error.to_string())?;
            // Where others use the store too, what nobody here needs may be what they serve from.
            match removed.unwrap_or(Ok(false)) {
                Err(Error::InUse { .. }) => Ok(false),
                removed => removed.map_err(|error| words(&error)),
            }
        })
        .await
    }
}

fn words(error: &Error) -> String {
    error.fault().message
}
