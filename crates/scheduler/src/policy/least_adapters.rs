//! Counts and nothing else.

use super::{Candidate, Policy, Score};

/// `least-adapters`: the engine that holds the fewest adapters, whoever put them there and however many it could hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastAdapters;

impl Policy for LeastAdapters {
    fn name(&self) -> &str {
        "least-adapters"
    }

    fn score(&self, candidate: &Candidate<'_>) -> Score {
        Score::from([f64::from(candidate.taken())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adapter, Engine};

    #[test]
    fn only_the_number_counts() {
        let adapter = Adapter::new("a");
        let large = Engine { max_adapters: Some(100), ..Engine::new("e") };
        let small = Engine { max_adapters: Some(2), load: 9.0, weight: 0.1, ..Engine::new("f") };
        let score = |engine, taken| LeastAdapters.score(&Candidate::new(&adapter, engine, taken, 0));
        assert!(score(&small, 1) < score(&large, 2));
        assert_eq!(score(&small, 1), score(&large, 1));
    }
}
