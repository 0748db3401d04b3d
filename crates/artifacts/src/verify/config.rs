//! `adapter_config.json`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::LFS;
use super::defect::{Defect, said, shown};
use super::pattern::is_harmless;
use crate::digest::CONFIG;

/// Real ones have 2 KiB; one with a rank for each module of a large model, 100 KiB.
pub(crate) const MAX_CONFIG: usize = 1 << 20;
/// `init_lora_weights` that change only the adapter. The others (PiSSA, OLoRA, CorDA, LoftQ) change the base model's
/// weights too, so that their adapters fit no base model that an engine serves. The list is vLLM 0.32's.
const PLAIN_INITS: [&str; 5] = ["gaussian", "eva", "orthogonal", "mica", "lora_ga"];
/// No linear layer is wider, and vLLM's largest `--max-lora-rank` is 512.
const MAX_RANK: u32 = 1 << 16;
/// The largest number of float16: engines multiply the weights by the scale in their own type, where a larger one is
/// infinite.
const MAX_SCALE: f64 = 65504.0;
/// The modules that engines take whole, for classification (vLLM 0.32).
const WHOLE_MODULES: [&str; 2] = ["score", "classifier"];

/// What matters of `adapter_config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// The rank, at least 1.
    pub rank: u32,
    /// The numerator of the scale.
    pub alpha: f64,
    /// The modules that it was trained for.
    pub targets: Targets,
    /// Ranks of single modules, by a pattern for their names.
    pub rank_pattern: BTreeMap<String, u32>,
    /// Alphas of single modules, by a pattern for their names.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Whether the scale is alpha by the root of the rank (rsLoRA) instead of by the rank.
    pub rank_stabilized: bool,
    /// The only layers that were trained, where not all of them were.
    pub layers: Option<BTreeSet<u64>>,
    /// Names of modules that were left out, each of which stands for every module that ends with it.
    pub excluded: BTreeSet<String>,
    /// The modules that are saved whole: `score` and `classifier` at most.
    pub whole_modules: BTreeSet<String>,
    /// What it says that it was trained on: often a path on the trainer's machine.
    pub base_model: Option<String>,
    /// Things that are odd but not wrong, as (reason, message).
    pub warnings: Vec<(&'static str, String)>,
}

/// `target_modules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Names, each of which stands for every module that ends with it.
    List(BTreeSet<String>),
    /// Every linear layer but the last one: `all-linear`.
    AllLinear,
    /// A regular expression for the whole name of a module.
    Pattern(String),
}

impl AdapterConfig {
    /// Parses the file.
    ///
    /// Takes memory in proportion to `json`, and refuses what is larger than 1 MiB.
    ///
    /// # Errors
    /// [`Defect::ConfigInvalid`], [`Defect::RankInvalid`], [`Defect::AlphaInvalid`] or [`Defect::TargetsInvalid`] where
    /// engines would refuse it, [`Defect::Unsupported`] where it asks for what they do not implement.
    pub fn parse(json: &[u8]) -> Result<Self, Defect> {
        let invalid = |problem: String| Defect::ConfigInvalid { problem };
        if json.len() > MAX_CONFIG {
            return Err(invalid(format!("it is larger than {MAX_CONFIG} bytes")));
        }
        if json.starts_with(LFS) {
            return Err(Defect::LfsPointer { file: CONFIG.into() });
        }
        let value: Value = serde_json::from_slice(json).map_err(|error| invalid(said(&error)))?;
        let Value::Object(fields) = value else { return Err(invalid("not a JSON object".into())) };
        let fields = Fields(&fields);
        let mut warnings = Vec::new();

        match fields.text("peft_type")? {
            Some(kind) if kind.eq_ignore_ascii_case("lora") => {}
            Some(kind) => {
                let feature = format!("peft_type {}", shown(kind));
                return Err(unsupported("NotLora", feature, "engines load LoRA adapters only"));
            }
            None => warnings.push(("PeftTypeMissing", "adapter_config.json has no peft_type; LORA is assumed".into())),
        }
        fields.refuse_what_engines_lack()?;

        let config = Self {
            rank: rank("r", fields.0.get("r"))?,
            alpha: alpha("lora_alpha", fields.0.get("lora_alpha"))?,
            targets: fields.targets()?,
            rank_pattern: fields.pattern("rank_pattern", rank)?,
            alpha_pattern: fields.pattern("alpha_pattern", alpha)?,
            rank_stabilized: fields.flag("use_rslora")?,
            layers: fields.layers()?,
            excluded: fields.excluded(),
            whole_modules: fields.whole_modules()?,
            base_model: fields.text("base_model_name_or_path")?.filter(|name| !name.is_empty()).map(shown),
            warnings,
        };
        config.check_scales()?;
        Ok(config.with_warnings())
    }

    /// What the product of a pair is multiplied by.
    fn scale(&self, rank: u32, alpha: f64) -> f64 {
        let rank = f64::from(rank);
        alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }

    /// Refuses scales that make a small weight infinite, and so every answer noise.
    fn check_scales(&self) -> Result<(), Defect> {
        // Which patterns meet in one module is not known here, so that each alpha has the benefit of the largest rank.
        let others = self.alpha_pattern.values().map(|alpha| ("alpha_pattern", *alpha));
        for (name, alpha) in [("lora_alpha", self.alpha)].into_iter().chain(others) {
            if self.scale(self.max_rank(), alpha).abs() > MAX_SCALE {
                let problem = format!("`{name}` {alpha:e} makes a scale above {MAX_SCALE}, which float16 cannot hold");
                return Err(Defect::AlphaInvalid { problem });
            }
        }
        Ok(())
    }

    fn with_warnings(mut self) -> Self {
        if self.alpha == 0.0 {
            self.warnings.push(("NoEffect", "lora_alpha is 0, so the adapter changes nothing".into()));
        } else if self.alpha < 0.0 {
            let message = "lora_alpha is negative, so the adapter does the opposite of what it learned".into();
            self.warnings.push(("NegativeScale", message));
        }
        if !self.rank_pattern.is_empty() || !self.alpha_pattern.is_empty() {
            let message = "ranks or alphas differ by module, which older engines ignore (vLLM 0.11 does): the adapter is \
                           then scaled wrongly";
            self.warnings.push(("PatternsNeedRecentEngine", message.into()));
        }
        if !self.whole_modules.is_empty() {
            let message = "modules_to_save needs a recent engine that serves the model for classification; vLLM 0.11 \
                           refuses it";
            self.warnings.push(("WholeModulesNeedRecentEngine", message.into()));
        }
        self
    }

    /// The largest rank that it speaks of: what an engine holds against its limit.
    pub(crate) fn max_rank(&self) -> u32 {
        self.rank_pattern.values().copied().fold(self.rank, u32::max)
    }
}

/// Whether `path` is `tail` or ends with `.` and `tail`.
pub(crate) fn ends_with_path(path: &str, tail: &str) -> bool {
    path.strip_suffix(tail).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn unsupported(reason: &'static str, feature: String, advice: &'static str) -> Defect {
    Defect::Unsupported { reason, feature, advice }
}

/// A rank under the key `name`.
fn rank(name: &str, value: Option<&Value>) -> Result<u32, Defect> {
    let invalid = |problem: &str| Defect::RankInvalid { problem: format!("`{}` {problem}", shown(name)) };
    let rank = value.ok_or_else(|| invalid("is missing"))?.as_u64().and_then(|rank| u32::try_from(rank).ok());
    rank.filter(|rank| (1..=MAX_RANK).contains(rank))
        .ok_or_else(|| invalid(&format!("is not a whole number from 1 to {MAX_RANK}")))
}

/// An alpha under the key `name`.
fn alpha(name: &str, value: Option<&Value>) -> Result<f64, Defect> {
    let invalid = |problem: &str| Defect::AlphaInvalid { problem: format!("`{}` {problem}", shown(name)) };
    value.ok_or_else(|| invalid("is missing"))?.as_f64().ok_or_else(|| invalid("is not a number"))
}

/// The fields of the object. `null` is the same as absent, as it is in PEFT.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, Defect> {
        self.typed(name, "a text", Value::as_str)
    }

    fn flag(&self, name: &str) -> Result<bool, Defect> {
        Ok(self.typed(name, "true or false", Value::as_bool)?.unwrap_or_default())
    }

    fn typed<T>(&self, name: &str, kind: &str, get: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, Defect> {
        let wrong = || Defect::ConfigInvalid { problem: format!("`{name}` is not {kind}") };
        self.get(name).map(|value| get(value).ok_or_else(wrong)).transpose()
    }

    /// Values by the pattern for the modules that they are of.
    fn pattern<T>(
        &self,
        field: &'static str,
        get: impl Fn(&str, Option<&Value>) -> Result<T, Defect>,
    ) -> Result<BTreeMap<String, T>, Defect> {
        let values = self.typed(field, "an object", Value::as_object)?.into_iter().flatten();
        values
            .map(|(key, value)| match is_harmless(key) {
                true => Ok((key.clone(), get(field, Some(value))?)),
                false => Err(Defect::PatternExplodes { field, pattern: shown(key) }),
            })
            .collect()
    }

    fn targets(&self) -> Result<Targets, Defect> {
        let invalid = |problem| Defect::TargetsInvalid { problem };
        match self.get("target_modules") {
            None => Err(invalid("is missing")),
            Some(Value::String(all)) if all.eq_ignore_ascii_case("all-linear") => Ok(Targets::AllLinear),
            Some(Value::String(pattern)) if !pattern.is_empty() => Ok(Targets::Pattern(pattern.clone())),
            // PEFT saves an empty list where single parameters (`target_parameters`) are all that was trained.
            Some(Value::Array(names)) if !names.is_empty() || self.get("target_parameters").is_some() => {
                let names = names.iter().map(|name| name.as_str().filter(|name| !name.is_empty()).map(str::to_owned));
                let names: Option<BTreeSet<String>> = names.collect();
                names.map(Targets::List).ok_or_else(|| invalid("holds something other than names"))
            }
            Some(_) => Err(invalid("is neither a list of names nor a text")),
        }
    }

    fn layers(&self) -> Result<Option<BTreeSet<u64>>, Defect> {
        let number = |value: &Value| value.as_u64();
        self.typed("layers_to_transform", "a layer's number or a list of them", |value| match value {
            Value::Array(layers) => layers.iter().map(number).collect(),
            one => Some(BTreeSet::from([number(one)?])),
        })
    }

    /// `exclude_modules`, as far as it is a list: engines do not read it.
    fn excluded(&self) -> BTreeSet<String> {
        let names = self.get("exclude_modules").and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn whole_modules(&self) -> Result<BTreeSet<String>, Defect> {
        let names = self.typed("modules_to_save", "a list", Value::as_array)?.into_iter().flatten();
        names
            .map(|name| match name.as_str() {
                Some(name) if WHOLE_MODULES.contains(&name) => Ok(name.to_owned()),
                _ => Err(unsupported(
                    "ModulesToSaveUnsupported",
                    format!("modules_to_save: {}", shown(&name.to_string())),
                    "train with LoRA layers only, or merge the module into the base model",
                )),
            })
            .collect()
    }

    /// The features that vLLM refuses (read in 0.32's `peft_helper.py`; DoRA, bias and modules_to_save also seen), and
    /// those that its older versions ignore, so that they serve the adapter wrongly (read in 0.11's).
    fn refuse_what_engines_lack(&self) -> Result<(), Defect> {
        const PLAIN: &str = "train the adapter again as plain LoRA";
        const FEATURE: &str = "FeatureUnsupported";
        match self.get("bias") {
            None => {}
            Some(Value::String(bias)) if bias == "none" => {}
            Some(bias) => {
                let advice = "train the adapter again with bias=\"none\"";
                return Err(unsupported("BiasUnsupported", format!("bias {}", shown(&bias.to_string())), advice));
            }
        }
        for (field, reason, feature) in [
            ("use_dora", "DoraUnsupported", "DoRA"),
            ("lora_bias", "BiasUnsupported", "lora_bias"),
            ("alora_invocation_tokens", FEATURE, "activated LoRA (alora_invocation_tokens)"),
            ("layer_replication", FEATURE, "layer_replication"),
            ("use_bdlora", FEATURE, "block-diagonal LoRA (use_bdlora)"),
            ("use_qalora", FEATURE, "QALoRA"),
            ("trainable_token_indices", FEATURE, "training of single tokens (trainable_token_indices)"),
            // Routes each token to one of several adapters, which have to be loaded with it.
            ("arrow_config", FEATURE, "Arrow routing (arrow_config)"),
        ] {
            if self.get(field).is_some_and(is_truthy) {
                return Err(unsupported(reason, feature.into(), PLAIN));
            }
        }
        match self.get("init_lora_weights") {
            Some(Value::String(init)) if !PLAIN_INITS.iter().any(|plain| init.eq_ignore_ascii_case(plain)) => {
                Err(unsupported(
                    "InitUnsupported",
                    format!("init_lora_weights {}", shown(init)),
                    "it changes the base model's weights too; convert the adapter with PEFT's \
                     path_initial_model_for_weight_conversion",
                ))
            }
            _ => Ok(()),
        }
    }
}

/// What Python takes for true.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(value) => !value.is_empty(),
        Value::Array(value) => !value.is_empty(),
        Value::Object(value) => !value.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(change: impl FnOnce(&mut Map<String, Value>)) -> Result<AdapterConfig, Defect> {
        let mut config = json!({
            "peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "bias": "none",
            "modules_to_save": null, "use_dora": false, "use_rslora": false, "base_model_name_or_path": "org/base"
        });
        change(config.as_object_mut().unwrap());
        AdapterConfig::parse(config.to_string().as_bytes())
    }

    fn with(field: &str, value: Value) -> Result<AdapterConfig, Defect> {
        parse(|config| drop(config.insert(field.into(), value)))
    }

    #[test]
    fn an_ordinary_configuration_is_read() {
        let config = parse(|_| {}).unwrap();
        assert_eq!((config.rank, config.alpha), (8, 16.0));
        assert_eq!(config.targets, Targets::List(["q_proj", "v_proj"].map(String::from).into()));
        assert_eq!(config.base_model.as_deref(), Some("org/base"));
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn what_engines_do_not_implement_is_refused_with_advice() {
        for (field, value, reason) in [
            ("peft_type", json!("IA3"), "NotLora"),
            ("bias", json!("all"), "BiasUnsupported"),
            ("bias", json!(7), "BiasUnsupported"),
            ("use_dora", json!(true), "DoraUnsupported"),
            ("lora_bias", json!(true), "BiasUnsupported"),
            ("modules_to_save", json!(["lm_head"]), "ModulesToSaveUnsupported"),
            ("modules_to_save", json!([7]), "ModulesToSaveUnsupported"),
            ("layer_replication", json!([[0, 4]]), "FeatureUnsupported"),
            ("alora_invocation_tokens", json!([1]), "FeatureUnsupported"),
            ("use_bdlora", json!({"blocks": 2}), "FeatureUnsupported"),
            ("use_qalora", json!(true), "FeatureUnsupported"),
            ("arrow_config", json!({"top_k": 2}), "FeatureUnsupported"),
            ("init_lora_weights", json!("pissa_niter_4"), "InitUnsupported"),
            ("trainable_token_indices", json!([1, 2]), "FeatureUnsupported"),
        ] {
            let defect = with(field, value).unwrap_err();
            assert_eq!(defect.reason(), reason, "{field}: {defect}");
            assert!(defect.to_string().contains("is not supported by engines: "), "{defect}");
        }
    }

    #[test]
    fn what_only_looks_unusual_is_taken() {
        for (field, value) in [
            ("peft_type", json!("lora")),
            ("bias", json!(null)),
            ("use_dora", json!(null)),
            ("modules_to_save", json!([])),
            ("modules_to_save", json!(["score"])),
            ("layer_replication", json!([])),
            ("init_lora_weights", json!(true)),
            ("init_lora_weights", json!("gaussian")),
            ("lora_alpha", json!(8.5)),
            ("target_modules", json!("all-linear")),
            ("unheard_of", json!({"a": [1]})),
        ] {
            assert!(with(field, value).is_ok(), "{field}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for (field, value, reason) in [
            ("r", json!(0), "RankInvalid"),
            ("r", json!(-8), "RankInvalid"),
            ("r", json!(8.0), "RankInvalid"),
            ("r", json!("8"), "RankInvalid"),
            ("r", json!(true), "RankInvalid"),
            ("r", json!(null), "RankInvalid"),
            ("r", json!(65_537), "RankInvalid"),
            ("r", json!(5_000_000_000_u64), "RankInvalid"),
            ("rank_pattern", json!({"q_proj": 0}), "RankInvalid"),
            ("rank_pattern", json!([]), "ConfigInvalid"),
            ("lora_alpha", json!("16"), "AlphaInvalid"),
            ("lora_alpha", json!(null), "AlphaInvalid"),
            ("lora_alpha", json!(1e308), "AlphaInvalid"),
            ("alpha_pattern", json!({"q_proj": "1"}), "AlphaInvalid"),
            ("alpha_pattern", json!({"q_proj": -1e9}), "AlphaInvalid"),
            ("target_modules", json!(null), "TargetsInvalid"),
            ("target_modules", json!(""), "TargetsInvalid"),
            ("target_modules", json!([]), "TargetsInvalid"),
            ("target_modules", json!([1]), "TargetsInvalid"),
            ("target_modules", json!({"q_proj": 1}), "TargetsInvalid"),
            ("layers_to_transform", json!("all"), "ConfigInvalid"),
            ("layers_to_transform", json!([-1]), "ConfigInvalid"),
            ("use_rslora", json!("yes"), "ConfigInvalid"),
            ("peft_type", json!(1), "ConfigInvalid"),
        ] {
            let defect = with(field, value).unwrap_err();
            assert_eq!(defect.reason(), reason, "{field}: {defect}");
            assert!(defect.to_string().contains(&format!("`{field}`")), "{defect}");
        }
        let deep = "[".repeat(100_000);
        for text in ["", "{not json", "[]", "null", "{\"r\": NaN}", "\u{feff}{}", deep.as_str()] {
            assert_eq!(AdapterConfig::parse(text.as_bytes()).unwrap_err().reason(), "ConfigInvalid");
        }
        for field in ["r", "lora_alpha", "target_modules"] {
            let defect = parse(|config| drop(config.remove(field))).unwrap_err();
            assert!(defect.to_string().contains("is missing"), "{field}: {defect}");
        }
    }

    #[test]
    fn rank_stabilized_scales_go_by_the_root_of_the_rank() {
        let large = |stabilized: bool| {
            parse(|config| {
                config.insert("r".into(), json!(16));
                config.insert("lora_alpha".into(), json!(1_000_000));
                config.insert("use_rslora".into(), json!(stabilized));
            })
        };
        large(false).unwrap();
        assert_eq!(large(true).unwrap_err().reason(), "AlphaInvalid");
    }

    #[test]
    fn odd_scales_and_differing_ranks_are_warned_about() {
        for (field, value, warning) in [
            ("lora_alpha", json!(0), "NoEffect"),
            ("lora_alpha", json!(-16), "NegativeScale"),
            ("rank_pattern", json!({"q_proj": 4}), "PatternsNeedRecentEngine"),
            ("alpha_pattern", json!({"q_proj": 4}), "PatternsNeedRecentEngine"),
            ("modules_to_save", json!(["score"]), "WholeModulesNeedRecentEngine"),
        ] {
            let warnings = with(field, value).unwrap().warnings;
            assert_eq!(Vec::from_iter(warnings.iter().map(|(reason, _)| *reason)), [warning], "{field}");
        }
    }
}
