//! Who a fetch is to a store: a key, or a session that is kept until it ends.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use reqsign_core::{Context, ProvideCredential, ProvideCredentialChain, SigningCredential};

/// Why there is no session, for whoever asks later: the client above only says that there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Why(Arc<Mutex<Option<reqsign_core::Error>>>);

impl Why {
    pub(super) fn take(&self) -> Option<reqsign_core::Error> {
        self.slot().take()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<reqsign_core::Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a provider only where the last session has ended. Clones share it: clients are made for each fetch, and a session
/// lives for an hour.
pub(super) struct Session<P: ProvideCredential> {
    inner: Arc<Inner<P>>,
    why: Why,
}

struct Inner<P: ProvideCredential> {
    provider: P,
    last: tokio::sync::Mutex<Option<P::Credential>>,
}

impl<P> Session<P>
where
    P: ProvideCredential,
    P::Credential: SigningCredential,
{
    pub(super) fn new(provider: P) -> Self {
        Self { inner: Arc::new(Inner { provider, last: tokio::sync::Mutex::new(None) }), why: Why::default() }
    }

    /// What the client above takes, and where to look when it has none.
    pub(super) fn chain(&self) -> Shown<P::Credential> {
        let session = Self { inner: self.inner.clone(), why: Why::default() };
        let why = session.why.clone();
        Shown { chain: ProvideCredentialChain::new().push(session), why }
    }
}

/// What is shown to a store.
pub(super) struct Shown<C> {
    pub(super) chain: ProvideCredentialChain<C>,
    pub(super) why: Why,
}

impl<P> ProvideCredential for Session<P>
where
    P: ProvideCredential,
    P::Credential: SigningCredential,
{
    type Credential = P::Credential;

    async fn provide_credential(&self, context: &Context) -> reqsign_core::Result<Option<P::Credential>> {
        let mut last = self.inner.last.lock().await;
        if !last.is_valid() {
            // Not passed on as an error, because the client would write it to the log.
            *last = match self.inner.provider.provide_credential(context).await {
                Ok(credential) => credential,
                Err(error) => {
                    *self.why.slot() = Some(error);
                    None
                }
            };
        }
        Ok(last.clone())
    }
}

/// The client writes its providers to the log; some show the key that they are made of (I8).
impl<P: ProvideCredential> fmt::Debug for Session<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Clone, Debug)]
    struct Key(bool);

    impl SigningCredential for Key {
        fn is_valid(&self) -> bool {
            self.0
        }
    }

    #[derive(Debug)]
    #[allow(dead_code, reason = "its Debug shows it")]
    struct Provider(&'static str, AtomicU32);

    impl ProvideCredential for Provider {
        type Credential = Key;

        async fn provide_credential(&self, _: &Context) -> reqsign_core::Result<Option<Key>> {
            match self.1.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(Some(Key(false))),
                1 => Err(reqsign_core::Error::unexpected("no")),
                _ => Ok(Some(Key(true))),
            }
        }
    }

    #[tokio::test]
    async fn a_session_is_asked_for_again_only_where_it_has_ended() {
        let session = Session::new(Provider("hunter2", AtomicU32::new(0)));
        let Shown { chain, why } = session.chain();
        let ask = async || chain.provide_credential(&Context::new()).await.unwrap();
        assert!(ask().await.is_some() && why.take().is_none());
        assert!(ask().await.is_none() && why.take().is_some());
        assert!(ask().await.is_some() && ask().await.is_some());
        assert_eq!(session.inner.provider.1.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn i8_a_session_does_not_show_what_it_is_made_of() {
        let session = Session::new(Provider("hunter2", AtomicU32::new(0)));
        assert!(!format!("{session:?}").contains("hunter2"));
    }
}
