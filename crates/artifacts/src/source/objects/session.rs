//! A session that is kept until it ends.

use std::sync::Arc;

use reqsign_core::{Context, ProvideCredential, SigningCredential};
use tokio::sync::Mutex;

/// Asks `inner` only where the last session has ended. Clones share it: clients are made for each fetch, and a session lives
/// for an hour.
pub(super) struct Session<P: ProvideCredential>(Arc<Inner<P>>);

struct Inner<P: ProvideCredential> {
    provider: P,
    last: Mutex<Option<P::Credential>>,
}

impl<P: ProvideCredential> Session<P> {
    pub(super) fn new(provider: P) -> Self {
        Self(Arc::new(Inner { provider, last: Mutex::new(None) }))
    }
}

impl<P: ProvideCredential> Clone for Session<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: ProvideCredential> std::fmt::Debug for Session<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Session").field(&self.0.provider).finish()
    }
}

impl<P> ProvideCredential for Session<P>
where
    P: ProvideCredential,
    P::Credential: SigningCredential,
{
    type Credential = P::Credential;

    async fn provide_credential(&self, context: &Context) -> reqsign_core::Result<Option<P::Credential>> {
        let mut last = self.0.last.lock().await;
        if !last.is_valid() {
            *last = self.0.provider.provide_credential(context).await?;
        }
        Ok(last.clone())
    }
}
