"""Writes the tiny model: a Llama of two layers with random weights, and its tokenizer. No network, no torch.

    tiny_model.py MERGES DIRECTORY

Its dimensions are those of `Shape::TINY` in crates/testkit/src/tiny.rs, and MERGES is the list that the simulated engine
tokenizes with, so that both count the same tokens.
"""

import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

HIDDEN, LAYERS, HEADS, KV_HEADS, INTERMEDIATE, VOCABULARY = 64, 2, 4, 2, 128, 512
HEAD_DIM = 32  # vLLM's CPU attention refuses 16.
SPECIAL = ["<s>", "</s>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "<s>{% for m in messages %}<|{{ 'assistant' if m['role'] == 'assistant' else 'user' }}|>{{ m['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer(merges):
    """Special tokens, the 256 bytes in the order of the characters that stand for them, then the merges."""
    pairs = [tuple(line.split(" ")) for line in merges.read_text(encoding="utf-8").splitlines()]
    names = SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet()) + [left + right for left, right in pairs]
    result = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=pairs))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens(SPECIAL)
    return result


def weights():
    random = np.random.default_rng(0)

    def normal(*shape):
        return (random.standard_normal(shape) * 0.3).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": normal(VOCABULARY, HIDDEN),
        "lm_head.weight": normal(VOCABULARY, HIDDEN),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
    }
    query, key = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        tensors |= {
            f"{name}.self_attn.q_proj.weight": normal(query, HIDDEN),
            f"{name}.self_attn.k_proj.weight": normal(key, HIDDEN),
            f"{name}.self_attn.v_proj.weight": normal(key, HIDDEN),
            f"{name}.self_attn.o_proj.weight": normal(HIDDEN, query),
            f"{name}.mlp.gate_proj.weight": normal(INTERMEDIATE, HIDDEN),
            f"{name}.mlp.up_proj.weight": normal(INTERMEDIATE, HIDDEN),
            f"{name}.mlp.down_proj.weight": normal(HIDDEN, INTERMEDIATE),
            f"{name}.input_layernorm.weight": np.ones(HIDDEN, np.float32),
            f"{name}.post_attention_layernorm.weight": np.ones(HIDDEN, np.float32),
        }
    return tensors


def main(merges, directory):
    directory.mkdir(parents=True, exist_ok=True)

    def write(name, value):
        (directory / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

    write("config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": VOCABULARY, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
        "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "float32", "attention_bias": False, "mlp_bias": False,
    })
    write("generation_config.json", {"bos_token_id": 0, "eos_token_id": 1})
    write("special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</s>"})
    write("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "model_max_length": 256,
        "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE,
    })
    tokenizer(merges).save(str(directory / "tokenizer.json"))
    save_file(weights(), str(directory / "model.safetensors"), metadata={"format": "pt"})
    print(f"the tiny model is in {directory}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
