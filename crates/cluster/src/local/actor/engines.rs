//! The engines that are looked after, and what their listings bring.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_api::labels;
use longshore_reconciler::{EngineSeen, Fact, Listing};
use longshore_types::{BaseModel, EngineId, Fault};

use super::super::depot::Paths;
use super::super::engine_config::EngineConfig;
use super::super::inbox::Input;
use super::super::problems::{About, Problem};
use super::{Actor, Brain};
use crate::link::Link;

/// How long files that nobody needs must have lain in the store before they are taken out at the start: whatever was
/// left there within the last day is likely to be wanted again.
const SWEEP_AGE: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// One engine.
pub(super) struct Known {
    config: EngineConfig,
    pub(super) link: Link,
    /// The base model that it reported first, which selectors are held against from then on.
    base: Option<BaseModel>,
    heard: Heard,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// It has failed to answer.
    Failure,
    /// It has been listed.
    Listing,
}

impl Known {
    /// Whether it has answered, or failed to, since it is known.
    pub(super) fn is_heard(&self) -> bool {
        self.heard != Heard::Nothing
    }

    fn seen(&self) -> EngineSeen {
        let config = &self.config;
        let mut labels = config.labels.clone();
        if let Some(base) = &self.base {
            labels.entry(labels::MODEL_NAME.to_owned()).or_insert_with(|| base.to_string());
        }
        EngineSeen {
            id: config.id(),
            kind: config.kind,
            address: config.address.clone(),
            labels,
            base_model: None,
            boot: None,
            ready: true,
            ready_for: None,
            terminating: false,
            trusted: true,
            max_loras: config.max_loras,
            max_cpu_loras: config.max_cpu_loras,
            max_lora_rank: config.max_lora_rank,
            adapter_memory: None,
        }
    }
}

impl<B: Brain> Actor<B> {
    /// Looks after the engines that were named on the command line, for good.
    pub(in crate::local) fn name_engines(&mut self, engines: Vec<EngineConfig>) {
        for engine in engines {
            self.named.insert(engine.id());
            self.engine_named(engine);
        }
    }

    /// The engines file lists these, and no others where it is `complete`. Returns those that the command line has named
    /// already.
    pub(super) fn engines_listed(&mut self, engines: Vec<EngineConfig>, complete: bool) -> Vec<EngineId> {
        let listed: BTreeSet<EngineId> = engines.iter().map(EngineConfig::id).collect();
        let keeps = |id: &EngineId| !complete || listed.contains(id) || self.named.contains(id);
        let gone: Vec<EngineId> = self.engines.keys().filter(|id| !keeps(id)).cloned().collect();
        for id in gone {
            self.engine_gone(&id);
        }
        let mut taken = Vec::new();
        for engine in engines {
            if self.named.contains(&engine.id()) {
                taken.push(engine.id());
            } else {
                self.engine_named(engine);
            }
        }
        taken
    }

    fn engine_named(&mut self, config: EngineConfig) {
        let id = config.id();
        if let Some(known) = self.engines.get_mut(&id) {
            if known.config == config {
                return;
            }
            let reached_alike =
                (&known.config.address, known.config.kind, &known.config.api_key, &known.config.store_alias)
                    == (&config.address, config.kind, &config.api_key, &config.store_alias);
            if reached_alike {
                known.config = config;
                let seen = known.seen();
                return self.observe(Fact::Engine(Box::new(seen)));
            }
            // Another engine under the same name.
            self.engine_gone(&id);
        }
        let engine = match self.shared.connect.connect(&config) {
            Ok(engine) => engine,
            Err(fault) => return self.engine_problem(&id, Some(&fault)),
        };
        let paths = Paths::new(self.shared.files.depot.clone(), config.store_alias.clone());
        let (keys, router) = (self.shared.secrets.keys(id.namespace.clone()), self.shared.router.clone());
        let link = Link::new(id.clone(), engine, Arc::new(paths), keys, router);
        let known = Known { config, link, base: None, heard: Heard::Nothing };
        let seen = known.seen();
        self.engines.insert(id, known);
        self.observe(Fact::Engine(Box::new(seen)));
    }

    fn engine_gone(&mut self, id: &EngineId) {
        // What it was seen to hold stays in the store: it may go on running.
        self.engines.remove(id);
        self.shared.problems.set(self.now(), &About::Engine(id.clone()), Vec::new(), "is looked after no more");
        self.observe(Fact::EngineGone(id.clone()));
    }

    /// Takes in a listing. The first one tells the base model, which selectors may ask for.
    pub(super) fn listed(&mut self, id: EngineId, result: Result<Listing, Fault>) {
        if let Some(known) = self.engines.get_mut(&id) {
            match &result {
                Ok(listing) => {
                    let new_base = known.base.is_none().then(|| listing.base_models.first().cloned()).flatten();
                    known.heard = Heard::Listing;
                    let held = listing.residents.iter().filter_map(|resident| resident.root.digest()).collect();
                    self.shared.files.resident(&id, held);
                    if new_base.is_some() {
                        known.base = new_base;
                        let seen = known.seen();
                        self.observe(Fact::Engine(Box::new(seen)));
                    }
                }
                Err(_) if known.heard == Heard::Nothing => known.heard = Heard::Failure,
                Err(_) => {}
            }
            self.engine_problem(&id, result.as_ref().err());
            self.sweep_once();
        }
        self.observe(Fact::Listed { engine: id, result });
    }

    fn engine_problem(&self, id: &EngineId, fault: Option<&Fault>) {
        let about = About::Engine(id.clone());
        let problems = fault.map(|fault| Problem {
            about: about.clone(),
            line: None,
            field: None,
            reason: fault.reason.to_owned(),
            message: fault.message.clone(),
        });
        self.shared.problems.set(self.now(), &about, problems.into_iter().collect(), "answers");
    }

    /// Takes out of the store what nobody needs, once it is known what every engine holds. As long as one has not
    /// answered, nothing is taken out: it may hold anything, and dies of a file that is gone (I5).
    fn sweep_once(&mut self) {
        if self.swept || self.read_at.is_none() || self.engines.values().any(|known| known.heard != Heard::Listing) {
            return;
        }
        self.swept = true;
        let (files, inbox) = (self.shared.files.clone(), self.shared.inbox.clone());
        self.tasks.spawn(async move {
            let result = files.sweep(SWEEP_AGE).await;
            if let Ok(count @ 1..) = result {
                tracing::info!(count, "took adapters out of the store that nobody needs");
            }
            let _ = inbox.send(Input::Removed(result.map(drop), None));
        });
    }
}
