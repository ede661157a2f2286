"""Tiny random models of every family and what Transformers says of them: `python tests/oracle/models.py tests/golden`.

Beside each folder (one of them in shards) lies what is expected: tokens of a left-padded batch, which are real, their
logits, and greedy completions with a cache.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

SIZE = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZE |= {"num_key_value_heads": 2, "max_position_embeddings": 32, "bos_token_id": None, "eos_token_id": None}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS = {
    "llama": (transformers.LlamaConfig, {**SIZE, "rope_parameters": LLAMA3 | {"original_max_position_embeddings": 16}}),
    "llama_biased": (transformers.LlamaConfig, {**SIZE, "attention_bias": True, "mlp_bias": True, "head_dim": 6}),
    "mistral": (transformers.MistralConfig, {**SIZE, "sliding_window": 3, "head_dim": 4}),
    "qwen2": (transformers.Qwen2Config, {**SIZE, "tie_word_embeddings": True, "use_sliding_window": True}
              | {"sliding_window": 3, "max_window_layers": 1}),
    "qwen3": (transformers.Qwen3Config, {**SIZE, "head_dim": 8, "tie_word_embeddings": True}),
    "gpt2": (transformers.GPT2Config, {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}
             | {"bos_token_id": None, "eos_token_id": None}),
}  # fmt: skip
NEW = 6


def made(name: str, seed: int = 0):
    """A model with weights large enough that every part of it shows in the logits."""
    cls, settings = MODELS[name]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(cls(**settings), attn_implementation="eager").eval()
    with torch.no_grad():
        for path, x in model.named_parameters():
            x.copy_(
                torch.randn_like(x) * (0.3 if x.ndim > 1 else 0.2) + (1.0 if "norm" in path and x.ndim == 1 else 0.0)
            )
    return model


def expected(model) -> dict[str, np.ndarray]:
    """A left-padded batch, its logits, and what greedy decoding writes after it."""
    torch.manual_seed(1)
    tokens = torch.randint(0, 40, (3, 9))
    real = torch.arange(9)[None] >= torch.tensor([0, 4, 7])[:, None]
    with torch.no_grad():
        position = (real.cumsum(1) - 1).clamp(min=0)
        logits = model(tokens, attention_mask=real.long(), position_ids=position).logits
        written = model.generate(
            tokens, attention_mask=real.long(), max_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=None
        )
    out = {"tokens": tokens.int(), "real": real, "logits": logits, "written": written[:, 9:].int()}
    return {name: x.numpy() for name, x in out.items()}


def main(out: Path):
    for name in MODELS:
        model = made(name)
        model.save_pretrained(out / name, max_shard_size="8KB" if name == "llama" else "1GB")
        (out / name / "generation_config.json").unlink(missing_ok=True)
        config = json.loads((out / name / "config.json").read_text())
        (out / name / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        save_file(expected(model), out / f"{name}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
