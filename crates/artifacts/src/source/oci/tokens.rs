//! What registries have given us to show, kept in memory for as long as it is good.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::time::Instant;

use super::identity::Identity;

/// Kept at once. Beyond this all are forgotten, and each costs one request more.
const MOST: usize = 256;
/// A token that does not say how long it is good is good for this long, says the token specification.
const UNSAID: Duration = Duration::from_secs(60);
/// The longest that one is kept, whatever it says: so long may a credential that was taken away still let us in here.
const LONGEST: Duration = Duration::from_secs(3600);

/// Whom something was given to, and for what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    pub(crate) registry: String,
    pub(crate) repository: String,
    pub(crate) identity: Identity,
}

/// The header that lets in. Its `Debug` shows no secret, for it is marked as sensitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) header: HeaderValue,
    until: Instant,
}

impl Access {
    /// Something that was asked for at `asked` and is good for `lifetime` from then on.
    pub(crate) fn new(header: HeaderValue, asked: Instant, lifetime: Option<Duration>) -> Self {
        Self { header, until: asked + lifetime.unwrap_or(UNSAID).min(LONGEST) }
    }
}

/// Everything that we were given.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<BTreeMap<Holder, Access>>);

impl Tokens {
    /// What still lets `holder` in.
    pub(crate) fn get(&self, holder: &Holder) -> Option<Access> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(holder).filter(|access| access.until > Instant::now()).cloned()
    }

    /// Keeps it.
    pub(crate) fn put(&self, holder: Holder, access: Access) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|_, access| access.until > now);
        if tokens.len() >= MOST {
            tokens.clear();
        }
        tokens.insert(holder, access);
    }

    /// Keeps it no longer.
    pub(crate) fn forget(&self, holder: &Holder) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(holder);
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::Secret;

    use super::*;

    fn holder(token: &str) -> Holder {
        let identity = Identity::Holder(Secret::new(token));
        Holder { registry: "r".into(), repository: "a".into(), identity }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_kept_for_its_lifetime_and_for_its_holder_alone() {
        let tokens = Tokens::default();
        let access = |seconds: Option<u64>| {
            Access::new(HeaderValue::from_static("x"), Instant::now(), seconds.map(Duration::from_secs))
        };
        tokens.put(holder("a"), access(Some(300)));
        tokens.put(holder("b"), access(None));
        tokens.put(holder("c"), access(Some(u64::MAX)));
        let kept = |name: &str| tokens.get(&holder(name)).is_some();
        assert!(kept("a") && kept("b") && kept("c") && !kept("d"));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(kept("a") && !kept("b") && kept("c"));
        tokio::time::advance(Duration::from_secs(240)).await;
        assert!(!kept("a") && kept("c"));
        tokens.forget(&holder("c"));
        assert!(!kept("c"));
        for n in 0..2 * MOST {
            tokens.put(holder(&n.to_string()), access(None));
        }
        assert!(tokens.0.lock().unwrap().len() <= MOST);
    }
}
