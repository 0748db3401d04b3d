//! Our finalizer: put on an object before anything is done for it, taken off when nothing is left of that.

use std::time::Duration;

use longshore_api::labels;
use longshore_reconciler::Unfinished;
use longshore_types::{Fault, ObjectKey, Scope};
use tokio::time::sleep;

use super::super::calls::CallError;
use super::note::entry;
use super::objects::Stage;
use super::{Actor, Brain, Input};

/// How long to wait after the API server has refused a finalizer for good: a right that is missing may be given.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);

impl<B: Brain> Actor<B> {
    /// Puts our finalizer on the object before anything else is done for it: what is loaded must not outlive it unknown.
    pub(super) fn hold(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.get_mut(key) else { return };
        if std::mem::replace(&mut object.holding, true) {
            return;
        }
        let (key, uid, shown) = (key.clone(), object.facts.uid.clone(), object.facts.finalizers.clone());
        let (writes, inbox) = (self.shared.objects.clone(), self.shared.inbox.clone());
        self.tasks.spawn(async move {
            loop {
                let fault = match writes.hold(&key, &uid, &shown).await {
                    Ok(()) => break drop(inbox.send(Input::Held(key, uid, Ok(())))),
                    Err(CallError::NotLeading) => break,
                    Err(error) => error.fault(),
                };
                let message = format!("cannot put our finalizer on this object: {}", fault.message);
                let fault = Fault::new(Scope::Artifact, fault.reason, message);
                let _ = inbox.send(Input::Held(key.clone(), uid.clone(), Err(fault)));
                sleep(REFUSED_AGAIN).await;
            }
        });
    }

    pub(super) fn held(&mut self, key: &ObjectKey, uid: &str, result: Result<(), Fault>) {
        let Some(object) = self.objects.get_mut(key).filter(|object| object.facts.uid == uid) else { return };
        object.holding = result.is_err();
        if result.is_ok() && !object.facts.is_held() && !object.facts.deleting {
            object.facts.finalizers.push(labels::FINALIZER.to_owned());
        }
        let news = match (object.stage, result) {
            (Stage::Gone | Stage::Released, _) => false,
            (Stage::New, result) => {
                object.refused = result.err();
                true
            }
            (Stage::Told, Ok(())) => object.refused.take().is_some(),
            (Stage::Told, Err(fault)) if object.refused.is_some() => {
                object.refused.replace(fault.clone()) != Some(fault)
            }
            // It was on when the reconciler was told. What is loaded for the object stays.
            (Stage::Told, Err(fault)) => {
                let object = key.to_string();
                tracing::warn!(modelAdapter = object, %fault, "somebody has taken our finalizer off");
                false
            }
        };
        if news {
            self.tell_object(key);
        }
    }

    /// Nothing of the object is left: what could not be undone is noted, and then its finalizer comes off.
    pub(super) fn release(&mut self, key: ObjectKey, unfinished: Vec<Unfinished>) {
        for entry in &unfinished {
            self.keep_engine(entry.engine.clone());
        }
        let Some(object) = self.objects.get_mut(&key) else { return };
        // The routes that were published empty on the way, too.
        for spec in object.facts.lowered.iter().flatten().filter(|_| object.stage != Stage::New) {
            self.shared.routes.retract(spec.key.clone());
        }
        let finalizers = match object.stage {
            Stage::Told => {
                object.stage = Stage::Released;
                let on = (object.facts.uid.clone(), object.facts.finalizers.clone());
                self.shared.statuses.forget(&key);
                self.select_no_more(&key);
                Some(on)
            }
            Stage::Gone => {
                self.forget_object(&key);
                None
            }
            // It was the one before that is over.
            Stage::New | Stage::Released => {
                object.undoing = false;
                None
            }
        };
        if finalizers.is_none() && unfinished.is_empty() {
            return;
        }
        let (writes, notes, now) = (self.shared.objects.clone(), self.shared.notes.clone(), self.now());
        self.tasks.spawn(async move {
            let entries: Vec<_> = unfinished.into_iter().map(entry).collect();
            loop {
                let done = async {
                    if !entries.is_empty() {
                        notes.add(&key.namespace, &entries, now).await?;
                    }
                    match &finalizers {
                        Some((uid, shown)) => writes.release(&key, uid, shown).await,
                        None => Ok(()),
                    }
                };
                match done.await {
                    Ok(()) | Err(CallError::NotLeading) => break,
                    Err(error) => {
                        let object = key.to_string();
                        tracing::error!(modelAdapter = object, %error, "cannot let go of an object that is being deleted");
                    }
                }
                sleep(REFUSED_AGAIN).await;
            }
        });
    }
}
