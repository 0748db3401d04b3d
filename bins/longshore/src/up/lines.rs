//! What happens, as one line per change: for files, pipes and people who scroll.

use longshore_api::fleet::Adapter;
use longshore_cluster::fleet::Update;
use longshore_cluster::local::Change;
use longshore_runtime::CancellationToken;
use tokio::sync::broadcast::error::RecvError;

use super::view::{STOPPING, View};
use crate::table::one_line;

/// Writes each line to `out` until it is told to stop.
pub async fn run<H: Fn(&str) -> String>(mut view: View<H>, stop: CancellationToken, mut out: impl FnMut(&str)) {
    out(&view.head);
    let mut served = view.fleet.watch_adapters(None, |adapter| adapter.ready_replicas > 0);
    let (mut hinted, mut known, mut stopping) = (false, false, false);
    loop {
        tokio::select! {
            biased;
            change = view.changes.recv() => match change {
                Ok(change) => out(&line(&change)),
                Err(RecvError::Lagged(missed)) => out(&format!("… {missed} lines are left out")),
                Err(RecvError::Closed) => return,
            },
            () = view.stopping.cancelled(), if !stopping => {
                stopping = true;
                out(STOPPING);
            }
            () = view.known.wait(), if !known => {
                known = true;
                if view.fleet.adapters().items.is_empty() {
                    out(&format!("warning: {}", view.nothing()));
                }
            }
            Some(update) = served.next(), if !hinted => {
                if let Some(name) = first_served(&update) {
                    hinted = true;
                    out(&format!("ready; try:\n{}", (view.hint)(&name)));
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

/// An adapter that is served now.
fn first_served(update: &Update<Adapter>) -> Option<String> {
    match update {
        Update::Upsert { item, .. } => Some(item.name.clone()),
        Update::Snapshot(snapshot) => snapshot.items.first().map(|item| item.name.clone()),
        Update::Delete { .. } => None,
    }
}

/// Time, a mark where somebody should look, and what happened.
pub fn line(change: &Change) -> String {
    let mark = if change.warning { "warning: " } else { "" };
    one_line(&format!("{} {mark}{change}", change.at))
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use longshore_cluster::fleet::FleetStore;
    use longshore_runtime::Readiness;
    use longshore_types::Timestamp;
    use tokio::sync::broadcast;

    use super::*;

    /// A change at a time that never comes again.
    pub fn change(warning: bool, subject: &str, text: &str) -> Change {
        let at = Timestamp::from_millis(1_800_000_000_000);
        Change { at, warning, subject: subject.to_owned(), text: text.to_owned() }
    }

    fn adapter(name: &str, ready: u32) -> Adapter {
        Adapter { namespace: "default".into(), name: name.into(), ready_replicas: ready, ..Adapter::default() }
    }

    /// Everything that is written when `changes` have happened and the process is then told to stop.
    async fn written(adapters: Vec<Adapter>, changes: Vec<Change>, known: bool) -> String {
        let (sender, receiver) = broadcast::channel(4);
        let fleet = Arc::new(FleetStore::new());
        for adapter in adapters {
            fleet.put_adapter(adapter);
        }
        let readiness = Readiness::new();
        let latch = readiness.condition("known");
        if known {
            latch.set();
        }
        let (stopping, stop) = (CancellationToken::new(), CancellationToken::new());
        let view = View {
            head: "longshore: here".to_owned(),
            hint: |model: &str| format!("ask {model}"),
            manifests: vec!["a".into(), "b/c.yaml".into()],
            fleet,
            changes: receiver,
            known: readiness,
            stopping: stopping.clone(),
        };
        for change in changes {
            sender.send(change).unwrap();
        }
        stopping.cancel();
        stop.cancel();
        let mut lines = Vec::new();
        run(view, stop, |line| lines.push(line.to_owned())).await;
        lines.join("\n")
    }

    #[tokio::test]
    async fn what_happened_before_the_end_is_said_and_what_can_be_asked_for() {
        let changes = vec![change(false, "default/sql", "Running"), change(true, "a.yaml:3", "no name")];
        insta::assert_snapshot!(written(vec![adapter("cold", 0), adapter("sql", 1)], changes, true).await);
    }

    #[tokio::test]
    async fn where_nothing_is_declared_the_places_are_named_once_the_fleet_is_known() {
        let text = written(Vec::new(), Vec::new(), true).await;
        assert!(text.contains("no adapter is declared in a, b/c.yaml"), "{text}");
        assert!(!text.contains("ready; try"), "{text}");
        assert!(!written(Vec::new(), Vec::new(), false).await.contains("no adapter"));
        assert!(!written(vec![adapter("cold", 0)], Vec::new(), true).await.contains("no adapter"));
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_told_how_much_it_missed() {
        let changes = (0..10).map(|n| change(false, "default/sql", &n.to_string())).collect();
        let text = written(Vec::new(), changes, false).await;
        assert!(
            text.contains("… 6 lines are left out") && text.contains("sql: 9") && !text.contains("sql: 5"),
            "{text}"
        );
    }

    #[test]
    fn a_change_is_one_line_whatever_is_in_it() {
        assert_eq!(line(&change(true, "a\nb", "c")).lines().count(), 1);
    }
}
