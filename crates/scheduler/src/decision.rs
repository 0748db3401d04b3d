//! What the scheduler answers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::{EngineId, Reason};

/// What [`crate::Scheduler::schedule_adapter`] decided, and has already reserved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "what was removed has still to be unloaded"]
#[non_exhaustive]
pub struct Decision {
    /// Every engine that holds, or shall hold, the adapter from now on.
    pub assigned: BTreeSet<EngineId>,
    /// Those of them that are new, best first under `Count`, by id under `All`. One that was leaving and is wanted again
    /// counts as new.
    pub added: Vec<EngineId>,
    /// Those that are no longer wanted, by id. They are leaving: each keeps its slot until
    /// [`crate::Scheduler::unassign`].
    pub removed: Vec<EngineId>,
    /// Engines that pass every rule for a new replica, or hold one that may stay.
    pub candidates: u32,
    /// Engines that its selector matches.
    pub considered: u32,
    /// Set when replicas are missing, or the wish cannot be followed at all.
    pub unplaced: Option<Unplaced>,
    /// Those of `added` that have no hard limit and now hold more than their [`crate::Engine::slots`].
    pub overcommitted: Vec<EngineId>,
}

impl Decision {
    /// Whether nothing is to be loaded or unloaded.
    pub fn is_unchanged(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// Why replicas are missing. Displayed as `0/12 engines: 7 rank 64 above max_lora_rank 16, 3 no free slot, 2 draining`,
/// where the first number counts the engines that do hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unplaced {
    /// Replicas that found no engine. Under `All`: engines that are suitable and stay, but did not get it; at least 1 when
    /// none has it. It is 0 only where the policy is unknown and the number of replicas happens to be right.
    pub missing: u32,
    /// Engines that its selector matches.
    pub considered: u32,
    /// How many engines were refused for what. One reason per engine, the first that applies, so that the counts add up
    /// to the engines considered less those of them that hold the adapter. Only [`Reason::UnknownPolicy`], which is not
    /// about an engine, can be there with a count of 0.
    pub reasons: BTreeMap<Reason, u32>,
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u32 = self.reasons.values().sum();
        write!(f, "{}/{} engines: ", self.considered.saturating_sub(refused), self.considered)?;
        if self.reasons.is_empty() {
            return f.write_str(if self.considered == 0 { "none matches" } else { "more replicas than engines" });
        }
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| Reverse(**count));
        for (at, (reason, count)) in reasons.into_iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match reason {
                Reason::UnknownPolicy { .. } => write!(f, "{comma}{reason}")?,
                _ => write!(f, "{comma}{count} {reason}")?,
            }
        }
        Ok(())
    }
}

/// Where an adapter is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdapterStatus {
    /// Engines that hold, or shall hold, it.
    pub assigned: BTreeSet<EngineId>,
    /// Engines where it is on its way out and still takes its slot.
    pub leaving: BTreeSet<EngineId>,
    /// What was missing when it was last scheduled.
    pub unplaced: Option<Unplaced>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unplaced(considered: u32, reasons: &[(Reason, u32)]) -> String {
        Unplaced { missing: 1, considered, reasons: reasons.iter().cloned().collect() }.to_string()
    }

    #[test]
    fn reasons_are_shown_by_count_and_then_by_kind() {
        let reasons = [
            (Reason::Draining, 2),
            (Reason::Avoided, 2),
            (Reason::Rank { rank: 64, max: 16 }, 7),
            (Reason::NoSlot, 3),
            (Reason::NoMemory { needed: 5 }, 1),
        ];
        assert_eq!(
            unplaced(16, &reasons),
            "1/16 engines: 7 rank 64 above max_lora_rank 16, 3 no free slot, 2 left alone for now, 2 draining, \
             1 less than 5 bytes of adapter memory free"
        );
    }

    #[test]
    fn no_reasons_still_make_a_sentence() {
        assert_eq!(unplaced(0, &[]), "0/0 engines: none matches");
        assert_eq!(unplaced(2, &[]), "2/2 engines: more replicas than engines");
    }

    #[test]
    fn an_unknown_policy_is_named_with_the_known_ones() {
        let reason = Reason::UnknownPolicy { policy: "best".into(), known: vec!["default".into(), "other".into()] };
        assert_eq!(unplaced(3, &[(reason, 2)]), "1/3 engines: policy \"best\" is not one of default, other");
    }
}
