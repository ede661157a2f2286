"""Which tensors of a Hugging Face checkpoint our leaves are made of, family by family."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from evo.envs.language.decoder import Decoder
from evo.envs.language.rwkv7 import MIXED, RWKV7


class Entry(NamedTuple):
    """One leaf, or one layer's row of it, in the file."""

    leaf: str  # its path here; a leaf under layers/ has a tensor for each layer
    tensor: str  # its name there, {} the layer
    shape: tuple[int, ...]  # of one tensor, as here
    flip: bool = False  # the file has it [out, in]
    part: int = 0  # which of `parts` equal slices along the file's last axis
    parts: int = 1
    first: int = 0  # the first layer that has it
    filed: tuple[int, ...] | None = None  # its shape there, where it is neither ours nor flipped


def llama(model: Decoder) -> list[Entry]:
    """Llama, Mistral, Qwen2 and Qwen3 share their names."""
    shapes, layer = model.shapes(), "model.layers.{}."
    attention, feed = ("q", "k", "v", "o"), ("gate", "up", "down")
    place = {name: f"{layer}self_attn.{name}_proj" for name in attention}
    place |= {name: f"{layer}mlp.{name}_proj" for name in feed}
    norms = {"norm1": f"{layer}input_layernorm", "norm2": f"{layer}post_attention_layernorm"}
    norms |= {"q_norm": f"{layer}self_attn.q_norm", "k_norm": f"{layer}self_attn.k_norm"}
    entries = [
        Entry("embed", "model.embed_tokens.weight", shapes["embed"]),
        Entry("norm", "model.norm.weight", shapes["norm"]),
    ]
    entries += [] if model.tied else [Entry("head", "lm_head.weight", shapes["head"])]
    for name, (_, *shape) in shapes["layers"].items():
        stem, bias = name.removesuffix("_bias"), name.endswith("_bias")
        file = f"{norms.get(stem) or place[stem]}.{'bias' if bias else 'weight'}"
        entries.append(Entry(f"layers/{name}", file, tuple(shape), flip=len(shape) == 2))
    return entries


def gpt2(model: Decoder) -> list[Entry]:
    """GPT-2 keeps [in, out], as we do, and queries, keys and values side by side."""
    shapes, layer = model.shapes(), "transformer.h.{}."
    place = {"q": "attn.c_attn", "k": "attn.c_attn", "v": "attn.c_attn", "o": "attn.c_proj"}
    place |= {"up": "mlp.c_fc", "down": "mlp.c_proj", "norm1": "ln_1", "norm2": "ln_2"}
    outer = {"embed": "wte.weight", "positions": "wpe.weight", "norm": "ln_f.weight", "norm_bias": "ln_f.bias"}
    entries = [Entry(name, f"transformer.{file}", shapes[name]) for name, file in outer.items()]
    entries += [] if model.tied else [Entry("head", "lm_head.weight", shapes["head"])]
    for name, (_, *shape) in shapes["layers"].items():
        stem, ending = name.removesuffix("_bias"), "bias" if name.endswith("_bias") else "weight"
        part, parts = ("qkv".index(stem), 3) if stem in ("q", "k", "v") else (0, 1)
        entries.append(Entry(f"layers/{name}", f"{layer}{place[stem]}.{ending}", tuple(shape), False, part, parts))
    return entries


def rwkv7(model: RWKV7) -> list[Entry]:
    """RWKV-7 as flash-linear-attention writes it; the first layer has no `v_lora` and alone a `pre_norm`."""
    shapes, attn, ffn = model.shapes(), "model.layers.{}.attn.", "model.layers.{}.ffn."
    place = {name: f"{attn}{name}_proj.weight" for name in ("r", "k", "v", "o")}
    place |= {"up": f"{ffn}key.weight", "down": f"{ffn}value.weight", "mix_up": f"{ffn}x_k"}
    place |= {f"mix_{name}": f"{attn}x_{name}" for name in MIXED}
    place |= {"k_scale": f"{attn}k_k", "k_rate": f"{attn}k_a", "bonus": f"{attn}r_k"}
    for name in ("w", "a", "v", "g"):
        lora = f"{attn}{name}_lora.lora."
        place |= {f"{name}_in": f"{lora}0.weight", f"{name}_out": f"{lora}2.weight", f"{name}_bias": f"{lora}2.bias"}
    for name, file in (("norm1", "attn_norm"), ("norm2", "ffn_norm"), ("head_norm", "attn.g_norm")):
        place |= {name: f"model.layers.{{}}.{file}.weight", f"{name}_bias": f"model.layers.{{}}.{file}.bias"}
    outer = {"embed": "model.embeddings.weight", "norm": "model.norm.weight", "norm_bias": "model.norm.bias"}
    outer |= {"norm0": "model.layers.0.pre_norm.weight", "norm0_bias": "model.layers.0.pre_norm.bias"}
    outer |= {} if model.tied else {"head": "lm_head.weight"}
    entries = [Entry(name, file, shapes[name]) for name, file in outer.items()]
    for name, (_, *shape) in shapes["layers"].items():
        mixed = name.removeprefix("mix_") in MIXED and name.startswith("mix_")
        filed = (1, 1, model.width) if mixed else None
        first = 1 if name in ("v_in", "v_out", "v_bias") else 0
        flip = len(shape) == 2 and name != "bonus"
        entries.append(Entry(f"layers/{name}", place[name], tuple(shape), flip, first=first, filed=filed))
    return entries


LAYOUTS: dict[str, Callable[..., list[Entry]]] = {
    "llama": llama,
    "mistral": llama,
    "qwen2": llama,
    "qwen3": llama,
    "gpt2": gpt2,
    "rwkv7": rwkv7,
}
