//! Whether the weights are LoRA pairs that fit their configuration and, where it is known, the base model.

use std::collections::{BTreeMap, BTreeSet};

use super::base::BaseShapes;
use super::config::{AdapterConfig, ends_with_path};
use super::defect::{Defect, listed, shown};
use super::header::{Header, Tensor};
use super::pattern::{Fuel, Ranks};
use super::targets;

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
#[derive(Debug, Default)]
pub(crate) struct Pair<'a> {
    a: Option<&'a Tensor>,
    b: Option<&'a Tensor>,
}

/// The pairs by the names of their modules, as the base model has them.
pub(crate) type Pairs<'a> = BTreeMap<&'a str, Pair<'a>>;

/// Holds the weights against the configuration and the base model.
pub(crate) fn check(header: &Header, config: &AdapterConfig, base: Option<&BaseShapes>) -> Result<Summary, Defect> {
    let pairs = pair_up(header, config)?;
    let mut summary = Summary { rank: config.max_rank(), ..Summary::default() };
    let (ranks, fuel) = (Ranks::of(config), Fuel::default());
    for (module, pair) in &pairs {
        let (a, b) = match (pair.a, pair.b) {
            (Some(a), Some(b)) => (a, b),
            (Some(_), None) => return Err(Defect::PairIncomplete { module: shown(module), missing: "lora_B" }),
            (None, _) => return Err(Defect::PairIncomplete { module: shown(module), missing: "lora_A" }),
        };
        let (input, output) = check_pair(module, a, b)?;
        check_rank(module, a, &ranks, &fuel)?;
        if let Some(base) = base {
            base.check(module, input, output)?;
        }
        summary.targets.insert(leaf(module).to_owned());
    }
    summary.warnings.extend(base.and_then(BaseShapes::warning));
    targets::check(&pairs, config, base, &mut summary)?;
    Ok(summary)
}

/// Finds the two halves of each module.
fn pair_up<'a>(header: &'a Header, config: &AdapterConfig) -> Result<Pairs<'a>, Defect> {
    let mut pairs = Pairs::new();
    for tensor in &header.tensors {
        if is_passed_over(&tensor.name, config) {
            continue;
        }
        let Some((module, half)) = parse_name(&tensor.name) else {
            return Err(Defect::UnsupportedTensor { tensor: shown(&tensor.name), advice: advice_for(&tensor.name) });
        };
        if module.ends_with(".base_layer") && !module.ends_with(".experts.base_layer") {
            return Err(Defect::NestedAdapter { module: shown(module) });
        }
        let pair = pairs.entry(module).or_default();
        let slot = if half == Half::A { &mut pair.a } else { &mut pair.b };
        if slot.replace(tensor).is_some() {
            return Err(Defect::TensorDuplicate { tensor: shown(&tensor.name) });
        }
    }
    if pairs.is_empty() { Err(Defect::WeightsEmpty) } else { Ok(pairs) }
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

/// The last part of a module's name.
pub(crate) fn leaf(module: &str) -> &str {
    let module = module.strip_suffix(".base_layer").unwrap_or(module);
    module.rsplit('.').next().unwrap_or(module)
}

/// Shapes and types of one pair. Returns its input and output features.
fn check_pair(module: &str, a: &Tensor, b: &Tensor) -> Result<(u64, u64), Defect> {
    for tensor in [a, b] {
        if !tensor.dtype.is_weight() {
            return Err(Defect::TensorType { tensor: shown(&tensor.name), dtype: tensor.dtype });
        }
        if tensor.shape.len() != 2 || tensor.shape.contains(&0) {
            return Err(Defect::TensorShape { tensor: shown(&tensor.name), shape: tensor.shape.clone() });
        }
    }
    if a.shape[0] != b.shape[1] {
        return Err(Defect::PairMismatch { module: shown(module), a: a.shape.clone(), b: b.shape.clone() });
    }
    Ok((a.shape[1], b.shape[0]))
}

/// Holds the rank of a module against those that the configuration allows.
fn check_rank(module: &str, a: &Tensor, ranks: &Ranks<'_>, fuel: &Fuel) -> Result<(), Defect> {
    // The experts of a fused layer are one module whose rank is counted once for each expert. PEFT matches patterns
    // against the parameters' own names.
    let (named, fused) = match module.strip_suffix(".experts.base_layer") {
        Some(layer) => (format!("{layer}.experts.gate_up_proj"), true),
        None if module.ends_with(".experts") => (format!("{module}.down_proj"), true),
        None => (module.to_owned(), false),
    };
    let rank = a.shape[0];
    let allowed = ranks.of_module(&named, fuel);
    let fits = |r: &u32| if fused { rank.is_multiple_of(u64::from(*r)) } else { rank == u64::from(*r) };
    if allowed.iter().any(fits) {
        return Ok(());
    }
    let expected = listed(allowed.iter().map(ToString::to_string));
    Err(Defect::RankMismatch { module: shown(module), found: rank, expected })
}
