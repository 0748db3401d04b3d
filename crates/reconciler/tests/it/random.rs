//! Random lives: engines crash, restart, hang and lose answers while objects come, change and go. The world breaks off as
//! soon as I1, I3, I5, I6 or I9 does not hold; at the end I4, I10 and I12 are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_api::spec::Replicas;
use longshore_reconciler::{Config, Endpoint, Fact, Resolved};
use longshore_types::{AdapterKey, Fault, Root, Scope, Timestamp};
use rand::Rng;

use crate::world::*;

/// Seeds per run; each is a minute of virtual time under faults.
const SEEDS: u64 = 300;

fn config() -> Config {
    Config {
        list_interval: Duration::from_secs(1),
        not_ready_grace: Duration::from_secs(3),
        retry_base: Duration::from_millis(500),
        cool_down: Duration::from_secs(5),
        refusal_retry: Duration::from_secs(10),
        load_bound: Duration::from_secs(8),
        stalled_after: Duration::from_secs(3),
        unpin_after: Duration::from_secs(5),
        delete_bound: Duration::from_secs(5),
        ..Config::default()
    }
}

/// What an object asks for now.
#[derive(Clone, Debug)]
struct Wish {
    name: String,
    replicas: Replicas,
    bytes: u8,
    gold: bool,
    priority: i32,
    created: u64,
}

/// One random life.
struct Life {
    world: World,
    engines: Vec<String>,
    present: BTreeSet<String>,
    wanted: BTreeMap<String, Wish>,
    /// Whether engines and artifacts refuse for good: then it takes a change of the object to be tried again.
    refusals: bool,
    /// Whether there is room for everything.
    roomy: bool,
    /// Whether the bytes cannot be seen: engines are handed a reference.
    unverified: bool,
}

impl Life {
    fn begin(seed: u64) -> Self {
        let mut world = World::with(config(), seed);
        world.chaos = 0.15;
        world.cluster = world.rng.random_bool(0.5);
        let unverified = world.cluster && world.rng.random_bool(0.5);
        let engines: Vec<String> = (0..world.rng.random_range(1..5)).map(|n| format!("e{n}")).collect();
        let roomy = world.rng.random_bool(0.7);
        let pods = world.cluster || world.rng.random_bool(0.2);
        for name in &engines {
            world.add_engine(name);
            let max = if roomy { 9 } else { world.rng.random_range(1..4) };
            let engine = world.engine(name);
            engine.max_cpu_loras = Some(max);
            engine.boot_told = pods.then_some(1);
            world.tell_engine(name, |_| {});
        }
        let refusals = world.rng.random_bool(0.3);
        world.tell(Fact::Synced);
        let present = engines.iter().cloned().collect();
        let mut life = Self { world, present, engines, wanted: BTreeMap::new(), refusals, roomy, unverified };
        for n in 1..=3 {
            let found = life.found(n);
            life.world.artifacts.insert(format!("/a/{n}"), Ok(found));
        }
        life
    }

    /// What the artifact of this number resolves to.
    fn found(&self, n: u8) -> Resolved {
        let root = if self.unverified { Root::Other(format!("hub/{n}").into()) } else { Root::Store(digest(n)) };
        Resolved { root, ..resolved(n) }
    }

    fn apply(&mut self, object: &str) {
        let rng = &mut self.world.rng;
        let replicas = match rng.random_range(0..4) {
            0 => Replicas::All,
            count => Replicas::Count(count),
        };
        let known = self.wanted.get(object);
        let wish = Wish {
            name: object.replace('b', "a"),
            replicas,
            bytes: rng.random_range(1..=3),
            gold: rng.random_bool(0.2),
            priority: rng.random_range(0..3),
            created: known.map_or(self.world.now, |known| known.created),
        };
        self.wanted.insert(object.to_owned(), wish);
        self.apply_again(object);
    }

    fn apply_again(&mut self, object: &str) {
        let wish = &self.wanted[object];
        let mut spec = spec(object, &format!("/a/{}", wish.bytes), wish.replicas);
        spec.key.name = adapter(&wish.name).name;
        spec.priority = wish.priority;
        spec.created = Timestamp::from_millis(wish.created);
        if wish.gold {
            spec.selector.match_labels.insert("tier".to_owned(), "gold".to_owned());
        }
        self.world.apply(spec);
    }

    fn something_happens(&mut self) {
        let engine = self.engines[self.world.rng.random_range(0..self.engines.len())].clone();
        let object = format!("{}{}", if self.world.rng.random_bool(0.15) { 'b' } else { 'a' }, {
            self.world.rng.random_range(0..6)
        });
        match self.world.rng.random_range(0..23) {
            22 => self.world.restart_ours(),
            // It is there until it is released.
            0..=6 if self.world.is_going(&object) => {}
            0..=6 => self.apply(&object),
            7 | 8 => {
                self.world.delete(&object);
                self.wanted.remove(&object);
            }
            9 => self.world.publish_takes = self.world.rng.random_range(0..300),
            10 => self.world.publish_fails ^= true,
            11 => self.something_fails(&engine),
            _ => self.something_befalls(&engine, &object),
        }
    }

    fn something_befalls(&mut self, name: &str, object: &str) {
        let (world, known) = (&mut self.world, self.present.contains(name));
        match world.rng.random_range(0..10) {
            0 if known => world.crash(name),
            1 | 2 if known => world.restart(name),
            3 => world.engine(name).hangs ^= true,
            4 => {
                let busy = &mut world.engine(name).busy;
                if !busy.remove(object) {
                    busy.insert(object.to_owned());
                }
            }
            5 if known => {
                world.engine(name).ready ^= true;
                world.tell_engine(name, |_| {});
            }
            6 if known => {
                let tier = &mut world.engine(name).tier;
                *tier = if tier.is_some() { None } else { Some("gold") };
                world.tell_engine(name, |_| {});
            }
            7 if known => {
                world.engine(name).terminating = true;
                world.tell_engine(name, |_| {});
            }
            8 if known => {
                self.present.remove(name);
                world.remove_engine(name);
            }
            8 => {
                self.present.insert(name.to_owned());
                world.return_engine(name);
            }
            _ => {
                let engine = world.engine(name);
                if engine.alive && engine.loading.is_none() {
                    engine.residents.entry(object.to_owned()).or_insert_with(theirs);
                }
            }
        }
    }

    fn something_fails(&mut self, engine: &str) {
        const PASSING: [Scope; 3] = [Scope::Transient, Scope::Unknown, Scope::EngineFiles];
        const LASTING: [Scope; 2] = [Scope::Engine, Scope::Artifact];
        let world = &mut self.world;
        let lasting = self.refusals && world.rng.random_bool(0.5);
        let scope = if lasting { LASTING[world.rng.random_range(0..2)] } else { PASSING[world.rng.random_range(0..3)] };
        let fault = Fault::new(scope, "Broken", "it does not work");
        match world.rng.random_range(0..3) {
            0 => {
                let fails = &mut world.engine(engine).load_fails;
                *fails = if fails.is_some() { None } else { Some(fault) };
            }
            1 => {
                let fails = &mut world.engine(engine).unload_fails;
                *fails = if fails.is_some() { None } else { Some(transient("busy")) };
            }
            _ => {
                let n = world.rng.random_range(1..=3);
                let found = self.found(n);
                let world = &mut self.world;
                let broken = world.artifacts.get(&format!("/a/{n}")).is_some_and(Result::is_err);
                world.artifacts.insert(format!("/a/{n}"), if broken { Ok(found) } else { Err(fault) });
            }
        }
    }

    fn faults_stop(&mut self) {
        for n in 1..=3 {
            let found = self.found(n);
            self.world.artifacts.insert(format!("/a/{n}"), Ok(found));
        }
        let world = &mut self.world;
        world.chaos = 0.0;
        (world.publish_takes, world.publish_fails) = (0, false);
        for name in &self.engines {
            let engine = world.engine(name);
            engine.hangs = false;
            engine.busy.clear();
            (engine.load_fails, engine.unload_fails) = (None, None);
            engine.residents.retain(|_, root| *root != theirs());
            engine.ready = true;
            let (terminating, alive) = (engine.terminating, engine.alive);
            if terminating && self.present.remove(name) {
                world.remove_engine(name);
            }
            if self.present.insert(name.clone()) {
                world.return_engine(name);
            } else if !alive {
                world.restart(name);
            }
            world.tell_engine(name, |_| {});
        }
        if self.refusals {
            world.run_ms(3_000);
            for object in self.wanted.keys().cloned().collect::<Vec<_>>() {
                self.apply_again(&object);
            }
        }
    }

    /// Whether no older object claims the same name.
    fn has_its_name(&self, object: &str) -> bool {
        let wish = &self.wanted[object];
        let claims = self.wanted.iter().filter(|(_, other)| other.name == wish.name);
        let first = claims.min_by_key(|(object, other)| (other.created, object.to_string()));
        first.is_some_and(|(first, _)| first == object)
    }

    fn fits(&self, engine: &str, wish: &Wish) -> bool {
        !wish.gold || self.world.engines[&engine_id(engine)].tier == Some("gold")
    }

    /// I12: everything wanted is served as asked for, as far as there is room.
    fn check_served(&self) {
        for (object, wish) in &self.wanted {
            let route = self.world.routes.iter().find(|(key, _)| key.object == crate::world::object(object));
            let endpoints = route.map(|(_, route)| route.endpoints.as_slice()).unwrap_or_default();
            let matching = self.engines.iter().filter(|engine| self.fits(engine, wish)).count();
            let count = match wish.replicas {
                _ if !self.has_its_name(object) => 0,
                Replicas::All => matching,
                Replicas::Count(count) => matching.min(usize::try_from(count).unwrap()),
            };
            let root = self.found(wish.bytes).root;
            let right = endpoints.iter().all(|endpoint| {
                let held = self.world.engines[&endpoint.engine].residents.get(wish.name.as_str());
                endpoint.digest == root.digest() && held == Some(&root)
            });
            let enough = if self.roomy { endpoints.len() == count } else { endpoints.len() <= count };
            if !right || !enough {
                self.world.show(&format!("{:?}", crate::world::object(object)));
                panic!("I12: {object} {wish:?} {count}: {endpoints:?} {:#?}", self.world.status(object));
            }
            let ready = self.world.condition(object, "Ready").0 == "True";
            assert_eq!(ready, !endpoints.is_empty(), "I9: {object}: {:#?}", self.world.status(object));
            assert_eq!(
                self.world.status(object).observed_generation,
                Some(self.world.generation(object)),
                "I9: {object}"
            );
            let up_to_date = self.world.condition(object, "UpToDate");
            let complete = self.roomy && count > 0 && wish.replicas != Replicas::All;
            let complete = complete && Replicas::Count(u32::try_from(count).unwrap()) == wish.replicas;
            let reached = if self.unverified { "Unknown" } else { "True" };
            assert!(!complete || up_to_date.0 == reached, "I9: {object}: {up_to_date:?}");
        }
    }

    /// I4: nothing else is held, routed or pinned.
    fn check_left(&mut self) {
        for engine in self.world.engines.values() {
            for (name, root) in &engine.residents {
                let routed = self.world.routes.values().any(|route| {
                    let here = |endpoint: &Endpoint| endpoint.engine == engine.id && endpoint.digest == root.digest();
                    *route.adapter.name.as_str() == **name && route.endpoints.iter().any(here)
                });
                if !routed {
                    self.world.show(name);
                    panic!("I4: {} holds {name} from {root:?}", engine.id);
                }
            }
        }
        assert!(self.world.note.is_empty(), "I4: {:?} is noted for ever", self.world.note);
        let declared = |key: &AdapterKey| self.wanted.contains_key(key.object.name.as_str());
        assert!(self.world.routes.keys().all(declared), "I4: routes");
        self.world.run(Duration::from_secs(10));
        if self.unverified {
            return;
        }
        let targets = self.wanted.iter().filter(|(object, _)| self.has_its_name(object));
        let targets: BTreeSet<_> = targets.map(|(_, wish)| digest(wish.bytes)).collect();
        assert!(self.world.pinned.is_superset(&targets), "I5: {:?} {targets:?}", self.world.pinned);
        // One that has lost its name, or has no engine, keeps what it was served from last.
        let served = |object: &String| self.world.routes.keys().any(|key| key.object.name.as_str() == *object);
        if self.wanted.keys().all(served) {
            assert_eq!(self.world.pinned, targets, "I4: pinned files");
        }
    }
}

fn life(seed: u64) {
    let mut life = Life::begin(seed);
    for _ in 0..60 {
        life.something_happens();
        let pause = life.world.rng.random_range(0..1_500);
        life.world.run_ms(pause);
    }
    life.faults_stop();
    life.world.run(Duration::from_secs(90));
    life.check_served();
    life.check_left();
    // I10: and it is quiet.
    life.world.counts.clear();
    life.world.trace.clear();
    life.world.run(Duration::from_secs(20));
    life.world.counts.remove("list");
    assert!(life.world.counts.is_empty(), "I10: {:?} {:?}", life.world.counts, life.world.trace);
}

#[test]
fn i12_whatever_happens_the_world_converges_once_faults_stop() {
    let first: u64 = std::env::var("LONGSHORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let seeds: u64 = std::env::var("LONGSHORE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    for seed in first..first + seeds {
        let result = std::panic::catch_unwind(|| life(seed));
        assert!(result.is_ok(), "seed {seed}: run again with LONGSHORE_SEED={seed} LONGSHORE_SEEDS=1");
    }
}

/// The same facts in the same order lead to the same effects.
#[test]
fn a_life_is_the_same_each_time_it_is_lived() {
    let trace = |seed| {
        let mut world = World::with(config(), seed);
        world.chaos = 0.2;
        for name in ["e0", "e1", "e2"] {
            world.add_engine(name);
        }
        world.tell(Fact::Synced);
        for n in 0..8 {
            world.apply(spec(&format!("a{n}"), "/a/1", Replicas::Count(2)));
            world.run_ms(50);
        }
        world.restart("e1");
        world.run_ms(5_000);
        world.trace
    };
    assert_eq!(trace(7), trace(7));
}
