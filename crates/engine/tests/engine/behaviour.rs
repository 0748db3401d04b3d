//! What every engine does, whatever its software: the port's promises.

use longshore_engine::{Engine, FakeEngine, Model};
use longshore_types::{AdapterName, Scope};

use crate::server::{BASE, Server, Version};

async fn keeps_the_ports_promises(engine: &dyn Engine) {
    let name: AdapterName = "sql".parse().unwrap();
    let listed = async || engine.models().await.unwrap().adapters;
    let held = |root: &str| vec![Model { id: "sql".into(), root: root.into() }];

    let models = engine.models().await.unwrap();
    assert_eq!(models.base.iter().map(|model| model.id.as_str()).collect::<Vec<_>>(), [BASE]);
    assert_eq!(models.adapters, []);

    engine.load(&name, "/adapters/one", None).await.unwrap();
    assert_eq!(listed().await, held("/adapters/one"));
    engine.load(&name, "/adapters/one", None).await.expect("it holds exactly that already");

    let taken = engine.load(&name, "/adapters/two", None).await.unwrap_err();
    assert_eq!((taken.scope, taken.reason), (Scope::Engine, "NameTaken"), "{taken}");
    assert_eq!(listed().await, held("/adapters/one"), "a name that is taken changes nothing");

    let base: AdapterName = BASE.parse().unwrap();
    let taken = engine.load(&base, "/adapters/one", None).await.unwrap_err();
    assert_eq!((taken.scope, taken.reason), (Scope::Engine, "NameTaken"), "{taken}");
    let taken = engine.unload(&base, None).await.unwrap_err();
    assert_eq!((taken.scope, taken.reason), (Scope::Engine, "NameTaken"), "{taken}");
    assert_eq!(listed().await, held("/adapters/one"), "the base model's name is left alone");

    engine.unload(&name, None).await.unwrap();
    assert_eq!(listed().await, []);
    engine.unload(&name, None).await.expect("it does not have it");
    engine.load(&name, "/adapters/two", None).await.expect("the name is free again");
    assert_eq!(listed().await, held("/adapters/two"));

    let signals = engine.signals().await.unwrap();
    assert!(signals.load.is_idle(), "{:?}", signals.load);
    assert_eq!(engine.signals().await.unwrap().boot, signals.boot, "one life, one boot");
}

#[tokio::test]
async fn the_fake_keeps_the_ports_promises() {
    keeps_the_ports_promises(&FakeEngine::new(BASE)).await;
}

#[tokio::test]
async fn vllm_0_11_keeps_the_ports_promises() {
    keeps_the_ports_promises(&Server::start(Version::V0_11).await.engine()).await;
}

#[tokio::test]
async fn vllm_0_32_keeps_the_ports_promises() {
    keeps_the_ports_promises(&Server::start(Version::V0_32).await.engine()).await;
}
