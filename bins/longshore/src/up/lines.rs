//! What happens, as one line per change: for files, pipes and people who scroll.

use std::sync::Arc;

use longshore_cluster::fleet::{FleetStore, Update};
use longshore_cluster::local::Change;
use longshore_runtime::CancellationToken;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::say;

/// Writes until it is told to stop.
pub async fn run(
    head: String,
    hint: impl Fn(&str) -> String,
    fleet: Arc<FleetStore>,
    mut changes: Receiver<Change>,
    stop: CancellationToken,
) {
    say(&head);
    let mut adapters = fleet.watch_adapters(None, |adapter| adapter.ready_replicas > 0);
    let mut hinted = false;
    loop {
        tokio::select! {
            biased;
            change = changes.recv() => match change {
                Ok(change) => say(&line(&change)),
                Err(RecvError::Lagged(missed)) => say(&format!("… {missed} lines are left out")),
                Err(RecvError::Closed) => return,
            },
            update = adapters.next(), if !hinted => {
                let ready = match update {
                    Some(Update::Upsert { item, .. }) => Some(item.name.clone()),
                    Some(Update::Snapshot(snapshot)) => snapshot.items.first().map(|item| item.name.clone()),
                    Some(Update::Delete { .. }) | None => None,
                };
                if let Some(name) = ready {
                    hinted = true;
                    say(&format!("ready; try:\n{}", hint(&name)));
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

/// Time, a mark where somebody should look, and what happened.
pub fn line(change: &Change) -> String {
    let mark = if change.warning { "warning: " } else { "" };
    format!("{} {mark}{change}", change.at)
}
