//! A world for the reconciler: engines that load, answer late, restart, lose answers and hang; routers that hear of routes
//! late; virtual time. It breaks off as soon as an invariant does not hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_api::spec::{AdapterSpec, EngineSelector, Preemption, Replicas, UpdateStrategy};
use longshore_api::status::{ModelAdapterStatus, Phase};
use longshore_reconciler::{
    Config, Effect, EngineSeen, Event, Fact, Listing, Load, LogLine, ObjectSeen, Reconciler, ResidentSeen, Resolved,
    Retry, Route, Unfinished, Unload,
};
use longshore_types::{
    AdapterKey, AdapterName, Address, ArtifactUrl, BaseModel, Boot, Digest, EngineId, EngineKind, Fault, LoadSignals,
    Namespace, ObjectKey, ObjectName, OwnerKind, Root, Scope, Timestamp,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub const START: u64 = 1_800_000_000_000;

/// One engine of the world.
#[derive(Clone, Debug)]
pub struct FakeEngine {
    pub id: EngineId,
    pub alive: bool,
    pub boot: u32,
    pub residents: BTreeMap<String, Root>,
    /// Names that requests are running for.
    pub busy: BTreeSet<String>,
    pub hangs: bool,
    pub hangs_on_load: bool,
    pub load_takes: u64,
    /// What loads are answered with instead.
    pub load_fails: Option<Fault>,
    pub unload_fails: Option<Fault>,
    pub max_cpu_loras: Option<u32>,
    pub base: String,
    /// Loads that succeeded, by (boot, name).
    pub loads: Vec<(u32, String, Root)>,
    pub loading: Option<String>,
    pub loading_since: u64,
    pub unloading: BTreeSet<String>,
    /// What its pod tells of it: its life where it tells that, and its labels and readiness.
    pub boot_told: Option<u32>,
    pub tier: Option<&'static str>,
    pub ready: bool,
    pub terminating: bool,
}

/// What is still to happen.
#[derive(Debug)]
enum Later {
    Tell(Box<Fact>),
    /// The engine finishes a load that it was told to do in this life.
    FinishLoad(Load, bool),
    FinishUnload(Unload),
    FinishList(EngineId),
    FinishProbe(EngineId),
    Publish(Route),
    /// The pod of an engine shows which life it is in.
    ShowBoot(String),
    /// Time to decide.
    Nothing,
}

pub struct World {
    pub now: u64,
    pub reconciler: Reconciler,
    pub config: Config,
    pub engines: BTreeMap<EngineId, FakeEngine>,
    pub artifacts: BTreeMap<String, Result<Resolved, Fault>>,
    queue: BTreeMap<(u64, u64), Later>,
    tick: u64,
    pub routes: BTreeMap<AdapterKey, Route>,
    latest: BTreeMap<AdapterKey, u64>,
    pub statuses: BTreeMap<ObjectKey, Vec<ModelAdapterStatus>>,
    pub events: Vec<Event>,
    pub log: Vec<LogLine>,
    pub released: BTreeSet<ObjectKey>,
    /// What deletions left undone, as a driver keeps it.
    pub note: BTreeSet<Unfinished>,
    /// Where loads fail, as a driver keeps it.
    pub retries: BTreeMap<ObjectKey, Vec<Retry>>,
    pub pinned: BTreeSet<Digest>,
    /// Effects other than listings, as text, with their time.
    pub trace: Vec<(u64, String)>,
    pub counts: BTreeMap<&'static str, usize>,
    pub rng: StdRng,
    /// Probability that an answer is lost or late, 0 to 1.
    pub chaos: f64,
    /// How long routers take to hear of a route, in milliseconds.
    pub publish_takes: u64,
    pub publish_fails: bool,
    /// What is wrong beside every route.
    pub notice: Option<Fault>,
    /// Whether status writes that ask for an acknowledgement get one.
    pub acknowledges: bool,
    generations: BTreeMap<ObjectKey, i64>,
}

pub fn digest(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

pub fn resolved(n: u8) -> Resolved {
    Resolved { root: Root::Store(digest(n)), bytes: Some(1000), rank: Some(8), warnings: Vec::new() }
}

pub fn engine_id(name: &str) -> EngineId {
    EngineId::new(Namespace::default_namespace(), name)
}

pub fn object(name: &str) -> ObjectKey {
    ObjectKey {
        namespace: Namespace::default_namespace(),
        kind: OwnerKind::ModelAdapter,
        name: ObjectName::new(name).unwrap(),
    }
}

pub fn adapter(name: &str) -> AdapterKey {
    AdapterKey { object: object(name), name: AdapterName::new(name).unwrap() }
}

pub fn spec(name: &str, url: &str, replicas: Replicas) -> AdapterSpec {
    AdapterSpec {
        key: adapter(name),
        generation: 1,
        created: Timestamp::from_millis(START),
        base_model: None,
        selector: EngineSelector {
            match_labels: BTreeMap::from([("app".to_owned(), "vllm".to_owned())]),
            match_expressions: Vec::new(),
        },
        artifact: ArtifactUrl::new(url).unwrap(),
        pinned: None,
        replicas,
        policy: "default".to_owned(),
        priority: 0,
        preemption: Preemption::LowerPriority,
        memory: None,
        source_credentials: None,
        engine_key: None,
        update: UpdateStrategy::default(),
        adopt: false,
    }
}

/// A root that somebody else has loaded from.
pub fn theirs() -> Root {
    Root::Other("/models/theirs".into())
}

pub fn transient(message: &str) -> Fault {
    Fault::new(Scope::Transient, "ConnectionRefused", message)
}

impl World {
    pub fn new() -> Self {
        Self::with(Config::default(), 0)
    }

    pub fn with(config: Config, seed: u64) -> Self {
        Self {
            now: START,
            reconciler: Reconciler::new(config.clone()),
            config,
            engines: BTreeMap::new(),
            artifacts: BTreeMap::from([
                ("/a/1".to_owned(), Ok(resolved(1))),
                ("/a/2".to_owned(), Ok(resolved(2))),
                ("/a/3".to_owned(), Ok(resolved(3))),
            ]),
            queue: BTreeMap::new(),
            tick: 0,
            routes: BTreeMap::new(),
            latest: BTreeMap::new(),
            statuses: BTreeMap::new(),
            events: Vec::new(),
            log: Vec::new(),
            released: BTreeSet::new(),
            note: BTreeSet::new(),
            retries: BTreeMap::new(),
            pinned: BTreeSet::new(),
            trace: Vec::new(),
            counts: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            chaos: 0.0,
            publish_takes: 0,
            publish_fails: false,
            notice: None,
            acknowledges: true,
            generations: BTreeMap::new(),
        }
    }

    /// A world with this many engines, everything told.
    pub fn ready(engines: usize) -> Self {
        let mut world = Self::new();
        for n in 0..engines {
            world.add_engine(&format!("e{n}"));
        }
        world.tell(Fact::Synced);
        world
    }

    pub fn add_engine(&mut self, name: &str) -> EngineId {
        let id = engine_id(name);
        self.engines.insert(
            id.clone(),
            FakeEngine {
                id: id.clone(),
                alive: true,
                boot: 1,
                residents: BTreeMap::new(),
                busy: BTreeSet::new(),
                hangs: false,
                hangs_on_load: false,
                load_takes: 5,
                load_fails: None,
                unload_fails: None,
                max_cpu_loras: None,
                base: "tiny-base".to_owned(),
                loads: Vec::new(),
                loading: None,
                loading_since: 0,
                unloading: BTreeSet::new(),
                boot_told: None,
                tier: None,
                ready: true,
                terminating: false,
            },
        );
        self.tell_engine(name, |_| {});
        id
    }

    pub fn seen(&self, name: &str) -> EngineSeen {
        let engine = &self.engines[&engine_id(name)];
        let tier = engine.tier.map(|tier| ("tier".to_owned(), tier.to_owned()));
        EngineSeen {
            id: engine_id(name),
            kind: EngineKind::Simulated,
            address: Address::new("127.0.0.1", 8000),
            labels: [("app".to_owned(), "vllm".to_owned())].into_iter().chain(tier).collect(),
            base_model: None,
            boot: engine.boot_told.map(|boot| Boot::new(boot.to_string())),
            ready: engine.ready,
            ready_for: None,
            terminating: engine.terminating,
            trusted: true,
            max_loras: None,
            max_cpu_loras: self.engines[&engine_id(name)].max_cpu_loras,
            max_lora_rank: None,
            adapter_memory: None,
        }
    }

    pub fn tell_engine(&mut self, name: &str, change: impl FnOnce(&mut EngineSeen)) {
        let mut seen = self.seen(name);
        change(&mut seen);
        self.tell(Fact::Engine(Box::new(seen)));
    }

    pub fn engine(&mut self, name: &str) -> &mut FakeEngine {
        self.engines.get_mut(&engine_id(name)).unwrap()
    }

    /// Applies an object that declares one adapter; its generation counts up by itself.
    pub fn apply(&mut self, spec: AdapterSpec) {
        self.apply_shown(spec, None);
    }

    pub fn apply_shown(&mut self, mut spec: AdapterSpec, shown: Option<ModelAdapterStatus>) {
        let key = spec.key.object.clone();
        let generation = self.generations.entry(key.clone()).or_insert(0);
        *generation += 1;
        spec.generation = *generation;
        self.released.remove(&key);
        let seen = ObjectSeen {
            key,
            generation: *generation,
            deleting: false,
            lowered: Ok(vec![spec]),
            shown,
            warnings: vec![],
        };
        self.tell(Fact::Applied(Box::new(seen)));
    }

    pub fn delete(&mut self, name: &str) {
        self.tell(Fact::Deleted(object(name)));
    }

    pub fn tell(&mut self, fact: Fact) {
        self.observe(fact);
        self.decide_soon();
    }

    /// Tells a fact; among faults some of them come once more, later.
    fn observe(&mut self, fact: Fact) {
        let asked_for = matches!(
            fact,
            Fact::Listed { .. }
                | Fact::Probed { .. }
                | Fact::Loaded { .. }
                | Fact::Unloaded { .. }
                | Fact::Resolved { .. }
        );
        // What answers an effect comes once; a deletion that is told late would be another one.
        let once = asked_for || matches!(fact, Fact::Deleted(_) | Fact::EngineGone(_));
        if !once && self.chance() {
            if matches!(fact, Fact::Engine(_) | Fact::Applied(_)) {
                self.reconciler.observe(self.at(), fact.clone());
            } else {
                let late = self.rng.random_range(0..50);
                self.later(late, Later::Tell(Box::new(fact.clone())));
            }
        }
        self.reconciler.observe(self.at(), fact);
    }

    /// Among faults, facts come in batches.
    fn decide_soon(&mut self) {
        if self.chaos > 0.0 && self.rng.random_bool(0.3) {
            self.later(2, Later::Nothing);
        } else {
            self.decide();
        }
    }

    pub fn generation(&self, name: &str) -> i64 {
        self.generations[&object(name)]
    }

    pub fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    pub fn crash(&mut self, name: &str) {
        let engine = self.engine(name);
        engine.alive = false;
        engine.residents.clear();
        engine.busy.clear();
        engine.loading = None;
        engine.unloading.clear();
    }

    pub fn restart(&mut self, name: &str) {
        self.crash(name);
        let engine = self.engine(name);
        engine.alive = true;
        engine.boot += 1;
        if engine.boot_told.is_some() {
            let late = if self.chaos > 0.0 { self.rng.random_range(0..500) } else { 0 };
            self.later(late, Later::ShowBoot(name.to_owned()));
        }
    }

    /// The pod is deleted, and with it the engine.
    pub fn remove_engine(&mut self, name: &str) {
        self.crash(name);
        self.tell(Fact::EngineGone(engine_id(name)));
    }

    /// Another pod of that name appears.
    pub fn return_engine(&mut self, name: &str) {
        let engine = self.engine(name);
        engine.alive = true;
        engine.boot += 1;
        engine.boot_told = engine.boot_told.map(|_| engine.boot);
        (engine.ready, engine.terminating) = (true, false);
        self.tell_engine(name, |_| {});
    }

    fn later(&mut self, after: u64, what: Later) {
        self.tick += 1;
        self.queue.insert((self.now + after, self.tick), what);
    }

    fn answer(&mut self, after: u64, fact: Fact) {
        self.later(after, Later::Tell(Box::new(fact)));
    }

    fn decide(&mut self) {
        for effect in self.reconciler.decide(self.at()) {
            self.carry_out(effect);
        }
        self.check();
    }

    /// Lets this much time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + u64::try_from(time.as_millis()).unwrap();
        loop {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wake = self.reconciler.wake_at().map(Timestamp::as_millis);
            let Some(at) = next.into_iter().chain(wake).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if next == Some(at) {
                let (_, later) = self.queue.pop_first().unwrap();
                self.happen(later);
            }
            if next == Some(at) { self.decide_soon() } else { self.decide() }
        }
        self.now = end;
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    fn chance(&mut self) -> bool {
        self.chaos > 0.0 && self.rng.random_bool(self.chaos)
    }

    fn delay(&mut self) -> u64 {
        if self.chaos > 0.0 { self.rng.random_range(1..40) } else { 1 }
    }

    fn carry_out(&mut self, effect: Effect) {
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
                self.released.insert(object);
            }
            Effect::Finished(entry) => {
                self.note.remove(&entry);
            }
            Effect::Retries { object, entries } => {
                assert_ne!(self.retries.get(&object), Some(&entries), "the same retries are told twice");
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

    fn publish(&mut self, route: Route) {
        let result = if self.publish_fails { Err(transient("the API server is away")) } else { Ok(()) };
        // A later route replaces an earlier one, and never the other way round, whichever arrives last.
        let known = self.latest.get(&route.adapter).copied().unwrap_or(0);
        if result.is_ok() && known <= route.sequence {
            self.latest.insert(route.adapter.clone(), route.sequence);
            if route.endpoints.is_empty() && !route.swapping {
                self.routes.remove(&route.adapter);
            } else {
                self.routes.insert(route.adapter.clone(), route.clone());
            }
        }
        self.answer(
            0,
            Fact::Published { adapter: route.adapter, sequence: route.sequence, result, notice: self.notice.clone() },
        );
    }

    fn happen(&mut self, later: Later) {
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

    /// I1: whatever routers believe, no engine that they would ask answers with other bytes than the route says.
    fn check(&self) {
        for route in self.routes.values() {
            for endpoint in &route.endpoints {
                let Some(engine) = self.engines.get(&endpoint.engine).filter(|engine| engine.alive) else { continue };
                let held = engine.residents.get(route.adapter.name.as_str());
                // What somebody else loads behind our back is theirs to answer for.
                if let Some(root) = held.filter(|root| root.digest() != endpoint.digest && **root != theirs()) {
                    self.show(route.adapter.name.as_str());
                    panic!("I1: {} on {} in life {}: {root:?}, {route:?}", route.adapter, engine.id, engine.boot);
                }
            }
        }
    }

    /// Prints what happened around a name, for a person who looks at a failure.
    pub fn show(&self, name: &str) {
        let about: Vec<_> = self.trace.iter().filter(|(_, effect)| effect.contains(name)).collect();
        for (at, effect) in &about[about.len().saturating_sub(30)..] {
            println!("{at:>8} {}", effect.chars().take(420).collect::<String>());
        }
    }

    pub fn phases(&self, name: &str) -> Vec<Phase> {
        let mut phases: Vec<Phase> = self.statuses.get(&object(name)).into_iter().flatten().map(|s| s.phase).collect();
        phases.dedup();
        phases
    }

    pub fn status(&self, name: &str) -> &ModelAdapterStatus {
        self.statuses.get(&object(name)).and_then(|s| s.last()).expect("a status was written")
    }

    pub fn condition(&self, name: &str, type_: &str) -> (String, String, String) {
        let conditions = &self.status(name).conditions;
        let found = conditions.iter().find(|condition| condition.type_ == type_);
        found.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone())).unwrap_or_default()
    }

    /// Where requests for the adapter go now, as engine names.
    pub fn routed(&self, name: &str) -> Vec<String> {
        let route = self.routes.get(&adapter(name));
        route.into_iter().flat_map(|route| &route.endpoints).map(|endpoint| endpoint.engine.to_string()).collect()
    }

    pub fn served(&self, name: &str) -> BTreeSet<Digest> {
        let route = self.routes.get(&adapter(name));
        route.into_iter().flat_map(|route| &route.endpoints).filter_map(|endpoint| endpoint.digest).collect()
    }

    pub fn holders(&self, name: &str) -> Vec<String> {
        let holds = |engine: &&FakeEngine| engine.alive && engine.residents.contains_key(name);
        self.engines.values().filter(holds).map(|engine| engine.id.to_string()).collect()
    }

    pub fn count(&self, effect: &str) -> usize {
        self.counts.get(effect).copied().unwrap_or(0)
    }

    pub fn event_reasons(&self) -> Vec<&'static str> {
        self.events.iter().map(|event| event.reason).collect()
    }
}
