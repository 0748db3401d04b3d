//! Engines of the world: how they come, go and restart.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// One engine of the world.
#[derive(Clone, Debug)]
pub struct FakeEngine {
    pub id: EngineId,
    pub alive: bool,
    /// Whether its pod exists.
    pub present: bool,
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
    /// When its pod began to be Ready.
    pub ready_at: u64,
    pub terminating: bool,
}

impl World {
    pub fn add_engine(&mut self, name: &str) -> EngineId {
        let id = engine_id(name);
        self.engines.insert(
            id.clone(),
            FakeEngine {
                id: id.clone(),
                alive: true,
                present: true,
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
                ready_at: self.now,
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
            ready_for: self.cluster.then(|| self.now - engine.ready_at),
            terminating: engine.terminating,
            trusted: !self.cluster,
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
        self.engine(name).present = false;
        self.tell(Fact::EngineGone(engine_id(name)));
    }

    /// Another pod of that name appears.
    pub fn return_engine(&mut self, name: &str) {
        let now = self.now;
        let engine = self.engine(name);
        (engine.alive, engine.present) = (true, true);
        engine.boot += 1;
        engine.boot_told = engine.boot_told.map(|_| engine.boot);
        (engine.ready, engine.ready_at, engine.terminating) = (true, now, false);
        self.tell_engine(name, |_| {});
    }
}
