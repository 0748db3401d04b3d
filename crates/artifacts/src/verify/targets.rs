//! Whether the weights are those of the modules that the configuration says were trained.

use std::collections::{BTreeMap, BTreeSet};

use super::base::{BaseShapes, layer_of};
use super::config::{AdapterConfig, Targets};
use super::defect::{Defect, listed, shown};
use super::lora::{Pairs, Summary, leaf};
use super::pattern::{Fuel, Pattern, tails};

/// Holds `target_modules`, `layers_to_transform` and `exclude_modules` against the modules that have weights.
///
/// Engines go by the weights and read none of the three. So what does not change an answer is a warning, and what says that
/// weights are missing, or are another adapter's, is a defect.
pub(crate) fn check(
    pairs: &Pairs<'_>,
    config: &AdapterConfig,
    base: Option<&BaseShapes>,
    summary: &mut Summary,
) -> Result<(), Defect> {
    match &config.targets {
        Targets::List(targets) => check_list(pairs, targets, config, base, summary)?,
        Targets::Pattern(pattern) => check_pattern(pairs, pattern, summary)?,
        Targets::AllLinear => {}
    }
    if let Some(layers) = &config.layers {
        let beside = |module: &&&str| layer_of(module).is_some_and(|(layer, _)| !layers.contains(&layer));
        if let Some(module) = pairs.keys().find(beside) {
            let message =
                format!("module `{}` has weights, but layers_to_transform leaves its layer out", shown(module));
            summary.warnings.push(("WeightsWithoutTarget", message));
        }
    }
    if let Some(module) = pairs.keys().find(|module| tails(module).any(|tail| config.excluded.contains(tail))) {
        let message = format!("module `{}` has weights, but exclude_modules names it", shown(module));
        summary.warnings.push(("WeightsWithoutTarget", message));
    }
    Ok(())
}

/// PEFT lets a configuration name modules that the base model does not have, so one name without weights is no defect by
/// itself. It is one where no name has any, and where the base model is known to have the module.
fn check_list(
    pairs: &Pairs<'_>,
    targets: &BTreeSet<String>,
    config: &AdapterConfig,
    base: Option<&BaseShapes>,
    summary: &mut Summary,
) -> Result<(), Defect> {
    let mut untargeted = None;
    // By target, the layers in which it has weights.
    let mut found: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for module in pairs.keys().copied() {
        let mut is_target = module.contains(".experts");
        for target in tails(module).filter_map(|tail| targets.get(tail)) {
            is_target = true;
            found.entry(target).or_default().extend(layer_of(module).map(|(layer, _)| layer));
        }
        if !is_target {
            untargeted = untargeted.or(Some(module));
        }
    }
    if found.is_empty() && !targets.is_empty() {
        return Err(other_adapter(listed(targets), summary));
    }
    let missing = || targets.iter().filter(|target| !found.contains_key(target.as_str()));
    let lost = || missing().filter(|target| base.is_some_and(|base| base.has_leaf(leaf(target))));
    if lost().next().is_some() {
        let problem = "has no weights for it: the file is incomplete; save the adapter again".into();
        return Err(Defect::TargetMismatch { targets: listed(lost()), problem });
    }
    if missing().next().is_some() {
        let message = format!("target_modules names {}, for which there are no weights", listed(missing()));
        summary.warnings.push(("TargetWithoutWeights", message));
    }
    if let Some(module) = untargeted {
        let message = format!("module `{}` has weights, but target_modules does not name it", shown(module));
        summary.warnings.push(("WeightsWithoutTarget", message));
    }
    // PEFT makes weights for every layer that it is not told to leave out.
    let all = base.and_then(BaseShapes::layers).filter(|_| config.layers.is_none() && config.excluded.is_empty());
    let is_part = |(_, layers): &(&&str, &BTreeSet<u64>)| {
        all.is_some_and(|all| !layers.is_empty() && (layers.len() as u64) < all)
    };
    if let (Some((target, layers)), Some(all)) = (found.iter().find(is_part), all) {
        let message = format!("{} has weights in {} of the base model's {all} layers", shown(target), layers.len());
        summary.warnings.push(("LayersWithoutWeights", message));
    }
    Ok(())
}

/// A pattern matches whole names. Where one is not evaluated, nothing is known.
fn check_pattern(pairs: &Pairs<'_>, pattern_text: &str, summary: &mut Summary) -> Result<(), Defect> {
    let (pattern, fuel) = (Pattern::whole(pattern_text), Fuel::default());
    match pattern {
        Pattern::Compiled(_) => {}
        Pattern::Explodes => {
            return Err(Defect::TargetsInvalid {
                problem: "is a regular expression that repeats repetitions without end",
            });
        }
        Pattern::Unknown => {
            let message =
                "target_modules is a regular expression that is too long, or of a kind that is not evaluated here";
            summary.warnings.push(("PatternNotEvaluated", message.into()));
        }
    }
    let (mut matched, mut other) = (false, None);
    for module in pairs.keys().copied() {
        match pattern.matches(module, &fuel) {
            // Parameters of fused experts are not modules, and are named elsewhere.
            _ if module.contains(".experts") => matched = true,
            Some(true) => matched = true,
            Some(false) => other = other.or(Some(module)),
            None => return Ok(()),
        }
    }
    if !matched && !summary.targets.iter().any(|leaf| pattern_text.contains(leaf.as_str())) {
        return Err(other_adapter(shown(pattern_text), summary));
    }
    // Tools that rename modules when they save leave the pattern as it was.
    if let Some(module) = other {
        let message = format!("module `{}` has weights, but target_modules does not match it", shown(module));
        summary.warnings.push(("WeightsWithoutTarget", message));
    }
    Ok(())
}

fn other_adapter(targets: String, summary: &Summary) -> Defect {
    let problem =
        format!("has weights for {} only: the two files belong to different adapters", listed(&summary.targets));
    Defect::TargetMismatch { targets, problem }
}
