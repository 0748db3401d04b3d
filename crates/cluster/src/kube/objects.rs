//! What is written on objects besides status, and the note of what could not be unloaded.
//!
//! Each of these ends only when it is done, when the API server refuses it for good, or when this process leads no more:
//! what may pass is tried again. So each is set going as a task, and given up by dropping it.

pub(super) mod access;
mod annotations;
mod finalizer;
pub(super) mod note;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Patch;
use longshore_types::{ObjectKey, Timestamp};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::calls::{Backoff, CallError, Calls};

/// Writes of this kind under way at once, of all objects: a thousand objects that are applied at once are held within a
/// second, and the API server still answers others.
const AT_ONCE: usize = 8;

/// Attempts on one engine, as the object's annotations show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempts {
    /// The engine's pod.
    pub pod: String,
    /// How often it was tried.
    pub count: u32,
    /// When it was last tried.
    pub last: Timestamp,
}

/// Writes finalizers and annotations of objects. A cheap handle; clones share one bound.
#[derive(Clone)]
pub(super) struct Objects {
    calls: Calls,
    room: Arc<Semaphore>,
}

/// What an object shows, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    finalizers: Vec<String>,
    deleting: bool,
}

impl Objects {
    pub(super) fn new(calls: Calls) -> Self {
        Self { calls, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Sees to it that the object with this uid does not go before [`Self::release`]: our finalizer is on it. `shown` is
    /// what a watch has shown of its finalizers; where that is up to date one call is enough, and none where ours is
    /// among them. One that is gone or being deleted is left as it is. Never at once with `release` of the same object.
    pub(super) async fn hold(&self, key: &ObjectKey, uid: &str, shown: &[String]) -> Result<(), CallError> {
        let plan = |shown: &Shown| if shown.deleting { None } else { finalizer::add(uid, &shown.finalizers) };
        self.finalize(key, uid, shown, true, plan).await
    }

    /// Lets the object with this uid go: our finalizer is off it, whoever put it there. `shown` as for [`Self::hold`], only
    /// that it is looked at once more where it lacks our finalizer: an object that is kept for ever by one that a watch has
    /// not shown yet would be worse than a call too many. Never at once with `hold` of the same object.
    pub(super) async fn release(&self, key: &ObjectKey, uid: &str, shown: &[String]) -> Result<(), CallError> {
        self.finalize(key, uid, shown, false, |shown| finalizer::remove(uid, &shown.finalizers)).await
    }

    /// Makes the retry annotations of the object with this uid exactly these; `shown` is what a watch has shown of its
    /// annotations. Nothing is written where nothing differs. One at a time for one object: the later of two that run at
    /// once may be undone by the earlier. May run beside `hold` and `release`.
    pub(super) async fn retries(
        &self,
        key: &ObjectKey,
        uid: &str,
        attempts: &[Attempts],
        shown: &BTreeMap<String, String>,
    ) -> Result<(), CallError> {
        let Some(patch) = annotations::patch(uid, attempts, shown) else { return Ok(()) };
        let mut backoff = Backoff::default();
        loop {
            let error = match self.patch(key, &Patch::Merge(&patch)).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => error,
            };
            // Of another object of this name the API server says 422: its uid cannot be changed.
            let error = match refused_with(&error, &[422]) {
                true => match self.look(key, uid).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(_)) => return Err(error),
                    Err(error) => error,
                },
                false => error,
            };
            pause(&mut backoff, error).await?;
        }
    }

    /// Patches until there is nothing left to patch. `plan` says how, from what the object shows; `trust`: that there is
    /// nothing to do is believed of what a watch has shown.
    async fn finalize(
        &self,
        key: &ObjectKey,
        uid: &str,
        finalizers: &[String],
        trust: bool,
        plan: impl Fn(&Shown) -> Option<Value>,
    ) -> Result<(), CallError> {
        let mut shown = Shown { finalizers: finalizers.to_vec(), deleting: false };
        let mut looked = trust;
        let mut backoff = Backoff::default();
        loop {
            let refusal = match plan(&shown) {
                None if looked => return Ok(()),
                None => None,
                Some(operations) => match self.patch(key, &access::json_patch(operations)).await {
                    Ok(()) => return Ok(()),
                    Err(error) if error.is_not_found() => return Ok(()),
                    // A test has failed: somebody was faster, or another object has the name now.
                    Err(error) if refused_with(&error, &[409, 422]) => Some(error),
                    Err(error) => {
                        pause(&mut backoff, error).await?;
                        continue;
                    }
                },
            };
            let now = match self.look(key, uid).await {
                Ok(None) => return Ok(()),
                Ok(Some(meta)) => Shown {
                    deleting: meta.deletion_timestamp.is_some(),
                    finalizers: meta.finalizers.unwrap_or_default(),
                },
                Err(error) => {
                    pause(&mut backoff, error).await?;
                    continue;
                }
            };
            looked = true;
            let same = now == shown;
            shown = now;
            // Where no test can have failed, a 422 means the patch itself; `pause` gives it back.
            if let Some(error) = refusal.filter(|_| same) {
                pause(&mut backoff, error).await?;
            }
        }
    }

    async fn look(&self, key: &ObjectKey, uid: &str) -> Result<Option<ObjectMeta>, CallError> {
        let _permit = self.room.acquire().await;
        access::look(&self.calls, key, uid).await
    }

    async fn patch<P>(&self, key: &ObjectKey, patch: &Patch<P>) -> Result<(), CallError>
    where
        P: serde::Serialize + std::fmt::Debug,
    {
        // The semaphore is never closed; without a permit the call would be made all the same.
        let _permit = self.room.acquire().await;
        let api = access::api(&self.calls, key);
        self.calls.once(api.patch(key.name.as_str(), &access::ours(), patch)).await.map(drop)
    }
}

/// Waits before the next attempt, where one may go better.
async fn pause(backoff: &mut Backoff, error: CallError) -> Result<(), CallError> {
    if !error.is_transient() && !error.is_conflict() {
        return Err(error);
    }
    sleep(backoff.next(error.retry_after())).await;
    Ok(())
}

/// Whether the API server has answered with one of these codes.
fn refused_with(error: &CallError, codes: &[u16]) -> bool {
    matches!(error, CallError::Refused(status) if codes.contains(&status.code))
}

/// Whether nothing can be made in the namespace any more, since it is being deleted.
pub(super) fn is_namespace_ending(error: &CallError) -> bool {
    let CallError::Refused(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}
