//! Following the changes of a store at one's own pace.

use std::fmt;
use std::sync::Arc;

use longshore_api::fleet::Gone;
use tokio::sync::watch;

use super::store::{After, Item, Snapshot, Table};

/// One thing that a watcher is told.
#[derive(Clone, Debug)]
pub enum Update<T> {
    /// Everything, in place of all that was told before.
    Snapshot(Snapshot<T>),
    /// This object is new, or is now like this.
    Upsert {
        /// The revision that this leads to.
        revision: String,
        /// The object.
        item: Arc<T>,
    },
    /// This object is gone, or the filter lets it through no more.
    Delete {
        /// The revision that this leads to.
        revision: String,
        /// Which object.
        gone: Gone,
    },
}

/// A watcher of one kind of object. It reads the store's history at its own pace; where that does not reach back far
/// enough any more, it is given a snapshot again.
pub struct Subscription<T> {
    table: Arc<Table<T>>,
    filter: Box<dyn Fn(&T) -> bool + Send>,
    changed: watch::Receiver<u64>,
    /// The last change that was looked at; none before the first snapshot.
    position: Option<u64>,
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<T: Item> Subscription<T> {
    pub(super) fn new(table: Arc<Table<T>>, last: Option<&str>, filter: Box<dyn Fn(&T) -> bool + Send>) -> Self {
        let position = last.and_then(|revision| table.sequence(revision));
        Self { changed: table.changed(), table, filter, position }
    }

    /// The next update, as soon as there is one; none once the store is closed. Nothing is lost when the future is
    /// dropped before it is ready.
    pub async fn next(&mut self) -> Option<Update<T>> {
        loop {
            // Marked as seen before looking: what changes from here on wakes the wait below.
            self.changed.borrow_and_update();
            let Some(position) = self.position else { return Some(self.snapshot()) };
            match self.table.after(position) {
                After::Closed => return None,
                After::TooOld => return Some(self.snapshot()),
                After::Change(change) => {
                    self.position = Some(change.sequence);
                    let matches = |item: &Option<Arc<T>>| item.as_ref().is_some_and(|item| (self.filter)(item));
                    let revision = self.table.revision(change.sequence);
                    match (matches(&change.before), matches(&change.after), change.before, change.after) {
                        (_, true, _, Some(item)) => return Some(Update::Upsert { revision, item }),
                        (true, false, Some(item), _) => {
                            let gone = Gone { namespace: item.namespace().to_owned(), name: item.name().to_owned() };
                            return Some(Update::Delete { revision, gone });
                        }
                        _ => {}
                    }
                }
                // The sender lives in the table that this holds, so the wait cannot fail.
                After::Nothing => self.changed.changed().await.ok()?,
            }
        }
    }

    fn snapshot(&mut self) -> Update<T> {
        let (sequence, snapshot) = self.table.snapshot_at(&self.filter);
        self.position = Some(sequence);
        Update::Snapshot(snapshot)
    }
}
