use longshore_api::status::{ModelAdapterStatus, Phase};
use longshore_reconciler::StatusWrite;
use longshore_types::{EngineId, Namespace, ObjectName, OwnerKind};
use serde_json::{Value, json};

use super::*;
use crate::kube::statuses::Statuses;
use crate::kube::testing::{Seen, Server, Trouble};

const SECOND: Duration = Duration::from_secs(1);
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const OBJECT: &str = "/apis/model.aibrix.ai/v1alpha1/namespaces/default/modeladapters/sql";

fn key(name: &str) -> ObjectKey {
    ObjectKey {
        namespace: Namespace::new("default").unwrap(),
        kind: OwnerKind::ModelAdapter,
        name: ObjectName::new(name).unwrap(),
    }
}

fn loaded(name: &str, pod: &str) -> Event {
    Event {
        object: key(name),
        warning: false,
        reason: "Loaded",
        message: format!("Successfully loaded adapter on pod {pod}"),
        related: Some(EngineId::new(Namespace::new("default").unwrap(), pod)),
    }
}

fn status(name: &str, sequence: u64) -> StatusWrite {
    let status = Box::new(ModelAdapterStatus { phase: Phase::Running, ..ModelAdapterStatus::default() });
    StatusWrite { object: key(name), sequence, status, phase_change: true, acknowledge: false }
}

struct Scene {
    server: Server,
    routes: Urgent,
    statuses: Statuses,
    events: Events,
    start: Instant,
}

impl Scene {
    fn new() -> Self {
        let (server, routes) = (Server::new(), Urgent::new());
        let statuses = Statuses::start(server.calls(), routes.clone(), |_| {});
        let events = Events::start(server.calls(), routes.clone(), statuses.pending(), "longshore-controller-0");
        Self { server, routes, statuses, events, start: Instant::now() }
    }

    fn tell(&self, event: Event) {
        let now = Timestamp::from_millis(1_739_733_290_123) + self.start.elapsed();
        let uid = format!("uid-of-{}", event.object.name);
        self.events.tell(event, uid, Some("pod-uid".to_owned()), now);
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn told(&self) -> Vec<String> {
        self.server.below(EVENTS).iter().map(|event| event["note"].as_str().unwrap().to_owned()).collect()
    }
}

/// A random part of a name, as it would be if it were none.
fn plain(mut event: Value) -> Value {
    let name = event["metadata"]["name"].as_str().unwrap();
    event["metadata"]["name"] = json!(format!("{}RRR", &name[..name.len() - 3]));
    event
}

#[tokio::test(start_paused = true)]
async fn an_event_is_written_so_and_the_next_of_its_kind_so() {
    let scene = Scene::new();
    scene.tell(loaded("sql", "pod-1"));
    scene.pass(SECOND).await;
    let mut warning = loaded("sql", "pod-1");
    (warning.warning, warning.reason, warning.message) = (true, "LoadFailed", "connection refused".to_owned());
    warning.related = None;
    for _ in 0..2 {
        scene.tell(warning.clone());
    }
    scene.tell(loaded("sql", "pod-1"));
    scene.pass(SECOND).await;
    let writes = scene.server.take_writes();
    let shape = |seen: &Seen| (seen.method.clone(), seen.query.clone());
    let post = ("POST".to_owned(), "&fieldManager=longshore-controller".to_owned());
    let patch = ("PATCH".to_owned(), post.1.clone());
    assert_eq!(writes.iter().map(shape).collect::<Vec<_>>(), [post.clone(), post, patch]);
    insta::assert_json_snapshot!("an_event", plain(writes[0].body.clone()));
    insta::assert_json_snapshot!("an_event_that_has_happened_twice", plain(writes[1].body.clone()));
    insta::assert_json_snapshot!("one_more_of_a_series", writes[2].body);
    let name = writes[0].body["metadata"]["name"].as_str().unwrap();
    assert_eq!(writes[2].path, format!("{EVENTS}/{name}"));
}

#[tokio::test(start_paused = true)]
async fn events_come_behind_routes_and_statuses() {
    let scene = Scene::new();
    scene.server.put(OBJECT, json!({"metadata": {"name": "sql", "uid": "u1"}}));
    scene.server.trouble(|seen| seen.path.ends_with("/status").then_some(Trouble::Slow(Duration::from_millis(50))));
    let route = scene.routes.begin();
    scene.statuses.write(status("sql", 1), "u1".into());
    scene.statuses.write(status("sql", 2), "u1".into());
    scene.tell(loaded("sql", "pod-1"));
    scene.pass(Duration::from_millis(10)).await;
    drop(route);
    scene.pass(SECOND * 5).await;
    let paths: Vec<_> = scene.server.take_writes().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, [format!("{OBJECT}/status"), format!("{OBJECT}/status"), EVENTS.to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn events_do_not_make_way_for_ever() {
    let scene = Scene::new();
    let _route = scene.routes.begin();
    for index in 0..10 {
        scene.tell(loaded("sql", &format!("pod-{index}")));
        scene.tell(loaded("code", &format!("pod-{index}")));
    }
    scene.pass(MAKE_WAY / 2).await;
    assert_eq!(scene.told().len(), 0);
    scene.pass(MAKE_WAY * 4).await;
    let told = scene.told().len();
    assert!((2..=10).contains(&told), "{told}");
    scene.pass(MAKE_WAY * 20).await;
    assert_eq!((scene.told().len(), scene.events.waiting()), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_objects_status_cannot_be_written_is_told_all_the_same() {
    let scene = Scene::new();
    scene.server.put(OBJECT, json!({"metadata": {"name": "sql", "uid": "u1"}}));
    scene.server.trouble(|seen| seen.path.ends_with("/status").then_some(Trouble::Answer(500, "no")));
    scene.statuses.write(status("sql", 1), "u1".into());
    scene.tell(loaded("sql", "pod-1"));
    scene.tell(loaded("code", "pod-1"));
    scene.pass(SECOND * 5).await;
    assert_eq!(scene.told().len(), 1);
    scene.pass(SECOND * 10).await;
    assert_eq!(scene.told().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn events_never_take_more_than_two_calls_at_once() {
    let scene = Scene::new();
    scene.server.trouble(|_| Some(Trouble::Slow(Duration::from_millis(3))));
    for index in 0..50 {
        scene.tell(loaded(&format!("a{index}"), "pod-1"));
    }
    scene.pass(SECOND).await;
    assert_eq!((scene.told().len(), scene.server.most_under_way()), (50, AT_ONCE));
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_few_events_and_ends_without_a_storm() {
    let scene = Scene::new();
    let back = Instant::now() + SECOND * 60;
    scene.server.trouble(move |seen| (seen.at < back).then_some(Trouble::Answer(503, "away")));
    for index in 0..100 {
        scene.tell(loaded(&format!("a{index}"), "pod-1"));
    }
    tokio::time::sleep_until(back).await;
    let during = scene.server.take_writes().len();
    assert!(during < 40, "{during}");
    scene.pass(SECOND * 40).await;
    let told = scene.told().len();
    assert!(told >= 85 && scene.events.waiting() == 0, "{told}");
    assert!(scene.server.most_under_way() <= AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_makes_no_second_event() {
    let scene = Scene::new();
    let mut left = Some(Trouble::Lost);
    scene.server.trouble(move |_| left.take());
    scene.tell(loaded("sql", "pod-1"));
    scene.pass(SECOND * 30).await;
    assert_eq!((scene.told().len(), scene.server.take_writes().len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_dropped_at_once_and_the_next_is_written() {
    for trouble in [
        Trouble::Answer(404, "namespaces \"default\" not found"),
        Trouble::Forbidden("NamespaceTerminating"),
        Trouble::Answer(403, "forbidden"),
        Trouble::Answer(422, "invalid"),
    ] {
        let scene = Scene::new();
        let mut left = Some(trouble);
        scene.server.trouble(move |_| left.take());
        scene.tell(loaded("sql", "pod-1"));
        scene.tell(loaded("sql", "pod-2"));
        scene.pass(SECOND).await;
        assert_eq!(scene.told(), ["Successfully loaded adapter on pod pod-2"]);
        assert_eq!(scene.server.take_writes().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_counted_by_their_outcome() {
    let scene = Scene::new();
    let mut left = Some(Trouble::Answer(422, "invalid"));
    scene.server.trouble(move |_| left.take());
    for pod in ["pod-1", "pod-2", "pod-2"] {
        scene.tell(loaded("sql", pod));
        scene.pass(SECOND).await;
    }
    let mut registry = prometheus_client::registry::Registry::default();
    scene.events.counts().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "event_writes_total{outcome=\"Created\"} 1",
        "event_writes_total{outcome=\"Counted\"} 1",
        "event_writes_total{outcome=\"Refused\"} 1",
        "events_dropped_total 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
