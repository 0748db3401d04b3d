use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use longshore_runtime::Readiness;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Work that does as it is told.
#[derive(Clone, Default)]
struct Fake {
    listed: Arc<AtomicBool>,
    dies: Arc<Notify>,
    never_stops: bool,
    stopped: Arc<AtomicU32>,
}

impl Work for Fake {
    fn unlisted(&self) -> Vec<String> {
        if self.listed.load(Ordering::SeqCst) { Vec::new() } else { vec!["pods".to_owned()] }
    }

    async fn ended(&mut self) {
        self.dies.notified().await;
    }

    async fn stop(self) {
        if self.never_stops {
            std::future::pending::<()>().await;
        }
        self.stopped.fetch_add(1, Ordering::SeqCst);
    }
}

struct World {
    leadership: watch::Sender<Leadership>,
    stop: CancellationToken,
    readiness: Readiness,
    work: Fake,
    started: Arc<Mutex<Vec<Term>>>,
    life: JoinHandle<End>,
}

impl World {
    fn new() -> Self {
        Self::of(Fake::default(), None)
    }

    fn of(work: Fake, fails: Option<&'static str>) -> Self {
        let (leadership, watched) = watch::channel(Leadership::Following { holder: None });
        let (stop, readiness) = (CancellationToken::new(), Readiness::new());
        let ready = readiness.condition("a leader");
        let started = Arc::new(Mutex::new(Vec::new()));
        let life = tokio::spawn({
            let (stop, work, started) = (stop.clone(), work.clone(), started.clone());
            async move {
                live(watched, stop, ready, async {}, |term, _| {
                    started.lock().unwrap().push(term);
                    match fails {
                        Some(why) => Err(why.into()),
                        None => Ok(work),
                    }
                })
                .await
            }
        });
        Self { leadership, stop, readiness, work, started, life }
    }

    fn follow(&self, holder: Option<&str>) {
        self.leadership.send_replace(Leadership::Following { holder: holder.map(str::to_owned) });
    }

    fn lead(&self) -> Fence {
        let term = Term { created: Timestamp::UNIX_EPOCH, transitions: 3, identity: "me_1".to_owned() };
        let fence = Fence::open();
        self.leadership.send_replace(Leadership::Leading { term, fence: fence.clone() });
        fence
    }

    fn over(&self) {
        self.leadership.send_replace(Leadership::Over { why: "another holds the Lease now".to_owned() });
    }

    fn stopped(&self) -> u32 {
        self.work.stopped.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_is_ready_while_it_knows_who_leads_and_starts_nothing() {
    let world = World::new();
    for (holder, ready) in [(None, false), (Some("a_1"), true), (Some("b_1"), true), (None, false), (Some("c_1"), true)]
    {
        world.follow(holder);
        sleep(SECOND).await;
        assert_eq!(world.readiness.is_ready(), ready, "{holder:?}");
    }
    assert!(world.started.lock().unwrap().is_empty());
    world.stop.cancel();
    let end = world.life.await.unwrap();
    assert!(matches!(end, End::Asked) && end.is_quiet(), "{end:?}");
    assert!(end.into_result().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_leader_is_ready_once_it_has_seen_the_cluster_and_starts_once() {
    let world = World::new();
    world.follow(Some("a_1"));
    sleep(SECOND).await;
    world.lead();
    sleep(SECOND).await;
    assert!(!world.readiness.is_ready(), "what it knew as a follower says nothing of what it knows as a leader");
    world.work.listed.store(true, Ordering::SeqCst);
    sleep(SECOND).await;
    assert!(world.readiness.is_ready());
    world.lead();
    sleep(SECOND).await;
    let started: Vec<_> = world.started.lock().unwrap().iter().map(|term| term.transitions).collect();
    assert_eq!(started, [3]);
    world.stop.cancel();
    assert!(matches!(world.life.await.unwrap(), End::Asked));
    assert_eq!(world.work.stopped.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_leads_no_more_stops_and_ends_for_good() {
    let world = World::new();
    world.lead();
    sleep(SECOND).await;
    assert_eq!(world.stopped(), 0);
    world.over();
    sleep(SECOND).await;
    assert_eq!(world.stopped(), 1);
    let end = world.life.await.unwrap();
    assert_eq!(end.to_string(), "this replica leads no more: another holds the Lease now");
    assert!(end.is_quiet() && end.into_result().is_err());
}

#[tokio::test(start_paused = true)]
async fn one_that_lost_before_it_began_starts_nothing() {
    let world = World::new();
    world.over();
    let end = world.life.await.unwrap();
    assert!(matches!(end, End::Lost(_)), "{end:?}");
    assert!(world.started.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_election_that_ends_by_itself_ends_the_life_before_and_after() {
    for leads in [false, true] {
        let world = World::new();
        if leads {
            world.lead();
            sleep(SECOND).await;
        }
        drop(world.leadership);
        let end = world.life.await.unwrap();
        assert!(matches!(end, End::Lost(_)), "{end:?}");
        assert_eq!(world.work.stopped.load(Ordering::SeqCst), u32::from(leads));
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_dies_or_does_not_stop_leaves_the_lease_to_expire() {
    let world = World::new();
    world.lead();
    sleep(SECOND).await;
    world.work.dies.notify_one();
    let end = world.life.await.unwrap();
    assert!(matches!(end, End::Died) && !end.is_quiet(), "{end:?}");

    let world = World::of(Fake { never_stops: true, ..Fake::default() }, None);
    world.lead();
    sleep(SECOND).await;
    let begun = Instant::now();
    world.stop.cancel();
    let end = world.life.await.unwrap();
    assert!(matches!(end, End::Stuck) && !end.is_quiet(), "{end:?}");
    assert_eq!(begun.elapsed(), STOP_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn work_that_cannot_be_started_ends_the_life_and_says_why() {
    let world = World::of(Fake::default(), Some("no certificates"));
    world.lead();
    let end = world.life.await.unwrap();
    assert_eq!(end.source().unwrap().to_string(), "no certificates");
    assert!(end.is_quiet());
}
