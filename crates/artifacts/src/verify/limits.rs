//! Whether an adapter is within what one engine was started for.

use std::collections::BTreeSet;

use super::Verified;
use super::defect::{Defect, listed, shown};

/// Modules that vLLM computes as one, by the name of the one: an adapter for any of them has a place if one of them has
/// (read in 0.32's `lora/utils.py`).
const FUSED: [(&str, &[&str]); 2] =
    [("qkv_proj", &["q_proj", "k_proj", "v_proj"]), ("gate_up_proj", &["gate_proj", "up_proj"])];

/// What one engine was started for. The default is no limit at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineLimits {
    /// `--max-lora-rank`. vLLM refuses an adapter with a larger rank.
    pub max_rank: Option<u32>,
    /// `--lora-target-modules`: last parts of names, or whole names. vLLM loads an adapter for others too, and leaves those
    /// modules out.
    pub targets: Option<BTreeSet<String>>,
}

impl EngineLimits {
    /// Whether the engine would serve the whole adapter.
    ///
    /// # Errors
    /// [`Defect::RankTooHigh`] or [`Defect::TargetNotServed`].
    pub fn check(&self, adapter: &Verified) -> Result<(), Defect> {
        if let Some(max) = self.max_rank.filter(|max| adapter.rank > *max) {
            return Err(Defect::RankTooHigh { rank: adapter.rank, max });
        }
        let Some(targets) = &self.targets else { return Ok(()) };
        let served: BTreeSet<&str> = targets.iter().filter_map(|target| target.rsplit('.').next()).collect();
        match adapter.targets.iter().find(|module| !is_served(module, &served)) {
            Some(module) => Err(Defect::TargetNotServed { module: shown(module), served: listed(targets) }),
            None => Ok(()),
        }
    }
}

fn is_served(module: &str, served: &BTreeSet<&str>) -> bool {
    let beside = |(fused, parts): &(&str, &[&str])| {
        (*fused == module || parts.contains(&module))
            && (served.contains(fused) || parts.iter().any(|part| served.contains(part)))
    };
    served.contains(module) || FUSED.iter().any(beside)
}
