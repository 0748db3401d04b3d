use std::sync::mpsc;

use longshore_api::status::{Condition, ModelAdapterStatus, Phase};
use longshore_types::{Namespace, ObjectName, OwnerKind};
use serde_json::{Value, json};

use super::*;
use crate::kube::fence::Fence;
use crate::kube::testing::{Seen, Server, Trouble};

const SECOND: Duration = Duration::from_secs(1);

fn key(name: &str) -> ObjectKey {
    ObjectKey {
        namespace: Namespace::new("default").unwrap(),
        kind: OwnerKind::ModelAdapter,
        name: ObjectName::new(name).unwrap(),
    }
}

fn path(name: &str) -> String {
    format!("/apis/model.aibrix.ai/v1alpha1/namespaces/default/modeladapters/{name}")
}

/// An object with this uid, and what somebody else has made of its status.
fn put(server: &Server, name: &str, uid: &str, status: Value) {
    let object = json!({
        "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter",
        "metadata": {"name": name, "namespace": "default", "uid": uid},
        "spec": {"artifactURL": "/a", "podSelector": {}},
        "status": status,
    });
    server.put(&path(name), object);
}

fn phase(name: &str, sequence: u64, phase: Phase) -> StatusWrite {
    let status = Box::new(ModelAdapterStatus { phase, ..ModelAdapterStatus::default() });
    StatusWrite { object: key(name), sequence, status, phase_change: true, acknowledge: true }
}

struct Scene {
    server: Server,
    routes: Urgent,
    statuses: Statuses,
    answers: mpsc::Receiver<Written>,
}

impl Scene {
    fn new() -> Self {
        Self::within(Fence::open())
    }

    fn within(fence: Fence) -> Self {
        let (server, routes) = (Server::new(), Urgent::new());
        let (send, answers) = mpsc::channel();
        let statuses = Statuses::start(server.calls_within(fence), routes.clone(), move |written| {
            let _ = send.send(written);
        });
        Self { server, routes, statuses, answers }
    }

    fn write(&self, write: StatusWrite) {
        self.statuses.write(write, "u1".to_owned());
    }

    /// Waits until everything is shown or dropped.
    async fn settled(&self) {
        let mut quiet = self.statuses.pending().quiet();
        while self.statuses.waiting() > 0 {
            quiet.changed().await.unwrap();
        }
    }

    fn answered(&self) -> Vec<(String, u64)> {
        self.answers.try_iter().map(|written| (written.object.name.to_string(), written.sequence)).collect()
    }

    fn phases(&self) -> Vec<String> {
        phases(&self.server.take_writes())
    }
}

fn phases(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| seen.body[1]["value"]["phase"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_status_is_written_as_one_patch_of_the_status_subresource() {
    let scene = Scene::new();
    put(&scene.server, "sql", "u1", json!({"phase": "Scaled", "theirs": 1}));
    let condition = Condition {
        type_: "Ready".into(),
        status: "True".into(),
        reason: "ModelAdapterAvailable".into(),
        message: "ModelAdapter default/sql is ready".into(),
        last_transition_time: "2025-02-16T19:14:55Z".into(),
        observed_generation: Some(1),
    };
    let mut write = phase("sql", 1, Phase::Running);
    write.status.conditions.push(condition);
    let wanted = serde_json::to_value(&write.status).unwrap();
    scene.write(write);
    scene.settled().await;
    let [seen] = <[_; 1]>::try_from(scene.server.take_seen()).unwrap();
    assert_eq!((seen.method.as_str(), seen.path), ("PATCH", format!("{}/status", path("sql"))));
    assert_eq!(seen.query, "&fieldManager=longshore-controller");
    insta::assert_json_snapshot!(seen.body);
    let object = scene.server.get(&path("sql")).unwrap();
    assert_eq!(object["status"], wanted, "what somebody else has left there is gone");
    assert_eq!(object["spec"]["artifactURL"], "/a");
    assert_eq!(scene.answered(), [("sql".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn five_phases_are_five_writes_in_order() {
    let scene = Scene::new();
    put(&scene.server, "sql", "u1", Value::Null);
    let way_up = [Phase::Pending, Phase::Scheduled, Phase::Loading, Phase::Bound, Phase::Running];
    for (sequence, step) in (1..).zip(way_up) {
        scene.write(phase("sql", sequence, step));
    }
    scene.settled().await;
    assert_eq!(scene.phases(), way_up.map(Phase::as_str));
    assert_eq!(scene.answered().len(), 5);
    assert!(scene.statuses.pending().is_quiet(&key("sql")));
}

#[tokio::test(start_paused = true)]
async fn i9_an_object_made_anew_does_not_get_the_status_of_the_one_before() {
    let scene = Scene::new();
    put(&scene.server, "sql", "another", json!({"phase": "Pending"}));
    scene.write(phase("sql", 1, Phase::Running));
    scene.write(phase("gone", 1, Phase::Running));
    scene.settled().await;
    assert_eq!(scene.server.get(&path("sql")).unwrap()["status"], json!({"phase": "Pending"}));
    assert!(scene.answered().is_empty());
    assert_eq!(scene.server.take_writes().len(), 2, "neither is tried again");
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_in_order_and_delays_no_other_object() {
    let scene = Scene::new();
    for name in ["sick", "well"] {
        put(&scene.server, name, "u1", Value::Null);
    }
    let mut left = vec![
        Trouble::Answer(500, "no"),
        Trouble::Answer(429, "later"),
        Trouble::Answer(409, "try again"),
        Trouble::Answer(403, "not yet"),
        Trouble::Hang,
        Trouble::Lost,
    ];
    scene
        .server
        .trouble(move |seen| (seen.method == "PATCH" && seen.path.contains("sick")).then(|| left.pop()).flatten());
    let start = Instant::now();
    for (sequence, step) in (1..).zip([Phase::Pending, Phase::Scheduled]) {
        scene.write(phase("sick", sequence, step));
        scene.write(phase("well", sequence, step));
    }
    let mut quiet = scene.statuses.pending().quiet();
    while !scene.statuses.pending().is_quiet(&key("well")) {
        quiet.changed().await.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    scene.settled().await;
    let writes = scene.server.take_writes();
    let sick: Vec<_> = writes.into_iter().filter(|seen| seen.path.contains("sick")).collect();
    let (last, first) = sick.split_last().unwrap();
    assert!(first.len() == 7 && phases(first).iter().all(|phase| phase == "Pending"), "{:?}", phases(first));
    assert_eq!(last.body[1]["value"]["phase"], "Scheduled");
    let mut answered = scene.answered();
    answered.sort();
    assert_eq!(answered, [("sick", 1), ("sick", 2), ("well", 1), ("well", 2)].map(|(name, at)| (name.to_owned(), at)));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_the_api_server_will_never_take_is_dropped_and_the_next_is_written() {
    for trouble in [
        Trouble::Answer(422, "status.phase: Invalid value"),
        Trouble::Answer(413, "Request entity too large"),
        Trouble::Answer(500, "etcdserver: request is too large"),
    ] {
        let scene = Scene::new();
        put(&scene.server, "sql", "u1", Value::Null);
        let mut left = Some(trouble);
        scene.server.trouble(move |seen| if seen.method == "PATCH" { left.take() } else { None });
        scene.write(phase("sql", 1, Phase::Pending));
        scene.write(phase("sql", 2, Phase::Scheduled));
        scene.settled().await;
        assert_eq!(scene.phases(), ["Pending", "Scheduled"]);
        assert_eq!(scene.answered(), [("sql".to_owned(), 2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_make_way_for_routes_but_not_for_ever() {
    let scene = Scene::new();
    for index in 0..20 {
        put(&scene.server, &format!("a{index}"), "u1", Value::Null);
    }
    scene.server.trouble(|_| Some(Trouble::Slow(Duration::from_millis(3))));
    let route = scene.routes.begin();
    for index in 0..20 {
        scene.write(phase(&format!("a{index}"), 1, Phase::Pending));
    }
    tokio::time::sleep(MAKE_WAY / 2).await;
    assert!(scene.server.take_writes().is_empty());
    tokio::time::sleep(MAKE_WAY * 3).await;
    let slowly = scene.server.take_writes().len();
    assert!((4..=8).contains(&slowly) && scene.server.most_under_way() == AT_ONCE_BESIDE_ROUTES, "{slowly}");
    drop(route);
    let start = Instant::now();
    scene.settled().await;
    assert!(start.elapsed() < MAKE_WAY, "{:?}", start.elapsed());
    assert_eq!(scene.server.most_under_way(), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_every_object_shows_its_latest_status_within_seconds_and_without_a_storm() {
    let scene = Scene::new();
    for index in 0..100 {
        put(&scene.server, &format!("a{index}"), "u1", Value::Null);
        scene.write(phase(&format!("a{index}"), 1, Phase::Pending));
    }
    let back = Instant::now() + SECOND * 60;
    scene.server.trouble(move |seen| if seen.at < back { Some(Trouble::Hang) } else { None });
    tokio::time::sleep_until(back - SECOND).await;
    for index in 0..100 {
        scene.write(phase(&format!("a{index}"), 2, Phase::Scheduled));
    }
    let during = scene.server.take_writes().len();
    assert!(during <= 12 * AT_ONCE, "{during}");
    tokio::time::sleep_until(back).await;
    scene.settled().await;
    assert!(back.elapsed() < SECOND * 10, "{:?}", back.elapsed());
    for index in 0..100 {
        assert_eq!(scene.server.get(&path(&format!("a{index}"))).unwrap()["status"]["phase"], "Scheduled");
    }
    assert_eq!(scene.server.most_under_way(), AT_ONCE);
    assert_eq!(scene.answered().len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_leads_no_more_writes_no_status() {
    let fence = Fence::open();
    let scene = Scene::within(fence.clone());
    put(&scene.server, "sql", "u1", Value::Null);
    fence.close();
    scene.write(phase("sql", 1, Phase::Pending));
    scene.settled().await;
    scene.write(phase("sql", 2, Phase::Pending));
    tokio::time::sleep(SECOND * 60).await;
    assert!(scene.server.take_seen().is_empty());
    assert_eq!((scene.statuses.waiting(), scene.answered().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn others_see_that_statuses_are_being_written() {
    let scene = Scene::new();
    put(&scene.server, "sql", "u1", Value::Null);
    let pending = scene.statuses.pending();
    assert_eq!(pending.urgent().count(), 0);
    scene.write(phase("sql", 1, Phase::Pending));
    assert_eq!((pending.urgent().count(), pending.is_quiet(&key("sql"))), (1, false));
    scene.settled().await;
    assert_eq!((pending.urgent().count(), pending.is_quiet(&key("sql"))), (0, true));
    scene.server.trouble(|_| Some(Trouble::Answer(500, "no")));
    scene.write(phase("sql", 2, Phase::Pending));
    tokio::time::sleep(SECOND * 50).await;
    assert_eq!((pending.urgent().count(), pending.is_quiet(&key("sql"))), (0, false), "nobody waits for what fails");
    scene.statuses.forget(&key("sql"));
    assert!(pending.is_quiet(&key("sql")));
}

#[tokio::test(start_paused = true)]
async fn writes_are_counted_by_their_outcome() {
    let scene = Scene::new();
    put(&scene.server, "sql", "u1", Value::Null);
    scene.write(phase("sql", 1, Phase::Pending));
    scene.write(phase("gone", 1, Phase::Pending));
    scene.settled().await;
    let mut registry = prometheus_client::registry::Registry::default();
    scene.statuses.counts().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in
        ["status_writes_total{outcome=\"Shown\"} 1", "status_writes_total{outcome=\"Gone\"} 1", "status_waiting 0"]
    {
        assert!(text.contains(line), "{line} in {text}");
    }
}
