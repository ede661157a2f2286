"""RWKV-7 one token and one head at a time in float64, from the paper's equations (arXiv 2503.14456),
and a tiny random checkpoint in flash-linear-attention's names: `python tests/oracle/rwkv7.py tests/golden`.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CONFIG = {"model_type": "rwkv7", "architectures": ["RWKV7ForCausalLM"], "vocab_size": 40, "hidden_size": 16}
CONFIG |= {"num_hidden_layers": 3, "head_dim": 8, "intermediate_size": 24, "norm_eps": 1e-5, "hidden_act": "sqrelu"}
CONFIG |= {"decay_low_rank_dim": 4, "a_low_rank_dim": 3, "v_low_rank_dim": 2, "gate_low_rank_dim": 5}
CONFIG |= {"norm_first": True, "norm_bias": True, "tie_word_embeddings": False, "attn": None}
NEW = 6


def made() -> dict[str, np.ndarray]:
    """Random tensors by name."""
    draw, width, hidden = np.random.default_rng(0).normal, 16, 24
    out = {"model.embeddings.weight": draw(size=(40, width)), "lm_head.weight": draw(size=(40, width)) * 0.5}
    norms = ["model.norm", "model.layers.0.pre_norm"]
    for i in range(3):
        layer = f"model.layers.{i}."
        norms += [f"{layer}{name}" for name in ("attn_norm", "ffn_norm", "attn.g_norm")]
        for name in "rkvo":
            out[f"{layer}attn.{name}_proj.weight"] = draw(size=(width, width)) * 0.4
        for name, rank in zip("wavg", (4, 3, 2, 5), strict=True):
            if name == "v" and i == 0:
                continue
            out[f"{layer}attn.{name}_lora.lora.0.weight"] = draw(size=(rank, width)) * 0.5
            out[f"{layer}attn.{name}_lora.lora.2.weight"] = draw(size=(width, rank)) * 0.5
            if name != "g":
                out[f"{layer}attn.{name}_lora.lora.2.bias"] = draw(size=width)
        for name in "rwkvag":
            out[f"{layer}attn.x_{name}"] = draw(size=(1, 1, width)) * 0.5 + 0.5
        out |= {f"{layer}attn.k_k": draw(size=width), f"{layer}attn.k_a": draw(size=width)}
        out |= {f"{layer}attn.r_k": draw(size=(2, 8)), f"{layer}ffn.x_k": draw(size=width) * 0.5 + 0.5}
        out[f"{layer}ffn.key.weight"] = draw(size=(hidden, width)) * 0.4
        out[f"{layer}ffn.value.weight"] = draw(size=(width, hidden)) * 0.4
    for name in norms:
        out |= {f"{name}.weight": 1 + 0.2 * draw(size=width), f"{name}.bias": 0.2 * draw(size=width)}
    return {name: x.astype(np.float32) for name, x in out.items()}


class Twin:
    """The model as one reads it in the paper: a state a layer, a loop over layers and heads."""

    def __init__(self, tensors: dict[str, np.ndarray]):
        self.p = {name: x.astype(np.float64) for name, x in tensors.items()}
        self.last = [[np.zeros(16), np.zeros(16), np.zeros((2, 8, 8))] for _ in range(3)]

    def __call__(self, token: int) -> np.ndarray:
        """The logits after one more token."""
        x = self.norm(self.p["model.embeddings.weight"][token], "model.layers.0.pre_norm")
        for i in range(3):
            x = x + self.look_back(i, self.norm(x, f"model.layers.{i}.attn_norm"))
            x = x + self.feed(i, self.norm(x, f"model.layers.{i}.ffn_norm"))
        return self.p["lm_head.weight"] @ self.norm(x, "model.norm")

    def norm(self, x, name, eps=1e-5):
        return (x - x.mean()) / np.sqrt(x.var() + eps) * self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def low(self, i, name, x, act=lambda x: x):
        stem = f"model.layers.{i}.attn.{name}_lora.lora."
        return self.p[f"{stem}2.weight"] @ act(self.p[f"{stem}0.weight"] @ x) + self.p.get(f"{stem}2.bias", 0)

    def look_back(self, i, x):
        get = lambda name: self.p[f"model.layers.{i}.attn.{name}"]  # noqa: E731
        before, self.last[i][0] = self.last[i][0], x
        mixed = {name: x + (before - x) * get(f"x_{name}")[0, 0] for name in "rwkvag"}
        r, k, v = (get(f"{name}_proj.weight") @ mixed[name] for name in "rkv")
        if i == 0:
            self.first = v
        else:
            v = v + (self.first - v) * sigmoid(self.low(i, "v", mixed["v"]))
        w = np.exp(-np.exp(-0.5) * sigmoid(self.low(i, "w", mixed["w"], np.tanh)))
        a = sigmoid(self.low(i, "a", mixed["a"]))
        g = self.low(i, "g", mixed["g"], sigmoid)
        kappa, k = k * get("k_k"), k * (1 + (a - 1) * get("k_a"))
        out = np.zeros(16)
        for h in range(2):
            s = slice(8 * h, 8 * h + 8)
            hat = kappa[s] / np.linalg.norm(kappa[s])
            moved = np.diag(w[s]) - np.outer(hat, a[s] * hat)
            state = self.last[i][2][h] = self.last[i][2][h] @ moved + np.outer(v[s], k[s])
            y = state @ r[s]
            y = (y - y.mean()) / np.sqrt(y.var() + 8e-5) * get("g_norm.weight")[s] + get("g_norm.bias")[s]
            out[s] = y + (r[s] * k[s] * get("r_k")[h]).sum() * v[s]
        return get("o_proj.weight") @ (out * g)

    def feed(self, i, x):
        before, self.last[i][1] = self.last[i][1], x
        mixed = x + (before - x) * self.p[f"model.layers.{i}.ffn.x_k"]
        inner = np.maximum(self.p[f"model.layers.{i}.ffn.key.weight"] @ mixed, 0) ** 2
        return self.p[f"model.layers.{i}.ffn.value.weight"] @ inner


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def main(out: Path):
    """Write the checkpoint and what is expected of it, as `models.py` does."""
    tensors, draw = made(), np.random.default_rng(1)
    (out / "rwkv7").mkdir(parents=True, exist_ok=True)
    (out / "rwkv7" / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    save_file(tensors, out / "rwkv7" / "model.safetensors", metadata={"format": "pt"})
    tokens, starts = draw.integers(0, 40, (3, 9)).astype(np.int32), (0, 4, 7)
    logits, written = np.zeros((3, 9, 40), np.float32), np.zeros((3, NEW), np.int32)
    for row, start in enumerate(starts):
        twin = Twin(tensors)
        for t in range(start, 9):
            logits[row, t] = said = twin(tokens[row, t])
        for n in range(NEW):
            written[row, n] = said.argmax()
            said = twin(written[row, n])
    real = np.arange(9)[None] >= np.array(starts)[:, None]
    save_file({"tokens": tokens, "real": real, "logits": logits, "written": written}, out / "rwkv7.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
