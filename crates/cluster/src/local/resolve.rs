//! From an adapter's reference to its files in the store, and what happens to the reference afterwards.

use std::time::Duration;

use longshore_api::spec::AdapterSpec;
use longshore_artifacts::{Credentials, Expect, Fingerprint, Order, Origin, Progress};
use longshore_reconciler::{Fact, Resolved};
use longshore_types::{AdapterKey, Fault, Root, Scheme, Scope};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::depot::{Files, Hold};
use super::inbox::{Answer, Input};
use super::secrets::SecretBook;
use crate::owed::Owed;

/// How often the files behind a reference are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Resolves `spec` and then, where they are this machine's, watches its files until they change or the task is stopped. What a
/// remote reference stands for is looked up once per generation, as in a cluster.
pub(super) async fn resolve(
    spec: AdapterSpec,
    ticket: u64,
    files: Files,
    secrets: SecretBook,
    progress: Progress,
    inbox: mpsc::UnboundedSender<Input>,
) {
    let (adapter, url) = (spec.key.clone(), spec.artifact.clone());
    let owed = {
        let fault = Fault::new(Scope::Transient, "Abandoned", format!("fetching {url} ended without a result"));
        Owed::new(inbox.clone(), answer(&spec, ticket, Err(fault)))
    };
    let credentials = match &spec.source_credentials {
        None => Ok(Credentials::default()),
        Some(name) => secrets.credentials(adapter.namespace(), name),
    };
    let origin = match credentials {
        Ok(credentials) => Origin { url, credentials },
        // A Secret that comes is a new generation.
        Err(fault) => return owed.answer(answer(&spec, ticket, Err(fault))),
    };
    let watched = origin.url.scheme() == Scheme::File;
    // Taken before the files are read: whatever changes from here on is seen as a change.
    let before = if watched { files.depot.fingerprint(&origin).await } else { None };
    let order = Order { origin, expect: Expect { pinned: spec.pinned, base: None }, progress };
    let result = files.fetch(&order).await;
    let result = result.map(|(stored, hold)| {
        let root = Root::Store(stored.digest);
        let bytes = Some(stored.bytes);
        (Resolved { root, bytes, rank: stored.rank, warnings: stored.warnings }, hold)
    });
    owed.answer(answer(&spec, ticket, result));
    if !watched {
        return;
    }
    changed(&files, &order.origin, before).await;
    let _ = inbox.send(Input::FilesChanged { adapter, ticket });
}

fn answer(spec: &AdapterSpec, ticket: u64, result: Result<(Resolved, Hold), Fault>) -> Input {
    let adapter: AdapterKey = spec.key.clone();
    let (result, hold) = match result {
        Ok((resolved, hold)) => (Ok(resolved), Some(hold)),
        Err(fault) => (Err(fault), None),
    };
    let fact = Fact::Resolved { adapter: adapter.clone(), generation: spec.generation, result };
    Input::Resolved(Box::new(Answer { adapter, ticket, fact, hold }))
}

/// Waits until the files behind `origin` are different from what they were, and have come to rest.
async fn changed(files: &Files, origin: &Origin, before: Option<Fingerprint>) {
    let mut last = before.clone();
    loop {
        sleep(LOOK).await;
        let now = files.depot.fingerprint(origin).await;
        if differ(&before, &now) && !differ(&last, &now) {
            return;
        }
        last = now;
    }
}

/// Whether there is something else now, or something where there was nothing, or the other way round.
fn differ(before: &Option<Fingerprint>, now: &Option<Fingerprint>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => before.differs(now),
        (before, now) => before.is_some() != now.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use longshore_api::spec::{EngineSelector, Preemption, Replicas, UpdateStrategy};
    use longshore_types::{Namespace, ObjectKey, ObjectName, OwnerKind, Timestamp};
    use tokio::sync::mpsc::UnboundedReceiver;
    use tokio::time::Instant;

    use super::super::depot::tests::{FakeDepot, digest};
    use super::*;

    pub(crate) fn spec(name: &str, url: &str, generation: i64) -> AdapterSpec {
        let object = ObjectKey {
            namespace: Namespace::default_namespace(),
            kind: OwnerKind::ModelAdapter,
            name: ObjectName::new(name).unwrap(),
        };
        AdapterSpec {
            key: AdapterKey { object, name: name.parse().unwrap() },
            generation,
            created: Timestamp::ZERO,
            base_model: None,
            selector: EngineSelector::default(),
            artifact: url.parse().unwrap(),
            pinned: None,
            replicas: Replicas::All,
            policy: "default".into(),
            priority: 0,
            preemption: Preemption::default(),
            memory: None,
            source_credentials: None,
            engine_key: None,
            update: UpdateStrategy::default(),
            adopt: false,
        }
    }

    fn start(depot: &Arc<FakeDepot>) -> (tokio::task::JoinHandle<()>, UnboundedReceiver<Input>, Files) {
        let (inbox, inputs) = mpsc::unbounded_channel();
        let files = Files::new(depot.clone());
        let task = tokio::spawn(resolve(
            spec("sql", "/srv/a", 3),
            7,
            files.clone(),
            SecretBook::default(),
            Progress::default(),
            inbox,
        ));
        (task, inputs, files)
    }

    async fn answered(inputs: &mut UnboundedReceiver<Input>) -> (i64, Result<Resolved, Fault>, Option<Hold>) {
        match inputs.recv().await {
            Some(Input::Resolved(answer)) => match *answer {
                Answer { ticket: 7, fact: Fact::Resolved { generation, result, .. }, hold, .. } => {
                    (generation, result, hold)
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn i2_what_was_resolved_is_a_digest_whose_files_are_kept() {
        let depot = FakeDepot::new();
        depot.put("/srv/a", Ok(digest(1)));
        let (_task, mut inputs, files) = start(&depot);
        let (generation, result, hold) = answered(&mut inputs).await;
        assert_eq!(generation, 3);
        let expected = Resolved { root: Root::Store(digest(1)), bytes: Some(10), rank: Some(8), warnings: vec![] };
        assert_eq!(result, Ok(expected));
        assert_eq!(files.remove(digest(1)).await, Ok(false), "as long as the answer is not taken in");
        drop(hold);
        assert_eq!(files.remove(digest(1)).await, Ok(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_and_its_end_is_noticed() {
        let depot = FakeDepot::new();
        let (_task, mut inputs, _files) = start(&depot);
        let (_, result, _) = answered(&mut inputs).await;
        assert_eq!(result.unwrap_err().reason, "ArtifactNotFound");
        depot.fingerprints.lock().unwrap().insert("/srv/a".into(), "1".into());
        assert!(matches!(inputs.recv().await, Some(Input::FilesChanged { ticket: 7, .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_once_the_files_have_come_to_rest() {
        let depot = FakeDepot::new();
        depot.put("/srv/a", Ok(digest(1)));
        let write = |text: &str| depot.fingerprints.lock().unwrap().insert("/srv/a".into(), text.into());
        write("1");
        let (_task, mut inputs, _files) = start(&depot);
        answered(&mut inputs).await.1.unwrap();
        let begin = Instant::now();
        for (second, text) in [(1, "2"), (2, "3"), (3, "4")] {
            tokio::time::sleep_until(begin + Duration::from_millis(second * 1000 - 500)).await;
            write(text);
        }
        assert!(matches!(inputs.recv().await, Some(Input::FilesChanged { .. })));
        assert_eq!(begin.elapsed(), Duration::from_secs(4), "in paused time this is exact");
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_go_back_to_what_they_were_have_not_changed() {
        let depot = FakeDepot::new();
        depot.put("/srv/a", Ok(digest(1)));
        let write = |text: &str| depot.fingerprints.lock().unwrap().insert("/srv/a".into(), text.into());
        write("1");
        let (_task, mut inputs, _files) = start(&depot);
        answered(&mut inputs).await.1.unwrap();
        sleep(Duration::from_millis(500)).await;
        write("2");
        sleep(Duration::from_secs(1)).await;
        write("1");
        sleep(Duration::from_secs(10)).await;
        assert!(inputs.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_stopped_answers_all_the_same() {
        let depot = FakeDepot::new();
        depot.put("/srv/a", Ok(digest(1)));
        *depot.stall.lock().unwrap() = Some(Arc::default());
        let (task, mut inputs, _files) = start(&depot);
        while depot.fetches.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(inputs.try_recv().is_err());
        task.abort();
        let (_, result, hold) = answered(&mut inputs).await;
        assert!(result.unwrap_err().is_transient());
        assert!(hold.is_none());
    }
}
