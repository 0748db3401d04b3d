//! Sound adapters for another base model.

use super::Case;
use super::adapter::{Adapter, BASE};

pub fn cases() -> Vec<Case> {
    let against = |base: &str, name: &str, reason, change: fn(&mut Adapter)| Case {
        base: Some(base.into()),
        ..Case::changed(format!("base: {name}"), reason, change)
    };
    let text_only = BASE.replacen('{', r#"{"architectures":["LlamaForCausalLM"],"vocab_size":16,"#, 1);
    let wide = BASE.replace(r#""hidden_size":8"#, r#""hidden_size":16"#);
    let grouped = BASE.replace(r#""num_key_value_heads":1"#, r#""num_key_value_heads":2"#);
    let phi = BASE.replace("llama", "phi3");
    let mixtral = BASE.replace("llama", "mixtral").replacen('{', r#"{"num_local_experts":4,"#, 1);
    let novel = BASE.replace("llama", "novel");
    let large = format!(r#"{{"num_hidden_layers":2,"x":"{}"}}"#, "x".repeat(5 << 20));
    let layer2 = |adapter: &mut Adapter| adapter.add("model.layers.2.self_attn.q_proj", 2, 8, 8, 1);
    vec![
        against(BASE, "a layer too many", "LayerMissing", layer2),
        against(&novel, "a layer too many of an unknown kind", "LayerMissing", layer2),
        against(BASE, "layer 2^63", "LayerMissing", |adapter| {
            adapter.add("model.layers.9223372036854775808.self_attn.q_proj", 2, 8, 8, 1);
        }),
        against(BASE, "layer 2^64", "ModuleMissing", |adapter| {
            adapter.add("model.layers.18446744073709551616.self_attn.q_proj", 2, 8, 8, 1);
        }),
        against(BASE, "layer 01", "ModuleMissing", |adapter| {
            adapter.add("model.layers.01.self_attn.q_proj", 2, 8, 8, 1)
        }),
        against(BASE, "layer +1", "ModuleMissing", |adapter| {
            adapter.add("model.layers.+1.self_attn.q_proj", 2, 8, 8, 1)
        }),
        against(BASE, "a module of another kind of model", "ModuleMissing", |adapter| {
            adapter.add("model.layers.1.self_attn.qkv_proj", 2, 8, 8, 1);
        }),
        against(&phi, "modules that the model has as one", "ModuleMissing", |_| {}),
        against(&text_only, "a module outside the layers", "ModuleMissing", |adapter| {
            adapter.add("model.multi_modal_projector", 2, 8, 8, 1);
        }),
        against(&text_only, "a path", "ModuleMissing", |adapter| adapter.add("../../etc/passwd", 2, 8, 8, 1)),
        against(&text_only, "another class of the model", "ModuleMisplaced", |adapter| {
            adapter.add("layers.1.self_attn.q_proj", 2, 8, 8, 1);
        }),
        against(&text_only, "a model that sees", "ModuleMisplaced", |adapter| {
            adapter.add("model.language_model.layers.1.self_attn.q_proj", 2, 8, 8, 1);
        }),
        against(&text_only, "the prefix twice", "ModuleMisplaced", |adapter| {
            adapter.add("base_model.model.model.layers.1.self_attn.q_proj", 2, 8, 8, 1);
        }),
        against(&wide, "a wider model", "ShapeMismatch", |_| {}),
        against(&grouped, "a model with more heads for keys", "ShapeMismatch", |_| {}),
        against(BASE, "a longer output", "ShapeMismatch", |adapter| {
            adapter.add("model.layers.1.self_attn.q_proj", 2, 8, 9, 1);
        }),
        against(&text_only, "tokens were added to the head", "VocabMismatch", |adapter| {
            adapter.add("lm_head", 2, 8, 17, 1)
        }),
        against(&text_only, "tokens were added to the embeddings", "VocabMismatch", |adapter| {
            adapter.tensor("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 17], 1);
            adapter.tensor("base_model.model.model.embed_tokens.lora_embedding_B", &[8, 2], 1);
        }),
        against(&mixtral, "an expert too many", "ExpertMissing", |adapter| {
            adapter.add("model.layers.0.block_sparse_moe.experts.4.w1", 2, 8, 16, 1);
        }),
        against(&mixtral, "an expert of another size", "ShapeMismatch", |adapter| {
            adapter.add("model.layers.0.block_sparse_moe.experts.3.w2", 2, 8, 16, 1);
        }),
        against(BASE, "a target whose weights were lost", "TargetMismatch", |adapter| {
            adapter.set("target_modules", serde_json::json!(["q_proj", "v_proj", "k_proj"]));
        }),
        against("", "no configuration", "BaseInvalid", |_| {}),
        against("{}", "a configuration of nothing", "BaseInvalid", |_| {}),
        against(r#"{"model_type":"llama","num_hidden_layers":-1}"#, "fewer than no layers", "BaseInvalid", |_| {}),
        against(&"[".repeat(100_000), "a deep configuration", "BaseInvalid", |_| {}),
        against(&large, "a large configuration", "BaseInvalid", |_| {}),
    ]
}
