//! Effects, set going.

use std::collections::BTreeSet;

use longshore_api::fleet;
use longshore_api::spec::AdapterSpec;
use longshore_api::status::{ModelAdapterStatus, Phase};
use longshore_artifacts::Progress;
use longshore_reconciler::{Effect, Event, Fact, Route, StatusWrite};
use longshore_types::{AdapterKey, Digest, EngineId, ObjectKey};

use super::super::inbox::Input;
use super::super::problems::{About, Problem};
use super::super::resolve::resolve;
use super::fetching::Fetching;
use super::{Actor, Brain, Resolving};
use crate::asking;
use crate::log_line::log;

impl<B: Brain> Actor<B> {
    /// Does what was decided: first what routers see, then the rest in its order.
    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        let (mut adapters, mut engines) = (BTreeSet::new(), BTreeSet::new());
        let mut rest = Vec::new();
        for effect in effects {
            match effect {
                Effect::Publish(route) => {
                    let Route { adapter, sequence, .. } = route;
                    adapters.insert(adapter.clone());
                    self.answers.push_back(Fact::Published { adapter, sequence, result: Ok(()), notice: None });
                }
                Effect::Retract(adapter) => {
                    rest.retain(|other| !matches!(other, Effect::Resolve(spec) if spec.key == adapter));
                    if let Some(resolving) = self.resolving.remove(&adapter) {
                        resolving.task.abort();
                    }
                    adapters.insert(adapter);
                }
                Effect::AdapterChanged(adapter) => {
                    adapters.insert(adapter);
                }
                Effect::EngineChanged(engine) => {
                    engines.insert(engine);
                }
                other => rest.push(other),
            }
        }
        // Once per turn, however often it was said: what the reconciler shows is as it is after all of it.
        for adapter in &adapters {
            self.refresh_adapter(adapter);
        }
        for engine in &engines {
            self.refresh_engine(engine);
        }
        if !adapters.is_empty() || !engines.is_empty() {
            self.shared.router.fleet_changed(&self.shared.fleet);
        }
        for effect in rest {
            self.begin(effect);
        }
    }

    fn begin(&mut self, effect: Effect) {
        let link = |id: &EngineId| self.engines.get(id).map(|known| known.link.clone());
        let asked = asking::begin(&mut self.tasks, &self.shared.inbox, link, effect);
        let Some(effect) = asked else { return };
        match effect {
            Effect::Resolve(spec) => self.resolve(*spec),
            Effect::WriteStatus(write) => self.write_status(write),
            Effect::Event(event) => self.tell(&event),
            // A listing tells what is ours, by its path in our store: there is nothing to note.
            Effect::Release { object, unfinished: _ } => self.release(&object),
            Effect::Finished(_) => {}
            // There is nothing to annotate; events and the log tell of it.
            Effect::Retries { .. } => {}
            Effect::Pin(digest) => self.shared.files.pin(digest),
            Effect::Unpin(digest) => self.unpin(digest),
            Effect::Log(line) => log(&line),
            // Done before.
            Effect::List { .. } | Effect::Probe { .. } | Effect::Load(_) | Effect::Unload(_) => {}
            Effect::Publish(_) | Effect::Retract(_) | Effect::AdapterChanged(_) | Effect::EngineChanged(_) => {}
        }
    }

    /// Resolves an adapter's reference, in place of what was under way for it.
    fn resolve(&mut self, spec: AdapterSpec) {
        self.tickets += 1;
        let (ticket, key) = (self.tickets, spec.key.clone());
        let (files, inbox) = (self.shared.files.clone(), self.shared.inbox.clone());
        let secrets = self.shared.secrets.clone();
        let progress = Progress::default();
        let fetching = Some(Fetching::new(progress.clone()));
        let task = self.tasks.spawn(resolve(spec, ticket, files, secrets, progress, inbox));
        if let Some(replaced) = self.resolving.insert(key, Resolving { ticket, task, fetching }) {
            replaced.task.abort();
        }
    }

    /// Shows an adapter as the reconciler does, with the endpoints of the route that it sent out last.
    pub(super) fn refresh_adapter(&mut self, key: &AdapterKey) {
        match self.brain.adapter(key) {
            Some(adapter) => self.shared.fleet.put_adapter(fleet::Adapter { fetching: self.fetching(key), ..adapter }),
            None => self.shared.fleet.remove_adapter(key.namespace().as_str(), key.name.as_str()),
        };
    }

    fn refresh_engine(&mut self, id: &EngineId) {
        match self.brain.engine(id) {
            Some(engine) => self.shared.fleet.put_engine(engine),
            None => self.shared.fleet.remove_engine(id.namespace.as_str(), &id.name),
        };
    }

    fn write_status(&mut self, write: StatusWrite) {
        let StatusWrite { object, sequence, status, phase_change, acknowledge } = write;
        if phase_change {
            let warning = status.phase == Phase::Failed;
            self.shared.changes.tell(self.now(), warning, object.to_string(), phase_line(&status));
        }
        self.show_status(&object, Some(*status));
        if acknowledge {
            self.answers.push_back(Fact::StatusWritten { object, sequence });
        }
    }

    fn tell(&self, event: &Event) {
        let Event { object, warning, reason, message, related } = event;
        let (object_name, pod) = (object.to_string(), related.as_ref().map(ToString::to_string));
        let pod = pod.as_deref();
        if *warning {
            tracing::warn!(modelAdapter = object_name, pod, reason, "{message}");
        } else {
            tracing::info!(modelAdapter = object_name, pod, reason, "{message}");
        }
        self.shared.changes.tell(self.now(), *warning, object.to_string(), format!("{reason}: {message}"));
    }

    fn release(&mut self, object: &ObjectKey) {
        self.show_status(object, None);
        self.shared.changes.tell(self.now(), false, object.to_string(), "Deleted");
        let back = self.manifests.released(object);
        for object in back {
            self.observe(Fact::Applied(Box::new(object)));
        }
    }

    fn unpin(&mut self, digest: Digest) {
        self.shared.files.unpin(digest);
        // What is withdrawn for a shutdown is wanted again at the next start.
        if self.withdrawing.is_some() {
            return;
        }
        let (files, inbox) = (self.shared.files.clone(), self.shared.inbox.clone());
        self.tasks.spawn(async move {
            let result = files.remove(digest).await;
            let _ = inbox.send(Input::Removed(result.map(drop), Some(digest)));
        });
    }

    pub(super) fn removed(&mut self, result: Result<(), String>, digest: Option<Digest>) {
        let problem = result.err().map(|error| {
            let what = digest.map_or_else(|| "what nobody needs".to_owned(), |digest| digest.to_string());
            let message = format!("cannot take {what} out of the store, where it goes on taking up space: {error}");
            Problem { about: About::Store, line: None, field: None, reason: "StoreFailed".to_owned(), message }
        });
        let problems = problem.into_iter().collect();
        self.shared.problems.set(self.now(), &About::Store, problems, "can be cleaned up again");
    }
}

/// A phase as the terminal shows it, with the reason where it is not on its way to `Running`.
fn phase_line(status: &ModelAdapterStatus) -> String {
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status != "True");
    match (status.phase, ready) {
        (Phase::Failed | Phase::Pending, Some(ready)) if !ready.message.is_empty() => {
            format!("{}: {}", status.phase, ready.message)
        }
        _ => status.phase.to_string(),
    }
}
