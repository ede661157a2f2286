"""Which tensors of a Hugging Face checkpoint our leaves are made of, family by family."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from evo.envs.language.decoder import Decoder


class Entry(NamedTuple):
    """One leaf, or one layer's row of it, in the file."""

    leaf: str  # its path here; a leaf under layers/ has a tensor for each layer
    tensor: str  # its name there, {} the layer
    shape: tuple[int, ...]  # of one tensor, as here
    flip: bool = False  # the file has it [out, in]
    part: int = 0  # which of `parts` equal slices along the file's last axis
    parts: int = 1
    first: int = 0  # the first layer that has it


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


LAYOUTS: dict[str, Callable[..., list[Entry]]] = {
    "llama": llama,
    "mistral": llama,
    "qwen2": llama,
    "qwen3": llama,
    "gpt2": gpt2,
}
