//! Effects, carried out; and what comes of them later.

use std::collections::BTreeSet;

use super::*;

impl World {
    pub(super) fn carry_out(&mut self, effect: Effect) {
        let name = match &effect {
            Effect::Resolve(_) => "resolve",
            Effect::List { .. } => "list",
            Effect::Probe { .. } => "probe",
            Effect::Load(_) => "load",
            Effect::Unload(_) => "unload",
            Effect::Publish(_) => "publish",
            Effect::Retract(_) => "retract",
            Effect::WriteStatus(_) => "status",
            Effect::Event(_) => "event",
            Effect::Release { .. } => "release",
            Effect::Finished(_) => "finished",
            Effect::Retries { .. } => "retries",
            Effect::Pin(_) => "pin",
            Effect::Unpin(_) => "unpin",
            Effect::AdapterChanged(_) => "adapter",
            Effect::EngineChanged(_) => "engine",
            Effect::Log(_) => "log",
        };
        *self.counts.entry(name).or_default() += 1;
        if !matches!(
            effect,
            Effect::List { .. } | Effect::AdapterChanged(_) | Effect::EngineChanged(_) | Effect::Probe { .. }
        ) {
            self.trace.push((self.now - START, format!("{effect:?}")));
        }
        let delay = self.delay();
        match effect {
            Effect::Resolve(spec) => {
                let result = self.artifacts.get(spec.artifact.as_written()).cloned();
                let result =
                    result.unwrap_or_else(|| Err(Fault::new(Scope::Artifact, "ArtifactNotFound", "no such file")));
                let result = if self.chance() { Err(transient("the source is slow")) } else { result };
                self.answer(delay, Fact::Resolved { adapter: spec.key, generation: spec.generation, result });
            }
            Effect::List { engine } => self.later(delay, Later::FinishList(engine)),
            Effect::Probe { engine } => self.later(delay, Later::FinishProbe(engine)),
            Effect::Load(load) => self.begin_load(load, delay),
            Effect::Unload(unload) => self.begin_unload(unload, delay),
            Effect::Publish(route) => {
                self.note_promises(&route);
                if self.publish_takes == 0 && self.chaos == 0.0 {
                    self.publish(route);
                } else {
                    let after = self.publish_takes + if self.chaos > 0.0 { self.rng.random_range(0..30) } else { 0 };
                    self.later(after, Later::Publish(route));
                }
            }
            Effect::Retract(key) => {
                self.routes.remove(&key);
            }
            Effect::WriteStatus(write) => {
                let shown = self.statuses.entry(write.object.clone()).or_default();
                if let Some(before) = shown.last() {
                    let (before, after) = (before.observed_generation, write.status.observed_generation);
                    assert!(before <= after, "I9: observedGeneration went back: {before:?} to {after:?}");
                }
                let step = |phase: Phase| Phase::ALL.iter().position(|step| *step == phase).unwrap_or(0);
                let before = shown.last().filter(|before| before.phase != Phase::Failed).map(|before| before.phase);
                if let Some(before) = before.filter(|_| write.status.phase != Phase::Failed) {
                    let after = write.status.phase;
                    assert!(step(after) <= step(before) + 1, "I9: {before} to {after} skips a phase");
                }
                shown.push((*write.status).clone());
                if write.acknowledge && self.acknowledges && !self.chance() {
                    let fact = Fact::StatusWritten { object: write.object, sequence: write.sequence };
                    self.answer(delay, fact);
                }
            }
            Effect::Event(event) => self.events.push(event),
            Effect::Release { object, unfinished } => {
                self.note.extend(unfinished);
                self.statuses.remove(&object);
                self.retries.remove(&object);
                self.told_retries.remove(&object);
                self.objects.remove(&object);
                self.released.insert(object);
            }
            Effect::Finished(entry) => {
                self.note.remove(&entry);
            }
            Effect::Retries { object, entries } => {
                assert_ne!(self.told_retries.get(&object), Some(&entries), "the same retries are told twice");
                self.told_retries.insert(object.clone(), entries.clone());
                self.retries.insert(object, entries);
            }
            Effect::Pin(digest) => assert!(self.pinned.insert(digest), "pinned twice: {digest:?}"),
            Effect::Unpin(digest) => {
                assert!(self.pinned.remove(&digest), "not pinned: {digest:?}");
                for engine in self.engines.values().filter(|engine| engine.alive) {
                    let held = engine.residents.iter().find(|(_, root)| **root == Root::Store(digest));
                    if let Some((name, _)) = held {
                        self.show(name);
                        panic!("I5: {} still holds {name} from {digest:?} whose files may go now", engine.id);
                    }
                }
            }
            Effect::Log(line) => self.log.push(line),
            Effect::AdapterChanged(_) | Effect::EngineChanged(_) => {}
        }
    }

    fn publish(&mut self, route: Route) {
        let result = if self.publish_fails { Err(transient("the API server is away")) } else { Ok(()) };
        let (adapter, sequence) = (route.adapter.clone(), route.sequence);
        let notice = self.notice.clone().filter(|_| !route.endpoints.is_empty());
        if result.is_ok() {
            self.take_route(route);
        }
        self.answer(0, Fact::Published { adapter, sequence, result, notice });
    }

    /// Routers hear of a route. A later one replaces an earlier one, and never the other way round, whichever arrives last.
    pub(super) fn take_route(&mut self, route: Route) {
        let known = self.latest.get(&route.adapter).copied().unwrap_or(0);
        if known > route.sequence {
            return;
        }
        self.latest.insert(route.adapter.clone(), route.sequence);
        self.routed_by.insert(route.adapter.clone(), self.process);
        if route.endpoints.is_empty() && !route.swapping {
            self.routes.remove(&route.adapter);
        } else {
            self.routes.insert(route.adapter.clone(), route);
        }
    }

    /// Notes what the engines of a route hold as it is sent out: that is what their requests are to be answered with.
    fn note_promises(&mut self, route: &Route) {
        for endpoint in &route.endpoints {
            let engine = &self.engines[&endpoint.engine];
            let held = engine.residents.get(route.adapter.name.as_str());
            if let Some(root) = held.filter(|_| engine.boot.to_string() == endpoint.boot.as_str()) {
                let key = (self.process, route.adapter.clone(), route.sequence, engine.id.clone());
                self.promised.insert(key, root.clone());
            }
        }
    }

    fn begin_load(&mut self, load: Load, delay: u64) {
        let lost = self.chance();
        let engine = self.engines.get_mut(&load.engine).unwrap();
        let name = load.adapter.name.to_string();
        let answer = |result| Fact::Loaded {
            engine: load.engine.clone(),
            boot: load.boot.clone(),
            name: load.adapter.name.clone(),
            root: load.root.clone(),
            result,
        };
        if !engine.alive {
            let fact = answer(Err(transient("connection refused")));
            return self.answer(delay, fact);
        }
        if engine.boot.to_string() != load.boot.as_str() {
            let fact = answer(Err(transient("another life")));
            return self.answer(delay, fact);
        }
        // A load that never ends gives its slot back at a bound.
        let bound = u64::try_from(self.config.load_bound.as_millis()).unwrap();
        let free = engine.loading.is_none() || engine.loading_since + bound <= self.now;
        assert!(free, "I3: {} loads {:?} and is told to load {name}", engine.id, engine.loading);
        engine.loading_since = self.now;
        assert!(!engine.unloading.contains(&name), "I3: {} unloads {name} and is told to load it", engine.id);
        if let Root::Store(digest) = &load.root {
            assert!(self.pinned.contains(digest), "I5: {name} is loaded from files that are not pinned");
        }
        if engine.hangs || engine.hangs_on_load {
            engine.loading = Some(name);
            let fact = answer(Err(Fault::new(Scope::Unknown, "LoadTimeout", "no answer")));
            return self.answer(30_000, fact);
        }
        if engine.residents.contains_key(&name) {
            // It says so at once, and reads nothing.
            if lost {
                let fact = answer(Err(Fault::new(Scope::Unknown, "LoadTimeout", "no answer")));
                return self.answer(delay, fact);
            }
            return self.later(delay, Later::FinishLoad(load, true));
        }
        engine.loading = Some(name);
        let takes = engine.load_takes + delay;
        if lost {
            // The answer is lost before the engine is done: it may be done long after.
            let fact = answer(Err(Fault::new(Scope::Unknown, "LoadTimeout", "no answer")));
            self.answer(delay, fact);
            let takes = takes + self.rng.random_range(0..3_000);
            return self.later(takes, Later::FinishLoad(load, false));
        }
        self.later(takes, Later::FinishLoad(load, true));
    }

    fn begin_unload(&mut self, unload: Unload, delay: u64) {
        let engine = self.engines.get_mut(&unload.engine).unwrap();
        let name = unload.name.to_string();
        let bound = u64::try_from(self.config.load_bound.as_millis()).unwrap();
        let idle = engine.loading.as_ref() != Some(&name) || engine.loading_since + bound <= self.now;
        assert!(idle, "I3: {} loads {name} and is told to unload it", engine.id);
        if !engine.alive || engine.boot.to_string() != unload.boot.as_str() {
            let result = Err(transient("connection refused"));
            let fact = Fact::Unloaded { engine: unload.engine, boot: unload.boot, name: unload.name, result };
            return self.answer(delay, fact);
        }
        if !engine.unloading.insert(name.clone()) {
            self.show(&name);
            panic!("I3: {} is told to unload {name} twice at once", unload.engine);
        }
        let routed = self.routes.values().find(|route| {
            let here = |e: &longshore_reconciler::Endpoint| e.engine == unload.engine && e.boot == unload.boot;
            route.adapter.name == unload.name && route.endpoints.iter().any(here)
        });
        if routed.is_some() {
            self.show(&name);
            panic!("I5: {name} is unloaded from {} while routers send requests there: {routed:?}", unload.engine);
        }
        self.later(delay, Later::FinishUnload(unload));
    }

    pub(super) fn happen(&mut self, later: Later) {
        match later {
            Later::Tell(fact) => self.observe(*fact),
            Later::Nothing => {}
            Later::ShowBoot(name) => {
                let engine = self.engine(&name);
                engine.boot_told = Some(engine.boot);
                let seen = self.seen(&name);
                self.reconciler.observe(self.at(), Fact::Engine(Box::new(seen)));
            }
            Later::Publish(route) => self.publish(route),
            Later::FinishLoad(load, answers) => {
                let engine = self.engines.get_mut(&load.engine).unwrap();
                let name = load.adapter.name.to_string();
                let same_life = engine.alive && engine.boot.to_string() == load.boot.as_str();
                let result = if !same_life {
                    Err(transient("connection reset"))
                } else {
                    engine.loading = None;
                    match (engine.residents.get(&name), engine.load_fails.clone()) {
                        (Some(root), _) if *root == load.root => Ok(()),
                        (Some(_), _) => Err(Fault::new(Scope::Engine, "NameTaken", "already loaded from elsewhere")),
                        (None, Some(fault)) => Err(fault),
                        (None, None) => {
                            let ours = engine.residents.values().filter(|root| root.digest().is_some());
                            let used = u32::try_from(ours.count()).unwrap();
                            if engine.max_cpu_loras.is_some_and(|max| used >= max) {
                                let (id, held) = (engine.id.clone(), engine.residents.clone());
                                self.show(&format!("{id:?}"));
                                panic!("I6: {id} holds {held:?} and is told to load {name}");
                            }
                            engine.loads.push((engine.boot, name.clone(), load.root.clone()));
                            engine.residents.insert(name, load.root.clone());
                            Ok(())
                        }
                    }
                };
                if answers {
                    let fact = Fact::Loaded {
                        engine: load.engine,
                        boot: load.boot,
                        name: load.adapter.name,
                        root: load.root,
                        result,
                    };
                    self.answer(0, fact);
                }
            }
            Later::FinishUnload(unload) => {
                let lost = self.chance();
                let engine = self.engines.get_mut(&unload.engine).unwrap();
                let same_life = engine.alive && engine.boot.to_string() == unload.boot.as_str();
                let result = match engine.unload_fails.clone() {
                    _ if !same_life => Err(transient("connection reset")),
                    _ if engine.hangs => Err(transient("no answer")),
                    Some(fault) => Err(fault),
                    None => {
                        engine.residents.remove(unload.name.as_str());
                        if lost { Err(transient("answer lost")) } else { Ok(()) }
                    }
                };
                if same_life {
                    engine.unloading.remove(unload.name.as_str());
                }
                self.answer(0, Fact::Unloaded { engine: unload.engine, boot: unload.boot, name: unload.name, result });
            }
            Later::FinishList(id) => {
                let lost = self.chance();
                let Some(engine) = self.engines.get(&id) else { return };
                if engine.hangs || lost {
                    let fault = Fault::new(Scope::Transient, "Timeout", "no answer within 2 s");
                    return self.answer(2_000, Fact::Listed { engine: id, result: Err(fault) });
                }
                let result = if engine.alive {
                    Ok(Listing {
                        boot: Boot::new(engine.boot.to_string()),
                        residents: engine
                            .residents
                            .iter()
                            .map(|(name, root)| ResidentSeen { name: name.as_str().into(), root: root.clone() })
                            .collect(),
                        base_models: vec![BaseModel::new(&engine.base).unwrap()],
                        load: LoadSignals::default(),
                    })
                } else {
                    Err(transient("connection refused"))
                };
                // What was true a moment ago arrives late.
                let after = if self.chaos > 0.0 { self.rng.random_range(0..60) } else { 0 };
                self.answer(after, Fact::Listed { engine: id, result });
            }
            Later::FinishProbe(id) => {
                let Some(engine) = self.engines.get(&id) else { return };
                let result = if engine.alive && !engine.hangs {
                    let active: BTreeSet<_> = engine.busy.iter().map(|name| name.as_str().into()).collect();
                    let running = u32::try_from(active.len()).unwrap();
                    Ok(LoadSignals { active, running, ..LoadSignals::default() })
                } else {
                    Err(transient("connection refused"))
                };
                self.answer(0, Fact::Probed { engine: id, result });
            }
        }
    }
}
