//! The retry annotations of objects.

use std::time::Duration;

use longshore_reconciler::Retry;
use longshore_types::ObjectKey;
use tokio::time::sleep;

use super::super::objects::Attempts;
use super::objects::Stage;
use super::{Actor, Brain, Input};
use crate::owed::Owed;

/// How long a watch takes to show what was written: some milliseconds, and more on a busy API server.
const SHOWN_SOON: Duration = Duration::from_millis(200);

/// The retry annotations of an object.
#[derive(Debug, Default)]
pub(super) struct Retries {
    /// What they should say, where that has changed since the write that is under way began.
    wanted: Option<Vec<Retry>>,
    writing: bool,
}

impl<B: Brain> Actor<B> {
    /// What the object's retry annotations should say.
    pub(super) fn retries(&mut self, key: &ObjectKey, entries: Vec<Retry>) {
        let Some(object) = self.objects.get_mut(key) else { return };
        object.retries.wanted = Some(entries);
        self.write_retries(key);
    }

    fn write_retries(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.get_mut(key) else { return };
        if object.stage != Stage::Told || object.retries.writing {
            return;
        }
        let Some(wanted) = object.retries.wanted.take() else { return };
        object.retries.writing = true;
        let attempt =
            |retry: Retry| Attempts { pod: retry.engine.name.to_string(), count: retry.count, last: retry.last };
        let attempts: Vec<Attempts> = wanted.into_iter().map(attempt).collect();
        let (uid, shown) = (object.facts.uid.clone(), object.facts.retries.clone());
        let (writes, key) = (self.shared.objects.clone(), key.clone());
        let written = Owed::new(self.shared.inbox.clone(), Input::RetriesWritten(key.clone(), uid.clone()));
        self.tasks.spawn(async move {
            if let Err(error) = writes.retries(&key, &uid, &attempts, &shown).await {
                let object = key.to_string();
                tracing::debug!(modelAdapter = object, %error, "the retry annotations are not written");
            }
            // What was written is shown by the watch soon; the next write starts from that.
            sleep(SHOWN_SOON).await;
            drop(written);
        });
    }

    pub(super) fn retries_written(&mut self, key: &ObjectKey, uid: &str) {
        if let Some(object) = self.objects.get_mut(key).filter(|object| object.facts.uid == uid) {
            object.retries.writing = false;
            self.write_retries(key);
        }
    }
}
