//! The base model's shapes, as far as its `config.json` tells.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::defect::{Defect, shown};

/// Model types whose layers all look the same and have Llama's module names and shapes. Others are checked by their number
/// of layers alone: guessing the shapes of a model that shares weights, mixes experts or widens its queries would refuse
/// good adapters.
const LLAMA_LIKE: [&str; 10] =
    ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "granite", "olmo2", "smollm3"];

/// Sizes of a base model, against which an adapter's modules are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseShapes {
    model_type: String,
    layers: u64,
    /// Input and output features by the end of the module's name; empty where they are not known.
    modules: BTreeMap<&'static str, (u64, u64)>,
}

impl BaseShapes {
    /// Reads the `config.json` beside a base model's weights.
    ///
    /// # Errors
    /// [`Defect::BaseInvalid`] where it is no such file or says nothing about layers.
    pub fn from_config_json(json: &[u8]) -> Result<Self, Defect> {
        let invalid = |problem: String| Defect::BaseInvalid { problem };
        let value: Value = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        let outer = value.as_object().ok_or_else(|| invalid("not a JSON object".into()))?;
        // Models that also see or hear keep what concerns language in an object of its own.
        let text = outer.get("text_config").and_then(Value::as_object).unwrap_or(outer);
        let model_type = text.get("model_type").or_else(|| outer.get("model_type")).and_then(Value::as_str);
        let model_type = model_type.unwrap_or("unknown type");
        let layers = size(text, &["num_hidden_layers", "n_layer", "num_layers"])
            .ok_or_else(|| invalid("it does not say how many layers there are".into()))?;
        let modules = if LLAMA_LIKE.contains(&model_type) { llama_modules(text) } else { None };
        Ok(Self { model_type: shown(model_type), layers, modules: modules.unwrap_or_default() })
    }

    /// Whether the model is known to have modules of this name in each layer.
    pub(crate) fn has_leaf(&self, leaf: &str) -> bool {
        self.modules.keys().any(|path| path.rsplit('.').next() == Some(leaf))
    }

    /// Whether `module` with these features is one of the model's.
    pub(crate) fn check(&self, module: &str, input: u64, output: u64) -> Result<(), Defect> {
        // Towers for images and sound count their layers by themselves.
        if ["vision", "visual", "audio", "image"].iter().any(|tower| module.contains(tower)) {
            return Ok(());
        }
        let Some((layer, path)) = layer_of(module) else { return Ok(()) };
        if layer >= self.layers {
            return Err(Defect::LayerMissing { module: shown(module), layer, layers: self.layers });
        }
        if self.modules.is_empty() {
            return Ok(());
        }
        let Some((expected_input, expected_output)) = self.modules.get(path) else {
            return Err(Defect::ModuleMissing { module: shown(module), model_type: self.model_type.clone() });
        };
        for (side, found, expected) in [("input", input, *expected_input), ("output", output, *expected_output)] {
            if found != expected {
                return Err(Defect::ShapeMismatch { module: shown(module), side, found, expected });
            }
        }
        Ok(())
    }
}

fn size(config: &Map<String, Value>, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| config.get(*name)?.as_u64()).filter(|size| *size > 0)
}

/// The modules of one layer of a Llama-like model.
fn llama_modules(config: &Map<String, Value>) -> Option<BTreeMap<&'static str, (u64, u64)>> {
    let get = |name: &str| size(config, &[name]);
    let hidden = get("hidden_size")?;
    let inner = get("intermediate_size")?;
    let heads = get("num_attention_heads")?;
    let head_dim = get("head_dim").unwrap_or(hidden / heads);
    let queries = heads.checked_mul(head_dim)?;
    let keys = get("num_key_value_heads").unwrap_or(heads).checked_mul(head_dim)?;
    Some(BTreeMap::from([
        ("self_attn.q_proj", (hidden, queries)),
        ("self_attn.k_proj", (hidden, keys)),
        ("self_attn.v_proj", (hidden, keys)),
        ("self_attn.o_proj", (queries, hidden)),
        ("mlp.gate_proj", (hidden, inner)),
        ("mlp.up_proj", (hidden, inner)),
        ("mlp.down_proj", (inner, hidden)),
    ]))
}

/// The number of a module's layer and what follows it: `model.layers.3.mlp.up_proj` is 3 and `mlp.up_proj`.
fn layer_of(module: &str) -> Option<(u64, &str)> {
    ["layers.", "h.", "blocks."].iter().find_map(|list| {
        let at = module.match_indices(list).map(|(at, _)| at).find(|at| *at == 0 || module[..*at].ends_with('.'))?;
        let (number, path) = module[at + list.len()..].split_once('.')?;
        Some((number.parse().ok()?, path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> BaseShapes {
        let config = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,
                         "num_attention_heads":4,"num_key_value_heads":2,"head_dim":32}"#;
        BaseShapes::from_config_json(config.as_bytes()).unwrap()
    }

    #[test]
    fn modules_of_the_model_fit() {
        let base = tiny();
        for (module, input, output) in [
            ("model.layers.0.self_attn.q_proj", 64, 128),
            ("model.layers.1.self_attn.k_proj", 64, 64),
            ("model.layers.1.self_attn.o_proj", 128, 64),
            ("model.layers.1.mlp.down_proj", 128, 64),
            ("lm_head", 64, 512),
            ("model.embed_tokens", 512, 64),
        ] {
            base.check(module, input, output).unwrap();
        }
        assert!(base.has_leaf("q_proj") && !base.has_leaf("lm_head"));
    }

    #[test]
    fn modules_of_another_model_are_named() {
        let base = tiny();
        for (module, input, output, reason) in [
            ("model.layers.0.self_attn.q_proj", 128, 128, "ShapeMismatch"),
            ("model.layers.0.self_attn.q_proj", 64, 64, "ShapeMismatch"),
            ("model.layers.2.self_attn.q_proj", 64, 128, "LayerMissing"),
            ("model.layers.0.self_attn.qkv_proj", 64, 128, "ModuleMissing"),
        ] {
            assert_eq!(base.check(module, input, output).unwrap_err().reason(), reason, "{module}");
        }
    }

    #[test]
    fn of_an_unknown_kind_of_model_only_the_layers_are_checked() {
        let base = BaseShapes::from_config_json(br#"{"model_type":"novel","num_hidden_layers":2}"#).unwrap();
        base.check("model.layers.1.anything", 7, 9).unwrap();
        assert_eq!(base.check("model.layers.2.anything", 7, 9).unwrap_err().reason(), "LayerMissing");
        base.check("model.vision_tower.layers.40.fc1", 7, 9).unwrap();
    }

    #[test]
    fn sizes_of_the_language_model_are_taken_from_inside() {
        let config = r#"{"model_type":"outer","text_config":{"model_type":"llama","hidden_size":8,"intermediate_size":16,
                         "num_hidden_layers":1,"num_attention_heads":2}}"#;
        let base = BaseShapes::from_config_json(config.as_bytes()).unwrap();
        base.check("language_model.model.layers.0.self_attn.k_proj", 8, 8).unwrap();
        assert!(base.check("language_model.model.layers.1.self_attn.k_proj", 8, 8).is_err());
    }

    #[test]
    fn what_is_no_base_configuration_is_refused() {
        for json in ["", "[]", "{}", r#"{"num_hidden_layers":0}"#, r#"{"num_hidden_layers":"2"}"#] {
            assert_eq!(BaseShapes::from_config_json(json.as_bytes()).unwrap_err().reason(), "BaseInvalid", "{json}");
        }
    }
}
