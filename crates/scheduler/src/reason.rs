//! Why an engine does not get an adapter.

use std::fmt;
use std::sync::Arc;

/// Why one engine was refused. Equal reasons are counted together, so a reason carries what is the same for many engines
/// (the limit that was met) and not what differs on each (how full it is).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The adapter asks for a policy that does not exist: it is left as it is.
    UnknownPolicy {
        /// What it asks for.
        policy: String,
        /// What there is.
        known: Vec<Arc<str>>,
    },
    /// The scheduler was not told of the engine, or it is gone.
    UnknownEngine,
    /// The engine serves other base models.
    BaseModel {
        /// The one that the adapter needs.
        wanted: String,
    },
    /// The adapter's rank is above what the engine takes.
    Rank {
        /// The adapter's.
        rank: u32,
        /// The engine's.
        max: u32,
    },
    /// It is not known yet which base models the engine serves.
    BaseModelUnknown,
    /// The adapter's [`crate::Adapter::avoid`] names the engine.
    Avoided,
    /// The engine is on its way out.
    Draining,
    /// The engine takes no requests.
    NotReady,
    /// The engine has not been ready for long enough.
    Unstable,
    /// The engine makes no progress.
    Stalled,
    /// Every slot is taken: by what is assigned, leaving or foreign.
    NoSlot,
    /// The engine has less memory left for adapters than this one takes.
    NoMemory {
        /// What the adapter takes, in bytes.
        needed: u64,
    },
}

/// What kind of remedy a [`Reason`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// The adapter or the engine must be declared otherwise: time does not help.
    Unsuitable,
    /// Time may help: the engine starts, recovers, or goes.
    NotReady,
    /// There is no room: another adapter must go, or a limit must rise.
    NoCapacity,
}

impl Reason {
    /// What kind of remedy it asks for.
    pub fn class(&self) -> Class {
        match self {
            Self::UnknownPolicy { .. } | Self::BaseModel { .. } | Self::Rank { .. } => Class::Unsuitable,
            Self::UnknownEngine
            | Self::BaseModelUnknown
            | Self::Avoided
            | Self::Draining
            | Self::NotReady
            | Self::Unstable
            | Self::Stalled => Class::NotReady,
            Self::NoSlot | Self::NoMemory { .. } => Class::NoCapacity,
        }
    }
}

/// Reads on after a number of engines: `3 no free slot`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPolicy { policy, known } => {
                write!(f, "policy {policy:?} is not one of {}", known.join(", "))
            }
            Self::UnknownEngine => f.write_str("not known"),
            Self::BaseModel { wanted } => write!(f, "without base model {wanted}"),
            Self::Rank { rank, max } => write!(f, "rank {rank} above max_lora_rank {max}"),
            Self::BaseModelUnknown => f.write_str("base model not known yet"),
            Self::Avoided => f.write_str("left alone for now"),
            Self::Draining => f.write_str("draining"),
            Self::NotReady => f.write_str("not ready"),
            Self::Unstable => f.write_str("not ready for long enough"),
            Self::Stalled => f.write_str("stalled"),
            Self::NoSlot => f.write_str("no free slot"),
            Self::NoMemory { needed } => write!(f, "less than {needed} bytes of adapter memory free"),
        }
    }
}
