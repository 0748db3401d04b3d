//! What the scheduler is told about an engine.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::EngineId;

/// Slots that are assumed where an engine tells neither `max_adapters` nor `max_loras`: the default of vLLM's
/// `--max-loras`, to which its `--max-cpu-loras` defaults in turn.
pub const DEFAULT_SLOTS: u32 = 1;

/// An engine as it is now. [`Engine::new`] and struct update syntax fill in what is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    /// Which engine.
    pub id: EngineId,
    /// Names of the base models that it serves. Empty: not known yet; an adapter that names a base model is not newly
    /// placed there until it is.
    pub base_models: BTreeSet<String>,
    /// Whether it takes requests.
    pub ready: bool,
    /// Whether it has been ready for long enough to be chosen.
    pub stable: bool,
    /// Whether it is on its way out: nothing new goes there.
    pub draining: bool,
    /// Whether it is ready but makes no progress, say with a load that hangs.
    pub stalled: bool,
    /// Adapters that it can run in one batch (`--max-loras`). Only weighs in the score.
    pub max_loras: Option<u32>,
    /// Adapters that it can hold (`--max-cpu-loras`). Never exceeded by a decision.
    pub max_adapters: Option<u32>,
    /// Largest rank that it takes (`--max-lora-rank`).
    pub max_rank: Option<u32>,
    /// Memory for adapters, in bytes. Never exceeded by a decision.
    pub memory: Option<u64>,
    /// Adapters that it holds and that this scheduler does not place. They take slots and are never touched.
    pub foreign: u32,
    /// How much more it can bear than an engine of weight 1 with the same slots. What is not finite or not above zero is
    /// read as 1.
    pub weight: f64,
    /// How busy it is, in any unit that is the same for all engines. NaN and what is below zero are read as 0.
    pub load: f64,
    /// The node that it runs on, for policies that look at it.
    pub node: Option<Arc<str>>,
    /// The zone that it runs in, for policies that look at it.
    pub zone: Option<Arc<str>>,
}

impl Engine {
    /// A ready and stable engine, idle, of weight 1, about which nothing else is known: it takes any adapter that names no
    /// base model, without a limit.
    pub fn new(id: impl Into<EngineId>) -> Self {
        Self {
            id: id.into(),
            base_models: BTreeSet::new(),
            ready: true,
            stable: true,
            draining: false,
            stalled: false,
            max_loras: None,
            max_adapters: None,
            max_rank: None,
            memory: None,
            foreign: 0,
            weight: 1.0,
            load: 0.0,
            node: None,
            zone: None,
        }
    }

    /// Slots that a load share is taken of: `max_adapters`, else `max_loras`, else [`DEFAULT_SLOTS`]; at least 1.
    pub fn slots(&self) -> u32 {
        self.max_adapters.or(self.max_loras).unwrap_or(DEFAULT_SLOTS).max(1)
    }

    /// The same with numbers that a score can be computed from.
    pub(crate) fn sane(mut self) -> Self {
        if !self.weight.is_finite() || self.weight <= 0.0 {
            self.weight = 1.0;
        }
        // `max` gives the other number where one is NaN.
        self.load = self.load.max(0.0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_sense_are_read_as_documented() {
        for weight in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, -3.0] {
            assert_eq!(Engine { weight, ..Engine::new("e") }.sane().weight, 1.0, "{weight}");
        }
        for (load, read) in [(f64::NAN, 0.0), (-1.0, 0.0), (f64::NEG_INFINITY, 0.0), (2.5, 2.5)] {
            assert_eq!(Engine { load, ..Engine::new("e") }.sane().load, read, "{load}");
        }
    }

    #[test]
    fn slots_are_the_hard_number_then_the_soft_one_then_the_default() {
        let engine = Engine::new("e");
        assert_eq!(engine.slots(), DEFAULT_SLOTS);
        let engine = Engine { max_loras: Some(4), ..engine };
        assert_eq!(engine.slots(), 4);
        let engine = Engine { max_adapters: Some(16), ..engine };
        assert_eq!(engine.slots(), 16);
        assert_eq!(Engine { max_adapters: Some(0), ..engine }.slots(), 1);
    }
}
