"""GPTQ's matrices (Frantar et al. 2022, arXiv 2210.17323) as they lie in a Hugging Face folder.

`qweight` int32 [in * bits / 32, out] has neighbours along `in` in one word, the first lowest; `qzeros` int32
[g, out * bits / 32] likewise along `out`; `scales` [g, out]; w = scale * (code - zero). The format "gptq" keeps
zero - 1 modulo 2^bits, "gptq_v2" zero. Axes: `i o` in and out, `g` groups of `i`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from evo.envs.language.quantised import Quantised
from evo.envs.language.shards import Shards


@dataclass(frozen=True)
class GPTQ:
    """How a checkpoint's matrices are quantised."""

    bits: int
    group: int  # inputs that share a scale; 0: all of them
    offset: int  # what was taken from the zeros

    def read(self, shards: Shards, stem: str, shape: tuple[int, int]) -> Quantised:
        """The matrix [in, out] of `stem`. Raises where it isn't as config.json says, or its inputs were reordered."""
        i, o = shape
        group, most = self.group or i, 32 // self.bits
        if i % group or i % most or o % most:
            raise ValueError(f"{stem!r} is {shape}, which groups of {group} and words of {most} codes don't divide.")
        words = shards.read(f"{stem}.qweight", ("I32",), (i // most, o))
        codes = unpacked(words.T, self.bits).T
        zeros = unpacked(shards.read(f"{stem}.qzeros", ("I32",), (i // group, o // most)), self.bits)
        zeros = (zeros + self.offset) & (2**self.bits - 1)
        scales = shards.read(f"{stem}.scales", ("F16", "BF16", "F32"), (i // group, o)).astype(np.float32)
        if f"{stem}.g_idx" in shards:
            order = shards.read(f"{stem}.g_idx", ("I32",), (i,))
            if (order != np.arange(i) // group).any():
                raise ValueError(f"{stem!r}: its inputs are reordered (act order), which isn't supported.")
        if self.bits == 4:
            return Quantised((codes[0::2] | codes[1::2] << 4).astype(np.uint8), scales, zeros.astype(np.int8))  # type: ignore[arg-type]
        if (zeros != 128).any():
            raise ValueError(f"{stem!r}: 8-bit codes with zeros other than 128 aren't supported; quantise with `sym`.")
        return Quantised((codes - 128).astype(np.int8), scales)  # type: ignore[arg-type]


def gptq_of(config: Mapping[str, Any]) -> GPTQ | None:
    """What a config.json says of quantisation; None where weights are plain. Raises on what isn't supported."""
    found = config.get("quantization_config")
    if found is None:
        return None
    if found.get("bits") not in (4, 8):
        raise ValueError(f"config.json: `bits` is {found.get('bits')}; of GPTQ's, 4 and 8 are supported.")
    if found.get("desc_act"):
        raise ValueError("config.json: `desc_act` is true: inputs are reordered (act order), which isn't supported.")
    group = found.get("group_size", 128)
    if type(group) is not int:
        raise ValueError(f"config.json: `group_size` is a whole number; got {group!r}.")
    offset = 0 if found.get("checkpoint_format") == "gptq_v2" else 1
    return GPTQ(found["bits"], max(group, 0), offset)


def unpacked(words: Int[np.ndarray, "m k"], bits: int) -> Int[np.ndarray, "m n"]:
    """The codes of int32 words, along the last axis."""
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    codes = (words.view(np.uint32)[..., None] >> shifts) & np.uint32(2**bits - 1)
    return codes.reshape(words.shape[0], -1).astype(np.int16)


def stacked(rows: list[Quantised]) -> Quantised:
    """The layers of one leaf, on the device."""
    return jax.tree.map(lambda *parts: jnp.asarray(np.stack(parts)), *rows)
