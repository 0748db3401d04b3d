//! From what was decided to what is done.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_reconciler::{Effect, Event, Fact, Route, StatusWrite};
use longshore_types::{AdapterKey, EngineId, ObjectKey};

use super::super::resolve::resolve;
use super::super::slices::{BaseWrite, RouteWrite};
use super::note::entry;
use super::{Actor, Brain};
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
                    adapters.insert(route.adapter.clone());
                    self.publish(route);
                }
                Effect::Retract(adapter) => {
                    self.shared.routes.retract(adapter.clone());
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
        for engine in &engines {
            self.refresh_engine(engine);
        }
        if self.settled {
            self.publish_bases();
        }
        // An event that goes with a line for the log is in the log already.
        let logged: BTreeSet<_> = rest.iter().flat_map(about).collect();
        for effect in rest {
            if let Effect::Event(event) = &effect
                && !logged.contains(&(event.object.clone(), event.related.clone()))
            {
                log_event(event);
            }
            self.begin(effect);
        }
        // Once per turn, however often it was said: what the reconciler shows is as it is after all of it. Last, since
        // engines and the API server wait longer than readers of the fleet API do.
        for adapter in &adapters {
            self.refresh_adapter(adapter);
        }
        for engine in &engines {
            self.let_go(engine);
        }
    }

    /// Tells routers which engines answer for each base model. Not before it is known of all engines: the first ones to
    /// answer would take the others away.
    pub(super) fn publish_bases(&mut self) {
        for ((namespace, base_model), endpoints) in self.bases.take_changed() {
            let pods = self.uids(endpoints.iter().map(|endpoint| &endpoint.engine));
            self.shared.routes.base(BaseWrite { namespace, base_model, endpoints, pods });
        }
    }

    fn publish(&mut self, route: Route) {
        let Some(uid) = self.objects.uid(&route.adapter.object).map(Arc::from) else {
            // Nothing tells of it any more, and nothing can own what would be written.
            let Route { adapter, sequence, .. } = route;
            self.answers.push_back(Fact::Published { adapter, sequence, result: Ok(()), notice: None });
            return;
        };
        let pods = self.uids(route.endpoints.iter().map(|endpoint| &endpoint.engine));
        self.shared.routes.publish(RouteWrite { route, uid, pods });
    }

    fn begin(&mut self, effect: Effect) {
        let link = |id: &EngineId| self.engines.link(id);
        let asked = asking::begin(&mut self.tasks, &self.shared.inbox, link, effect);
        let Some(effect) = asked else { return };
        match effect {
            Effect::Resolve(spec) => {
                let result = resolve(&spec);
                self.answers.push_back(Fact::Resolved { adapter: spec.key, generation: spec.generation, result });
            }
            Effect::WriteStatus(write) => self.write_status(write),
            Effect::Event(event) => self.tell(event),
            Effect::Release { object, unfinished } => self.release(object, unfinished),
            Effect::Finished(unfinished) => {
                let notes = self.shared.notes.clone();
                self.tasks.spawn(async move {
                    let namespace = unfinished.engine.namespace.clone();
                    if let Err(error) = notes.remove(&namespace, &[entry(unfinished)]).await {
                        tracing::debug!(%error, "what is settled stays in the note");
                    }
                });
            }
            Effect::Retries { object, entries } => self.retries(&object, entries),
            Effect::Log(line) => log(&line),
            // No files of ours lie here.
            Effect::Pin(_) | Effect::Unpin(_) => {}
            // Done before.
            Effect::List { .. } | Effect::Probe { .. } | Effect::Load(_) | Effect::Unload(_) => {}
            Effect::Publish(_) | Effect::Retract(_) | Effect::AdapterChanged(_) | Effect::EngineChanged(_) => {}
        }
    }

    /// Shows an adapter as the reconciler does, with the endpoints of the route that it sent out last.
    fn refresh_adapter(&mut self, key: &AdapterKey) {
        match self.brain.adapter(key) {
            Some(adapter) => self.shared.fleet.put_adapter(adapter),
            None => self.shared.fleet.remove_adapter(key.namespace().as_str(), key.name.as_str()),
        };
    }

    fn refresh_engine(&mut self, id: &EngineId) {
        let shown = self.brain.engine(id);
        let place = self.engines.address(id);
        self.bases.shown(id, shown.as_ref().zip(place).map(|(engine, (kind, address))| (engine, kind, address)));
        match shown {
            Some(engine) => self.shared.fleet.put_engine(engine),
            None => self.shared.fleet.remove_engine(id.namespace.as_str(), &id.name),
        };
    }

    fn write_status(&mut self, write: StatusWrite) {
        if let Some(uid) = self.objects.uid(&write.object).map(str::to_owned) {
            self.shared.statuses.write(write, uid);
        } else if write.acknowledge {
            let StatusWrite { object, sequence, .. } = write;
            self.answers.push_back(Fact::StatusWritten { object, sequence });
        }
    }

    fn tell(&self, event: Event) {
        if let Some(uid) = self.objects.uid(&event.object).map(str::to_owned) {
            let pod = event.related.as_ref().and_then(|id| self.engines.facts(id)).map(|facts| facts.uid.to_string());
            self.shared.events.tell(event, uid, pod, self.now());
        }
    }
}

/// What a line for the log is about, as an event says it: the object, and the engine where there is one.
fn about(effect: &Effect) -> impl Iterator<Item = (ObjectKey, Option<EngineId>)> {
    let line = if let Effect::Log(line) = effect { Some(line) } else { None };
    line.into_iter().flat_map(|line| {
        let engines = line.engines.iter().cloned().map(Some).chain([None]);
        engines.map(|engine| (line.adapter.object.clone(), engine))
    })
}

fn log_event(event: &Event) {
    let Event { object, warning, reason, message, related } = event;
    let (name, pod) = (object.to_string(), related.as_ref().map(ToString::to_string));
    let pod = pod.as_deref();
    if *warning {
        tracing::warn!(modelAdapter = name, pod, reason, "{message}");
    } else {
        tracing::info!(modelAdapter = name, pod, reason, "{message}");
    }
}
