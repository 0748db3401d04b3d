//! What deciding costs: so many adapters on so many engines, with a driver that answers at once.
//!
//! `cargo run --release -p longshore-reconciler --example bring_up -- 100 10` prints milliseconds per step and effects by
//! kind. It is a way to see what a change costs, and asserts only that everything comes up.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example for developers")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use longshore_api::spec::{AdapterSpec, EngineSelector, Preemption, Replicas, UpdateStrategy};
use longshore_reconciler::{Config, Effect, EngineSeen, Fact, Listing, ObjectSeen, Reconciler, ResidentSeen, Resolved};
use longshore_types::{
    AdapterKey, AdapterName, Address, ArtifactUrl, BaseModel, Boot, EngineId, EngineKind, LoadSignals, Namespace,
    ObjectKey, ObjectName, OwnerKind, Root, Timestamp,
};

/// A driver whose engines, sources and API server answer before anything else happens.
struct Driver {
    reconciler: Reconciler,
    now: u64,
    held: BTreeMap<EngineId, BTreeSet<(String, Root)>>,
    effects: BTreeMap<&'static str, usize>,
    running: BTreeSet<ObjectKey>,
    facts: VecDeque<Fact>,
    deciding: std::time::Duration,
}

fn engine_id(n: usize) -> EngineId {
    EngineId::new(Namespace::default_namespace(), format!("engine-{n}"))
}

fn boot() -> Boot {
    Boot::new("0b5c3a52-6bb1-4d6e-8f0c-0123456789ab/containerd#0")
}

fn engine(n: usize) -> EngineSeen {
    EngineSeen {
        id: engine_id(n),
        kind: EngineKind::Vllm,
        address: Address::new(format!("10.0.0.{n}"), 8000),
        labels: [("app".to_owned(), "vllm".to_owned())].into(),
        base_model: Some(BaseModel::new("base").unwrap()),
        boot: Some(boot()),
        ready: true,
        ready_for: Some(60_000),
        terminating: false,
        trusted: false,
        max_loras: Some(8),
        max_cpu_loras: Some(1_000),
        max_lora_rank: Some(64),
        adapter_memory: None,
    }
}

fn object(n: usize) -> ObjectSeen {
    let name = format!("adapter-{n}");
    let object = ObjectKey {
        namespace: Namespace::default_namespace(),
        kind: OwnerKind::ModelAdapter,
        name: ObjectName::new(&name).unwrap(),
    };
    let spec = AdapterSpec {
        key: AdapterKey { object: object.clone(), name: AdapterName::new(&name).unwrap() },
        generation: 1,
        created: Timestamp::from_millis(1),
        base_model: Some(BaseModel::new("base").unwrap()),
        selector: EngineSelector {
            match_labels: [("app".to_owned(), "vllm".to_owned())].into(),
            match_expressions: Vec::new(),
        },
        artifact: ArtifactUrl::new(format!("/adapters/{name}")).unwrap(),
        pinned: None,
        replicas: Replicas::All,
        policy: "default".to_owned(),
        priority: 0,
        preemption: Preemption::LowerPriority,
        memory: None,
        source_credentials: None,
        engine_key: None,
        update: UpdateStrategy::default(),
        adopt: false,
    };
    ObjectSeen { key: object, generation: 1, deleting: false, lowered: Ok(vec![spec]), shown: None, warnings: vec![] }
}

impl Driver {
    fn tell(&mut self, fact: Fact) {
        let begun = Instant::now();
        let now = Timestamp::from_millis(self.now);
        self.reconciler.observe(now, fact);
        let effects = self.reconciler.decide(now);
        self.deciding += begun.elapsed();
        for effect in effects {
            self.perform(effect);
        }
    }

    fn settle(&mut self) {
        while let Some(fact) = self.facts.pop_front() {
            self.tell(fact);
        }
    }

    fn perform(&mut self, effect: Effect) {
        let (kind, fact) = match effect {
            Effect::Resolve(spec) => {
                let root = Root::Other(spec.artifact.as_written().into());
                let result = Ok(Resolved { root, bytes: None, rank: None, warnings: Vec::new() });
                ("resolve", Some(Fact::Resolved { adapter: spec.key, generation: spec.generation, result }))
            }
            Effect::List { engine } => {
                let residents = self.held.entry(engine.clone()).or_default().iter();
                let residents = residents
                    .map(|(name, root)| ResidentSeen { name: name.as_str().into(), root: root.clone() })
                    .collect();
                let base_models = vec![BaseModel::new("base").unwrap()];
                let listing = Listing { boot: boot(), residents, base_models, load: LoadSignals::default() };
                ("list", Some(Fact::Listed { engine, result: Ok(listing) }))
            }
            Effect::Load(load) => {
                let held = self.held.entry(load.engine.clone()).or_default();
                held.insert((load.adapter.name.to_string(), load.root.clone()));
                let (engine, boot, name, root) = (load.engine, load.boot, load.adapter.name, load.root);
                ("load", Some(Fact::Loaded { engine, boot, name, root, result: Ok(()) }))
            }
            Effect::Publish(route) => {
                let (adapter, sequence) = (route.adapter, route.sequence);
                ("publish", Some(Fact::Published { adapter, sequence, result: Ok(()), notice: None }))
            }
            Effect::WriteStatus(write) => {
                if write.status.phase == longshore_api::status::Phase::Running {
                    self.running.insert(write.object.clone());
                }
                let fact = Fact::StatusWritten { object: write.object, sequence: write.sequence };
                ("status", write.acknowledge.then_some(fact))
            }
            Effect::Event(_) => ("event", None),
            Effect::AdapterChanged(_) => ("adapter changed", None),
            Effect::EngineChanged(_) => ("engine changed", None),
            _ => ("other", None),
        };
        *self.effects.entry(kind).or_default() += 1;
        self.facts.extend(fact);
    }

    fn report(&mut self, what: &str) {
        println!("{what}: {:.1} ms deciding, {:?}", self.deciding.as_secs_f64() * 1e3, self.effects);
        self.deciding = std::time::Duration::ZERO;
        self.effects.clear();
    }
}

/// Resident memory in KiB, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let (adapters, engines) = (args.next().unwrap_or(100), args.next().unwrap_or(10));
    let mut driver = Driver {
        reconciler: Reconciler::new(Config::default()),
        now: 1_800_000_000_000,
        held: BTreeMap::new(),
        effects: BTreeMap::new(),
        running: BTreeSet::new(),
        facts: VecDeque::new(),
        deciding: std::time::Duration::ZERO,
    };
    for n in 0..engines {
        driver.tell(Fact::Engine(Box::new(engine(n))));
    }
    driver.tell(Fact::Synced);
    driver.settle();
    driver.report("engines come");
    let before = resident();
    for n in 0..adapters {
        driver.tell(Fact::Applied(Box::new(object(n))));
    }
    driver.settle();
    driver.report("adapters come up");
    assert_eq!(driver.running.len(), adapters, "everything runs");
    // The counts that waited for their turn, and a minute in which nothing happens.
    for what in ["counts", "an idle minute"] {
        let end = driver.now + if what == "counts" { 1_500 } else { 60_000 };
        while let Some(at) = driver.reconciler.wake_at().map(Timestamp::as_millis).filter(|at| *at <= end) {
            driver.now = driver.now.max(at);
            let begun = Instant::now();
            let effects = driver.reconciler.decide(Timestamp::from_millis(driver.now));
            driver.deciding += begun.elapsed();
            for effect in effects {
                driver.perform(effect);
            }
            driver.settle();
        }
        driver.now = end;
        driver.report(what);
    }
    if let (Some(before), Some(after)) = (before, resident()) {
        println!("memory: {} KiB for {} pairs", after.saturating_sub(before), adapters * engines);
    }
}
