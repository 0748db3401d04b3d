//! `adapter_config.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::defect::{Defect, shown};

/// Real ones have 2 KiB; one with a rank for each module of a large model, 100 KiB.
pub(crate) const MAX_CONFIG: usize = 1 << 20;
/// `init_lora_weights` that change only the adapter. The others (PiSSA, OLoRA, CorDA, LoftQ) change the base model's
/// weights too, so that their adapters fit no base model that an engine serves. The list is vLLM 0.32's.
const PLAIN_INITS: [&str; 5] = ["gaussian", "eva", "orthogonal", "mica", "lora_ga"];
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
    /// Whether single modules have an alpha of their own.
    pub has_alpha_pattern: bool,
    /// The modules that are saved whole: `score` and `classifier` at most.
    pub whole_modules: Vec<String>,
    /// What it says that it was trained on: often a path on the trainer's machine.
    pub base_model: Option<String>,
    /// Things that are odd but not wrong, as (reason, message).
    pub warnings: Vec<(&'static str, String)>,
}

/// `target_modules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Names, each of which stands for every module that ends with it.
    List(Vec<String>),
    /// A regular expression, or `all-linear`.
    Pattern(String),
}

impl AdapterConfig {
    /// Parses the file.
    ///
    /// # Errors
    /// [`Defect::ConfigInvalid`] where engines would refuse it, [`Defect::Incompatible`] where it asks for what they do not
    /// implement.
    pub fn parse(json: &[u8]) -> Result<Self, Defect> {
        let invalid = |problem: String| Defect::ConfigInvalid { problem };
        let value: Value = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        let Value::Object(fields) = value else { return Err(invalid("not a JSON object".into())) };
        let fields = Fields(&fields);
        let mut warnings = Vec::new();

        match fields.text("peft_type")? {
            Some(kind) if kind.eq_ignore_ascii_case("lora") => {}
            Some(kind) => {
                return Err(incompatible(format!("peft_type {}", shown(kind)), "engines load LoRA adapters only"));
            }
            None => warnings.push(("PeftTypeMissing", "adapter_config.json has no peft_type; LORA is assumed".into())),
        }
        fields.refuse_what_engines_lack()?;

        let rank = fields.rank("r", fields.0.get("r"))?;
        let alpha = match fields.0.get("lora_alpha") {
            None => return Err(invalid("`lora_alpha` is missing".into())),
            Some(value) => value.as_f64().ok_or_else(|| invalid("`lora_alpha` is not a number".into()))?,
        };
        if alpha == 0.0 {
            warnings.push(("NoEffect", "lora_alpha is 0, so the adapter changes nothing".into()));
        }
        let mut rank_pattern = BTreeMap::new();
        for (key, value) in fields.object("rank_pattern")?.into_iter().flatten() {
            rank_pattern.insert(key.clone(), fields.rank("rank_pattern", Some(value))?);
        }
        let has_alpha_pattern = fields.object("alpha_pattern")?.is_some_and(|patterns| !patterns.is_empty());
        if !rank_pattern.is_empty() || has_alpha_pattern {
            let message = "ranks or alphas differ by module, which older engines ignore (vLLM 0.11 does): the adapter is \
                           then scaled wrongly";
            warnings.push(("PatternsNeedRecentEngine", message.into()));
        }
        Ok(Self {
            rank,
            alpha,
            targets: fields.targets()?,
            rank_pattern,
            has_alpha_pattern,
            whole_modules: fields.whole_modules()?,
            base_model: fields.text("base_model_name_or_path")?.filter(|name| !name.is_empty()).map(shown),
            warnings,
        })
    }

    /// The ranks that `module` may have. A pattern matches the end of a module's name, from a `.` on; where it is more of a
    /// regular expression than that, its rank is allowed for every module, since it is not evaluated here.
    pub(crate) fn ranks_of(&self, module: &str) -> Vec<u32> {
        let literal = |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        let mut ranks = Vec::new();
        let mut named = false;
        for (key, rank) in &self.rank_pattern {
            if !literal(key) {
                ranks.push(*rank);
            } else if ends_with_path(module, key) {
                ranks.push(*rank);
                named = true;
            }
        }
        if !named {
            ranks.push(self.rank);
        }
        ranks.sort_unstable();
        ranks.dedup();
        ranks
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

fn incompatible(feature: String, advice: &'static str) -> Defect {
    Defect::Incompatible { feature, advice }
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

    fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, Defect> {
        self.typed(name, "an object", Value::as_object)
    }

    fn typed<T>(&self, name: &str, kind: &str, get: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, Defect> {
        let wrong = || Defect::ConfigInvalid { problem: format!("`{name}` is not {kind}") };
        self.get(name).map(|value| get(value).ok_or_else(wrong)).transpose()
    }

    fn rank(&self, name: &str, value: Option<&Value>) -> Result<u32, Defect> {
        let invalid = |problem: &str| Defect::ConfigInvalid { problem: format!("`{name}` {problem}") };
        let rank = value.ok_or_else(|| invalid("is missing"))?.as_u64().and_then(|rank| u32::try_from(rank).ok());
        rank.filter(|rank| *rank > 0).ok_or_else(|| invalid("is not a whole number of at least 1"))
    }

    fn targets(&self) -> Result<Targets, Defect> {
        let invalid = |problem: &str| Defect::ConfigInvalid { problem: format!("`target_modules` {problem}") };
        match self.0.get("target_modules") {
            None | Some(Value::Null) => Err(invalid("is missing")),
            Some(Value::String(pattern)) if !pattern.is_empty() => Ok(Targets::Pattern(pattern.clone())),
            // PEFT saves an empty list where single parameters (`target_parameters`) are all that was trained.
            Some(Value::Array(names)) if !names.is_empty() || self.get("target_parameters").is_some() => {
                let names = names.iter().map(|name| name.as_str().filter(|name| !name.is_empty()).map(str::to_owned));
                let names: Option<Vec<String>> = names.collect();
                names.map(Targets::List).ok_or_else(|| invalid("holds something other than names"))
            }
            Some(_) => Err(invalid("is neither a list of names nor a text")),
        }
    }

    fn whole_modules(&self) -> Result<Vec<String>, Defect> {
        let names = self.typed("modules_to_save", "a list", Value::as_array)?.into_iter().flatten();
        names
            .map(|name| match name.as_str() {
                Some(name) if WHOLE_MODULES.contains(&name) => Ok(name.to_owned()),
                _ => Err(incompatible(
                    format!("modules_to_save: {}", shown(&name.to_string())),
                    "train with LoRA layers only, or merge the module into the base model",
                )),
            })
            .collect()
    }

    /// The features that vLLM refuses (read in 0.32's `peft_helper.py`; DoRA, bias and modules_to_save also seen).
    fn refuse_what_engines_lack(&self) -> Result<(), Defect> {
        const PLAIN: &str = "train the adapter again as plain LoRA";
        match self.get("bias") {
            None => {}
            Some(Value::String(bias)) if bias == "none" => {}
            Some(bias) => {
                let advice = "train the adapter again with bias=\"none\"";
                return Err(incompatible(format!("bias {}", shown(&bias.to_string())), advice));
            }
        }
        for (field, feature) in [
            ("use_dora", "DoRA"),
            ("lora_bias", "lora_bias"),
            ("alora_invocation_tokens", "activated LoRA (alora_invocation_tokens)"),
            ("layer_replication", "layer_replication"),
            ("use_bdlora", "block-diagonal LoRA (use_bdlora)"),
            ("use_qalora", "QALoRA"),
            ("trainable_token_indices", "training of single tokens (trainable_token_indices)"),
        ] {
            if self.get(field).is_some_and(is_truthy) {
                return Err(incompatible(feature.into(), PLAIN));
            }
        }
        match self.get("init_lora_weights") {
            Some(Value::String(init)) if !PLAIN_INITS.iter().any(|plain| init.eq_ignore_ascii_case(plain)) => {
                Err(incompatible(
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
        assert_eq!(config.targets, Targets::List(vec!["q_proj".into(), "v_proj".into()]));
        assert_eq!(config.base_model.as_deref(), Some("org/base"));
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn what_engines_do_not_implement_is_refused_with_advice() {
        for (field, value) in [
            ("peft_type", json!("IA3")),
            ("bias", json!("all")),
            ("use_dora", json!(true)),
            ("lora_bias", json!(true)),
            ("modules_to_save", json!(["lm_head"])),
            ("layer_replication", json!([[0, 4]])),
            ("init_lora_weights", json!("pissa_niter_4")),
            ("trainable_token_indices", json!([1, 2])),
        ] {
            let defect = with(field, value).unwrap_err();
            assert_eq!(defect.reason(), "Incompatible", "{field}: {defect}");
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
        for (field, value) in [
            ("r", json!(0)),
            ("r", json!(-8)),
            ("r", json!(8.0)),
            ("r", json!("8")),
            ("r", json!(true)),
            ("r", json!(5_000_000_000_u64)),
            ("lora_alpha", json!("16")),
            ("target_modules", json!(null)),
            ("target_modules", json!([])),
            ("target_modules", json!([1])),
            ("rank_pattern", json!({"q_proj": 0})),
            ("rank_pattern", json!([])),
            ("peft_type", json!(1)),
        ] {
            let defect = with(field, value).unwrap_err();
            assert_eq!(defect.reason(), "ConfigInvalid", "{field}: {defect}");
            assert!(defect.to_string().contains(&format!("`{field}`")), "{defect}");
        }
        let deep = "[".repeat(100_000);
        for text in ["", "{not json", "[]", "null", "{\"r\": NaN}", deep.as_str()] {
            assert_eq!(AdapterConfig::parse(text.as_bytes()).unwrap_err().reason(), "ConfigInvalid");
        }
        for field in ["r", "lora_alpha", "target_modules"] {
            let defect = parse(|config| drop(config.remove(field))).unwrap_err();
            assert!(defect.to_string().contains("is missing"), "{field}: {defect}");
        }
    }

    #[test]
    fn a_rank_pattern_goes_by_the_end_of_the_module_name() {
        let config =
            with("rank_pattern", json!({"q_proj": 4, "layers.1.self_attn.v_proj": 2, "mlp\\..*": 32})).unwrap();
        assert_eq!(config.ranks_of("model.layers.0.self_attn.q_proj"), [4, 32]);
        assert_eq!(config.ranks_of("model.layers.1.self_attn.v_proj"), [2, 32]);
        assert_eq!(config.ranks_of("model.layers.11.self_attn.v_proj"), [8, 32]);
        assert_eq!(config.ranks_of("model.layers.0.self_attn.xq_proj"), [8, 32]);
        assert_eq!(config.max_rank(), 32);
        assert_eq!(config.warnings[0].0, "PatternsNeedRecentEngine");
    }
}
