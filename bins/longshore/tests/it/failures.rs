//! Engines that are killed, restarted and hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::*;

#[test]
fn i1_killing_an_engine_moves_its_adapters_and_nobody_else_answers_for_them() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..6 {
        make_adapter(dir.path(), &format!("w{n}"), n + 1);
        manifest(dir.path(), &format!("a{n}"), &format!("./w{n}"), "  replicas: 1\n");
    }
    let mut engines = [Engine::start(&[]), Engine::start(&[]), Engine::start(&[])];
    let urls: Vec<String> = engines.iter().map(Engine::url).collect();
    let mut args = vec!["-f", ".", "--not-ready-grace", "1"];
    for url in &urls {
        args.extend(["--engine", url]);
    }
    let up = Up::start(dir.path(), &args);
    for n in 0..6 {
        up.until_ready(&format!("a{n}"), 1);
    }
    let victim = up.holders("a0")[0].clone();
    let moved: Vec<String> =
        (0..6).map(|n| format!("a{n}")).filter(|name| up.holders(name) == [victim.clone()]).collect();
    assert_eq!(moved.len(), 2, "two adapters on each engine");

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..6)
        .map(|n| {
            let (router, stop) = (up.router.clone(), stop.clone());
            std::thread::spawn(move || {
                let name = format!("a{n}");
                let body = format!(r#"{{"model": "{name}", "prompt": "Hello", "max_tokens": 2}}"#);
                let (mut good, mut away) = (0, 0);
                while !stop.load(Ordering::SeqCst) {
                    let answer = post(&router, "/v1/completions", &body);
                    match answer.status {
                        200 => {
                            assert!(answer.is_by(&name), "I1: {answer:?}");
                            good += 1;
                        }
                        503 => {
                            assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
                            away += 1;
                        }
                        // The engine died while it answered.
                        0 | 502 => away += 1,
                        _ => panic!("{answer:?}"),
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                (name, good, away)
            })
        })
        .collect();
    let index = urls.iter().position(|url| url.ends_with(&victim)).unwrap();
    engines[index].process.kill9();
    for name in &moved {
        until("it is served elsewhere", || up.ready(name) == 1 && up.holders(name) != [victim.clone()]);
    }
    std::thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        let (name, good, away) = client.join().unwrap();
        println!("{name}: {good} answers, {away} told to come back");
        assert!(good > 0);
        assert!(away == 0 || moved.contains(&name), "{name} was not on the engine that died");
    }
}

#[test]
fn a_restarted_engine_serves_its_adapters_again_and_never_its_base_model_for_them() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    manifest(dir.path(), "sql", "./one", "");
    let mut engine = Engine::start(&[]);
    let up = Up::start(dir.path(), &["--engine", &engine.url(), "-f", "."]);
    up.until_ready("sql", 1);
    for _ in 0..3 {
        engine.process.kill9();
        let answer = up.ask("sql");
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.headers.contains_key("retry-after"));
        engine.restart();
        let begin = Instant::now();
        until("it serves again", || {
            let answer = up.ask("sql");
            assert!(answer.status == 503 || answer.is_by("sql"), "I1: {answer:?}");
            answer.status == 200
        });
        println!("serves again {:?} after the engine answers", begin.elapsed());
        assert_eq!(engine.lists(), ["sql"]);
    }
}

/// Until each of 20 adapters answers from both of the good engines.
fn time_with(hung: bool) -> Duration {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    for n in 0..20 {
        manifest(dir.path(), &format!("a{n}"), "./one", "");
    }
    let engines = [Engine::start(&[]), Engine::start(&[]), Engine::start(&[])];
    if hung {
        engines[2].faults(r#"{"faults": {"hang_all": true}}"#);
    }
    let urls: Vec<String> = engines.iter().map(Engine::url).collect();
    let mut args = vec!["-f", "."];
    for url in &urls {
        args.extend(["--engine", url]);
    }
    let begin = Instant::now();
    let up = Up::start(dir.path(), &args);
    let expected = if hung { 2 } else { 3 };
    until("all are ready", || {
        let list = up.fleet("/v1/adapters");
        let adapters = list["adapters"].as_array().cloned().unwrap_or_default();
        adapters.len() == 20 && adapters.iter().all(|adapter| adapter["readyReplicas"] == expected)
    });
    let time = begin.elapsed();
    assert!(up.ask("a7").is_by("a7"));
    time
}

#[test]
fn i11_with_one_hung_engine_of_three_the_others_come_up_as_without_it() {
    // What the two have in common is measured too: the start of a process. Times are shown and not judged.
    let (without, with) = (time_with(false), time_with(true));
    println!("20 adapters on the good engines: {without:?} with all well, {with:?} with one engine hung");
}

#[test]
fn an_adapter_that_an_engine_lost_is_loaded_again() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    manifest(dir.path(), "sql", "./one", "");
    let engine = Engine::start(&[]);
    let up = Up::start(dir.path(), &["--engine", &engine.url(), "-f", "."]);
    up.until_ready("sql", 1);
    let answer = post(&engine.address, "/v1/unload_lora_adapter", r#"{"lora_name": "sql"}"#);
    assert_eq!(answer.status, 200);
    // The first request may meet the engine's 404, which the router takes as a correction.
    until("it serves again", || {
        let answer = up.ask("sql");
        assert!(answer.status == 503 || answer.is_by("sql"), "I1: {answer:?}");
        answer.status == 200
    });
    assert_eq!(engine.loads().values().sum::<usize>(), 2);
}
