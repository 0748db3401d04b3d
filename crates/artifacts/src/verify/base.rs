//! The base model's shapes, as far as its `config.json` tells.

mod families;

use serde_json::{Map, Value};

use super::defect::{Defect, said, shown};
use families::Family;

/// Real ones have 2 KiB; one that lists a quantization for each module, some hundred.
const MAX_BASE: usize = 4 << 20;
/// The part of a model that is neither in a layer nor a tower.
const OUTSIDE: [&str; 2] = ["embed_tokens", "lm_head"];
/// Parts of names of towers for images and sound, which count their layers by themselves.
const TOWERS: [&str; 4] = ["vision", "visual", "audio", "image"];

/// Sizes of a base model, against which an adapter's modules are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseShapes {
    model_type: String,
    /// Unknown where the model is of a kind that counts its layers under another name.
    layers: Option<u64>,
    /// None where the model's kind is not known, or a size is missing.
    family: Option<Family>,
    /// Whether a causal language model is all that it is, so that its layers are at `model.layers` and nowhere else.
    is_text_only: bool,
}

impl BaseShapes {
    /// Reads the `config.json` beside a base model's weights.
    ///
    /// A model of an unknown kind is not guessed at: of such a one, only the number of layers is used.
    ///
    /// # Errors
    /// [`Defect::BaseInvalid`] where it is no such file.
    pub fn from_config_json(json: &[u8]) -> Result<Self, Defect> {
        let invalid = |problem: String| Defect::BaseInvalid { problem };
        if json.len() > MAX_BASE {
            return Err(invalid(format!("it is larger than {MAX_BASE} bytes")));
        }
        let value: Value = serde_json::from_slice(json).map_err(|error| invalid(said(&error)))?;
        let outer = value.as_object().ok_or_else(|| invalid("not a JSON object".into()))?;
        // Models that also see or hear keep what concerns language in an object of its own.
        let text = outer.get("text_config").and_then(Value::as_object).unwrap_or(outer);
        let model_type = text.get("model_type").or_else(|| outer.get("model_type")).and_then(Value::as_str);
        let counts = ["num_hidden_layers", "n_layer", "num_layers", "n_layers"];
        let layers = size(text, &counts);
        if layers.is_none() && (model_type.is_none() || counts.iter().any(|name| text.contains_key(*name))) {
            return Err(invalid("it does not say how many layers there are".into()));
        }
        let family = model_type.and_then(|model_type| Family::of(model_type, text));
        let architectures = outer.get("architectures").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let is_causal = |name: &Value| name.as_str().is_some_and(|name| name.ends_with("ForCausalLM"));
        let is_alone = ["text_config", "vision_config", "audio_config"].iter().all(|part| !outer.contains_key(*part));
        Ok(Self {
            model_type: shown(model_type.unwrap_or("unknown type")),
            layers,
            is_text_only: family.is_some()
                && is_alone
                && !architectures.is_empty()
                && architectures.iter().all(is_causal),
            family,
        })
    }

    /// How many layers it has, where that is known.
    pub(crate) fn layers(&self) -> Option<u64> {
        self.layers
    }

    /// Whether the model is known to have modules of this name in each layer.
    pub(crate) fn has_leaf(&self, leaf: &str) -> bool {
        self.family.as_ref().is_some_and(|family| family.has_leaf(leaf))
    }

    /// What of an adapter cannot be held against this model.
    pub(crate) fn warning(&self) -> Option<(&'static str, String)> {
        let what = match (&self.family, self.layers) {
            (Some(_), _) => return None,
            (None, Some(_)) => "only its number of layers was checked",
            (None, None) => "nothing was checked against it",
        };
        Some((
            "BaseUnknown",
            format!("the base model is of a kind whose shapes are not known ({}): {what}", self.model_type),
        ))
    }

    /// Whether `module` with these features is one of the model's.
    pub(crate) fn check(&self, module: &str, input: u64, output: u64) -> Result<(), Defect> {
        let missing = || Defect::ModuleMissing { module: shown(module), model_type: self.model_type.clone() };
        if !self.is_text_only && TOWERS.iter().any(|tower| module.contains(tower)) {
            return Ok(());
        }
        if self.layers.is_some() && has_odd_layer(module) {
            return Err(missing());
        }
        let Some((layer, path)) = layer_of(module) else {
            let leaf = module.rsplit('.').next().unwrap_or(module);
            return match &self.family {
                Some(family) if OUTSIDE.contains(&leaf) => self.check_vocabulary(family, module, leaf, input, output),
                Some(_) if self.is_text_only => Err(missing()),
                _ => Ok(()),
            };
        };
        if let Some(layers) = self.layers.filter(|layers| layer >= *layers) {
            return Err(Defect::LayerMissing { module: shown(module), layer, layers });
        }
        let Some(family) = &self.family else { return Ok(()) };
        let expected = format!("model.layers.{layer}.{path}");
        if let Some((expert, experts)) = family.expert_beyond(path) {
            return Err(Defect::ExpertMissing { module: shown(module), expert, experts });
        }
        match family.features(path) {
            Some(features) => same_shape(module, (input, output), features)?,
            None if family.is_complete(path) => return Err(missing()),
            None => {}
        }
        if self.is_text_only && module != expected {
            return Err(Defect::ModuleMisplaced { module: shown(module), expected: shown(&expected) });
        }
        Ok(())
    }

    /// The embeddings and the head, which have a side for the model's width and one for its vocabulary.
    fn check_vocabulary(
        &self,
        family: &Family,
        module: &str,
        leaf: &str,
        input: u64,
        output: u64,
    ) -> Result<(), Defect> {
        let is_head = leaf == "lm_head";
        let (width, tokens) = if is_head { (input, output) } else { (output, input) };
        if width != family.hidden {
            let side = if is_head { "input" } else { "output" };
            return Err(Defect::ShapeMismatch { module: shown(module), side, found: width, expected: family.hidden });
        }
        match family.vocabulary {
            Some(expected) if expected != tokens => {
                Err(Defect::VocabMismatch { module: shown(module), found: tokens, expected })
            }
            _ => Ok(()),
        }
    }
}

fn same_shape(module: &str, found: (u64, u64), expected: (u64, u64)) -> Result<(), Defect> {
    for (side, found, expected) in [("input", found.0, expected.0), ("output", found.1, expected.1)] {
        if found != expected {
            return Err(Defect::ShapeMismatch { module: shown(module), side, found, expected });
        }
    }
    Ok(())
}

fn size(config: &Map<String, Value>, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| config.get(*name)?.as_u64()).filter(|size| *size > 0)
}

/// The number of a module's layer and what follows it: `model.layers.3.mlp.up_proj` is 3 and `mlp.up_proj`.
pub(crate) fn layer_of(module: &str) -> Option<(u64, &str)> {
    ["layers.", "h.", "blocks."].iter().find_map(|list| {
        let at = module.match_indices(list).map(|(at, _)| at).find(|at| *at == 0 || module[..*at].ends_with('.'))?;
        let (number, path) = module[at + list.len()..].split_once('.')?;
        Some((index(number)?, path))
    })
}

/// Whether there is something like a layer's number that is none: `01`, `+1`, or one that no computer counts to.
fn has_odd_layer(module: &str) -> bool {
    let follows = module.split('.').zip(module.split('.').skip(1));
    follows.into_iter().any(|(list, number)| {
        list == "layers" && number.starts_with(|c: char| c.is_ascii_digit() || c == '+') && index(number).is_none()
    })
}

/// A place in a list as models write it: no sign, no zero in front.
fn index(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
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
        assert_eq!(base.warning().unwrap().0, "BaseUnknown");
        let base = BaseShapes::from_config_json(br#"{"model_type":"novel","depth":2}"#).unwrap();
        base.check("model.layers.200.anything", 7, 9).unwrap();
        assert!(base.warning().unwrap().1.contains("nothing was checked"));
        assert_eq!(tiny().warning(), None);
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
    fn a_language_model_has_its_layers_in_one_place_only() {
        let config = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,
                         "num_attention_heads":4,"num_key_value_heads":2,"head_dim":32,"vocab_size":512,
                         "architectures":["LlamaForCausalLM"]}"#;
        let base = BaseShapes::from_config_json(config.as_bytes()).unwrap();
        base.check("model.layers.0.self_attn.q_proj", 64, 128).unwrap();
        for (module, reason) in [
            ("layers.0.self_attn.q_proj", "ModuleMisplaced"),
            ("model.language_model.layers.0.self_attn.q_proj", "ModuleMisplaced"),
            ("model.layers.00.self_attn.q_proj", "ModuleMissing"),
            ("model.layers.+0.self_attn.q_proj", "ModuleMissing"),
            ("model.vision_tower.layers.0.self_attn.q_proj", "ModuleMisplaced"),
            ("model.wte", "ModuleMissing"),
        ] {
            assert_eq!(base.check(module, 64, 128).unwrap_err().reason(), reason, "{module}");
        }
    }

    #[test]
    fn embeddings_and_head_have_the_models_width_and_vocabulary() {
        let config = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,
                         "num_attention_heads":4,"vocab_size":512}"#;
        let base = BaseShapes::from_config_json(config.as_bytes()).unwrap();
        for (module, input, output, reason) in [
            ("lm_head", 64, 512, None),
            ("model.embed_tokens", 512, 64, None),
            ("lm_head", 64, 513, Some("VocabMismatch")),
            ("model.embed_tokens", 511, 64, Some("VocabMismatch")),
            ("lm_head", 63, 512, Some("ShapeMismatch")),
            ("model.embed_tokens", 512, 65, Some("ShapeMismatch")),
        ] {
            let found = base.check(module, input, output).err();
            assert_eq!(found.as_ref().map(Defect::reason), reason, "{module} {input} {output}");
        }
    }

    #[test]
    fn what_is_no_base_configuration_is_refused() {
        let large = format!(r#"{{"model_type":"llama","x":"{}"}}"#, "x".repeat(MAX_BASE));
        for json in ["", "[]", "{}", r#"{"num_hidden_layers":0}"#, r#"{"num_hidden_layers":"2"}"#, &large] {
            assert_eq!(BaseShapes::from_config_json(json.as_bytes()).unwrap_err().reason(), "BaseInvalid", "{json}");
        }
    }
}
