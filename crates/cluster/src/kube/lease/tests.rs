//! Contenders for one Lease on one API server, in paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::Client;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, advance, sleep, timeout};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What an API server does with the requests of one contender.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// What they ask for.
    Good,
    /// Nothing, for ever.
    Hangs,
    /// The work, but the answer is lost.
    LosesAnswers,
    /// Nothing, and says so.
    Refuses(u16),
    /// Nothing of use.
    TalksNonsense,
}

/// One Lease and its history.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    lease: Option<Lease>,
    version: u64,
    reads: u32,
    /// Every write: when, by whom, and who holds the Lease by it.
    writes: Vec<(Instant, String)>,
}

#[derive(Clone)]
struct Door {
    server: Server,
    way: Arc<Mutex<Way>>,
}

impl Server {
    fn put(&self, mut lease: Lease) -> Lease {
        let mut stored = self.0.lock().unwrap();
        stored.version += 1;
        lease.metadata.resource_version = Some(stored.version.to_string());
        let created = || Time(Timestamp::from_second(1_000 + i64::try_from(stored.version).unwrap()).unwrap());
        lease.metadata.creation_timestamp = lease.metadata.creation_timestamp.or_else(|| Some(created()));
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        stored.writes.push((Instant::now(), holder));
        stored.lease = Some(lease.clone());
        lease
    }

    fn delete(&self) {
        self.0.lock().unwrap().lease = None;
    }

    fn lease(&self) -> Option<Lease> {
        self.0.lock().unwrap().lease.clone()
    }

    fn spec(&self) -> LeaseSpec {
        self.lease().unwrap().spec.unwrap()
    }

    fn writes(&self) -> usize {
        self.0.lock().unwrap().writes.len()
    }

    /// A process of that name that contends, and the way that the server treats it.
    fn contender(&self, pod: &str) -> Process {
        let way = Arc::new(Mutex::new(Way::Good));
        let door = Door { server: self.clone(), way: way.clone() };
        let router = Router::new()
            .route("/apis/coordination.k8s.io/v1/namespaces/{ns}/leases", axum::routing::post(create))
            .route("/apis/coordination.k8s.io/v1/namespaces/{ns}/leases/{name}", get(read).put(replace))
            .with_state(door);
        let client = Client::new(router.into_service::<kube::client::Body>(), "default");
        let config = LeaseConfig {
            namespace: Namespace::new("longshore-system").unwrap(),
            name: ObjectName::new("longshore-controller").unwrap(),
            pod: pod.to_owned(),
            times: LeaseTimes::default(),
        };
        let election = Election::start(client, config);
        Process { leadership: election.watch(), election, way }
    }
}

impl Door {
    async fn pass(&self, what: impl FnOnce(&Server) -> Response) -> Response {
        let way = *self.way.lock().unwrap();
        match way {
            Way::Good => what(&self.server),
            Way::Hangs => std::future::pending().await,
            Way::LosesAnswers => {
                what(&self.server);
                std::future::pending().await
            }
            Way::Refuses(code) => refusal(code),
            Way::TalksNonsense => Json(json!({"spec": {"renewTime": 7, "holderIdentity": []}})).into_response(),
        }
    }
}

fn refusal(code: u16) -> Response {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Whatever",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": reason, "code": code
    });
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

async fn read(State(door): State<Door>, Path((_, name)): Path<(String, String)>) -> Response {
    assert_eq!(name, "longshore-controller");
    door.pass(|server| {
        server.0.lock().unwrap().reads += 1;
        server.lease().map_or_else(|| refusal(404), |lease| Json(lease).into_response())
    })
    .await
}

async fn create(State(door): State<Door>, Json(lease): Json<Lease>) -> Response {
    door.pass(|server| match server.lease() {
        Some(_) => refusal(409),
        None => (StatusCode::CREATED, Json(server.put(lease))).into_response(),
    })
    .await
}

async fn replace(State(door): State<Door>, Json(lease): Json<Lease>) -> Response {
    door.pass(|server| match server.lease() {
        None => refusal(404),
        Some(now) if now.metadata.resource_version != lease.metadata.resource_version => refusal(409),
        Some(_) => Json(server.put(lease)).into_response(),
    })
    .await
}

struct Process {
    election: Election,
    leadership: watch::Receiver<Leadership>,
    way: Arc<Mutex<Way>>,
}

impl Process {
    fn turn(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }

    async fn leads(&mut self) -> (Term, Fence) {
        let leading = self.leadership.wait_for(|now| matches!(now, Leadership::Leading { .. }));
        // Paused time has no end.
        let leading = timeout(600 * SECOND, leading).await.unwrap().unwrap();
        let Leadership::Leading { term, fence } = &*leading else { unreachable!() };
        (term.clone(), fence.clone())
    }

    async fn over(&mut self) -> String {
        let over = self.leadership.wait_for(|now| matches!(now, Leadership::Over { .. }));
        let over = timeout(600 * SECOND, over).await.unwrap().unwrap();
        let Leadership::Over { why } = &*over else { unreachable!() };
        why.clone()
    }

    fn follows(&self) -> bool {
        matches!(&*self.leadership.borrow(), Leadership::Following { .. })
    }
}

/// Two that contend: the one that leads, its fence, and the one that follows it.
async fn pair(server: &Server) -> (Process, Term, Fence, Process) {
    let mut first = server.contender("a");
    let (term, fence) = first.leads().await;
    let mut second = server.contender("b");
    let identity = term.identity.clone();
    second.leadership.wait_for(|now| now.leader() == Some(&identity)).await.unwrap();
    (first, term, fence, second)
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_others_know_who() {
    let server = Server::default();
    let (_first, term, fence, second) = pair(&server).await;
    assert_eq!(pod_of(&term.identity), Some("a"));
    assert_eq!(term.transitions, 0);
    sleep(600 * SECOND).await;
    assert!(fence.allows(7 * SECOND));
    assert!(second.follows());
    let spec = server.spec();
    assert_eq!(spec.holder_identity, Some(term.identity));
    assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(15), Some(0)));
    assert!(spec.renew_time > spec.acquire_time);
}

#[tokio::test(start_paused = true)]
async fn i10_a_leader_writes_once_in_a_period_and_reads_nothing_and_a_follower_only_reads() {
    let server = Server::default();
    let mut first = server.contender("a");
    first.leads().await;
    let reads = server.0.lock().unwrap().reads;
    sleep(200 * SECOND).await;
    assert_eq!(server.0.lock().unwrap().reads, reads);
    let writes = server.writes();
    assert!((100..=130).contains(&writes), "{writes}");
    let _second = server.contender("b");
    sleep(200 * SECOND).await;
    assert!(server.0.lock().unwrap().writes.iter().all(|(_, holder)| holder.starts_with("a_")));
    let reads = server.0.lock().unwrap().reads - reads;
    assert!((100..=130).contains(&reads), "{reads}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_is_taken_when_it_expires_and_the_leader_has_stopped_before() {
    for way in [Way::Hangs, Way::Refuses(429), Way::Refuses(500), Way::Refuses(409), Way::TalksNonsense] {
        let server = Server::default();
        let (mut first, old, fence, mut second) = pair(&server).await;
        first.turn(way);
        let begun = Instant::now();
        assert!(first.over().await.contains("10 s"), "{way:?}");
        assert!(begun.elapsed() <= 10 * SECOND, "{way:?}");
        assert!(second.follows(), "{way:?}");
        assert!(!fence.allows(Duration::ZERO), "{way:?}");
        let (new, _) = second.leads().await;
        assert!(begun.elapsed() <= 19 * SECOND, "{way:?}: the duration, and a period each to see and to act");
        assert!(new > old, "{way:?}");
        assert_eq!(new.transitions, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_less_than_the_deadline_changes_nothing() {
    for way in [Way::Hangs, Way::LosesAnswers, Way::Refuses(503), Way::TalksNonsense] {
        let server = Server::default();
        let (first, _, fence, second) = pair(&server).await;
        for process in [&first, &second] {
            process.turn(way);
        }
        sleep(6 * SECOND).await;
        for process in [&first, &second] {
            process.turn(Way::Good);
        }
        sleep(60 * SECOND).await;
        assert!(fence.allows(7 * SECOND), "{way:?}");
        assert!(second.follows(), "{way:?}");
        assert_eq!(server.spec().lease_transitions, Some(0), "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_up_is_taken_within_a_period() {
    let server = Server::default();
    let (first, old, fence, mut second) = pair(&server).await;
    sleep(30 * SECOND).await;
    first.election.release().await;
    assert!(!fence.allows(Duration::ZERO));
    let spec = server.spec();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some(""), Some(1)));
    let released = Instant::now();
    let (new, _) = second.leads().await;
    assert!(released.elapsed() <= 2 * SECOND);
    assert!(new > old);
    assert_eq!(new.created, old.created);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_given_up_also_where_the_last_renewal_was_not_answered() {
    let server = Server::default();
    let mut first = server.contender("a");
    first.leads().await;
    first.turn(Way::LosesAnswers);
    let written = server.writes();
    while server.writes() == written {
        sleep(SECOND / 10).await;
    }
    first.turn(Way::Good);
    first.election.release().await;
    assert_eq!(server.spec().holder_identity.as_deref(), Some(""));
}

#[tokio::test(start_paused = true)]
async fn giving_up_is_bounded_and_takes_nothing_from_others() {
    let server = Server::default();
    let (first, term, _, second) = pair(&server).await;
    second.election.release().await;
    assert_eq!(server.spec().holder_identity, Some(term.identity), "a follower has nothing to give up");
    first.turn(Way::Hangs);
    timeout(6 * SECOND, first.election.release()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_frozen_finds_its_time_over_before_it_looks_at_the_lease() {
    let server = Server::default();
    let (_first, _, fence, _second) = pair(&server).await;
    assert!(fence.allows(SECOND));
    // Time passes, and no task of this process has run.
    advance(11 * SECOND).await;
    assert!(!fence.allows(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_still_makes_a_leader() {
    let server = Server::default();
    let mut first = server.contender("a");
    first.turn(Way::LosesAnswers);
    sleep(SECOND).await;
    first.turn(Way::Good);
    let (term, fence) = first.leads().await;
    assert_eq!(term.transitions, 0);
    assert!(fence.allows(7 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn of_many_that_start_at_once_one_leads() {
    let server = Server::default();
    let processes: Vec<_> = ["a", "b", "c", "d", "e"].map(|pod| server.contender(pod)).into();
    sleep(60 * SECOND).await;
    let leading = processes.iter().filter(|process| !process.follows()).count();
    assert_eq!(leading, 1);
    let holder = server.spec().holder_identity;
    for process in processes.iter().filter(|process| process.follows()) {
        assert_eq!(process.leadership.borrow().leader(), holder.as_deref());
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_that_are_wrong_by_hours_change_nothing() {
    for hours in [-5, 5] {
        let server = Server::default();
        let renewed = Timestamp::now().checked_add(jiff::SignedDuration::from_hours(hours)).unwrap();
        server.put(Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some("gone_1".to_owned()),
                lease_duration_seconds: Some(15),
                renew_time: Some(MicroTime(renewed)),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        });
        let begun = Instant::now();
        let mut first = server.contender("a");
        sleep(14 * SECOND).await;
        assert!(first.follows());
        first.leads().await;
        assert!(begun.elapsed() <= 17 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_is_made_anew_by_its_holder() {
    let server = Server::default();
    let (_first, term, fence, second) = pair(&server).await;
    sleep(20 * SECOND).await;
    server.delete();
    sleep(60 * SECOND).await;
    assert!(fence.allows(7 * SECOND));
    assert!(second.follows());
    assert_eq!(server.spec().holder_identity, Some(term.identity));
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_another_has_stops_at_once() {
    let server = Server::default();
    let (mut first, _, fence, _second) = pair(&server).await;
    let mut lease = server.lease().unwrap();
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = Some("usurper".to_owned());
    }
    server.put(lease);
    let begun = Instant::now();
    assert_eq!(first.over().await, "usurper holds the Lease now");
    assert!(begun.elapsed() <= 2 * SECOND);
    assert!(!fence.allows(Duration::ZERO));
    first.election.release().await;
    assert_eq!(server.spec().holder_identity.as_deref(), Some("usurper"));
}

#[tokio::test(start_paused = true)]
async fn an_empty_lease_is_free_and_what_others_wrote_on_it_stays() {
    let server = Server::default();
    let mut empty = Lease::default();
    empty.metadata.labels = Some([("team".to_owned(), "serving".to_owned())].into());
    server.put(empty);
    let mut first = server.contender("a");
    first.leads().await;
    assert_eq!(server.lease().unwrap().metadata.labels.unwrap()["team"], "serving");
}

#[tokio::test(start_paused = true)]
async fn an_election_that_is_dropped_acts_no_more_and_leaves_the_lease() {
    let server = Server::default();
    let (first, term, fence, mut second) = pair(&server).await;
    drop(first);
    assert!(!fence.allows(Duration::ZERO));
    let writes = server.writes();
    sleep(10 * SECOND).await;
    assert_eq!(server.writes(), writes);
    assert_eq!(server.spec().holder_identity, Some(term.identity));
    second.leads().await;
}

#[tokio::test(start_paused = true)]
async fn without_rivals_one_leads_at_once_and_for_ever() {
    let election = Election::alone("a");
    let Leadership::Leading { term, fence } = election.watch().borrow().clone() else { panic!("it follows") };
    assert_eq!(pod_of(&term.identity), Some("a"));
    advance(86_400 * SECOND).await;
    assert!(fence.allows(3600 * SECOND));
    assert!(election.watch().has_changed().is_ok(), "whoever waits for the end of its time waits on");
    election.release().await;
    assert!(!fence.allows(Duration::ZERO));
}

#[test]
fn times_by_which_nobody_could_lead_are_refused() {
    let times = |duration: f64, deadline: f64, period: f64| {
        LeaseTimes::new(
            Duration::from_secs_f64(duration),
            Duration::from_secs_f64(deadline),
            Duration::from_secs_f64(period),
        )
    };
    assert_eq!(times(15.0, 10.0, 2.0), Ok(LeaseTimes::default()));
    assert!(times(4.0, 3.0, 0.5).is_ok());
    assert_eq!(times(0.5, 0.4, 0.1), Err(InvalidLeaseTimes::Duration));
    assert_eq!(times(10.0, 10.0, 2.0), Err(InvalidLeaseTimes::Deadline));
    assert_eq!(times(15.0, 4.0, 2.0), Err(InvalidLeaseTimes::Retry));
    assert_eq!(times(15.0, 10.0, 0.0), Err(InvalidLeaseTimes::Period));
}

#[test]
fn the_pod_is_found_in_an_identity() {
    assert_eq!(pod_of("longshore-controller-7d9f-x2x_0123456789abcdef"), Some("longshore-controller-7d9f-x2x"));
    assert_eq!(pod_of(&identity("a")), Some("a"));
    for other in ["", "_", "_x", "pod"] {
        assert_eq!(pod_of(other), None, "{other:?}");
    }
    assert_ne!(identity("a"), identity("a"));
}
