//! Reads and judges an adapter as the engine does: the same order of checks, the same words.
//!
//! What the engine accepts although it is wrong is accepted here too: a rank that lies, more layers than the base has,
//! tensors for a smaller base, NaN.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use longshore_types::Digest;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::config::Version;
use super::python;
use super::weights::{self, Tensor};
use crate::adapters::{CONFIG, WEIGHTS};
use crate::tiny::Shape;

/// Why an adapter was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its directory or configuration does not exist.
    NotFound,
    /// What the engine says about it.
    Invalid(String),
}

impl<T: Into<String>> From<T> for Refusal {
    fn from(message: T) -> Self {
        Self::Invalid(message.into())
    }
}

/// What the engine checks an adapter against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) version: Version,
    pub(super) shape: Shape,
    pub(super) max_rank: usize,
}

/// The digest of the adapter in `dir`, if the engine takes it.
pub(super) fn read(dir: &Path, rules: Rules) -> Result<Digest, Refusal> {
    let path = dir.join(CONFIG);
    let text = fs::read(&path).map_err(|error| file_error(&error, &path))?;
    check_config(&text, rules)?;
    let path = dir.join(WEIGHTS);
    if !path.is_file() {
        let other = ["adapter_model.bin", "adapter_model.pt"].iter().any(|name| dir.join(name).is_file());
        return Err(if other {
            "the simulated engine reads safetensors files only".into()
        } else {
            format!("{} doesn't contain tensors", dir.display()).into()
        });
    }
    let bytes = fs::read(&path).map_err(|error| file_error(&error, &path))?;
    let tensors =
        weights::read(&bytes).map_err(|why| Refusal::from(format!("Error while deserializing header: {why}")))?;
    drop(bytes);
    check_tensors(&tensors, dir, rules)?;
    digest(dir).map_err(|error| file_error(&error, dir))
}

fn file_error(error: &io::Error, path: &Path) -> Refusal {
    if error.kind() == ErrorKind::NotFound {
        return Refusal::NotFound;
    }
    // Python's words for the error numbers that occur here; Rust's differ only by the number behind them.
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let number = error.raw_os_error().unwrap_or_default();
    format!("[Errno {number}] {words}: {}", python::quoted(&path.display().to_string())).into()
}

fn check_config(text: &[u8], rules: Rules) -> Result<(), Refusal> {
    let text = String::from_utf8_lossy(text);
    let config = match python::parse(&text).map_err(|error| error.with_place(&text))? {
        Value::Object(config) => config,
        Value::Array(_) => return Err("list indices must be integers or slices, not str".into()),
        other => return Err(format!("'{}' object does not support item assignment", kind(&other)).into()),
    };
    let missing: Vec<String> = ["r", "lora_alpha", "target_modules"]
        .into_iter()
        .filter(|field| !config.contains_key(*field))
        .map(python::quoted)
        .collect();
    if !missing.is_empty() {
        return Err(format!("Missing required configuration fields: {{{}}}", missing.join(", ")).into());
    }
    let rank = scaling(&config, rules.version)?;
    let mut wrong = unsupported(&config, rules.version);
    let pattern = config.get("rank_pattern").and_then(Value::as_object).filter(|_| rules.version == Version::V0_32_0);
    let rank = pattern.into_iter().flat_map(Map::values).filter_map(Value::as_f64).fold(rank, f64::max);
    if rank > rules.max_rank as f64 {
        wrong.push(format!("LoRA rank {rank} is greater than max_lora_rank {}.", rules.max_rank));
    }
    if config.get("bias").is_some_and(|bias| bias != "none") {
        wrong.push(match rules.version {
            Version::V0_32_0 => "Adapter bias is not supported.".into(),
            Version::V0_11_0 => "Adapter bias cannot be used without bias_enabled.".into(),
        });
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join(" ").into()) }
}

/// The rank, if the scale `lora_alpha / r` can be computed with it.
fn scaling(config: &Map<String, Value>, version: Version) -> Result<f64, Refusal> {
    let (rank, alpha) = (&config["r"], &config["lora_alpha"]);
    let no_division = || {
        let (a, b) = (kind(alpha), kind(rank));
        Refusal::from(format!("unsupported operand type(s) for /: '{a}' and '{b}'"))
    };
    let number = match (rank.as_f64(), version) {
        (Some(number), Version::V0_32_0) if number <= 0.0 => {
            return Err(format!("LoRA rank `r` must be a positive integer, got {rank}.").into());
        }
        (Some(0.0), Version::V0_11_0) => return Err("division by zero".into()),
        (Some(number), _) => number,
        (None, Version::V0_32_0) => {
            return Err(format!("'<=' not supported between instances of '{}' and 'int'", kind(rank)).into());
        }
        (None, Version::V0_11_0) => return Err(no_division()),
    };
    if alpha.is_number() { Ok(number) } else { Err(no_division()) }
}

/// The features that the engine says it does not have.
fn unsupported(config: &Map<String, Value>, version: Version) -> Vec<String> {
    // What Python takes for true.
    let set = |field: &str| match config.get(field) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::Bool(true)) => true,
    };
    let mut wrong = Vec::new();
    if let (true, Some(Value::Array(modules))) = (set("modules_to_save"), config.get("modules_to_save")) {
        let other: Vec<Value> = modules.iter().filter(|m| *m != "classifier" && *m != "score").cloned().collect();
        match version {
            Version::V0_11_0 => wrong.push("vLLM only supports modules_to_save being None.".into()),
            Version::V0_32_0 if other.is_empty() => {}
            Version::V0_32_0 => wrong.push(format!(
                "vLLM only supports modules_to_save being either None or [\"classifier\", \"score\"] for classification \
                 models. Unsupported modules_to_save: {}",
                python::repr(&Value::Array(other))
            )),
        }
    }
    if set("use_dora") {
        wrong.push("vLLM does not yet support DoRA.".into());
    }
    if version == Version::V0_11_0 {
        return wrong;
    }
    for (field, feature) in [
        ("lora_bias", "LoRA bias (lora_bias)"),
        ("alora_invocation_tokens", "Activated LoRA (aLoRA)"),
        ("layer_replication", "layer_replication"),
        ("use_bdlora", "block-diagonal LoRA (BD-LoRA)"),
        ("use_qalora", "QALoRA"),
    ] {
        if set(field) {
            wrong.push(format!("vLLM does not support {feature}."));
        }
    }
    // These only say how the training began; other ones change the base model's own weights.
    const HARMLESS: [&str; 5] = ["gaussian", "eva", "orthogonal", "mica", "lora_ga"];
    if let Some(Value::String(init)) = config.get("init_lora_weights")
        && !HARMLESS.contains(&init.to_lowercase().as_str())
    {
        wrong.push(format!("vLLM does not support init_lora_weights={}.", python::quoted(init)));
    }
    wrong
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// The two factors of one module, as far as the file has them.
#[derive(Default)]
struct Factors<'a> {
    a: Option<&'a Tensor>,
    b: Option<&'a Tensor>,
}

fn check_tensors(tensors: &BTreeMap<String, Tensor>, dir: &Path, rules: Rules) -> Result<(), Refusal> {
    const MODULES: [&str; 9] =
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head", "embed_tokens"];
    let mut modules: BTreeMap<&str, Factors<'_>> = BTreeMap::new();
    for (name, tensor) in tensors {
        let bare = name.strip_prefix("base_model.model.").unwrap_or(name);
        let parts = [
            (".lora_A.weight", true),
            (".lora_B.weight", false),
            (".lora_embedding_A", true),
            (".lora_embedding_B", false),
        ];
        let found = parts.iter().find_map(|(suffix, is_a)| Some((bare.strip_suffix(suffix)?, is_a)));
        let (module, is_a) = found.ok_or_else(|| Refusal::from(format!("{name} is unsupported LoRA weight")))?;
        let factors = modules.entry(module).or_default();
        *(if *is_a { &mut factors.a } else { &mut factors.b }) = Some(tensor);
    }
    let last = |module: &str| module.rsplit('.').next().is_some_and(|last| MODULES.contains(&last));
    let unknown: Vec<String> = modules.keys().filter(|m| !last(m)).map(|m| python::quoted(m)).collect();
    if !unknown.is_empty() {
        let expected = MODULES.map(python::quoted).join(", ");
        let (open, close) = if rules.version == Version::V0_32_0 { ('{', '}') } else { ('[', ']') };
        return Err(format!(
            "While loading {}, expected target modules in {open}{expected}{close} but received [{}]. \
             Please verify that the loaded LoRA module is correct",
            dir.display(),
            unknown.join(", ")
        )
        .into());
    }
    if modules.is_empty() && rules.version == Version::V0_32_0 {
        return Err(String::new().into());
    }
    if modules.values().flat_map(|f| [f.a, f.b]).flatten().any(|tensor| tensor.shape.len() < 2) {
        return Err("tuple index out of range".into());
    }
    if modules.values().any(|f| f.a.is_some() && f.b.is_none()) {
        return Err("unsupported operand type(s) for *=: 'NoneType' and 'float'".into());
    }
    check_shapes(&modules, rules)
}

/// The engine copies each factor into a slot of fixed size: what is larger is refused, what is smaller is taken. A
/// module without the first factor, or that the base does not have, is left out.
fn check_shapes(modules: &BTreeMap<&str, Factors<'_>>, rules: Rules) -> Result<(), Refusal> {
    let order = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    for (layer, target) in (0..rules.shape.layers).flat_map(|layer| order.map(|target| (layer, target))) {
        let Some((block, width, out)) = rules.shape.projection(target) else { continue };
        let Some(factors) = modules.get(format!("model.layers.{layer}.{block}.{target}").as_str()) else { continue };
        let Factors { a: Some(a), b: Some(b) } = factors else { continue };
        for (tensor, slot) in [(a, [rules.max_rank, width]), (b, [out, rules.max_rank])] {
            for dimension in [1, 0] {
                let (have, room) = (tensor.shape[dimension], slot[dimension]);
                if have > room {
                    return Err(format!(
                        "The size of tensor a ({room}) must match the size of tensor b ({have}) at non-singleton \
                         dimension {dimension}"
                    )
                    .into());
                }
            }
        }
    }
    Ok(())
}

/// The digest of the adapter in `dir`, as Longshore's store counts it: over the files that it keeps.
///
/// # Errors
/// What the file system says.
pub fn digest(dir: &Path) -> io::Result<Digest> {
    let kept = |name: &str| {
        name == CONFIG
            || name.ends_with(".safetensors")
            || name.starts_with("tokenizer")
            || matches!(name, "special_tokens_map.json" | "added_tokens.json")
    };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let (Some(name), true) = (entry.file_name().to_str(), entry.path().is_file())
            && kept(name)
        {
            files.insert(name.to_owned(), entry.path());
        }
    }
    let mut whole = Sha256::new();
    for (name, path) in files {
        let bytes = fs::read(path)?;
        let sum = Digest::from_bytes(Sha256::digest(&bytes).into());
        whole.update(format!("{name}\0{}\0{}\n", bytes.len(), sum.hex()));
    }
    Ok(Digest::from_bytes(whole.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::{self, AdapterRecipe, Flaw};

    fn judge(recipe: &AdapterRecipe, version: Version) -> Result<Digest, Refusal> {
        let dir = tempfile::tempdir().unwrap();
        adapters::write(dir.path(), recipe).unwrap();
        read(dir.path(), Rules { version, shape: Shape::TINY, max_rank: 16 })
    }

    #[test]
    fn every_flaw_that_the_engine_sees_is_seen_in_both_versions() {
        use Flaw::*;
        for version in [Version::V0_32_0, Version::V0_11_0] {
            for flaw in [WrongBase, NoConfig, NoWeights, CorruptWeights, TruncatedWeights, BadConfig, Dora, BiasAll] {
                assert!(judge(&AdapterRecipe::default().with(flaw), version).is_err(), "{flaw:?}");
            }
            for flaw in [None, SmallerBase, MoreLayers, UnknownTarget, RankLies, Nan, RsLora] {
                assert!(judge(&AdapterRecipe::default().with(flaw), version).is_ok(), "{flaw:?}");
            }
        }
    }

    #[test]
    fn the_digest_is_that_of_the_kept_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CONFIG), "{}").unwrap();
        let plain = digest(dir.path()).unwrap();
        // sha256 of "adapter_config.json\0" "2\0" "<sha256 of {}>\n".
        assert_eq!(plain.hex(), "d7d2321d982eb5928c096f59468b08a14e5a91899fbe6f9878eecc7ff11c0f42");
        fs::write(dir.path().join("README.md"), "x").unwrap();
        assert_eq!(digest(dir.path()).unwrap(), plain);
        fs::write(dir.path().join("tokenizer.json"), "x").unwrap();
        assert_ne!(digest(dir.path()).unwrap(), plain);
    }
}
