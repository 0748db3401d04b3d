//! `kill -9` of `longshore up` itself.

use std::time::Duration;

use crate::harness::*;

const KILLS: u64 = 20;

#[test]
fn killed_at_random_points_it_ends_in_the_right_state_and_loads_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..4 {
        make_adapter(dir.path(), &format!("w{n}"), n + 1);
    }
    // Loads take long enough to be killed in.
    let mut engines = [Engine::start(&["--load-delay", "30"]), Engine::start(&["--load-delay", "30"])];
    let urls: Vec<String> = engines.iter().map(Engine::url).collect();
    let args = ["-f", ".", "--engine", urls[0].as_str(), "--engine", urls[1].as_str()];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..KILLS {
        // A new life of the engines, so that there is something to load.
        for engine in &mut engines {
            engine.restart();
        }
        for n in 0..4 {
            manifest(dir.path(), &format!("a{n}"), &format!("./w{n}"), "");
        }
        let mut up = Up::start(dir.path(), &args);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis((random >> 33) % 300));
        up.process.kill9();
        let gone = format!("a{}", round % 4);
        if round % 3 == 0 {
            // Declared no more while nobody looks.
            std::fs::remove_file(dir.path().join(format!("{gone}.yaml"))).unwrap();
        }
        let mut up = Up::start(dir.path(), &args);
        for n in 0..4 {
            let name = format!("a{n}");
            if round % 3 == 0 && name == gone {
                assert_eq!(up.ask(&name).status, 404);
                until("the leftover is unloaded", || engines.iter().all(|engine| !engine.lists().contains(&name)));
            } else {
                up.until_ready(&name, 2);
                assert!(up.ask(&name).is_by(&name), "round {round}");
            }
        }
        for engine in &engines {
            for ((boot, name), times) in engine.loads() {
                assert_eq!(
                    times,
                    1,
                    "round {round}: {name} was loaded {times} times in life {boot}:\n{}",
                    up.process.output()
                );
            }
        }
        up.process.kill9();
    }
}
