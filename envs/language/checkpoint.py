"""Checkpoints people have: a Hugging Face folder as a model and its parameters, and back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from evo.checkpoint import nest
from evo.envs.language.architecture import architecture
from evo.envs.language.decoder import Decoder
from evo.envs.language.gptq import GPTQ, gptq_of, stacked
from evo.envs.language.layout import LAYOUTS, Entry
from evo.envs.language.quantised import dequantised
from evo.envs.language.rwkv7 import RWKV7
from evo.envs.language.shards import Shards, read_json, write

FLOATS = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
NAMES = {
    np.dtype(dtype): name
    for name, dtype in (("float32", np.float32), ("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16))
}
BESIDE = (
    "tokenizer*",
    "special_tokens_map.json",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)


class Checkpoint(NamedTuple):
    """A language model as it is kept in a folder."""

    config: dict[str, Any]  # config.json
    model: Decoder | RWKV7
    params: dict[str, Any]


def load(folder: str | Path, dtype: str | None = None) -> Checkpoint:
    """The model of a Hugging Face folder: config.json and safetensors.

    `dtype` is float32, bfloat16 or float16; None keeps what the file has. Raises ValueError, one sentence, where the
    folder or a shard is missing, the architecture isn't known, or a tensor is missing, misshapen or not of floats.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no Hugging Face folder: it has no config.json.")
    if dtype is not None and dtype not in NAMES.values():
        raise ValueError(f"`dtype` is {', '.join(NAMES.values())} or left out; got {dtype!r}.")
    config = read_json(folder / "config.json")
    model = architecture(config)
    shards, gptq = Shards(folder), gptq_of(config)
    entries = LAYOUTS[config["model_type"]](model)
    found = {e.leaf: fetched(shards, e, model.layers, dtype, gptq) for e in entries}
    return Checkpoint(config, model, nest(found))


def fetched(shards: Shards, entry: Entry, layers: int, dtype: str | None, gptq: GPTQ | None) -> Any:
    """One leaf, its layers stacked."""
    own = range(layers) if entry.leaf.startswith("layers/") else range(1)
    stem = entry.tensor.removesuffix(".weight")
    if gptq and entry.flip and f"{stem}.qweight".format(0) in shards:
        return stacked([gptq.read(shards, stem.format(i), (entry.shape[0], entry.shape[1])) for i in own])
    rows = [_row(shards, entry, i) for i in own]
    whole = np.stack(rows) if entry.leaf.startswith("layers/") else rows[0]
    return jnp.asarray(whole, None if dtype is None else jnp.dtype(dtype))


def _row(shards: Shards, entry: Entry, layer: int) -> np.ndarray:
    if layer < entry.first:
        return np.zeros(entry.shape, np.float32)
    shape = (*entry.shape[:-1], entry.shape[-1] * entry.parts)
    name = entry.tensor.format(layer)
    if name not in shards and name.startswith("transformer."):
        name = name.removeprefix("transformer.")  # GPT-2 as it was first published
    x = shards.read(name, tuple(FLOATS), entry.filed or (shape[::-1] if entry.flip else shape))
    x = x.reshape(shape) if entry.filed else x
    return np.split(x.T if entry.flip else x, entry.parts, axis=-1)[entry.part]


def save(folder: str | Path, config: dict[str, Any], params: dict[str, Any], beside: str | Path | None = None):
    """Write a folder that Transformers loads: config.json, safetensors, and the tokenizer of the folder `beside`.

    The weights keep their dtype; quantised ones are written as matrices again, of the embedding's dtype. Raises where
    the parameters aren't those of the config's model.
    """
    folder = Path(folder)
    config = {name: value for name, value in config.items() if name != "quantization_config"}
    model, params = architecture(config), dequantised(params, params["embed"].dtype)
    shapes = jax.tree.map(lambda x: tuple(x.shape), params)
    if shapes != model.shapes():
        raise ValueError(
            f"{folder}: the parameters aren't those of config.json's model: {_difference(shapes, model.shapes())}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    dtype = NAMES.get(np.dtype(params["embed"].dtype))
    text = json.dumps({**config, "dtype": dtype}, indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    write(folder, tensors(LAYOUTS[config["model_type"]](model), params, model.layers))
    own = beside is None or Path(beside).resolve() == folder.resolve()
    for glob in () if own else BESIDE:
        for file in Path(str(beside)).glob(glob):
            shutil.copyfile(file, folder / file.name)


def tensors(entries: list[Entry], params: dict[str, Any], layers: int) -> Iterator[tuple[str, np.ndarray]]:
    """The file's tensors by name, one at a time: slices side by side again, [out, in] where the file has it so."""
    whole = {entry.leaf: entry for entry in entries if entry.part == 0}
    for entry in whole.values():
        alike = sorted((e for e in entries if e.tensor == entry.tensor), key=lambda e: e.part)
        leaves = [np.asarray(leaf_of(params, e.leaf)) for e in alike]
        stacked = entry.leaf.startswith("layers/")
        for i in range(entry.first, layers if stacked else 1):
            x = np.concatenate([leaf[i] if stacked else leaf for leaf in leaves], axis=-1)
            yield entry.tensor.format(i), x.T if entry.flip else x.reshape(entry.filed or x.shape)


def leaf_of(params: dict[str, Any], path: str) -> Any:
    """The leaf of a path."""
    for name in path.split("/"):
        params = params[name]
    return params


def _difference(mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The first leaf that differs, in words."""
    flat = lambda tree: dict(jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: type(x) is tuple))  # noqa: E731
    one, two = flat(mine), flat(theirs)
    path = next(path for path in {**two, **one} if one.get(path) != two.get(path))
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return f"{name} has shape {one.get(path)}, wanted {two.get(path)}"
