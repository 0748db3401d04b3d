//! Which of the engines that may take an adapter is the best one.

mod default;
mod least_adapters;

use std::cmp::Ordering;
use std::sync::Arc;

use crate::{Adapter, Engine};

pub use default::DefaultPolicy;
pub use least_adapters::LeastAdapters;

/// The policy of an adapter that does not ask for another one.
pub const DEFAULT_POLICY: &str = "default";

/// The names of [`built_in`], in their order.
pub(crate) const BUILT_IN: &[&str] = &[DEFAULT_POLICY, "least-adapters"];

/// Every policy that a new scheduler knows.
pub(crate) fn built_in() -> [Arc<dyn Policy>; 2] {
    [Arc::new(DefaultPolicy), Arc::new(LeastAdapters)]
}

/// How engines are compared for one adapter. It is asked only about engines that the rules allow, and it must give the
/// same answer for the same candidate: no clock, no randomness.
///
/// ```
/// use longshore_scheduler::{Adapter, Candidate, Engine, Policy, Replicas, Scheduler, Score};
///
/// /// Replicas in as many zones as there are; within a zone, the emptiest engine.
/// struct Zones;
///
/// impl Policy for Zones {
///     fn name(&self) -> &str {
///         "zones"
///     }
///
///     fn score(&self, candidate: &Candidate<'_>) -> Score {
///         let zone = &candidate.engine().zone;
///         let neighbours = candidate.peers().iter().filter(|peer| &peer.zone == zone).count();
///         Score::from([neighbours as f64, candidate.load_share()])
///     }
///
///     fn looks_at_peers(&self) -> bool {
///         true
///     }
/// }
///
/// let mut scheduler = Scheduler::new();
/// scheduler.add_policy(Zones);
/// for (engine, zone) in [("a-0", "a"), ("a-1", "a"), ("b-0", "b")] {
///     scheduler.set_engine(Engine { zone: Some(zone.into()), ..Engine::new(engine) });
/// }
/// let decision = scheduler.schedule_adapter(&Adapter {
///     policy: "zones".into(),
///     replicas: Replicas::Count(2),
///     engines: ["a-0", "a-1", "b-0"].into(),
///     ..Adapter::new("sql")
/// });
/// assert_eq!(decision.added, ["a-0".into(), "b-0".into()]);
/// ```
pub trait Policy: Send + Sync {
    /// What [`Adapter::policy`] calls it.
    fn name(&self) -> &str;

    /// How good the engine is for the adapter: lower is better. Equal scores are ordered by id. An engine that holds the
    /// adapter is scored as if it did not, and surplus replicas are let go from the highest score down.
    fn score(&self, candidate: &Candidate<'_>) -> Score;

    /// Whether scores depend on [`Candidate::peers`]. If so they are taken again for each replica that is chosen, else
    /// once.
    fn looks_at_peers(&self) -> bool {
        false
    }
}

/// One adapter and one engine that may take it, as a [`Policy`] sees them.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    adapter: &'a Adapter,
    engine: &'a Engine,
    taken: u32,
    memory_taken: u128,
    peers: &'a [&'a Engine],
}

impl<'a> Candidate<'a> {
    /// `taken` and `memory_taken` are without the adapter's own.
    pub(crate) fn new(adapter: &'a Adapter, engine: &'a Engine, taken: u32, memory_taken: u128) -> Self {
        Self { adapter, engine, taken, memory_taken, peers: &[] }
    }

    /// The same, with other replicas in view.
    pub(crate) fn beside<'b>(self, peers: &'b [&'b Engine]) -> Candidate<'b>
    where
        'a: 'b,
    {
        Candidate { peers, ..self }
    }

    /// The adapter, as it was handed in.
    pub fn adapter(&self) -> &'a Adapter {
        self.adapter
    }

    /// The engine. Its weight is finite and above zero, its load is not NaN and not below zero.
    pub fn engine(&self) -> &'a Engine {
        self.engine
    }

    /// Slots that others take: what is assigned, leaving and foreign. The adapter's own slot, where it has one, is not
    /// counted.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Bytes that others take, of what is assigned and leaving.
    pub fn memory_taken(&self) -> u128 {
        self.memory_taken
    }

    /// Slots in use once the adapter is there, as a share of the engine's weighted slots:
    /// `(taken + 1) / (slots * weight)`. Above 1 where a soft limit is exceeded.
    pub fn load_share(&self) -> f64 {
        (f64::from(self.taken) + 1.0) / (f64::from(self.engine.slots()) * self.engine.weight)
    }

    /// Engines that were chosen for the adapter before this one, in the same decision: first what it keeps, then what it
    /// gets.
    pub fn peers(&self) -> &[&'a Engine] {
        self.peers
    }
}

/// What a policy gives an engine: up to four numbers, compared one after the other; lower is better.
///
/// NaN is read as infinity, the worst there is.
///
/// ```
/// use longshore_scheduler::Score;
/// assert!(Score::from([1.0, 9.0]) < Score::from([2.0, 0.0]));
/// assert!(Score::from([f64::NAN]) > Score::from([1e300]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Score([f64; Score::TERMS]);

impl Score {
    /// How many numbers a score can have; those not given are 0.
    pub const TERMS: usize = 4;
}

impl<const N: usize> From<[f64; N]> for Score {
    fn from(terms: [f64; N]) -> Self {
        const { assert!(N <= Self::TERMS, "a score has at most four terms") };
        let mut score = [0.0; Self::TERMS];
        for (slot, term) in score.iter_mut().zip(terms) {
            // Adding zero makes -0.0 the same as 0.0, which the total order would tell apart.
            *slot = if term.is_nan() { f64::INFINITY } else { term + 0.0 };
        }
        Self(score)
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.0.iter().zip(&other.0);
        pairs.map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_built_in_policies_are_theirs() {
        let policies = built_in();
        let names: Vec<_> = policies.iter().map(|policy| policy.name()).collect();
        assert_eq!(names, BUILT_IN);
    }

    #[test]
    fn scores_have_a_total_order() {
        assert_eq!(Score::from([-0.0]), Score::from([0.0]));
        assert_eq!(Score::from([1.0]), Score::from([1.0, 0.0, 0.0, 0.0]));
        assert_eq!(Score::from([-f64::NAN]), Score::from([f64::INFINITY]));
        assert!(Score::from([1.0, -1.0]) < Score::from([1.0]));
    }

    #[test]
    fn a_share_is_taken_of_the_weighted_slots() {
        let adapter = Adapter::new("a");
        let engine = Engine { max_adapters: Some(8), weight: 2.0, ..Engine::new("e") };
        assert_eq!(Candidate::new(&adapter, &engine, 3, 0).load_share(), 0.25);
    }
}
