use std::sync::Arc;

use super::*;

fn name() -> AdapterName {
    "x".parse().unwrap()
}

fn fault() -> Fault {
    Fault::new(Scope::Transient, "ConnectionRefused", "connection refused")
}

#[tokio::test]
async fn faults_come_once_or_until_it_is_healed() {
    let engine = FakeEngine::new("base");
    engine.fail_once(FakeOperation::Models, fault());
    assert_eq!(engine.models().await, Err(fault()));
    assert!(engine.models().await.is_ok());
    engine.fail(FakeOperation::Models, fault());
    engine.refuse(&name(), fault());
    assert_eq!(engine.models().await, Err(fault()));
    assert_eq!(engine.models().await, Err(fault()));
    assert_eq!(engine.load(&name(), "/a", None).await, Err(fault()));
    assert_eq!(engine.load(&"y".parse().unwrap(), "/a", None).await, Ok(()));
    engine.heal();
    assert!(engine.models().await.is_ok());
    assert_eq!(engine.load(&name(), "/a", None).await, Ok(()));
}

#[tokio::test]
async fn a_restart_is_another_boot_with_nothing_in_it() {
    let engine = FakeEngine::new("base");
    engine.load(&name(), "/a", None).await.unwrap();
    let before = engine.signals().await.unwrap().boot;
    engine.restart();
    assert_ne!(engine.signals().await.unwrap().boot, before);
    assert_eq!(engine.models().await.unwrap().adapters, []);
    assert_eq!(engine.models().await.unwrap().base.len(), 1);
}

#[tokio::test]
async fn calls_are_logged_in_their_order() {
    let engine = FakeEngine::new("base");
    let key = Secret::new("marked");
    engine.models().await.unwrap();
    engine.load(&name(), "/a", Some(&key)).await.unwrap();
    let calls = [FakeCall::Models, FakeCall::Load { name: name(), path: "/a".into(), key: Some(key) }];
    assert_eq!(engine.calls(), calls);
    assert_eq!(engine.take_calls(), calls);
    assert_eq!(engine.calls(), []);
    assert!(!format!("{engine:?} {calls:?}").contains("marked"));
}

#[tokio::test(start_paused = true)]
async fn what_hangs_comes_back_at_its_deadline() {
    let engine = FakeEngine::new("base");
    engine.hang(FakeOperation::Models);
    engine.hang(FakeOperation::Load);
    assert_eq!(engine.models().await.unwrap_err().scope, Scope::Transient);
    assert_eq!(engine.load(&name(), "/a", None).await.unwrap_err().scope, Scope::Unknown);
    assert_eq!(engine.adapters(), []);
    engine.resume(FakeOperation::Load);
    assert_eq!(engine.adapters().len(), 1, "a load goes on when its caller has given up");
    assert!(engine.models().await.is_err(), "the other still hangs");
}

#[tokio::test(start_paused = true)]
async fn a_held_load_ends_as_it_is_told() {
    let engine = Arc::new(FakeEngine::new("base"));
    engine.hang(FakeOperation::Load);
    let load = |path: &'static str| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { engine.load(&name(), path, None).await })
    };
    let (first, second) = (load("/a"), load("/b"));
    engine.called(|calls| calls.len() == 2).await;
    engine.resume(FakeOperation::Load);
    assert_eq!(first.await.unwrap(), Ok(()));
    assert_eq!(second.await.unwrap().unwrap_err().reason, "NameTaken");
    assert_eq!(engine.most_loads_at_once(), 2);

    engine.hang(FakeOperation::Load);
    let third = load("/a");
    engine.called(|calls| calls.len() == 3).await;
    engine.restart();
    assert_eq!(third.await.unwrap().unwrap_err().reason, "ConnectionReset");
    engine.resume(FakeOperation::Load);
    assert_eq!(engine.adapters(), [], "a life that has ended loads nothing");
}
