//! The objects that declare adapters: seen, held, released.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_api::labels;
use longshore_api::spec::{EngineKey, EngineSelector};
use longshore_reconciler::{Fact, Retry};
use longshore_types::{EngineId, Fault, Namespace, ObjectKey, Scope};
use tokio::time::sleep;

use super::super::calls::CallError;
use super::super::object::ObjectFacts;
use super::super::objects::Attempts;
use super::super::watch::Change;
use super::note::entry;
use super::{Actor, Brain, Input, Kind, Known};

/// Every object that is known of, until nothing of it is left.
#[derive(Debug, Default)]
pub(super) struct Objects {
    all: Known<ObjectKey, Object>,
    /// The selectors of each namespace, each once: objects that share one are common.
    selectors: BTreeMap<Namespace, Vec<(EngineSelector, usize)>>,
}

/// One object.
#[derive(Debug)]
struct Object {
    facts: ObjectFacts,
    /// Whether the reconciler knows of it.
    told: bool,
    /// Whether our finalizer is being put on it.
    holding: bool,
    /// Whether it is gone from the API server.
    gone: bool,
    /// The selectors that it is counted with.
    selectors: Vec<EngineSelector>,
    retries: Retries,
}

/// The retry annotations of an object.
#[derive(Debug, Default)]
struct Retries {
    /// What they should say, where the reconciler has said so.
    wanted: Option<Vec<Retry>>,
    writing: bool,
    /// Whether `wanted` has changed since the write that is under way began.
    stale: bool,
}

impl Object {
    fn new(facts: ObjectFacts) -> Self {
        let retries = Retries::default();
        Self { facts, told: false, holding: false, gone: false, selectors: Vec::new(), retries }
    }
}

impl Objects {
    /// Whether any object of the namespace selects a pod with these labels.
    pub(super) fn select(&self, namespace: &Namespace, labels: &BTreeMap<String, String>) -> bool {
        self.selectors.get(namespace).is_some_and(|all| all.iter().any(|(selector, _)| selector.matches(labels)))
    }

    pub(super) fn uid(&self, key: &ObjectKey) -> Option<&str> {
        self.all.get(key).map(|object| object.facts.uid.as_str())
    }

    /// The Secrets that objects name for the engines.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&Namespace, &str)> {
        let specs = self.all.values().flat_map(|object| object.facts.lowered.iter().flatten());
        specs.filter_map(|spec| match &spec.engine_key {
            Some(EngineKey::Secret { name, .. }) => Some((spec.key.namespace(), name.as_str())),
            Some(EngineKey::Inline(_)) | None => None,
        })
    }

    /// Counts `selectors` for the object in place of those before. Whether any selector came or went.
    fn select_by(&mut self, key: &ObjectKey, selectors: Vec<EngineSelector>) -> bool {
        let Some(object) = self.all.get_mut(key) else { return false };
        if object.selectors == selectors {
            return false;
        }
        let before = std::mem::replace(&mut object.selectors, selectors.clone());
        let mut changed = false;
        let all = self.selectors.entry(key.namespace.clone()).or_default();
        for selector in selectors {
            match all.iter_mut().find(|(known, _)| *known == selector) {
                Some((_, count)) => *count += 1,
                None => {
                    all.push((selector, 1));
                    changed = true;
                }
            }
        }
        for selector in before {
            if let Some((_, count)) = all.iter_mut().find(|(known, _)| *known == selector) {
                *count -= 1;
                changed |= *count == 0;
            }
        }
        all.retain(|(_, count)| *count > 0);
        changed
    }
}

impl<B: Brain> Actor<B> {
    pub(super) fn object_changed(&mut self, number: usize, change: Change<Box<ObjectFacts>>) {
        match change {
            Change::Put(facts) => self.object_put(*facts),
            Change::Broken { namespace, name, error } => {
                let object = format!("{namespace}/{name}");
                tracing::warn!(modelAdapter = object, error, "a ModelAdapter cannot be read, and is left as it was");
            }
            Change::Gone { namespace, name, uid } => {
                let known = self.objects.all.iter().find(|(key, object)| {
                    key.namespace.as_str() == namespace
                        && key.name.as_str() == name
                        && uid.as_ref().is_none_or(|uid| *uid == object.facts.uid)
                });
                if let Some(key) = known.map(|(key, _)| key.clone()) {
                    self.object_gone(&key);
                }
            }
            Change::Listed => self.listed_all(Kind::Objects, number),
        }
    }

    fn object_put(&mut self, facts: ObjectFacts) {
        let key = facts.key.clone();
        if self.objects.all.get(&key).is_some_and(|object| object.facts.uid != facts.uid && !object.gone) {
            // It was deleted and made anew between two looks.
            self.object_gone(&key);
        }
        let news = match self.objects.all.get_mut(&key) {
            Some(object) => {
                let news = object.gone || !object.told || facts.is_news(&object.facts);
                object.gone = false;
                object.facts = facts;
                news
            }
            None => {
                self.objects.all.insert(key.clone(), Object::new(facts));
                self.instances_shown(&key);
                true
            }
        };
        let Some(object) = self.objects.all.get(&key) else { return };
        if object.facts.is_held() || object.facts.deleting || object.told {
            if news {
                self.tell_object(&key);
            }
        } else {
            self.hold(key);
        }
    }

    /// Pods that an earlier process has given the object's adapters may be nobody's by now, if its selector has changed
    /// meanwhile: they are looked after until they have let go.
    fn instances_shown(&mut self, key: &ObjectKey) {
        let shown = self.objects.all.get(key).and_then(|object| object.facts.shown.as_ref());
        let pods: Vec<_> = shown
            .into_iter()
            .flat_map(|status| status.instances.iter().chain(status.engines.iter().map(|engine| &engine.pod)))
            .map(|pod| EngineId::new(key.namespace.clone(), pod))
            .collect();
        for pod in pods {
            self.keep_engine(pod);
        }
    }

    /// Puts our finalizer on the object before anything else is done for it: what is loaded must not outlive it unknown.
    fn hold(&mut self, key: ObjectKey) {
        let Some(object) = self.objects.all.get_mut(&key) else { return };
        if std::mem::replace(&mut object.holding, true) {
            return;
        }
        let (uid, shown) = (object.facts.uid.clone(), object.facts.finalizers.clone());
        let (writes, inbox) = (self.shared.objects.clone(), self.shared.inbox.clone());
        self.tasks.spawn(async move {
            let result = writes.hold(&key, &uid, &shown).await.map_err(|error| error.fault());
            let _ = inbox.send(Input::Held(key, uid, result));
        });
    }

    pub(super) fn held(&mut self, key: &ObjectKey, uid: &str, result: Result<(), Fault>) {
        let Some(object) = self.objects.all.get_mut(key).filter(|object| object.facts.uid == uid) else { return };
        object.holding = false;
        if object.told {
            return;
        }
        match result {
            Ok(()) if object.facts.is_held() => {}
            Ok(()) => object.facts.finalizers.push(labels::FINALIZER.to_owned()),
            Err(fault) => {
                let message = format!("cannot put our finalizer on this object: {fault}");
                object.facts.lowered = Err(Fault::new(Scope::Artifact, fault.reason, message));
            }
        }
        self.tell_object(key);
    }

    fn tell_object(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.all.get_mut(key) else { return };
        object.told = true;
        let seen = object.facts.seen();
        // What an object that is wrong now has declared before goes on being served, and so does its selector.
        let selectors = object.facts.lowered.as_ref().ok().map(|specs| {
            let mut selectors: Vec<EngineSelector> = Vec::new();
            for spec in specs {
                if !selectors.contains(&spec.selector) {
                    selectors.push(spec.selector.clone());
                }
            }
            selectors
        });
        // The engines come first, so that the object is placed at once.
        if let Some(selectors) = selectors
            && self.objects.select_by(key, selectors)
        {
            self.look_at_pods(&key.namespace);
        }
        for spec in seen.lowered.iter().flatten().filter(|_| !seen.deleting) {
            self.shared.routes.expect(spec.key.clone());
        }
        self.observe(Fact::Applied(Box::new(seen)));
        self.secrets_in_use();
    }

    fn object_gone(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.all.get_mut(key) else { return };
        object.gone = true;
        let told = std::mem::take(&mut object.told);
        self.shared.statuses.forget(key);
        if told {
            self.observe(Fact::Deleted(key.clone()));
        } else {
            self.forget_object(key);
        }
    }

    /// Nothing of the object is left: what could not be undone is noted, and then its finalizer comes off.
    pub(super) fn release(&mut self, key: ObjectKey, unfinished: Vec<longshore_reconciler::Unfinished>) {
        for entry in &unfinished {
            self.keep_engine(entry.engine.clone());
        }
        let Some(object) = self.objects.all.get_mut(&key) else { return };
        object.told = false;
        let (uid, shown, gone) = (object.facts.uid.clone(), object.facts.finalizers.clone(), object.gone);
        self.shared.statuses.forget(&key);
        let (writes, notes, inbox) =
            (self.shared.objects.clone(), self.shared.notes.clone(), self.shared.inbox.clone());
        let now = self.now();
        self.tasks.spawn(async move {
            let entries: Vec<_> = unfinished.into_iter().map(entry).collect();
            let done = async {
                if !entries.is_empty() {
                    notes.add(&key.namespace, &entries, now).await?;
                }
                if gone { Ok(()) } else { writes.release(&key, &uid, &shown).await }
            };
            match done.await {
                Ok(()) => {
                    let _ = inbox.send(Input::Released(key, uid));
                }
                Err(CallError::NotLeading) => {}
                Err(error) => {
                    let object = key.to_string();
                    tracing::error!(modelAdapter = object, %error, "cannot let go of an object that is being deleted");
                }
            }
        });
    }

    pub(super) fn released(&mut self, key: &ObjectKey, uid: &str) {
        let Some(object) = self.objects.all.get(key).filter(|object| object.facts.uid == uid) else { return };
        // One that was told again meanwhile is another life of the same object, which cannot be; one that still has a
        // finalizer of somebody else stays until the watch says that it is gone.
        if !object.told {
            self.forget_object(key);
        }
    }

    fn forget_object(&mut self, key: &ObjectKey) {
        let changed = self.objects.select_by(key, Vec::new());
        self.objects.all.remove(key);
        if changed {
            self.look_at_pods(&key.namespace);
        }
    }

    /// What the object's retry annotations should say.
    pub(super) fn retries(&mut self, key: &ObjectKey, entries: Vec<Retry>) {
        let Some(object) = self.objects.all.get_mut(key) else { return };
        object.retries.wanted = Some(entries);
        object.retries.stale = true;
        self.write_retries(key);
    }

    fn write_retries(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.all.get_mut(key) else { return };
        if object.gone || object.retries.writing || !object.retries.stale {
            return;
        }
        let Some(wanted) = object.retries.wanted.clone() else { return };
        let attempts: Vec<Attempts> = wanted
            .into_iter()
            .map(|retry| Attempts { pod: retry.engine.name.to_string(), count: retry.count, last: retry.last })
            .collect();
        let (uid, shown) = (object.facts.uid.clone(), object.facts.retries.clone());
        object.retries.stale = false;
        object.retries.writing = true;
        let (writes, inbox, key) = (self.shared.objects.clone(), self.shared.inbox.clone(), key.clone());
        self.tasks.spawn(async move {
            if let Err(error) = writes.retries(&key, &uid, &attempts, &shown).await {
                let object = key.to_string();
                tracing::debug!(modelAdapter = object, %error, "the retry annotations are not written");
            }
            // What was written is shown by the watch soon; the next write starts from that.
            sleep(SHOWN_SOON).await;
            let _ = inbox.send(Input::RetriesWritten(key));
        });
    }

    pub(super) fn retries_written(&mut self, key: &ObjectKey) {
        if let Some(object) = self.objects.all.get_mut(key) {
            object.retries.writing = false;
            self.write_retries(key);
        }
    }

    /// What is refused may be fine with another value of a Secret that it uses.
    pub(super) fn secret_changed(&mut self, namespace: &Namespace, name: &str) {
        let uses =
            |object: &Object| object.told && object.facts.lowered.iter().flatten().any(|spec| spec.uses_secret(name));
        let affected: BTreeSet<_> = self
            .objects
            .all
            .iter()
            .filter(|(key, object)| key.namespace == *namespace && uses(object))
            .map(|(key, _)| key.clone())
            .collect();
        for key in affected {
            self.observe(Fact::TryAgain(key));
        }
    }
}

/// How long a watch takes to show what was written: some milliseconds, and more on a busy API server.
const SHOWN_SOON: Duration = Duration::from_millis(200);
