//! The tasks of a process, and its end when one of them dies.

use std::any::Any;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{Error, Shutdown};

/// For the tasks that outlive the others: they only have answers under way to finish.
const LAST_DRAIN: Duration = Duration::from_secs(1);

/// What a task comes to.
type Outcome = Result<(), Box<dyn StdError + Send + Sync>>;

/// Tasks that a process cannot do without.
///
/// When one fails, panics or just ends, the process ends too: a half-dead process that still answers `/livez` is worse
/// than one that is started again. Each task is given a token and drains when that is cancelled. Dropping it aborts all.
#[derive(Debug)]
pub struct Tasks {
    shutdown: Shutdown,
    first: Group,
    last: Group,
}

#[derive(Debug)]
struct Group {
    stop: CancellationToken,
    set: JoinSet<Outcome>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// No tasks yet. They drain when this shutdown says so, and cause it when one dies.
    pub fn new(shutdown: &Shutdown) -> Self {
        let (first, last) = (Group::new(shutdown.token()), Group::new(CancellationToken::new()));
        Self { shutdown: shutdown.clone(), first, last }
    }

    /// Spawns a task. `name` is shown when it dies: `engine lister`. Must be called within a tokio runtime.
    pub fn essential<F, Fut, E>(&mut self, name: &'static str, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.first.spawn(name, task);
    }

    /// The same for a task that stops only when all others have: the admin server, which has to show "not ready" and the
    /// metrics while they drain.
    pub fn last<F, Fut, E>(&mut self, name: &'static str, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.last.spawn(name, task);
    }

    /// Runs until the shutdown's token is cancelled or a task ends before that, then lets the others drain for at most `drain` and
    /// aborts what is left, with a warning that names it.
    ///
    /// # Errors
    /// The first task that failed, panicked, or ended unasked.
    pub async fn run(mut self, drain: Duration) -> Result<(), Error> {
        let stop = self.shutdown.token();
        let mut result = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            error = self.first.died() => Err(error),
            error = self.last.died() => Err(error),
        };
        if let Err(error) = &result {
            tracing::error!(error = error as &dyn StdError, reason = error.reason(), "Ending the process");
        }
        self.shutdown.now();
        for (group, drain) in [(&mut self.first, drain), (&mut self.last, LAST_DRAIN)] {
            let drained = group.drain(drain).await;
            result = result.and(drained);
        }
        result
    }
}

impl Group {
    fn new(stop: CancellationToken) -> Self {
        Self { stop, set: JoinSet::new(), names: HashMap::new() }
    }

    fn spawn<F, Fut, E>(&mut self, name: &'static str, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let task = task(self.stop.clone());
        let id = self.set.spawn(async move { task.await.map_err(Into::into) }).id();
        self.names.insert(id, name);
    }

    /// Returns when a task has ended; never, if there is none.
    async fn died(&mut self) -> Error {
        let Some(ended) = self.set.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let task = self.name_of(&ended);
        why(task, ended).err().unwrap_or(Error::TaskEnded { task })
    }

    /// Asks the tasks to end and waits for at most `bound`. Returns the first failure.
    async fn drain(&mut self, bound: Duration) -> Result<(), Error> {
        self.stop.cancel();
        let mut result = Ok(());
        let ended = timeout(bound, async {
            while let Some(ended) = self.set.join_next_with_id().await {
                let task = self.name_of(&ended);
                if let Err(error) = why(task, ended) {
                    tracing::error!(
                        error = &error as &dyn StdError,
                        reason = error.reason(),
                        "A task failed at the end"
                    );
                    if result.is_ok() {
                        result = Err(error);
                    }
                }
            }
        });
        if ended.await.is_err() {
            let mut left: Vec<_> = self.names.values().copied().collect();
            left.sort_unstable();
            tracing::warn!(tasks = left.join(", "), ?bound, "Tasks did not end in time and are aborted");
            self.set.shutdown().await;
        }
        result
    }

    fn name_of(&mut self, ended: &Result<(Id, Outcome), JoinError>) -> &'static str {
        let id = match ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        self.names.remove(&id).unwrap_or("a task")
    }
}

/// Whether a task ended well, and if not, why.
fn why(task: &'static str, ended: Result<(Id, Outcome), JoinError>) -> Result<(), Error> {
    match ended {
        Ok((_, Ok(()))) => Ok(()),
        Ok((_, Err(source))) => Err(Error::TaskFailed { task, source }),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Err(Error::TaskPanicked { task, message: panic_message(panic.as_ref()) }),
            // Only we abort, and only after the bound, where nobody asks any more.
            Err(_) => Ok(()),
        },
    }
}

/// A panic's payload is a text in all but exotic cases.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Readiness, State};
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    const BOUND: Duration = Duration::from_secs(30);

    fn quiet() -> (Shutdown, Readiness) {
        let readiness = Readiness::new();
        (Shutdown::new(readiness.clone(), Duration::ZERO), readiness)
    }

    async fn until(stop: CancellationToken) -> Result<(), Infallible> {
        stop.cancelled().await;
        Ok(())
    }

    async fn dies(_: CancellationToken) -> Result<(), Infallible> {
        panic!("bad {}", "luck")
    }

    #[tokio::test(start_paused = true)]
    async fn a_requested_end_is_no_error() {
        let (shutdown, _) = quiet();
        let mut tasks = Tasks::new(&shutdown);
        tasks.essential("a", until);
        tasks.last("b", until);
        shutdown.request("test");
        tasks.run(BOUND).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_ends_the_process_and_is_named() {
        let (shutdown, readiness) = quiet();
        let mut tasks = Tasks::new(&shutdown);
        tasks.essential("healthy", until);
        tasks.essential("lister", |_| async { Err::<(), _>("no route to host") });
        let error = tasks.run(BOUND).await.unwrap_err();
        assert_eq!(error.to_string(), "lister failed");
        assert_eq!(error.source().unwrap().to_string(), "no route to host");
        assert_eq!(error.reason(), "TaskFailed");
        assert_eq!(readiness.state(), State::Stopping);
        assert!(shutdown.token().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_ends_the_process_and_its_message_is_kept() {
        let (shutdown, _) = quiet();
        let mut tasks = Tasks::new(&shutdown);
        tasks.essential("healthy", until);
        tasks.last("admin server", dies);
        let error = tasks.run(BOUND).await.unwrap_err();
        assert_eq!(error.to_string(), "admin server panicked: bad luck");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_unasked_ends_the_process() {
        let (shutdown, _) = quiet();
        let mut tasks = Tasks::new(&shutdown);
        tasks.essential("watcher", |_| async { Ok::<_, Infallible>(()) });
        let error = tasks.run(BOUND).await.unwrap_err();
        assert_eq!(error.to_string(), "watcher ended although nobody asked it to");
    }

    #[tokio::test(start_paused = true)]
    async fn draining_is_bounded() {
        let (shutdown, _) = quiet();
        let mut tasks = Tasks::new(&shutdown);
        tasks.essential("stuck", |_| std::future::pending::<Result<(), Infallible>>());
        shutdown.request("test");
        let begun = tokio::time::Instant::now();
        tasks.run(BOUND).await.unwrap();
        assert_eq!(begun.elapsed(), BOUND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_tasks_outlive_the_drain_of_the_others() {
        let (shutdown, _) = quiet();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Tasks::new(&shutdown);
        let (a, b) = (order.clone(), order.clone());
        tasks.last("admin", |stop| async move {
            stop.cancelled().await;
            a.lock().unwrap().push("admin");
            Ok::<_, Infallible>(())
        });
        tasks.essential("work", |stop| async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            b.lock().unwrap().push("work");
            Ok::<_, Infallible>(())
        });
        shutdown.request("test");
        tasks.run(BOUND).await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["work", "admin"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_while_draining_is_reported() {
        let (shutdown, _) = quiet();
        let mut tasks = Tasks::new(&shutdown);
        tasks.essential("flusher", |stop| async move {
            stop.cancelled().await;
            Err::<(), _>("disk full")
        });
        shutdown.request("test");
        assert_eq!(tasks.run(BOUND).await.unwrap_err().to_string(), "flusher failed");
    }
}
