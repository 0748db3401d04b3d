//! Safetensors files whose tensors are no LoRA weights, or not the configuration's.

use serde_json::json;

use super::Case;
use super::adapter::Adapter;

const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";

pub fn cases() -> Vec<Case> {
    let mut cases = names();
    cases.extend(shapes_and_types());
    cases.extend(not_finite());
    cases.extend(against_the_configuration());
    cases
}

fn changed(name: &str, reason: &'static str, change: impl Fn(&mut Adapter) + 'static) -> Case {
    Case::changed(format!("tensors: {name}"), reason, change)
}

fn names() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("the magnitudes of DoRA", format!("{Q}.lora_magnitude_vector")),
        ("the magnitudes of DoRA, as newer versions save them", format!("{Q}.lora_magnitude_vector.weight")),
        ("a bias of lora_B", format!("{Q}.lora_B.bias")),
        ("a bias of the base model", format!("{Q}.bias")),
        ("a raw state_dict", format!("{Q}.lora_A.default.weight")),
        ("a weight of the base model", "model.layers.0.self_attn.q_proj.weight".into()),
        ("a module that is saved whole", "base_model.model.lm_head.modules_to_save.weight".into()),
        ("a head that the configuration does not name", "base_model.model.score.weight".into()),
        ("LoHa", format!("{Q}.hada_w1_a")),
        ("VeRA", "base_model.vera_lambda_b".into()),
        ("Kohya's names", "lora_unet_down_blocks_0.lora_down.weight".into()),
        ("half a name", ".lora_A.weight".into()),
        ("a name with a NUL", format!("{Q}.lora_A.weight\0")),
        ("a name that turns the writing", format!("{Q}\u{202e}.weight")),
    ]
    .into_iter()
    .map(|(name, tensor): (&str, String)| {
        changed(name, "UnsupportedTensor", move |adapter| adapter.tensor(&tensor, &[2, 8], 1))
    })
    .collect();
    cases.extend([
        changed("none", "WeightsEmpty", |adapter| adapter.tensors.clear()),
        changed("the base model's embeddings only", "WeightsEmpty", |adapter| {
            adapter.tensors.clear();
            adapter.tensor("base_model.model.model.embed_tokens.base_layer.weight", &[16, 8], 1);
        }),
        changed("no lora_A", "PairIncomplete", |adapter| drop(adapter.tensors.remove(&format!("{Q}.lora_A.weight")))),
        changed("no lora_B", "PairIncomplete", |adapter| drop(adapter.tensors.remove(&format!("{Q}.lora_B.weight")))),
        changed("no lora_embedding_B", "PairIncomplete", |adapter| {
            adapter.tensor("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 16], 1);
        }),
        changed("one under two names", "TensorDuplicate", |adapter| {
            adapter.tensor("model.layers.0.self_attn.q_proj.lora_A.weight", &[2, 8], 1);
        }),
        changed("an adapter within an adapter", "NestedAdapter", |adapter| {
            adapter.add("model.layers.0.self_attn.q_proj.base_layer", 2, 8, 8, 1);
        }),
    ]);
    cases
}

fn shapes_and_types() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, shape) in [
        ("no dimension", &[][..]),
        ("one dimension", &[16]),
        ("three dimensions", &[2, 2, 4]),
        ("a convolution", &[2, 8, 1, 1]),
        ("rank 0", &[0, 8]),
        ("no input", &[2, 0]),
    ] {
        cases.push(changed(name, "TensorShape", move |adapter| {
            adapter.tensor(&format!("{Q}.lora_A.weight"), shape, 1);
        }));
    }
    cases.push(changed("halves of different ranks", "PairMismatch", |adapter| {
        adapter.tensor(&format!("{Q}.lora_B.weight"), &[8, 3], 1);
    }));
    cases.push(changed("halves that were transposed", "PairMismatch", |adapter| {
        adapter.tensor(&format!("{Q}.lora_A.weight"), &[8, 2], 1);
    }));
    for dtype in ["I32", "U32"] {
        cases.push(changed(&format!("type {dtype}"), "TensorType", move |adapter| {
            adapter.tensors.get_mut(&format!("{Q}.lora_A.weight")).unwrap().0 = dtype;
        }));
    }
    for (dtype, size) in
        [("BOOL", 1), ("U8", 1), ("I8", 1), ("F8_E8M0", 1), ("I16", 2), ("I64", 8), ("U64", 8), ("C64", 8)]
    {
        cases.push(changed(&format!("type {dtype}"), "TensorType", move |adapter| {
            let tensor = (dtype, vec![2, 8], vec![0; 16 * size]);
            adapter.tensors.insert(format!("{Q}.lora_A.weight"), tensor);
        }));
    }
    cases
}

fn not_finite() -> Vec<Case> {
    let bad: [(&str, &'static str, Vec<u8>); 10] = [
        ("NaN in float32", "F32", f32::NAN.to_le_bytes().into()),
        ("infinity in float32", "F32", f32::INFINITY.to_le_bytes().into()),
        ("negative infinity in float32", "F32", f32::NEG_INFINITY.to_le_bytes().into()),
        ("NaN in float64", "F64", f64::NAN.to_le_bytes().into()),
        ("1e300 in float64", "F64", 1e300_f64.to_le_bytes().into()),
        ("NaN in float16", "F16", vec![0x01, 0x7c]),
        ("infinity in float16", "F16", vec![0x00, 0xfc]),
        ("NaN in bfloat16", "BF16", vec![0xc0, 0x7f]),
        ("NaN in float8 E4M3", "F8_E4M3", vec![0x7f]),
        ("infinity in float8 E5M2", "F8_E5M2", vec![0x7c]),
    ];
    bad.map(|(name, dtype, element)| {
        changed(name, "NotFinite", move |adapter| {
            // The last one of the last tensor.
            let name = adapter.tensors.keys().next_back().unwrap().clone();
            let (_, shape, _) = &adapter.tensors[&name];
            let elements = usize::try_from(shape.iter().product::<u64>()).unwrap();
            let bytes = [vec![0; (elements - 1) * element.len()], element.clone()].concat();
            adapter.tensors.insert(name, (dtype, shape.clone(), bytes));
        })
    })
    .into()
}

fn against_the_configuration() -> Vec<Case> {
    let set = |name: &str, reason, field: &'static str, value: serde_json::Value| {
        changed(name, reason, move |adapter| {
            adapter.set(field, value.clone());
        })
    };
    vec![
        set("a rank that lies", "RankMismatch", "r", json!(16)),
        set("a rank pattern that lies", "RankMismatch", "rank_pattern", json!({"q_proj": 4})),
        set("a regular expression for ranks that lies", "RankMismatch", "rank_pattern", json!({r".*\.1\..*v_proj": 4})),
        changed("one module of another rank", "RankMismatch", |adapter| {
            adapter.add("model.layers.1.self_attn.v_proj", 4, 8, 4, 1);
        }),
        set("targets of another adapter", "TargetMismatch", "target_modules", json!(["c_attn"])),
        set("a pattern of another adapter", "TargetMismatch", "target_modules", json!(r".*\.(k|o)_proj")),
        set("100,000 targets of another adapter", "TargetMismatch", "target_modules", {
            json!((0..100_000).map(|n| n.to_string()).collect::<Vec<_>>())
        }),
        set("a pattern that explodes elsewhere", "TargetMismatch", "target_modules", json!("(a+)+$")),
        set("another one", "TargetMismatch", "target_modules", json!("(.*a|.*b|.*c)*!")),
    ]
}
