//! Whether the weights are LoRA pairs that fit their configuration and, where it is known, the base model.

use std::collections::{BTreeMap, BTreeSet};

use super::base::BaseShapes;
use super::config::{AdapterConfig, Targets, ends_with_path};
use super::defect::{Defect, shown};
use super::header::{Header, Tensor};

/// What PEFT puts before every module's name.
const PREFIX: &str = "base_model.model.";

/// What the weights turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The largest rank of any module, and of the configuration.
    pub(crate) rank: u32,
    /// The last parts of the names of the modules that have weights.
    pub(crate) targets: BTreeSet<String>,
    /// Things that are odd but not wrong.
    pub(crate) warnings: Vec<(&'static str, String)>,
}

/// Which half of a pair a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    A,
    B,
}

/// The pair of one module.
#[derive(Default)]
struct Pair<'a> {
    a: Option<&'a Tensor>,
    b: Option<&'a Tensor>,
}

/// Holds the weights against the configuration and the base model.
pub(crate) fn check(header: &Header, config: &AdapterConfig, base: Option<&BaseShapes>) -> Result<Summary, Defect> {
    let pairs = pair_up(header, config)?;
    let mut summary = Summary { rank: config.max_rank(), ..Summary::default() };
    for (module, pair) in &pairs {
        let (a, b) = match (pair.a, pair.b) {
            (Some(a), Some(b)) => (a, b),
            (Some(_), None) => return Err(Defect::PairIncomplete { module: shown(module), missing: "lora_B" }),
            (None, _) => return Err(Defect::PairIncomplete { module: shown(module), missing: "lora_A" }),
        };
        let (input, output) = check_pair(module, a, b, config)?;
        if let Some(base) = base {
            base.check(module, input, output)?;
        }
        summary.targets.insert(leaf(module).to_owned());
    }
    check_targets(&pairs, config, base, &mut summary)?;
    Ok(summary)
}

/// Finds the two halves of each module.
fn pair_up<'a>(header: &'a Header, config: &AdapterConfig) -> Result<BTreeMap<&'a str, Pair<'a>>, Defect> {
    let mut pairs: BTreeMap<&str, Pair<'_>> = BTreeMap::new();
    for tensor in &header.tensors {
        if is_passed_over(&tensor.name, config) {
            continue;
        }
        let Some((module, half)) = parse_name(&tensor.name) else {
            return Err(Defect::UnsupportedTensor { tensor: shown(&tensor.name), advice: advice_for(&tensor.name) });
        };
        let pair = pairs.entry(module).or_default();
        let slot = if half == Half::A { &mut pair.a } else { &mut pair.b };
        if slot.replace(tensor).is_some() {
            let problem = "is there under two names".into();
            return Err(Defect::TensorInvalid { tensor: shown(&tensor.name), problem });
        }
    }
    if pairs.is_empty() {
        let problem = "it holds no LoRA weights".into();
        return Err(Defect::WeightsInvalid { file: crate::digest::WEIGHTS.into(), problem });
    }
    Ok(pairs)
}

/// Module and half of a tensor, by the names that engines know.
fn parse_name(name: &str) -> Option<(&str, Half)> {
    const ENDS: [(&str, Half); 4] = [
        (".lora_A.weight", Half::A),
        (".lora_B.weight", Half::B),
        (".lora_embedding_A", Half::A),
        (".lora_embedding_B", Half::B),
    ];
    let (module, half) = ENDS.into_iter().find_map(|(end, half)| Some((name.strip_suffix(end)?, half)))?;
    let module = module.strip_prefix(PREFIX).unwrap_or(module);
    (!module.is_empty()).then_some((module, half))
}

/// Tensors that engines take, or leave, without a partner: whole classifier heads that the configuration names, and the
/// base model's own embeddings, which PEFT saves along where they are a target.
fn is_passed_over(name: &str, config: &AdapterConfig) -> bool {
    if name.ends_with(".embed_tokens.base_layer.weight") || name.ends_with(".lm_head.base_layer.weight") {
        return true;
    }
    let module = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".bias"));
    module.is_some_and(|module| config.whole_modules.iter().any(|whole| ends_with_path(module, whole)))
}

/// What to do about a tensor that is neither half.
fn advice_for(name: &str) -> &'static str {
    if name.contains("lora_magnitude_vector") {
        "it belongs to DoRA, which engines do not support"
    } else if name.ends_with(".bias") {
        "biases are not supported; train with bias=\"none\""
    } else if name.contains(".lora_A.") || name.contains(".lora_B.") {
        "the file holds a raw state_dict; save the adapter with save_pretrained()"
    } else if name.contains("modules_to_save") {
        "modules that are saved whole are not supported"
    } else {
        "save the adapter, and only the adapter, with save_pretrained()"
    }
}

/// The last part of a module's name. `base_layer` only says that PEFT wraps the module twice.
fn leaf(module: &str) -> &str {
    let module = module.strip_suffix(".base_layer").unwrap_or(module);
    module.rsplit('.').next().unwrap_or(module)
}

/// Shapes, types and rank of one pair. Returns its input and output features.
fn check_pair(module: &str, a: &Tensor, b: &Tensor, config: &AdapterConfig) -> Result<(u64, u64), Defect> {
    let wrong = |tensor: &Tensor, problem: String| Defect::TensorInvalid { tensor: shown(&tensor.name), problem };
    for tensor in [a, b] {
        if !tensor.dtype.is_weight() {
            return Err(wrong(tensor, format!("has type {:?}, which is no type of weight", tensor.dtype)));
        }
        if tensor.shape.len() != 2 || tensor.shape.contains(&0) {
            return Err(wrong(tensor, format!("has shape {:?} instead of two dimensions", tensor.shape)));
        }
    }
    let (rank, input, output) = (a.shape[0], a.shape[1], b.shape[0]);
    if b.shape[1] != rank {
        let problem = format!("has shape {:?}, which does not fit lora_A's {:?}", b.shape, a.shape);
        return Err(wrong(b, problem));
    }
    // The experts of a fused layer are one module whose rank is counted once for each expert. PEFT matches patterns
    // against the parameters' own names.
    let (named, fused) = match module.strip_suffix(".experts.base_layer") {
        Some(layer) => (format!("{layer}.experts.gate_up_proj"), true),
        None if module.ends_with(".experts") => (format!("{module}.down_proj"), true),
        None => (module.to_owned(), false),
    };
    let allowed = config.ranks_of(&named);
    let fits = |r: &u32| if fused { rank % u64::from(*r) == 0 } else { rank == u64::from(*r) };
    if !allowed.iter().any(fits) {
        let expected: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        return Err(Defect::RankMismatch { module: shown(module), found: rank, expected: expected.join(" or ") });
    }
    Ok((input, output))
}

/// Holds `target_modules` against the modules that have weights.
///
/// PEFT lets a configuration name modules that the base model does not have, so one name without weights is no defect by
/// itself. It is one where no name has any, and where the base model is known to have the module.
fn check_targets(
    pairs: &BTreeMap<&str, Pair<'_>>,
    config: &AdapterConfig,
    base: Option<&BaseShapes>,
    summary: &mut Summary,
) -> Result<(), Defect> {
    // A pattern would need PEFT's own regular expressions; the weights say what it matched.
    let Targets::List(targets) = &config.targets else { return Ok(()) };
    let matches =
        |target: &String, module: &str| ends_with_path(module.strip_suffix(".base_layer").unwrap_or(module), target);
    let missing: Vec<&String> =
        targets.iter().filter(|target| !pairs.keys().any(|module| matches(target, module))).collect();
    let names = |missing: &[&String]| missing.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    if !targets.is_empty() && missing.len() == targets.len() {
        let have: Vec<&str> = summary.targets.iter().map(String::as_str).take(8).collect();
        let problem =
            format!("has weights for {} only: the two files belong to different adapters", shown(&have.join(", ")));
        return Err(Defect::TargetMismatch { targets: names(&missing), problem });
    }
    let lost: Vec<&String> =
        missing.iter().copied().filter(|target| base.is_some_and(|base| base.has_leaf(leaf(target)))).collect();
    if !lost.is_empty() {
        let problem = "has no weights for it: the file is incomplete; save the adapter again".into();
        return Err(Defect::TargetMismatch { targets: names(&lost), problem });
    }
    if !missing.is_empty() {
        let message = format!("target_modules names {}, for which there are no weights", names(&missing));
        summary.warnings.push(("TargetWithoutWeights", message));
    }
    let untargeted =
        |module: &&str| !targets.iter().any(|target| matches(target, module)) && !module.contains(".experts");
    if let Some(module) = pairs.keys().copied().find(|module| untargeted(module)) {
        let message = format!("module `{}` has weights, but target_modules does not name it", shown(module));
        summary.warnings.push(("WeightsWithoutTarget", message));
    }
    Ok(())
}
