//! Which replicas of the controller there are, and which of them is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use super::http_client::Controller;
use crate::identity::random;

/// The replicas of one controller, any of which answers. Clones share both the replicas and whose turn it is.
#[derive(Clone, Debug)]
pub(super) struct Controllers {
    replicas: watch::Sender<Arc<[Controller]>>,
    turn: Arc<AtomicUsize>,
}

impl Controllers {
    /// The one that was named.
    pub(super) fn fixed(controller: Controller) -> Self {
        Self { replicas: watch::Sender::new(Arc::from([controller])), turn: Arc::default() }
    }

    /// None yet. Whose turn is first is drawn, so that a fleet's routers do not all follow the same one.
    pub(super) fn none() -> Self {
        // Only the remainder matters, so which of its bits are kept does not.
        let turn = usize::try_from(random() >> 32).unwrap_or_default();
        Self { replicas: watch::Sender::new(Arc::from([])), turn: Arc::new(AtomicUsize::new(turn)) }
    }

    /// These are there now.
    pub(super) fn set(&self, mut replicas: Vec<Controller>) {
        replicas.sort_by_cached_key(ToString::to_string);
        replicas.dedup();
        self.replicas.send_if_modified(|current| {
            let changed = **current != *replicas;
            if changed {
                *current = Arc::from(replicas);
            }
            changed
        });
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.replicas.borrow().len()
    }

    /// The one whose turn it is, if there is any.
    pub(super) fn now(&self) -> Option<Controller> {
        self.at_turn(&self.replicas.borrow())
    }

    /// `controller` did not answer: it is the next one's turn, unless that has been said already.
    pub(super) fn failed(&self, controller: &Controller) {
        if self.now().as_ref() == Some(controller) {
            self.turn.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The one whose turn it is, once there is any.
    pub(super) async fn any(&self) -> Controller {
        let mut replicas = self.replicas.subscribe();
        loop {
            let now = self.at_turn(&replicas.borrow_and_update());
            match now {
                Some(controller) => return controller,
                // The sender lives as long as `self`.
                None => drop(replicas.changed().await),
            }
        }
    }

    /// Returns when `controller` is none of them any more.
    pub(super) async fn left(&self, controller: &Controller) {
        let mut replicas = self.replicas.subscribe();
        // The sender lives as long as `self`.
        let _ = replicas.wait_for(|replicas| !replicas.contains(controller)).await;
    }

    /// Returns when others are there than now.
    pub(super) async fn changed(&self) {
        // The sender lives as long as `self`.
        let _ = self.replicas.subscribe().changed().await;
    }

    fn at_turn(&self, replicas: &[Controller]) -> Option<Controller> {
        let turn = self.turn.load(Ordering::Relaxed).checked_rem(replicas.len())?;
        replicas.get(turn).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller(port: u16) -> Controller {
        format!("http://10.0.0.1:{port}").parse().unwrap()
    }

    #[test]
    fn after_a_failure_it_is_the_next_ones_turn_and_that_once() {
        let controllers = Controllers::none();
        assert_eq!(controllers.now(), None);
        controllers.set(vec![controller(2), controller(1), controller(2)]);
        assert_eq!(controllers.count(), 2);
        let first = controllers.now().unwrap();
        controllers.failed(&first);
        let second = controllers.now().unwrap();
        assert_ne!(first, second);
        // Several connections to one replica may break together.
        controllers.failed(&first);
        assert_eq!(controllers.now(), Some(second.clone()));
        controllers.failed(&second);
        assert_eq!(controllers.now(), Some(first));
    }

    #[tokio::test]
    async fn one_is_waited_for_and_its_leaving_noticed() {
        let controllers = Controllers::none();
        let waiting = tokio::spawn({
            let controllers = controllers.clone();
            async move {
                let one = controllers.any().await;
                controllers.left(&one).await;
                one
            }
        });
        tokio::task::yield_now().await;
        controllers.set(vec![controller(1)]);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        controllers.set(vec![controller(2)]);
        assert_eq!(waiting.await.unwrap(), controller(1));
    }
}
