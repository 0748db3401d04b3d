//! The API server hangs and goes away, an engine hangs: whatever still works goes on, and nothing is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longshore_kube_tests::scene::engines::adapter;
use longshore_kube_tests::scene::{Answered, CONTROLLER, Install, ROUTER, Router, SOON, SYSTEM};
use longshore_kube_tests::{Cluster, Options, inside};
use longshore_testkit::Faults;
use tokio::task::JoinHandle;

/// Who led before is followed soon, since a test waits for that.
const LEASE: [&str; 3] = [
    "--leader-election-lease-duration=6s",
    "--leader-election-renew-deadline=4s",
    "--leader-election-retry-period=0.5s",
];
/// Longer than a leader keeps a Lease that it cannot renew.
const HANGS: Duration = Duration::from_secs(20);
/// Long enough for many attempts of whoever makes them without a pause.
const AWAY: Duration = Duration::from_secs(10);

/// A client that asks all the time.
struct Client {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(usize, Vec<Answered>)>,
}

impl Client {
    fn of(router: Router, model: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut asked, mut failed) = (0, Vec::new());
            while !told.load(Ordering::SeqCst) {
                let answer = router.complete(model, None).await;
                asked += 1;
                if answer.status != 200 {
                    failed.push(answer);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (asked, failed)
        });
        Self { stop, task }
    }

    /// Every answer that it has had was a good one, and there were many. Only what was under way on an engine at that one's
    /// end may have ended with it: nobody can tell whether it had begun.
    async fn was_answered(self, ends: usize) {
        self.stop.store(true, Ordering::SeqCst);
        let (asked, failed) = self.task.await.unwrap();
        // The router says so, or the engine with its last words.
        let ended = |answer: &&Answered| {
            let error = &answer.body["error"];
            error["code"] == "engine_failed" || error["message"].as_str().is_some_and(|it| it.contains("EngineCore"))
        };
        let lost = failed.iter().filter(ended).count();
        assert!(lost == failed.len() && lost <= ends, "of {asked}: {failed:?}");
        assert!(asked > 100, "{asked}");
    }
}

/// How many requests of our programs the API server has had since there were `seen`, besides those that come anyway: a
/// Lease is looked at every two seconds by each replica.
fn requests_since(cluster: &Cluster, seen: usize) -> Vec<String> {
    let ours = |user: &str| [CONTROLLER, ROUTER].iter().any(|name| user.ends_with(&format!("{SYSTEM}:{name}")));
    let entries =
        cluster.audit().into_iter().skip(seen).filter(|entry| ours(&entry.user) && entry.resource != "leases");
    entries.map(|entry| format!("{} {} {}", entry.verb, entry.uri, entry.code)).collect()
}

#[test]
fn routing_goes_on_while_the_api_server_does_not_answer_and_nothing_is_lost_or_repeated_when_it_does() {
    inside(Options::default(), async |cluster| {
        cluster.install_with(&Install::default().flags(&LEASE)).await;
        let path = cluster.artifact("sql", 1);
        let engines = [
            cluster.engine("default", "engine-0").await,
            cluster.engine("default", "engine-1").await,
            cluster.engine("default", "engine-2").await,
        ];
        cluster.apply(&adapter("default", "sql", &path, None)).await;
        cluster.until_ready_on("default", "sql", &["engine-0", "engine-1", "engine-2"]).await;
        let router = Router::of(&cluster).await;
        cluster
            .wait_for("an answer", SOON, async || match router.complete("sql", None).await {
                answer if answer.status == 200 => Ok(()),
                answer => Err(format!("{answer:?}")),
            })
            .await;
        cluster.until_quiet().await;

        // It hangs. Meanwhile one engine begins anew and knows nothing, and another goes.
        let client = Client::of(router.clone(), "sql");
        let before = cluster.audit().len();
        let outage = cluster.api_server_hangs();
        engines[0].sim.restart().await.unwrap();
        engines[1].sim.kill().await;
        tokio::time::sleep(HANGS).await;
        client.was_answered(2).await;
        outage.over(&cluster).await;
        cluster.rolled_out(SYSTEM).await;
        // Whoever leads now asks the engines; what the one before has published stands until they have answered.
        cluster
            .wait_for("the load on the engine that began anew", SOON, async || match engines[0].loads("sql") {
                2 => Ok(()),
                loads => Err(format!("{loads} loads")),
            })
            .await;
        cluster.until_ready_on("default", "sql", &["engine-0", "engine-2"]).await;
        assert_eq!([engines[0].loads("sql"), engines[2].loads("sql")], [2, 1]);
        cluster.until_quiet().await;
        let requests = requests_since(&cluster, before);
        assert!(requests.len() < 150, "{} requests: {requests:#?}", requests.len());

        // It is away. What is changed as soon as it is back is done.
        let client = Client::of(router.clone(), "sql");
        let before = cluster.audit().len();
        let outage = cluster.api_server_away();
        engines[1].sim.restart().await.unwrap();
        tokio::time::sleep(AWAY).await;
        outage.over(&cluster).await;
        cluster.apply(&adapter("default", "code", &path, Some(3))).await;
        cluster.until_ready_on("default", "code", &["engine-0", "engine-1", "engine-2"]).await;
        cluster.until_ready_on("default", "sql", &["engine-0", "engine-1", "engine-2"]).await;
        client.was_answered(0).await;
        cluster.until_phase("default", "code", "Running", true).await;
        cluster.until_quiet().await;
        let requests = requests_since(&cluster, before);
        assert!(requests.len() < 150, "{} requests: {requests:#?}", requests.len());
        for engine in &engines {
            assert_eq!(engine.loads("code"), 1);
        }
        assert_eq!(engines.each_ref().map(|engine| engine.loads("sql")), [2, 2, 1]);
    });
}

#[test]
fn i11_an_engine_that_hangs_on_a_load_delays_no_other() {
    inside(Options::default(), async |cluster| {
        cluster.install_with(&Install::default().controllers(1)).await;
        let path = cluster.artifact("sql", 1);
        let engines = [
            cluster.engine("default", "engine-0").await,
            cluster.engine("default", "engine-1").await,
            cluster.engine("default", "engine-2").await,
        ];
        engines[2].control().set(Faults { hang_load: true, ..Faults::default() }).await;
        let names: Vec<String> = (0..20).map(|number| format!("adapter-{number}")).collect();
        let all: Vec<String> = names.iter().map(|name| adapter("default", name, &path, None)).collect();
        cluster.apply(&all.concat()).await;
        for name in &names {
            cluster.until_ready_on("default", name, &["engine-0", "engine-1"]).await;
            cluster.until_phase("default", name, "Running", true).await;
        }
        let asked: Vec<_> = engines[2].held().await;
        assert_eq!(asked, [""; 0], "it hangs still");

        engines[2].control().set(Faults::default()).await;
        for name in &names {
            cluster.until_ready_on("default", name, &["engine-0", "engine-1", "engine-2"]).await;
        }
        for (engine, name) in engines.iter().flat_map(|engine| names.iter().map(move |name| (engine, name))) {
            assert_eq!(engine.loads(name), 1, "{name} on {}", engine.pod.name());
        }
    });
}
