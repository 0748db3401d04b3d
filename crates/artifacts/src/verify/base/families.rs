//! The modules of each kind of model: names and shapes as its class in the `transformers` library makes them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{index, size};

type Modules = BTreeMap<&'static str, (u64, u64)>;

/// The modules of a model whose kind is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// Its width.
    pub(super) hidden: u64,
    /// How many tokens it knows.
    pub(super) vocabulary: Option<u64>,
    /// Input and output features by what follows the layer's number; an expert's number is a `*`.
    modules: Modules,
    /// Experts in each layer, where there are any.
    experts: Option<u64>,
    /// Below these, `modules` has every module that there is.
    complete: &'static [&'static str],
}

impl Family {
    /// The modules of a model of this type with these sizes; none where the type is unknown or a size is missing.
    ///
    /// Models that share weights between layers or have layers of different kinds and sizes are left out.
    pub(super) fn of(model_type: &str, config: &Map<String, Value>) -> Option<Self> {
        const ALL: &[&str] = &[""];
        // Experts come as modules or, since version 5 of the library, as single parameters.
        const ATTENTION: &[&str] = &["self_attn."];
        let sizes = Sizes::of(model_type, config)?;
        let mut modules = Modules::new();
        let (experts, complete) = match model_type {
            "llama" | "mistral" | "qwen2" | "qwen3" | "gemma" | "gemma2" | "gemma3_text" | "granite" | "olmo2"
            | "smollm3" => {
                sizes.attention(&mut modules)?;
                sizes.gated(&mut modules, ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"], sizes.inner);
                (None, ALL)
            }
            "starcoder2" => {
                sizes.attention(&mut modules)?;
                modules
                    .extend([("mlp.c_fc", (sizes.hidden, sizes.inner)), ("mlp.c_proj", (sizes.inner, sizes.hidden))]);
                (None, ALL)
            }
            "phi" => {
                sizes.attention(&mut modules)?;
                let out = modules.remove("self_attn.o_proj")?;
                modules.insert("self_attn.dense", out);
                modules.extend([("mlp.fc1", (sizes.hidden, sizes.inner)), ("mlp.fc2", (sizes.inner, sizes.hidden))]);
                (None, ALL)
            }
            "phi3" => {
                let all = sizes.keys?.checked_mul(2)?.checked_add(sizes.queries)?;
                modules.extend([
                    ("self_attn.qkv_proj", (sizes.hidden, all)),
                    ("self_attn.o_proj", (sizes.queries, sizes.hidden)),
                    ("mlp.gate_up_proj", (sizes.hidden, sizes.inner.checked_mul(2)?)),
                    ("mlp.down_proj", (sizes.inner, sizes.hidden)),
                ]);
                (None, ALL)
            }
            "mixtral" => {
                let experts = size(config, &["num_local_experts"])?;
                sizes.attention(&mut modules)?;
                let [gate, down, up] =
                    ["block_sparse_moe.experts.*.w1", "block_sparse_moe.experts.*.w2", "block_sparse_moe.experts.*.w3"];
                sizes.gated(&mut modules, [gate, up, down], sizes.inner);
                modules.insert("block_sparse_moe.gate", (sizes.hidden, experts));
                (Some(experts), ATTENTION)
            }
            "qwen2_moe" | "qwen3_moe" => {
                let experts = size(config, &["num_experts"])?;
                sizes.attention(&mut modules)?;
                // Layers without experts.
                sizes.gated(&mut modules, ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"], sizes.inner);
                let names = ["mlp.experts.*.gate_proj", "mlp.experts.*.up_proj", "mlp.experts.*.down_proj"];
                sizes.gated(&mut modules, names, size(config, &["moe_intermediate_size"])?);
                modules.insert("mlp.gate", (sizes.hidden, experts));
                if let Some(shared) = size(config, &["shared_expert_intermediate_size"]) {
                    let names =
                        ["mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj", "mlp.shared_expert.down_proj"];
                    sizes.gated(&mut modules, names, shared);
                    modules.insert("mlp.shared_expert_gate", (sizes.hidden, 1));
                }
                (Some(experts), ATTENTION)
            }
            _ => return None,
        };
        Some(Self { hidden: sizes.hidden, vocabulary: size(config, &["vocab_size"]), modules, experts, complete })
    }

    /// Input and output features of the module at `path` in a layer.
    pub(super) fn features(&self, path: &str) -> Option<(u64, u64)> {
        match split_expert(path) {
            Some((list, _, rest)) => self.modules.get(format!("{list}*.{rest}").as_str()),
            // What stands for any expert is no name of one.
            None => self.modules.get(path).filter(|_| !path.contains('*')),
        }
        .copied()
    }

    /// The expert that `path` is of and how many there are, where it is beyond them.
    pub(super) fn expert_beyond(&self, path: &str) -> Option<(u64, u64)> {
        let (_, expert, _) = split_expert(path)?;
        self.experts.filter(|experts| expert >= *experts).map(|experts| (expert, experts))
    }

    /// Whether every module there is at such a path is known.
    pub(super) fn is_complete(&self, path: &str) -> bool {
        self.complete.iter().any(|part| path.starts_with(part))
    }

    /// Whether each layer has a module of this name.
    pub(super) fn has_leaf(&self, leaf: &str) -> bool {
        let mut paths = self.modules.keys().filter(|path| self.is_complete(path));
        paths.any(|path| path.rsplit('.').next() == Some(leaf))
    }
}

/// `mlp.experts.3.up_proj` is `mlp.experts.`, 3 and `up_proj`.
fn split_expert(path: &str) -> Option<(&str, u64, &str)> {
    const LIST: &str = ".experts.";
    let at = path.find(LIST)? + LIST.len();
    let (number, rest) = path[at..].split_once('.')?;
    Some((&path[..at], index(number)?, rest))
}

/// The sizes that most models have.
struct Sizes {
    hidden: u64,
    inner: u64,
    /// Features of all queries together.
    queries: u64,
    /// Features of all keys, and of all values; none where the number of their heads is not said.
    keys: Option<u64>,
}

impl Sizes {
    fn of(model_type: &str, config: &Map<String, Value>) -> Option<Self> {
        let get = |name| size(config, &[name]);
        let hidden = get("hidden_size")?;
        let heads = get("num_attention_heads")?;
        // What a model does without the field differs: these divide the width, the others have a number of their own.
        let divides = !matches!(model_type, "gemma" | "gemma2" | "gemma3_text" | "qwen3" | "qwen3_moe");
        let head = get("head_dim").or_else(|| (divides && hidden % heads == 0).then_some(hidden / heads))?;
        // Likewise: these have a key for each query, the others a number of their own.
        let is_plain = matches!(model_type, "llama" | "granite" | "olmo2" | "phi" | "phi3");
        let key_heads = get("num_key_value_heads").or(is_plain.then_some(heads));
        Some(Self {
            hidden,
            inner: get("intermediate_size")?,
            queries: heads.checked_mul(head)?,
            keys: key_heads.and_then(|heads| heads.checked_mul(head)),
        })
    }

    fn attention(&self, modules: &mut Modules) -> Option<()> {
        let keys = self.keys?;
        modules.extend([
            ("self_attn.q_proj", (self.hidden, self.queries)),
            ("self_attn.k_proj", (self.hidden, keys)),
            ("self_attn.v_proj", (self.hidden, keys)),
            ("self_attn.o_proj", (self.queries, self.hidden)),
        ]);
        Some(())
    }

    /// Two layers side by side, the product of which goes through the third.
    fn gated(&self, modules: &mut Modules, [gate, up, down]: [&'static str; 3], inner: u64) {
        modules.extend([(gate, (self.hidden, inner)), (up, (self.hidden, inner)), (down, (inner, self.hidden))]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn family(model_type: &str, changes: &Value) -> Option<Family> {
        let mut config = json!({
            "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16,
            "vocab_size": 512
        });
        let fields = config.as_object_mut().unwrap();
        for (name, value) in changes.as_object().unwrap() {
            fields.insert(name.clone(), value.clone());
        }
        Family::of(model_type, fields)
    }

    #[test]
    fn each_kind_of_model_has_its_modules() {
        let experts = json!({"num_local_experts": 4, "num_experts": 4, "moe_intermediate_size": 24,
                             "shared_expert_intermediate_size": 40});
        for (model_type, path, features) in [
            ("llama", "self_attn.q_proj", (64, 128)),
            ("mistral", "self_attn.k_proj", (64, 32)),
            ("qwen2", "self_attn.v_proj", (64, 32)),
            ("qwen3", "self_attn.o_proj", (128, 64)),
            ("gemma", "mlp.gate_proj", (64, 96)),
            ("gemma2", "mlp.up_proj", (64, 96)),
            ("gemma3_text", "mlp.down_proj", (96, 64)),
            ("starcoder2", "mlp.c_fc", (64, 96)),
            ("phi", "self_attn.dense", (128, 64)),
            ("phi", "mlp.fc2", (96, 64)),
            ("phi3", "self_attn.qkv_proj", (64, 192)),
            ("phi3", "mlp.gate_up_proj", (64, 192)),
            ("mixtral", "block_sparse_moe.gate", (64, 4)),
            ("mixtral", "block_sparse_moe.experts.3.w2", (96, 64)),
            ("mixtral", "block_sparse_moe.experts.0.w3", (64, 96)),
            ("qwen2_moe", "mlp.shared_expert.down_proj", (40, 64)),
            ("qwen2_moe", "mlp.shared_expert_gate", (64, 1)),
            ("qwen3_moe", "mlp.experts.0.up_proj", (64, 24)),
            ("qwen3_moe", "mlp.gate_proj", (64, 96)),
        ] {
            let family = family(model_type, &experts).unwrap();
            assert_eq!(family.features(path), Some(features), "{model_type} {path}");
            assert_eq!(family.expert_beyond(path), None);
        }
        assert_eq!(family("novel", &experts), None);
    }

    #[test]
    fn what_a_kind_of_model_does_not_have_is_known_where_all_of_it_is() {
        let experts = json!({"num_local_experts": 4});
        let (llama, mixtral) = (family("llama", &json!({})).unwrap(), family("mixtral", &experts).unwrap());
        assert!(llama.features("self_attn.qkv_proj").is_none() && llama.is_complete("self_attn.qkv_proj"));
        assert!(mixtral.features("mlp.experts").is_none() && !mixtral.is_complete("mlp.experts"));
        assert!(mixtral.features("block_sparse_moe.experts.*.w1").is_none());
        assert_eq!(mixtral.expert_beyond("block_sparse_moe.experts.4.w1"), Some((4, 4)));
        assert!(llama.has_leaf("up_proj") && mixtral.has_leaf("q_proj") && !mixtral.has_leaf("w1"));
    }

    #[test]
    fn sizes_that_are_not_said_are_not_guessed() {
        let null = |name: &str| json!({ name: null });
        assert_eq!(
            family("llama", &null("num_key_value_heads")).unwrap().features("self_attn.k_proj"),
            Some((64, 128))
        );
        assert_eq!(family("llama", &null("head_dim")).unwrap().features("self_attn.q_proj"), Some((64, 64)));
        assert_eq!(family("mistral", &null("num_key_value_heads")), None);
        assert_eq!(family("gemma", &null("head_dim")), None);
        assert_eq!(family("llama", &null("hidden_size")), None);
        let huge = u64::MAX;
        assert_eq!(family("llama", &json!({"num_attention_heads": huge, "head_dim": 2})), None);
        assert_eq!(family("phi3", &json!({"intermediate_size": huge})), None);
    }
}
