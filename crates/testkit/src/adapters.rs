//! Tiny LoRA adapters, made without Python: valid ones, and one of each kind of broken one.
//!
//! The valid ones load in a real vLLM that serves the tiny model and change its answers. The same recipe always gives
//! the same bytes, so their digests can be written down.

mod safetensors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::{Value, json};

use crate::tiny::{self, Shape};
use safetensors::Tensor;

/// The weights of an adapter.
pub const WEIGHTS: &str = "adapter_model.safetensors";
/// Its configuration, in the form of the PEFT library.
pub const CONFIG: &str = "adapter_config.json";
/// Every projection of the tiny model that an adapter may change.
pub const ALL_TARGETS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// What to make.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterRecipe {
    /// Rank of the two factors.
    pub rank: usize,
    /// Where the pseudo-random weights start; another seed is another adapter.
    pub seed: u64,
    /// Standard deviation of the weights: 0 makes an adapter that changes nothing, 0.5 one that changes every answer.
    pub scale: f32,
    /// The base model that it is made for.
    pub shape: Shape,
    /// The projections that it changes, among [`ALL_TARGETS`].
    pub targets: Vec<String>,
    /// `base_model_name_or_path` in its configuration.
    pub base_model: String,
    /// What is wrong with it.
    pub flaw: Flaw,
}

impl Default for AdapterRecipe {
    fn default() -> Self {
        Self {
            rank: 8,
            seed: 1,
            scale: 0.5,
            shape: Shape::TINY,
            targets: ALL_TARGETS.map(String::from).to_vec(),
            base_model: tiny::NAME.to_owned(),
            flaw: Flaw::None,
        }
    }
}

impl AdapterRecipe {
    /// A valid adapter of rank 8 with this seed.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// The same with this flaw.
    pub fn with(self, flaw: Flaw) -> Self {
        Self { flaw, ..self }
    }
}

/// What may be wrong with an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Tensors for a base of twice the width. Engines refuse it.
    WrongBase,
    /// Tensors for a base of half the width. vLLM loads it and answers nonsense.
    SmallerBase,
    /// Tensors for twice as many layers. vLLM loads it and ignores them.
    MoreLayers,
    /// No `adapter_config.json`.
    NoConfig,
    /// No weights.
    NoWeights,
    /// The weights begin with bytes that are no header.
    CorruptWeights,
    /// The weights end too early.
    TruncatedWeights,
    /// `adapter_config.json` is not JSON.
    BadConfig,
    /// `use_dora` is set.
    Dora,
    /// `bias` is `all`.
    BiasAll,
    /// `modules_to_save` names `lm_head`.
    ModulesToSave,
    /// `target_modules` names a module that no tensor belongs to. vLLM loads it.
    UnknownTarget,
    /// A tensor belongs to a module that the base does not have. Engines refuse it.
    UnknownTensor,
    /// The configuration says twice the rank that the tensors have. vLLM loads it.
    RankLies,
    /// Every weight is NaN. vLLM loads it.
    Nan,
    /// `use_rslora` is set: no flaw to vLLM, which scales by another rule.
    RsLora,
}

/// The named adapters that the contract suite and the samples use: directory name and recipe.
pub fn fixtures() -> Vec<(&'static str, AdapterRecipe)> {
    let seeded = AdapterRecipe::seeded;
    let rank = |rank, seed| AdapterRecipe { rank, ..seeded(seed) };
    vec![
        ("r8-a", seeded(1)),
        ("r8-b", seeded(2)),
        ("r8-c", seeded(3)),
        ("r8-d", seeded(4)),
        ("r8-e", seeded(5)),
        ("r8-f", seeded(6)),
        ("r8-g", seeded(7)),
        ("r8-h", seeded(8)),
        ("r8-a-copy", seeded(1)),
        ("r16", rank(16, 20)),
        ("r64", rank(64, 21)),
        ("attn-only", AdapterRecipe { targets: vec!["q_proj".into(), "v_proj".into()], ..seeded(22) }),
        ("zero", AdapterRecipe { scale: 0.0, ..seeded(23) }),
        ("wrong-base", seeded(24).with(Flaw::WrongBase)),
        ("smaller-base", seeded(25).with(Flaw::SmallerBase)),
        ("more-layers", seeded(26).with(Flaw::MoreLayers)),
        ("no-config", seeded(27).with(Flaw::NoConfig)),
        ("no-weights", seeded(28).with(Flaw::NoWeights)),
        ("corrupt", seeded(29).with(Flaw::CorruptWeights)),
        ("truncated", seeded(30).with(Flaw::TruncatedWeights)),
        ("bad-config", seeded(31).with(Flaw::BadConfig)),
        ("dora", seeded(32).with(Flaw::Dora)),
        ("bias-all", seeded(33).with(Flaw::BiasAll)),
        ("modules-to-save", seeded(34).with(Flaw::ModulesToSave)),
        ("unknown-target", seeded(35).with(Flaw::UnknownTarget)),
        ("unknown-tensor", seeded(36).with(Flaw::UnknownTensor)),
        ("rank-lies", seeded(37).with(Flaw::RankLies)),
        ("nan", seeded(38).with(Flaw::Nan)),
        ("rslora", seeded(39).with(Flaw::RsLora)),
    ]
}

/// Writes every one of [`fixtures`] into a directory of its own below `dir`.
///
/// # Errors
/// What the file system says.
pub fn write_fixtures(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let write_one = |(name, recipe): (&str, AdapterRecipe)| {
        let path = dir.join(name);
        write(&path, &recipe).map(|()| path)
    };
    fixtures().into_iter().map(write_one).collect()
}

/// Writes the adapter of `recipe` into `dir`, which is made where it does not exist.
///
/// # Errors
/// What the file system says.
pub fn write(dir: &Path, recipe: &AdapterRecipe) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    if recipe.flaw != Flaw::NoWeights {
        fs::write(dir.join(WEIGHTS), weights(recipe))?;
    }
    match recipe.flaw {
        Flaw::NoConfig => Ok(()),
        Flaw::BadConfig => fs::write(dir.join(CONFIG), "{not json"),
        _ => fs::write(dir.join(CONFIG), format!("{:#}\n", config(recipe))),
    }
}

fn config(recipe: &AdapterRecipe) -> Value {
    let flaw = |flaw: Flaw| recipe.flaw == flaw;
    let targets = if flaw(Flaw::UnknownTarget) { vec!["no_such_proj".to_owned()] } else { recipe.targets.clone() };
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": recipe.base_model,
        "r": if flaw(Flaw::RankLies) { 2 * recipe.rank } else { recipe.rank },
        "lora_alpha": 2 * recipe.rank,
        "lora_dropout": 0.0,
        "bias": if flaw(Flaw::BiasAll) { "all" } else { "none" },
        "target_modules": targets,
        "modules_to_save": if flaw(Flaw::ModulesToSave) { json!(["lm_head"]) } else { Value::Null },
        "use_dora": flaw(Flaw::Dora),
        "use_rslora": flaw(Flaw::RsLora),
        "fan_in_fan_out": false,
        "inference_mode": true,
    })
}

fn weights(recipe: &AdapterRecipe) -> Vec<u8> {
    let shape = match recipe.flaw {
        Flaw::WrongBase => doubled(recipe.shape),
        Flaw::SmallerBase => halved(recipe.shape),
        Flaw::MoreLayers => Shape { layers: 2 * recipe.shape.layers, ..recipe.shape },
        _ => recipe.shape,
    };
    let mut random = Normal::new(recipe.seed);
    let mut fill = |rows: usize, columns: usize| {
        let one = |_| if recipe.flaw == Flaw::Nan { f32::NAN } else { random.next() * recipe.scale };
        Tensor { shape: [rows, columns], values: (0..rows * columns).map(one).collect() }
    };
    let mut tensors = BTreeMap::new();
    for layer in 0..shape.layers {
        for target in &recipe.targets {
            let Some((block, width, out)) = shape.projection(target) else { continue };
            let module = format!("base_model.model.model.layers.{layer}.{block}.{target}");
            tensors.insert(format!("{module}.lora_A.weight"), fill(recipe.rank, width));
            tensors.insert(format!("{module}.lora_B.weight"), fill(out, recipe.rank));
        }
    }
    if recipe.flaw == Flaw::UnknownTensor {
        let module = "base_model.model.model.layers.0.self_attn.no_such_proj";
        tensors.insert(format!("{module}.lora_A.weight"), fill(recipe.rank, shape.hidden));
        tensors.insert(format!("{module}.lora_B.weight"), fill(shape.hidden, recipe.rank));
    }
    let mut bytes = safetensors::write(&tensors);
    match recipe.flaw {
        Flaw::CorruptWeights => bytes.iter_mut().take(64).for_each(|byte| *byte = 0xff),
        Flaw::TruncatedWeights => bytes.truncate(bytes.len().saturating_sub(2000)),
        _ => {}
    }
    bytes
}

fn doubled(s: Shape) -> Shape {
    Shape { hidden: 2 * s.hidden, head_dim: 2 * s.head_dim, intermediate: 2 * s.intermediate, ..s }
}

fn halved(s: Shape) -> Shape {
    Shape { hidden: s.hidden / 2, head_dim: s.head_dim / 2, intermediate: s.intermediate / 2, ..s }
}

/// Normally distributed numbers: the sum of twelve uniform ones less six, from SplitMix64.
///
/// Written out here with additions only, because the bytes of a fixture must not change with the release of a library
/// or with the platform's logarithm.
struct Normal {
    state: u64,
}

impl Normal {
    fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    /// Uniform in [0, 1), in steps of 2^-16, which `f32` holds exactly.
    fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = u16::try_from((z ^ (z >> 31)) >> 48).expect("16 bits are left");
        f32::from(bits) / 65536.0
    }

    fn next(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_recipe_gives_the_same_bytes_and_another_seed_gives_others() {
        let bytes = |seed| weights(&AdapterRecipe::seeded(seed));
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }

    #[test]
    fn the_weights_are_spread_as_a_normal_distribution() {
        let mut random = Normal::new(7);
        let sample: Vec<f32> = (0..20_000).map(|_| random.next()).collect();
        let mean = sample.iter().sum::<f32>() / 20_000.0;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "mean {mean}, variance {variance}");
    }
}
