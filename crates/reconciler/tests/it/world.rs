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

mod effects;
mod engines;
mod look;
mod process;

pub use engines::FakeEngine;

pub const START: u64 = 1_800_000_000_000;

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
    /// From where each engine held an adapter when a route with it was sent out, by process and sequence number.
    promised: BTreeMap<(u32, AdapterKey, u64, EngineId), Root>,
    /// Which process of ours sent out the route that stands.
    routed_by: BTreeMap<AdapterKey, u32>,
    process: u32,
    /// Whether this is a cluster: objects have a finalizer and a status that outlive our process, routers do too, and pods
    /// tell of their engines' lives.
    pub cluster: bool,
    /// What is declared, as its source has it.
    objects: BTreeMap<ObjectKey, ObjectSeen>,
    pub statuses: BTreeMap<ObjectKey, Vec<ModelAdapterStatus>>,
    pub events: Vec<Event>,
    pub log: Vec<LogLine>,
    pub released: BTreeSet<ObjectKey>,
    /// What deletions left undone, as a driver keeps it.
    pub note: BTreeSet<Unfinished>,
    /// Where loads fail, as a driver keeps it.
    pub retries: BTreeMap<ObjectKey, Vec<Retry>>,
    told_retries: BTreeMap<ObjectKey, Vec<Retry>>,
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
    /// Warnings that the next object carries.
    pub warnings: Vec<(&'static str, String)>,
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
            promised: BTreeMap::new(),
            routed_by: BTreeMap::new(),
            process: 0,
            cluster: false,
            objects: BTreeMap::new(),
            statuses: BTreeMap::new(),
            events: Vec::new(),
            log: Vec::new(),
            released: BTreeSet::new(),
            note: BTreeSet::new(),
            retries: BTreeMap::new(),
            told_retries: BTreeMap::new(),
            pinned: BTreeSet::new(),
            trace: Vec::new(),
            counts: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            chaos: 0.0,
            publish_takes: 0,
            publish_fails: false,
            warnings: Vec::new(),
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

    /// A world of pods whose engines are handed references: `/a/1` is `hub/1`, and its bytes cannot be seen.
    pub fn cluster(pods: &[&str]) -> Self {
        let mut world = Self::new();
        world.cluster = true;
        for n in 1..=3_u8 {
            let root = Root::Other(format!("hub/{n}").into());
            world
                .artifacts
                .insert(format!("/a/{n}"), Ok(Resolved { root, bytes: None, rank: None, warnings: Vec::new() }));
        }
        for name in pods {
            world.add_engine(name);
            world.engine(name).boot_told = Some(1);
            world.tell_engine(name, |_| {});
        }
        world.tell(Fact::Synced);
        world.run(world.config.stable_after + Duration::from_millis(200));
        world
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
            warnings: std::mem::take(&mut self.warnings),
        };
        self.objects.insert(seen.key.clone(), seen.clone());
        self.tell(Fact::Applied(Box::new(seen)));
    }

    /// Deletes an object. In a cluster it goes on being there until it is released.
    pub fn delete(&mut self, name: &str) {
        let key = object(name);
        if !self.cluster {
            self.objects.remove(&key);
            return self.tell(Fact::Deleted(key));
        }
        let Some(seen) = self.objects.get_mut(&key).filter(|seen| !seen.deleting) else { return };
        seen.deleting = true;
        seen.generation += 1;
        self.generations.insert(key, seen.generation);
        let seen = seen.clone();
        self.tell(Fact::Applied(Box::new(seen)));
    }

    /// Whether the object is being deleted.
    pub fn is_going(&self, name: &str) -> bool {
        self.objects.get(&object(name)).is_some_and(|seen| seen.deleting)
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
        let once = asked_for || matches!(fact, Fact::Deleted(_) | Fact::EngineGone(_) | Fact::Unfinished(_));
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
}
