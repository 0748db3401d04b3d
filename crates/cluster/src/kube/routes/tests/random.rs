//! Random lives: whatever is wanted, whatever others do and however late it is shown, in the end it is as wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_api::labels;
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::SECOND;
use super::world::{Fate, Server, World, adapter, base, route, service};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

async fn live(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut world = World::new(Server::new());
    let mut slow = SmallRng::seed_from_u64(seed ^ 1);
    world.server.latency(move || Duration::from_millis(slow.random_range(0..30)));
    let mut bad = SmallRng::seed_from_u64(seed ^ 2);
    world.server.judge(move |_| match bad.random_range(0..40) {
        0 => Fate::Hangs,
        1 => Fate::Lost,
        2 => Fate::Code(500),
        3 => Fate::Code(409),
        _ => Fate::Done,
    });
    world.list();
    let theirs = json!({"metadata": {"name": "d", "namespace": "default"}, "spec": {"clusterIP": "10.0.0.1"}});
    world.put("services", &theirs);
    let foreign = world.json(&service("d"));
    let mut wanted = BTreeMap::<&str, (u64, BTreeSet<u8>)>::new();
    let (mut sequence, mut life, mut of_base) = (0, 0, BTreeSet::new());
    let write = |name: &str, life: u64, sequence, engines: &BTreeSet<u8>| {
        let mut write = route(name, sequence, engines.iter().copied());
        write.uid = format!("uid-{name}-{life}").into();
        write
    };
    for _ in 0..60 {
        let name = *NAMES.iter().choose(&mut rng).unwrap();
        match rng.random_range(0..12) {
            0..5 => {
                sequence += 1;
                let (life, engines) = wanted.entry(name).or_insert((life, BTreeSet::new()));
                for _ in 0..rng.random_range(1..4) {
                    let engine = rng.random_range(1..=6);
                    if !engines.remove(&engine) {
                        engines.insert(engine);
                    }
                }
                world.routes.publish(write(name, *life, sequence, engines));
            }
            5 => {
                life += 1;
                wanted.remove(name);
                world.routes.retract(adapter(name));
            }
            6 => {
                of_base = (1..=6).filter(|_| rng.random_bool(0.5)).collect();
                world.routes.base(base(of_base.iter().copied()));
            }
            7 => {
                if let Some(key) = world.keys("endpointslices").into_iter().choose(&mut rng) {
                    if rng.random_bool(0.5) {
                        world.delete(&key);
                    } else {
                        world
                            .edit(&key, &json!({"endpoints": [], "metadata": {"labels": {labels::SERVICE_NAME: "x"}}}));
                    }
                }
            }
            8 => {
                let keys = world.keys("services").into_iter().filter(|key| key.2 != "d");
                if let Some(key) = keys.choose(&mut rng) {
                    if rng.random_bool(0.5) {
                        world.delete(&key);
                    } else {
                        world.edit(&key, &json!({"spec": {"selector": {"app": "x"}}}));
                    }
                }
            }
            9 if rng.random_bool(0.2) => {
                world = world.restart().await;
                world.list();
                for (name, (life, engines)) in &wanted {
                    if !engines.is_empty() {
                        world.routes.publish(write(name, *life, sequence, engines));
                    }
                }
                world.routes.base(base(of_base.iter().copied()));
                world.routes.settled();
            }
            9 => world.routes.expect(adapter(name)),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..40))).await;
        // The watches lag behind.
        world.watch(rng.random_range(0..4));
    }
    world.server.judge(|_| Fate::Done);
    world.routes.settled();
    world.run(SECOND * 40).await;
    for name in NAMES {
        let engines = wanted.get(name).map(|(_, engines)| engines.clone()).unwrap_or_default();
        let pods: BTreeSet<_> = engines.iter().map(|number| format!("pod-{number}")).collect();
        assert_eq!(world.pods(name), pods, "seed {seed}: {name}");
    }
    let pods: BTreeSet<_> = of_base.iter().map(|number| format!("pod-{number}")).collect();
    assert_eq!(world.pods("qwen/base"), pods, "seed {seed}: base model");
    for slice in world.slices() {
        let content = slice.content.unwrap_or_else(|| panic!("seed {seed}: {} is not as we write it", slice.name));
        assert!(!content.targets.is_empty() && content.targets.len() <= 100, "seed {seed}");
        if let Some((life, _)) = wanted.get(content.subject.model()) {
            assert_eq!(slice.owners, [format!("uid-{}-{life}", content.subject.model()).into()], "seed {seed}");
            assert_eq!(content.joined, content.subject.model() != "d", "seed {seed}: {}", slice.name);
        }
    }
    assert_eq!(world.json(&service("d")), foreign, "seed {seed}: the foreign Service was touched");
    for key in world.keys("services").into_iter().filter(|key| key.2 != "d") {
        let json = world.json(&key);
        if let Some((life, engines)) = wanted.get(&*key.2)
            && !engines.is_empty()
        {
            assert_eq!(json["metadata"]["ownerReferences"][0]["uid"], format!("uid-{}-{life}", key.2), "seed {seed}");
            assert_eq!(json["spec"]["selector"], json!({}), "seed {seed}");
        }
    }
    for (name, (_, engines)) in &wanted {
        assert!(
            engines.is_empty() || world.keys("services").contains(&service(name)),
            "seed {seed}: no Service {name}"
        );
    }
    // And quiet from then on, but for a look at what is in the way.
    world.calls();
    world.run(SECOND * 60).await;
    let calls = world.calls();
    assert!(calls.iter().all(|call| call == "GET services/d"), "seed {seed}: {calls:?}");
    assert_eq!(world.urgent.count(), 0, "seed {seed}");
}

#[test]
fn i12_every_random_life_ends_as_wanted_and_quiet() {
    let seeds = std::env::var("LONGSHORE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let first = std::env::var("LONGSHORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(live(seed));
    }
}
