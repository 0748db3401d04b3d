//! What is wished for an adapter.

use std::collections::BTreeSet;

use crate::{AdapterId, DEFAULT_POLICY, EngineId, EngineSet};

/// A wish: one adapter, on how many engines, on which ones. [`Adapter::new`] and struct update syntax fill in the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Which adapter.
    pub id: AdapterId,
    /// The base model that an engine must serve. Absent: any.
    pub base_model: Option<String>,
    /// On how many engines.
    pub replicas: Replicas,
    /// Its rank. Absent: not known, and not held against an engine's limit.
    pub rank: Option<u32>,
    /// Memory that it takes on an engine, in bytes. Absent: not known, and counted as none.
    pub memory: Option<u64>,
    /// Higher comes first in [`crate::Scheduler::waiting`].
    pub priority: i32,
    /// Whether it may displace others. This version displaces nothing, whatever it says.
    pub preemption: Preemption,
    /// The name of its placement policy.
    pub policy: String,
    /// The engines that its selector matches. Those that the scheduler was not told of are refused with
    /// [`crate::Reason::UnknownEngine`].
    pub engines: EngineSet,
    /// Engines to leave alone for now, say for a cool-down after failures. They get no new replica; one that is there
    /// moves away where there is another engine for it, except under [`Replicas::All`], where it stays.
    pub avoid: BTreeSet<EngineId>,
    /// How much it is asked for, in any unit that is the same for all adapters. The built-in policies do not look at it.
    pub demand: f64,
}

impl Adapter {
    /// One replica by the default policy, on none of the engines yet.
    pub fn new(id: impl Into<AdapterId>) -> Self {
        Self {
            id: id.into(),
            base_model: None,
            replicas: Replicas::Count(1),
            rank: None,
            memory: None,
            priority: 0,
            preemption: Preemption::LowerPriority,
            policy: DEFAULT_POLICY.to_owned(),
            engines: EngineSet::default(),
            avoid: BTreeSet::new(),
            demand: 0.0,
        }
    }
}

/// On how many engines an adapter is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replicas {
    /// On every engine that matches and can take it. Readiness does not gate: the engine loads it as soon as it is ready.
    All,
    /// On this many, chosen among those that are ready and stable.
    Count(u32),
}

/// Whether an adapter that fits nowhere may displace others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Preemption {
    /// Adapters of strictly lower priority may be displaced.
    #[default]
    LowerPriority,
    /// It waits.
    Never,
}
