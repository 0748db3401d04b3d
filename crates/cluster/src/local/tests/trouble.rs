//! What goes wrong stays where it is, is said once, and is put right.

use super::*;

#[tokio::test(start_paused = true)]
async fn i11_an_engine_that_hangs_delays_no_other() {
    let mut world = World::new();
    let good = world.fake_engine("h:1");
    let hung = world.fake_engine("h:2");
    for operation in [FakeOperation::Models, FakeOperation::Signals, FakeOperation::Load, FakeOperation::Unload] {
        hung.hang(operation);
    }
    world.adapter("sql", 1);
    let begin = Instant::now();
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    assert!(begin.elapsed() < Duration::from_secs(1), "in paused time this is exact: {:?}", begin.elapsed());
    assert_eq!(held(&good), ["sql"]);
    while local.problems().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begin.elapsed() < Duration::from_secs(10), "in paused time this is exact");
    }
    let problems = local.problems();
    assert_eq!(problems.len(), 1);
    assert!(matches!(&problems[0].about, About::Engine(engine) if &*engine.name == "h:2"), "{problems:?}");
}

#[tokio::test(start_paused = true)]
async fn i11_an_engine_that_never_answers_does_not_keep_the_fleet_from_being_shown() {
    let mut world = World::new();
    world.engine("h:2", Arc::new(Mute));
    let local = world.driver().start();
    let begin = Instant::now();
    while !local.fleet().is_open() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begin.elapsed() < Duration::from_secs(10), "in paused time this is exact");
    }
}

/// Answers nothing, ever.
struct Mute;

#[async_trait]
impl Engine for Mute {
    async fn models(&self) -> Result<Models, Fault> {
        std::future::pending().await
    }
    async fn signals(&self) -> Result<Signals, Fault> {
        std::future::pending().await
    }
    async fn load(&self, _: &AdapterName, _: &str, _: Option<&Secret>) -> Result<(), Fault> {
        std::future::pending().await
    }
    async fn unload(&self, _: &AdapterName, _: Option<&Secret>) -> Result<(), Fault> {
        std::future::pending().await
    }
}

/// Has a bug in its first load and its first listing.
struct Buggy {
    engine: FakeEngine,
    bugs: Mutex<Vec<&'static str>>,
}

impl Buggy {
    fn trip(&self, what: &'static str) {
        let mut bugs = self.bugs.lock().unwrap();
        if let Some(place) = bugs.iter().position(|bug| *bug == what) {
            bugs.remove(place);
            drop(bugs);
            panic!("a bug in {what}");
        }
    }
}

#[async_trait]
impl Engine for Buggy {
    async fn models(&self) -> Result<Models, Fault> {
        self.trip("models");
        self.engine.models().await
    }
    async fn signals(&self) -> Result<Signals, Fault> {
        self.engine.signals().await
    }
    async fn load(&self, name: &AdapterName, path: &str, key: Option<&Secret>) -> Result<(), Fault> {
        self.trip("load");
        self.engine.load(name, path, key).await
    }
    async fn unload(&self, name: &AdapterName, key: Option<&Secret>) -> Result<(), Fault> {
        self.engine.unload(name, key).await
    }
}

#[tokio::test(start_paused = true)]
async fn i12_work_that_panics_is_answered_for_and_done_again() {
    let mut world = World::new();
    let engine = Arc::new(Buggy { engine: FakeEngine::new("tiny"), bugs: Mutex::new(vec!["models", "load"]) });
    world.engine("h:1", engine.clone());
    world.adapter("sql", 1);
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    assert_eq!(*engine.bugs.lock().unwrap(), [""; 0]);
    assert_eq!(held(&engine.engine), ["sql"]);
}

#[tokio::test(start_paused = true)]
async fn i11_a_manifest_that_is_wrong_is_a_problem_with_its_place_and_nothing_else_stops() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.adapter("sql", 1);
    world.manifest("wrong.yaml", &manifest("wrong", "  replicas: -1\n"));
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    let problems = local.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let (field, line) = (problems[0].field.as_deref(), problems[0].line);
    assert_eq!((field, line), (Some("spec.replicas"), Some(7)), "{}", problems[0]);
    let mut changes = local.changes();
    world.adapter("wrong", 2);
    served(&local, "wrong", 1).await;
    assert_eq!(local.problems(), []);
    assert_eq!(held(&engine), ["sql", "wrong"]);
    let lines: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).map(|change| change.to_string()).collect();
    assert!(lines.iter().any(|line| line.ends_with("wrong.yaml: is fine now")), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_cannot_be_had_says_why_and_comes_up_when_it_can() {
    let mut world = World::new();
    world.fake_engine("h:1");
    world.manifest("sql.yaml", &manifest("sql", ""));
    let local = world.driver().start();
    until(&local, "sql", |adapter| {
        adapter.is_some_and(|adapter| adapter.phase == "Failed" && adapter.reason == "ArtifactNotFound")
    })
    .await;
    // Long before the failure would be tried again by itself.
    let begin = Instant::now();
    world.depot.put("/srv/sql", Ok(digest(1)));
    world.depot.fingerprints.lock().unwrap().insert("/srv/sql".into(), "there".into());
    served(&local, "sql", 1).await;
    assert!(begin.elapsed() < Duration::from_secs(10), "in paused time this is exact");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_is_said_once_and_served_from_as_soon_as_it_is_up() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    let refused = Fault::new(Scope::Transient, "ConnectionRefused", "h:1 refuses connections: is it running?");
    engine.fail(FakeOperation::Models, refused.clone());
    engine.fail(FakeOperation::Signals, refused);
    world.adapter("sql", 1);
    let driver = world.driver();
    let mut changes = driver.changes();
    let local = driver.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let about = |lines: &[String]| lines.iter().filter(|line| line.starts_with("h:1: ")).cloned().collect::<Vec<_>>();
    let mut lines =
        || std::iter::from_fn(|| changes.try_recv().ok()).map(|change| change.to_string()).collect::<Vec<_>>();
    assert_eq!(about(&lines()), ["h:1: h:1 refuses connections: is it running?"]);
    engine.heal();
    served(&local, "sql", 1).await;
    assert_eq!(about(&lines()), ["h:1: answers"]);
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_an_engine_lacks_is_noticed_at_once_when_a_router_says_so() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.reconciler.list_interval = Duration::from_secs(1000);
    world.adapter("sql", 1);
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    engine.take("sql");
    engine.take_calls();
    let missing = |name: &str, pod: &str| Missing { namespace: "default".into(), name: name.into(), pod: pod.into() };
    let demand = Demand { missing: vec![missing("sql", "none"), missing("sql", "h:1")], ..Demand::default() };
    local.demand().send(demand).await.unwrap();
    let begin = Instant::now();
    while !engine.calls().iter().any(|call| matches!(call, FakeCall::Load { .. })) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(begin.elapsed() < Duration::from_secs(100), "in paused time this is exact");
    }
    served(&local, "sql", 1).await;
}

#[tokio::test(start_paused = true)]
async fn i8_no_secret_is_told_or_shown() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.depot.put("/srv/sql", Ok(digest(1)));
    world.manifest("sql.yaml", &manifest("sql", "  additionalConfig: {api-key: hunter2}\n"));
    let driver = world.driver();
    let mut changes = driver.changes();
    let local = driver.start();
    served(&local, "sql", 1).await;
    let sent = |call: &FakeCall| matches!(call, FakeCall::Load { key: Some(key), .. } if key.expose() == "hunter2");
    assert!(engine.calls().iter().any(sent), "it is used");
    let mut shown = format!("{:?} {:?}", local.problems(), local.statuses());
    shown += &serde_json::to_string(&*local.fleet().adapter("default", "sql").unwrap()).unwrap();
    while let Ok(change) = changes.try_recv() {
        shown += &format!("{change} {change:?}");
    }
    assert!(shown.contains("InsecureApiKey"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
