//! Writes small adapters in PEFT's format.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

pub const WEIGHTS: &str = "adapter_model.safetensors";
pub const CONFIG: &str = "adapter_config.json";

/// The `config.json` of the base model that [`Adapter::tiny`] fits.
#[allow(dead_code, reason = "not every test that includes this file needs it")]
pub const BASE: &str = r#"{"model_type":"llama","hidden_size":8,"intermediate_size":16,"num_hidden_layers":2,
                           "num_attention_heads":2,"num_key_value_heads":1,"head_dim":4}"#;

/// An adapter that can be changed before it is written.
#[derive(Clone)]
pub struct Adapter {
    pub config: Map<String, Value>,
    /// Type, shape and bytes by name.
    pub tensors: BTreeMap<String, (&'static str, Vec<u64>, Vec<u8>)>,
    pub others: Vec<(&'static str, Vec<u8>)>,
}

impl Adapter {
    /// Rank 2 on the queries and values of two layers. Another `seed` gives other weights.
    pub fn tiny(seed: u8) -> Self {
        let config = json!({
            "peft_type": "LORA", "base_model_name_or_path": "org/tiny", "r": 2, "lora_alpha": 4, "bias": "none",
            "target_modules": ["q_proj", "v_proj"], "modules_to_save": null, "use_rslora": false, "use_dora": false
        });
        let Value::Object(config) = config else { unreachable!("it is written as one above") };
        let mut adapter = Self { config, tensors: BTreeMap::new(), others: Vec::new() };
        for layer in 0..2 {
            adapter.add(&format!("model.layers.{layer}.self_attn.q_proj"), 2, 8, 8, seed);
            adapter.add(&format!("model.layers.{layer}.self_attn.v_proj"), 2, 8, 4, seed);
        }
        adapter
    }

    /// Adds both halves of a module.
    pub fn add(&mut self, module: &str, rank: u64, input: u64, output: u64, seed: u8) {
        self.tensor(&format!("base_model.model.{module}.lora_A.weight"), &[rank, input], seed);
        self.tensor(&format!("base_model.model.{module}.lora_B.weight"), &[output, rank], seed);
    }

    /// Adds a float32 tensor.
    pub fn tensor(&mut self, name: &str, shape: &[u64], seed: u8) {
        let elements = shape.iter().product::<u64>();
        let bytes = (0..elements).flat_map(|i| (i as f32 * 0.5 - f32::from(seed)).to_le_bytes()).collect();
        self.tensors.insert(name.into(), ("F32", shape.to_vec(), bytes));
    }

    #[allow(dead_code, reason = "not every test that includes this file needs it")]
    pub fn set(&mut self, field: &str, value: Value) -> &mut Self {
        self.config.insert(field.into(), value);
        self
    }

    /// The bytes of the weights file.
    pub fn weights(&self) -> Vec<u8> {
        let (mut entries, mut data) = (Map::new(), Vec::new());
        entries.insert("__metadata__".into(), json!({"format": "pt"}));
        for (name, (dtype, shape, bytes)) in &self.tensors {
            let offsets = [data.len(), data.len() + bytes.len()];
            entries.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
            data.extend(bytes);
        }
        safetensors(&Value::Object(entries).to_string(), &data)
    }

    /// Every file.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let config = serde_json::to_vec(&self.config).unwrap();
        let mut files = vec![(CONFIG.to_owned(), config), (WEIGHTS.to_owned(), self.weights())];
        files.extend(self.others.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())));
        files
    }

    /// Writes it into the directory `dir`, which is made.
    pub fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        for (name, bytes) in self.files() {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

/// A weights file with this header, padded as the real writer pads it.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut header = header.to_owned();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}
