//! The life of a replica: it follows, it leads, it ends.

use std::error::Error;
use std::time::Duration;

use longshore_cluster::kube::{Driver, Fence, Leadership, Term};
use longshore_runtime::{CancellationToken, Condition};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// How long stopping may take. All of it is giving up what was begun, which takes milliseconds.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether what leads has seen the cluster. It has by far more often than `/readyz` is asked.
const LOOK: Duration = Duration::from_millis(100);

/// How long the first lists may take before the log says which are missing, and again. 10,000 pods take a few seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a replica does while it leads.
pub trait Work: Send {
    /// What it has not seen all of yet; it acts once that is nothing.
    fn unlisted(&self) -> Vec<String>;
    /// Comes back when it has ended by itself, which only a bug can make it do.
    fn ended(&mut self) -> impl Future<Output = ()> + Send;
    /// Stops it: when this comes back, nothing acts any more.
    fn stop(self) -> impl Future<Output = ()> + Send;
}

impl Work for Driver {
    fn unlisted(&self) -> Vec<String> {
        Driver::unlisted(self)
    }

    async fn ended(&mut self) {
        Driver::ended(self).await;
    }

    async fn stop(self) {
        Driver::stop(self).await;
    }
}

/// How a life ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// Somebody asked for it.
    #[error("asked to end")]
    Asked,
    /// Another may lead now. A new process begins as a follower, and knows nothing that is out of date.
    #[error("this replica leads no more: {0}")]
    Lost(String),
    /// It was to lead and could not.
    #[error("this replica cannot lead")]
    NotStarted(#[source] Box<dyn Error + Send + Sync>),
    /// What it did while it led has ended by itself.
    #[error("the driver has ended, which is a defect")]
    Died,
    /// It has not stopped in time.
    #[error("the driver has not stopped within {} s", STOP_WITHIN.as_secs())]
    Stuck,
}

impl End {
    /// Whether nothing of this process acts any more, so that another may lead at once. Else the Lease has to expire.
    pub fn is_quiet(&self) -> bool {
        matches!(self, Self::Asked | Self::Lost(_) | Self::NotStarted(_))
    }

    /// An end that somebody asked for is none to complain about.
    pub fn into_result(self) -> Result<(), Self> {
        match self {
            Self::Asked => Ok(()),
            other => Err(other),
        }
    }
}

/// Lives until `stop`, or until it has led and leads no more.
///
/// While another leads, `follow` runs; then `lead` starts the work, once. `ready` is set while another is known to lead,
/// and once the work has seen everything.
pub async fn live<W: Work>(
    mut leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
    ready: Condition,
    follow: impl Future<Output = ()>,
    lead: impl FnOnce(Term, Fence) -> Result<W, Box<dyn Error + Send + Sync>>,
) -> End {
    let (term, fence) = tokio::select! {
        biased;
        () = stop.cancelled() => return End::Asked,
        turn = until_it_leads(&mut leadership, &ready) => match turn {
            Ok(turn) => turn,
            Err(why) => return End::Lost(why),
        },
        never = async {
            follow.await;
            std::future::pending::<std::convert::Infallible>().await
        } => match never {},
    };
    ready.clear();
    let mut work = match lead(term, fence) {
        Ok(work) => work,
        Err(error) => return End::NotStarted(error),
    };
    let why = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        why = until_it_leads_no_more(&mut leadership) => Some(why),
        () = until_it_ends(&mut work, &ready) => return End::Died,
    };
    if timeout(STOP_WITHIN, work.stop()).await.is_err() {
        return End::Stuck;
    }
    why.map_or(End::Asked, End::Lost)
}

/// The term and its fence, once this replica leads; why not, where it never will.
async fn until_it_leads(
    leadership: &mut watch::Receiver<Leadership>,
    ready: &Condition,
) -> Result<(Term, Fence), String> {
    loop {
        match leadership.borrow_and_update().clone() {
            Leadership::Following { holder: Some(_) } => ready.set(),
            Leadership::Following { holder: None } => ready.clear(),
            Leadership::Leading { term, fence } => return Ok((term, fence)),
            Leadership::Over { why } => return Err(why),
        }
        if leadership.changed().await.is_err() {
            return Err(NOBODY_ELECTS.to_owned());
        }
    }
}

/// Why this replica leads no more.
async fn until_it_leads_no_more(leadership: &mut watch::Receiver<Leadership>) -> String {
    match leadership.wait_for(|now| !matches!(now, Leadership::Leading { .. })).await.as_deref() {
        Ok(Leadership::Over { why }) => why.clone(),
        Ok(_) => "another does".to_owned(),
        Err(_) => NOBODY_ELECTS.to_owned(),
    }
}

const NOBODY_ELECTS: &str = "the election has ended by itself, which is a defect";

/// Comes back when the work has ended by itself; says on the way when it has seen everything.
async fn until_it_ends(work: &mut impl Work, ready: &Condition) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complain_at = Instant::now() + PATIENCE;
    loop {
        tokio::select! {
            biased;
            () = work.ended() => return,
            now = looks.tick() => {
                let unlisted = work.unlisted();
                if unlisted.is_empty() {
                    ready.set();
                    return work.ended().await;
                }
                if now >= complain_at {
                    tracing::warn!(lists = unlisted.join(", "), "Nothing is done before all has been listed once");
                    complain_at = now + PATIENCE;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
