//! Adapters that are declared without files.

use longshore_types::Secret;

use super::*;

fn declared(name: &str) -> Declared {
    Declared {
        namespace: Namespace::default_namespace(),
        name: name.parse().unwrap(),
        artifact: format!("/srv/{name}").parse().unwrap(),
        pinned: None,
        credentials: BTreeMap::new(),
        engine_key: None,
        adopt: false,
    }
}

fn loads(engine: &FakeEngine) -> usize {
    engine.calls().iter().filter(|call| call.operation() == FakeOperation::Load).count()
}

#[tokio::test(start_paused = true)]
async fn what_is_declared_is_served_beside_what_files_say_and_goes_with_the_next_set() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.adapter("code", 2);
    world.depot.put("/srv/Team_sql.v2", Ok(digest(1)));
    let local = world.driver().start();
    drop(local.declare(vec![declared("Team_sql.v2")]));
    served(&local, "code", 1).await;
    served(&local, "Team_sql.v2", 1).await;
    drop(local.declare(vec![declared("Team_sql.v2")]));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(loads(&engine), 2, "the same set again is nothing new");
    drop(local.declare(vec![]));
    until(&local, "Team_sql.v2", |adapter| adapter.is_none()).await;
    assert_eq!(held(&engine), ["code"]);
}

#[tokio::test(start_paused = true)]
async fn what_an_engine_holds_stays_where_it_is_declared_before_the_start() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.depot.put("/srv/sql", Ok(digest(1)));
    engine.put("sql", &world.depot.view().path_of(&digest(1)));
    engine.put("old", &world.depot.view().path_of(&digest(2)));
    let driver = world.driver();
    driver.declare(vec![declared("sql")]);
    let local = driver.start();
    served(&local, "sql", 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(loads(&engine), 0);
    assert_eq!(held(&engine), ["sql"], "what nobody declares and lies in our store is ours to unload");
}

#[tokio::test(start_paused = true)]
async fn other_credentials_are_a_reason_to_fetch_again() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    let with =
        |token: &str| Declared { credentials: [("token".to_owned(), Secret::new(token))].into(), ..declared("sql") };
    let local = world.driver().start();
    drop(local.declare(vec![with("one")]));
    until(&local, "sql", |adapter| adapter.is_some_and(|adapter| adapter.reason == "ArtifactNotFound")).await;
    world.depot.put("/srv/sql", Ok(digest(1)));
    drop(local.declare(vec![with("two")]));
    let begin = Instant::now();
    served(&local, "sql", 1).await;
    assert!(begin.elapsed() < Duration::from_secs(60), "not only when failures are tried again by themselves");
    assert_eq!(held(&engine), ["sql"]);
}

#[tokio::test(start_paused = true)]
async fn how_far_a_fetch_has_come_is_shown_until_it_is_there() {
    let mut world = World::new();
    world.fake_engine("h:1");
    world.depot.put("/srv/sql", Ok(digest(1)));
    let gate = Arc::new(tokio::sync::Notify::new());
    *world.depot.stall.lock().unwrap() = Some(gate.clone());
    let local = world.driver().start();
    drop(local.declare(vec![declared("sql")]));
    until(&local, "sql", |adapter| adapter.is_some_and(|adapter| adapter.fetching.is_some())).await;
    let shown = local.fleet().adapter("default", "sql").unwrap().fetching.clone().unwrap();
    assert_eq!((shown.bytes, shown.total), (4, Some(10)));
    assert!((3..=4).contains(&shown.bytes_per_second), "4 in the first second: {}", shown.bytes_per_second);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let shown = local.fleet().adapter("default", "sql").unwrap().fetching.clone().unwrap();
    assert_eq!(shown.bytes_per_second, 0, "nothing more has come");
    let revision = local.fleet().adapters().revision;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(local.fleet().adapters().revision, revision, "what does not change is not told again (I10)");
    gate.notify_one();
    served(&local, "sql", 1).await;
    assert_eq!(local.fleet().adapter("default", "sql").unwrap().fetching, None);
}
