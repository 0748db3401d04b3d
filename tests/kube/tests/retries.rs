//! Loads that fail: tried again, given up, moved to another engine, or not tried again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use longshore_kube_tests::scene::engines::adapter;
use longshore_kube_tests::scene::{Install, SOON, Told};
use longshore_kube_tests::{Cluster, Options, inside};
use longshore_testkit::{Answer, Faults, What};

const COUNT: &str = "adapter.model.aibrix.ai/retry-count.engine-0";
const LAST: &str = "adapter.model.aibrix.ai/last-retry-time.engine-0";
/// The first wait; the others are twice as long each.
const BASE: Duration = Duration::from_millis(200);

async fn annotations(cluster: &Cluster, name: &str) -> BTreeMap<String, String> {
    let object = cluster.adapters("default").get(name).await.unwrap();
    let prefix = "adapter.model.aibrix.ai/";
    object
        .annotations()
        .iter()
        .filter(|(key, _)| key.starts_with(prefix))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// The controller's log lines with this text about an adapter.
fn lines(cluster: &Cluster, text: &str, name: &str) -> Vec<String> {
    let about = format!("modelAdapter=\"default/{name}\"");
    let logs = cluster.controller_logs();
    logs.lines().filter(|line| line.contains(text) && line.contains(&about)).map(str::to_owned).collect()
}

fn time(line: &str) -> Timestamp {
    line.split(' ').next().unwrap().parse().unwrap()
}

async fn gone(cluster: &Cluster, name: &str) {
    cluster
        .wait_for("no annotation", SOON, async || {
            let left = annotations(cluster, name).await;
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
}

async fn install(cluster: &Cluster) {
    let flags = ["--retry-base=200ms", "--cool-down=3s", "--stable-after=0"];
    cluster.install_with(&Install::default().controllers(1).flags(&flags)).await;
}

fn failing(status: u16, text: &str) -> Faults {
    Faults { load_answer: Some(Answer { status, text: text.to_owned() }), ..Faults::default() }
}

#[test]
fn an_engine_that_refuses_connections_is_tried_again_five_times_and_then_another_one() {
    inside(Options::default(), async |cluster| {
        install(&cluster).await;
        let path = cluster.artifact("sql", 1);
        let first = cluster.engine("default", "engine-0").await;
        cluster.until_quiet().await;
        first.control().set(Faults { refuse: true, ..Faults::default() }).await;
        cluster.apply(&adapter("default", "sql", &path, Some(1))).await;

        cluster
            .wait_for("the second failure on the object", SOON, async || {
                let seen = annotations(&cluster, "sql").await;
                let count: u32 = seen.get(COUNT).and_then(|count| count.parse().ok()).unwrap_or_default();
                let at: Option<Timestamp> = seen.get(LAST).and_then(|time| time.parse().ok());
                if count >= 2 && at.is_some() && seen.len() == 2 { Ok(()) } else { Err(format!("{seen:?}")) }
            })
            .await;
        let status = cluster.status("default", "sql").await.unwrap();
        assert!(status.to_string().contains("connection refused"), "{status}");
        let second = cluster.engine("default", "engine-1").await;

        cluster.until_ready_on("default", "sql", &["engine-1"]).await;
        cluster.condition("default", "sql", "Ready").await;
        assert_eq!((first.loads("sql"), second.loads("sql")), (0, 1));

        // One try, and five more after growing waits.
        let tried = lines(&cluster, "Retriable error loading adapter", "sql");
        assert_eq!(tried.len(), 6, "{tried:#?}");
        let mut wait = BASE;
        for pair in tried.windows(2) {
            let waited = time(&pair[1]).duration_since(time(&pair[0]));
            // Both ends of it are stamped when they are written.
            let least = wait - Duration::from_millis(20);
            assert!(waited.unsigned_abs() >= least, "{waited:?} instead of {wait:?}");
            wait *= 2;
        }
        for line in &tried {
            assert!(line.contains("pod=\"engine-0\"") && line.contains("connection refused"), "{line}");
        }
        assert_eq!(lines(&cluster, "Switching to another pod", "sql").len(), 1);
        assert_eq!(lines(&cluster, "Successfully loaded adapter on pod", "sql").len(), 1);

        let told = cluster
            .wait_for("the last event", SOON, async || {
                let told = cluster.told("default", "sql").await;
                if told.iter().any(|event| event.reason == "Loaded") { Ok(told) } else { Err(format!("{told:?}")) }
            })
            .await;
        let known = ["Scheduled", "MaxRetriesExceeded", "Loaded"];
        let story: Vec<&Told> = told.iter().filter(|event| known.contains(&event.reason.as_str())).collect();
        let texts: Vec<(bool, &str, &str)> =
            story.iter().map(|event| (event.warning, event.reason.as_str(), event.note.as_str())).collect();
        let [scheduled, exceeded, again, loaded] = texts[..] else { panic!("{texts:#?}") };
        let selected = |pod: &str| format!("ModelAdapter has selected 1 pods for scheduling: [{pod}]");
        assert_eq!(scheduled, (false, "Scheduled", selected("engine-0").as_str()));
        assert!(exceeded.0 && exceeded.2.starts_with("Max retries exceeded for pod engine-0: "), "{exceeded:?}");
        assert!(exceeded.2.contains("connection refused"), "{exceeded:?}");
        assert_eq!(again, (false, "Scheduled", selected("engine-1").as_str()));
        assert_eq!(loaded, (false, "Loaded", "Successfully loaded adapter on pod engine-1"));

        gone(&cluster, "sql").await;
    });
}

#[test]
fn what_may_pass_is_tried_again_and_what_cannot_is_not() {
    inside(Options::default(), async |cluster| {
        install(&cluster).await;
        let path = cluster.artifact("sql", 1);
        let engine = cluster.engine("default", "engine-0").await;
        let other = cluster.engine("default", "engine-1").await;
        let tried = |name: &str| {
            let log = engine.control().log();
            log.iter().filter(|entry| entry.what == What::Load && entry.name == name).count()
        };

        engine.control().set(failing(401, "Unauthorized")).await;
        cluster.apply(&adapter("default", "refused", &path, None)).await;
        cluster.until_ready_on("default", "refused", &["engine-1"]).await;
        cluster
            .wait_for("the refusal", SOON, async || {
                let told = cluster.told("default", "refused").await;
                let said = |event: &Told| event.reason == "LoadFailed" && event.pod.as_deref() == Some("engine-0");
                if told.iter().any(said) { Ok(()) } else { Err(format!("{told:?}")) }
            })
            .await;
        // All the retries of the other kind would be over by the end of that one, below.
        engine.control().set(failing(503, "warming up")).await;
        cluster.apply(&adapter("default", "passing", &path, None)).await;
        cluster
            .wait_for("three failures", SOON, async || {
                let seen = annotations(&cluster, "passing").await;
                let count: u32 = seen.get(COUNT).and_then(|count| count.parse().ok()).unwrap_or_default();
                if count >= 3 { Ok(()) } else { Err(format!("{seen:?}")) }
            })
            .await;
        engine.control().set(Faults::default()).await;
        cluster.until_ready_on("default", "passing", &["engine-0", "engine-1"]).await;
        gone(&cluster, "passing").await;

        assert!(tried("passing") >= 4, "{}", tried("passing"));
        assert_eq!(tried("refused"), 1);
        assert!(annotations(&cluster, "refused").await.is_empty(), "nothing of it is tried again");
        assert_eq!((other.loads("refused"), other.loads("passing")), (1, 1));
        assert!(lines(&cluster, "Retriable error loading adapter", "refused").is_empty());
    });
}
