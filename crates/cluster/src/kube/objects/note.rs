//! The note: what could not be unloaded before an object went, kept in a ConfigMap of the object's namespace until it is
//! unloaded, or until that life of the engine has ended.

mod entries;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PostParams, Preconditions};
use longshore_api::labels::{MANAGER, UNFINISHED};
use longshore_types::{AdapterName, Boot, EngineId, Namespace, Root, Timestamp};
use serde_json::json;
use tokio::time::sleep;

use super::{access, is_namespace_ending, pause};
use crate::kube::calls::{Backoff, CallError, Calls};
use entries::{Change, Plan};

/// ConfigMaps that are listed at once.
const PAGE: u32 = 500;

/// An adapter that is still to be unloaded from one life of an engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::kube) struct NoteEntry {
    pub engine: EngineId,
    pub boot: Boot,
    pub name: AdapterName,
    /// From where it was loaded.
    pub root: Root,
}

/// Reads and writes the notes of all namespaces. A cheap handle. Any of its calls may run at once: those on one namespace
/// are done one after another, and what came meanwhile is written in one go.
#[derive(Clone)]
pub(in crate::kube) struct Notes {
    calls: Calls,
    lanes: Arc<Mutex<BTreeMap<Namespace, Arc<Lane>>>>,
}

/// Changes to the note of one namespace.
#[derive(Default)]
struct Lane {
    /// Whoever has it writes, for all that wait.
    turn: tokio::sync::Mutex<()>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    tickets: u64,
    changes: VecDeque<(u64, Vec<Change>)>,
}

impl Notes {
    pub(in crate::kube) fn new(calls: Calls) -> Self {
        Self { calls, lanes: Arc::default() }
    }

    /// Everything that is noted: in these namespaces, or in all of them. What cannot be understood is left out.
    pub(in crate::kube) async fn read_all(
        &self,
        namespaces: Option<&[Namespace]>,
    ) -> Result<Vec<NoteEntry>, CallError> {
        let mut notes = Vec::new();
        match namespaces {
            Some(namespaces) => {
                for namespace in namespaces {
                    notes.extend(self.retry(|| self.get(namespace)).await?);
                }
            }
            None => {
                let all: Api<ConfigMap> = Api::all(self.calls.client());
                let mut params = ListParams::default().fields(&format!("metadata.name={UNFINISHED}")).limit(PAGE);
                loop {
                    let page = self.retry(|| self.calls.once(all.list(&params))).await?;
                    notes.extend(page.items);
                    params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
                    if params.continue_token.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(notes.iter().flat_map(read).collect())
    }

    /// Notes these, in the namespace of the engines. Ok also where there can be no note, since the namespace is being
    /// deleted or gone.
    pub(in crate::kube) async fn add(
        &self,
        namespace: &Namespace,
        entries: &[NoteEntry],
        now: Timestamp,
    ) -> Result<(), CallError> {
        self.change(namespace, entries.iter().map(|entry| Change::Add(entry.clone(), now)).collect()).await
    }

    /// Takes these off the note. The last one takes the ConfigMap away.
    pub(in crate::kube) async fn remove(&self, namespace: &Namespace, entries: &[NoteEntry]) -> Result<(), CallError> {
        self.change(namespace, entries.iter().cloned().map(Change::Remove).collect()).await
    }

    async fn change(&self, namespace: &Namespace, changes: Vec<Change>) -> Result<(), CallError> {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.entry(namespace.clone()).or_default().clone()
        };
        let ticket = Ticket::draw(&lane, changes);
        let _turn = lane.turn.lock().await;
        let batch = lane.batch();
        if batch.iter().all(|(number, _)| *number != ticket.number) {
            // Whoever had the turn before has written ours as well.
            return Ok(());
        }
        let (numbers, changes): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        self.write(namespace, &changes.concat()).await?;
        for number in numbers {
            lane.take_out(number);
        }
        Ok(())
    }

    async fn write(&self, namespace: &Namespace, changes: &[Change]) -> Result<(), CallError> {
        let mut backoff = Backoff::default();
        loop {
            match self.attempt(namespace, changes).await {
                Ok(()) => return Ok(()),
                Err(error) if is_namespace_ending(&error) => return Ok(()),
                // Somebody has deleted it since it was read: the next attempt makes it anew.
                Err(error) if error.is_not_found() => sleep(backoff.next(None)).await,
                Err(error) => pause(&mut backoff, error).await?,
            }
        }
    }

    /// Reads the note and changes it, on the condition that it is still as it was read.
    async fn attempt(&self, namespace: &Namespace, changes: &[Change]) -> Result<(), CallError> {
        let api: Api<ConfigMap> = Api::namespaced(self.calls.client(), namespace.as_str());
        let shown = self.get(namespace).await?;
        let none = BTreeMap::new();
        let data = shown.as_ref().and_then(|note| note.data.as_ref()).unwrap_or(&none);
        let (plan, full) = entries::plan(namespace, data, changes);
        if full > 0 {
            tracing::warn!(%namespace, dropped = full, "too much could not be unloaded to be noted; the oldest is dropped");
        }
        let gone_is_fine = |result: Result<(), CallError>| match result {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        };
        match (plan, shown.map(|note| note.metadata)) {
            (Plan::Nothing, _) | (Plan::Empty, None) => Ok(()),
            (Plan::Empty, Some(ObjectMeta { uid, resource_version, .. })) => {
                let params = DeleteParams::default().preconditions(Preconditions { uid, resource_version });
                gone_is_fine(self.calls.once(api.delete(UNFINISHED, &params)).await.map(drop))
            }
            (Plan::Write(changes), Some(ObjectMeta { uid, resource_version, .. })) => {
                let patch = json!({"metadata": {"uid": uid, "resourceVersion": resource_version}, "data": changes});
                let patch = Patch::Merge(patch);
                self.calls.once(api.patch(UNFINISHED, &access::ours(), &patch)).await.map(drop)
            }
            (Plan::Write(changes), None) => {
                let note = ConfigMap {
                    metadata: ObjectMeta { name: Some(UNFINISHED.to_owned()), ..ObjectMeta::default() },
                    data: Some(changes.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()),
                    ..ConfigMap::default()
                };
                let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                // It is the namespace that is not there.
                gone_is_fine(self.calls.once(api.create(&params, &note)).await.map(drop))
            }
        }
    }

    async fn get(&self, namespace: &Namespace) -> Result<Option<ConfigMap>, CallError> {
        let api: Api<ConfigMap> = Api::namespaced(self.calls.client(), namespace.as_str());
        match self.calls.once(api.get(UNFINISHED)).await {
            Ok(note) => Ok(Some(note)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads until it is answered.
    async fn retry<T, F>(&self, mut read: impl FnMut() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut backoff = Backoff::default();
        loop {
            match read().await {
                Ok(read) => return Ok(read),
                Err(error) => pause(&mut backoff, error).await?,
            }
        }
    }
}

impl Lane {
    fn batch(&self) -> Vec<(u64, Vec<Change>)> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).changes.iter().cloned().collect()
    }

    fn take_out(&self, number: u64) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.changes.retain(|(other, _)| *other != number);
    }
}

/// A place among the changes that wait, given up when it is dropped: nobody writes what nobody waits for.
struct Ticket<'l> {
    lane: &'l Lane,
    number: u64,
}

impl<'l> Ticket<'l> {
    fn draw(lane: &'l Lane, changes: Vec<Change>) -> Self {
        let mut pending = lane.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.tickets += 1;
        let number = pending.tickets;
        pending.changes.push_back((number, changes));
        Self { lane, number }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.lane.take_out(self.number);
    }
}

/// The entries of one ConfigMap. They are about engines of its own namespace, whatever is written in it.
fn read(note: &ConfigMap) -> Vec<NoteEntry> {
    let Some(namespace) = note.metadata.namespace.as_deref().and_then(|name| Namespace::new(name).ok()) else {
        return Vec::new();
    };
    let data = note.data.iter().flatten();
    let (read, malformed): (Vec<_>, Vec<_>) =
        data.map(|(_, value)| entries::parse(&namespace, value)).partition(Option::is_some);
    if !malformed.is_empty() {
        tracing::warn!(%namespace, entries = malformed.len(), "the ConfigMap {UNFINISHED} has entries that are none; they are left out");
    }
    read.into_iter().flatten().map(|noted| noted.entry).collect()
}

#[cfg(test)]
mod tests;
