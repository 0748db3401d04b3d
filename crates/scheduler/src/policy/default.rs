//! The policy of those who do not ask for one.

use super::{Candidate, DEFAULT_POLICY, Policy, Score};

/// `default`: the least load share, then the least measured load, then the fewest adapters.
///
/// The share comes first because it is exact and known at once, whereas measured load lags behind: of many adapters
/// placed in one go, each would otherwise land on the engine that was idle a moment ago.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultPolicy;

impl Policy for DefaultPolicy {
    fn name(&self) -> &str {
        DEFAULT_POLICY
    }

    fn score(&self, candidate: &Candidate<'_>) -> Score {
        Score::from([candidate.load_share(), candidate.engine().load, f64::from(candidate.taken())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adapter, Engine};

    fn score(engine: &Engine, taken: u32) -> Score {
        DefaultPolicy.score(&Candidate::new(&Adapter::new("a"), engine, taken, 0))
    }

    #[test]
    fn share_comes_before_load_and_load_before_number() {
        let of = |slots, load| Engine { max_adapters: Some(slots), load, ..Engine::new("e") };
        assert!(score(&of(8, 9.0), 1) < score(&of(8, 0.0), 2));
        assert!(score(&of(8, 1.0), 1) < score(&of(8, 2.0), 1));
        assert!(score(&of(4, 1.0), 1) < score(&of(8, 1.0), 3));
    }

    #[test]
    fn a_heavier_engine_takes_more() {
        let heavy = Engine { max_adapters: Some(8), weight: 2.0, ..Engine::new("e") };
        let light = Engine { max_adapters: Some(8), ..Engine::new("e") };
        assert!(score(&heavy, 2) < score(&light, 1));
        assert!(score(&heavy, 4) > score(&light, 1));
    }
}
