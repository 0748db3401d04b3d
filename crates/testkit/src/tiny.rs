//! The tiny base model that the simulated engine pretends to serve and the real one serves in tests.

mod tokens;

use std::path::Path;
use std::{fs, io};

use serde_json::json;

pub use tokens::{decode, encode};

/// The name under which the tiny model is served.
pub const NAME: &str = "tiny-base";

/// The dimensions of a decoder with grouped attention, as far as the shapes of an adapter's tensors depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head. The CPU kernels of vLLM refuse 16.
    pub head_dim: usize,
    /// Width inside the feed-forward block.
    pub intermediate: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
}

impl Shape {
    /// The tiny base model.
    pub const TINY: Self =
        Self { hidden: 64, layers: 2, heads: 4, kv_heads: 2, head_dim: 32, intermediate: 128, vocabulary: 512 };

    /// A model of twice the width: adapters for it do not fit [`Shape::TINY`].
    pub const WIDER: Self =
        Self { hidden: 128, layers: 2, heads: 4, kv_heads: 2, head_dim: 64, intermediate: 256, vocabulary: 512 };

    /// Block, input width and output width of a projection; `None` for a name that this architecture does not have.
    pub fn projection(&self, target: &str) -> Option<(&'static str, usize, usize)> {
        let (query, key) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        Some(match target {
            "q_proj" => ("self_attn", self.hidden, query),
            "k_proj" | "v_proj" => ("self_attn", self.hidden, key),
            "o_proj" => ("self_attn", query, self.hidden),
            "gate_proj" | "up_proj" => ("mlp", self.hidden, self.intermediate),
            "down_proj" => ("mlp", self.intermediate, self.hidden),
            _ => return None,
        })
    }

    /// Writes the `config.json` of such a model into `dir`, made where it does not exist. There are no weights beside it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_config(&self, dir: &Path) -> io::Result<()> {
        let config = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 256,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": false,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "torch_dtype": "float32",
            "attention_bias": false,
            "mlp_bias": false,
        });
        fs::create_dir_all(dir)?;
        fs::write(dir.join("config.json"), format!("{config:#}\n"))
    }
}
