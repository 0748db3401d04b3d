//! Secrets, read by name.

mod entry;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use longshore_types::{Fault, Namespace, Scope, Secret};
use tokio::time::{Instant, sleep};

use super::pods::{KeyRef, KeySource};
use entry::{Entry, Values};

/// How long a value is good for. A key that was changed is known after this time at the latest.
const FRESH: Duration = Duration::from_secs(60);
/// How long a read may take. What an API server reads from memory takes milliseconds.
const READ_BOUND: Duration = Duration::from_secs(5);
/// The same where the value before can be used in place of the answer.
const SPARE_BOUND: Duration = Duration::from_secs(1);
/// How long a failure is the answer to everybody, so that a thousand loads do not ask a thousand times.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// How long a value is kept that nobody uses.
const UNUSED_KEPT: Duration = Duration::from_secs(120);
/// How often is looked for what is due.
const TURN: Duration = Duration::from_secs(5);
/// The most names of keys that a message lists.
const MOST_SHOWN: usize = 8;

/// One Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SecretName {
    /// Only objects and engines of this namespace may use it (I7).
    pub(super) namespace: Namespace,
    /// Its name.
    pub(super) name: Arc<str>,
}

/// Reads Secrets by name, never by list or watch, so that the right to `get` them is enough.
///
/// A value is kept for a minute and read again at its next use after that, once for all who ask at the same time. Where the
/// API server does not answer, the value before stays good: an outage takes no engine away.
pub(super) struct SecretReader {
    client: Client,
    entries: Mutex<BTreeMap<SecretName, Arc<Entry>>>,
    used: Mutex<BTreeSet<SecretName>>,
    changed: Box<dyn Fn(&SecretName) + Send + Sync>,
}

impl SecretReader {
    /// `changed` is called when a Secret that was read before turns out to be another: changed, gone, or there at last. It is
    /// not told what it is, and must not wait.
    pub(super) fn new(client: Client, changed: impl Fn(&SecretName) + Send + Sync + 'static) -> Self {
        Self { client, entries: Mutex::default(), used: Mutex::default(), changed: Box::new(changed) }
    }

    /// The value under `key` of the Secret `name`, as a bearer token: without the white space around it.
    ///
    /// # Errors
    /// `SecretNotFound`, `SecretForbidden`, `SecretKeyNotFound` and `SecretInvalid` say what to do; `SecretUnreadable` is
    /// transient. No message has anything of a value.
    pub(super) async fn key(&self, namespace: &Namespace, name: &str, key: &str) -> Result<Secret, Fault> {
        let values = self.values(namespace, name).await?;
        match values.get(key) {
            Some(Some(value)) => Ok(value.clone()),
            Some(None) => Err(refusal(
                "SecretInvalid",
                format!(
                    "what Secret {name:?} has under {key:?} is no bearer token: one word of printable ASCII characters"
                ),
            )),
            None => Err(no_key(name, key, &values)),
        }
    }

    /// The key of an engine in `namespace`. `None` where it asks for none, and where all that could hold one is missing and
    /// may be.
    ///
    /// # Errors
    /// As [`Self::key`].
    pub(super) async fn of(&self, namespace: &Namespace, source: &KeySource) -> Result<Option<Secret>, Fault> {
        let keys: &[KeyRef] = match source {
            KeySource::None => &[],
            KeySource::Inline(secret) => return Ok(Some(secret.clone())),
            KeySource::Secrets(keys) => keys,
        };
        for KeyRef { secret, key, optional } in keys {
            match self.key(namespace, secret, key).await {
                Ok(found) => return Ok(Some(found)),
                Err(fault) if *optional && matches!(fault.reason, "SecretNotFound" | "SecretKeyNotFound") => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }

    /// These, and no others, are in use: they are kept up to date by [`Self::watch_used`], once they have been read.
    pub(super) fn use_only(&self, names: BTreeSet<SecretName>) {
        *lock(&self.used) = names;
    }

    /// Reads each Secret in use again every minute, and forgets those that nobody uses. Runs for ever.
    pub(super) async fn watch_used(&self) -> Infallible {
        loop {
            sleep(TURN).await;
            self.turn().await;
        }
    }

    async fn turn(&self) {
        let now = Instant::now();
        let due: Vec<(SecretName, Arc<Entry>)> = {
            let used = lock(&self.used);
            let mut entries = lock(&self.entries);
            entries.retain(|name, entry| used.contains(name) || entry.idle(now) < UNUSED_KEPT);
            let due = entries.iter().filter(|(name, entry)| used.contains(*name) && entry.is_due(now));
            due.map(|(name, entry)| (name.clone(), entry.clone())).collect()
        };
        for (name, entry) in due {
            let _flight = entry.flight.lock().await;
            if !entry.is_due(Instant::now()) {
                continue;
            }
            // Where the API server does not answer for one, it need not be waited for in vain for each of the others.
            if !self.read(&name, &entry, READ_BOUND).await {
                return;
            }
        }
    }

    /// Every value of a Secret. `None` for a value that is no bearer token.
    async fn values(&self, namespace: &Namespace, name: &str) -> Result<Arc<Values>, Fault> {
        // The name becomes part of a path: what is no name must not become another path.
        if !longshore_api::labels::is_subdomain(name) {
            return Err(refusal(
                "SecretNotFound",
                format!("{name:?} is no Secret's name: correct the reference to it"),
            ));
        }
        let name = SecretName { namespace: namespace.clone(), name: name.into() };
        let entry = lock(&self.entries).entry(name.clone()).or_default().clone();
        if let Some(answer) = entry.answer(Instant::now()) {
            return answer;
        }
        let spare = entry.spare();
        let _flight = match (&spare, entry.flight.try_lock()) {
            (_, Ok(flight)) => flight,
            // Another is reading it.
            (Some(values), Err(_)) => return Ok(values.clone()),
            (None, Err(_)) => entry.flight.lock().await,
        };
        if let Some(answer) = entry.answer(Instant::now()) {
            return answer;
        }
        self.read(&name, &entry, if spare.is_some() { SPARE_BOUND } else { READ_BOUND }).await;
        let unread = || Err(Fault::new(Scope::Transient, "SecretUnreadable", "the Secret was not read"));
        entry.answer(Instant::now()).unwrap_or_else(unread)
    }

    /// Reads it once; whether the API server told anything about it. Only for who holds its flight.
    async fn read(&self, name: &SecretName, entry: &Entry, bound: Duration) -> bool {
        let read = read::read(&self.client, name, bound).await;
        let told = !matches!(&read, Err(fault) if fault.is_transient());
        if entry.record(Instant::now(), read) {
            (self.changed)(name);
        }
        told
    }
}

fn refusal(reason: &'static str, message: String) -> Fault {
    Fault::new(Scope::Engine, reason, message)
}

fn no_key(name: &str, key: &str, values: &Values) -> Fault {
    let shown: Vec<&str> = values.keys().take(MOST_SHOWN).map(String::as_str).collect();
    let has = match values.len() {
        0 => "it is empty".to_owned(),
        count if count > MOST_SHOWN => format!("it has {} and {} more", shown.join(", "), count - MOST_SHOWN),
        _ => format!("it has {}", shown.join(", ")),
    };
    refusal("SecretKeyNotFound", format!("Secret {name:?} has no key {key:?}: {has}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
