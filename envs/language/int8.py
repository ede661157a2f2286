"""EGG: a recurrent language model in int8, trained and run without a single float (arXiv 2511.16652, appendix G).

Fixed point: 4 binary places, 16 stands for 1; -128 is not used. Products are int8 x int8 summed in int32, `//` rounds
down and `clip` saturates at +-127. Axes: `t` tokens, `d` width, `v` vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int8, Int32

from evo.envs.language.recurrent import check, weights

ONE = 16
WIDTHS = (16, 64, 256, 1024)
TOKENS = 1024  # of a vocabulary: the sum of so many EXP2 is below 2^31


@dataclass(frozen=True)
class Int8Recurrent:
    """EGG: gated recurrent layers with a linear network of `4 width` after each, all in int8.

    x M := clip(x M // (16 sqrt(inputs))); norm(x) := clip(x w / mean |x|), towards 0, mean |x| = max(1, sum |x| // d).
    Per layer y := clip(y + GRU(norm(y))), y := clip(y + MLP(norm(y))) with f = clip(u W_f + s U_f + b_f),
    g = ((f + 127) s) >> 8, c = clip(u W_c + g U_c + b_c), s <- s + ((f + 127) (c - s) >> 8). Saturation is the only
    nonlinearity. Logits are int8 in 1/16 bits. `width` is a power of 4, so that divisions by sqrt(inputs) are shifts.
    """

    width: int = 64
    layers: int = 1

    def __post_init__(self):
        check(self.width, self.layers)
        if self.width not in WIDTHS:
            nearest = min(WIDTHS, key=lambda width: abs(width - self.width))
            raise ValueError(
                f"`width` is a power of 4 from 16 to 1024, for shifts divide; got {self.width}, try {nearest}."
            )

    @property
    def unit(self) -> float:
        return 1 / ONE

    def init(self, key, vocabulary):
        if vocabulary > TOKENS:
            raise ValueError(
                f"int32 holds the likelihood of at most {TOKENS} tokens; got {vocabulary}. Use bytes, `recurrent` or "
                "`transformer`."
            )
        fixed = lambda x: jnp.clip(jnp.round(ONE * x), -127, 127).astype(jnp.int8)  # noqa: E731
        return jax.tree.map(fixed, weights(key, vocabulary, self.width, self.layers))

    def start(self):
        return jnp.zeros((self.layers, self.width), jnp.int8)

    def score(self, params, carry, tokens, eos):
        rows = params["embedding"][tokens[:-1]]

        def step(carry, now):
            token, row, target = now
            carry, logits = self._step(params, carry, token, row, eos)
            return carry, log2_likelihood(logits, target)

        return jax.lax.scan(step, carry, (tokens[:-1], rows, tokens[1:]))

    def step(self, params, carry, token, eos):
        return self._step(params, carry, token, params["embedding"][token], eos)

    def _step(self, params, carry, token, y, eos):
        carry = jnp.where(token == eos, jnp.int8(0), carry)
        states = []
        for i in range(self.layers):
            layer = params["layers"][str(i)]
            states.append(gru(layer["gru"], carry[i], norm(y, layer["norm_gru"])))
            y = clip(wide(y) + wide(states[-1]))
            hidden = clip(times(norm(y, layer["norm_mlp"]), layer["mlp"]["up"]))
            y = clip(wide(y) + times(hidden, layer["mlp"]["down"]))
        return jnp.stack(states), clip(times(norm(y, params["norm"]), params["head"]))


def gru(weights: dict, s: Int8[Array, "d"], u: Int8[Array, "d"]) -> Int8[Array, "d"]:
    """The new state, between the old one and the candidate."""
    f = times(u, weights["input_gate"]) + times(s, weights["state_gate"]) + wide(weights["bias_gate"])
    gate = jnp.clip(f, -127, 127) + 127
    kept = (gate * wide(s) >> 8).astype(jnp.int8)
    candidate = times(u, weights["input"]) + times(kept, weights["state"]) + wide(weights["bias"])
    return (wide(s) + (gate * (jnp.clip(candidate, -127, 127) - wide(s)) >> 8)).astype(jnp.int8)


def times(x: Int8[Array, "i"], matrix: Int8[Array, "i o"]) -> Int32[Array, "o"]:
    """x M // (16 sqrt(inputs)), saturated, though still int32; sqrt(inputs) is a power of 2."""
    total = jax.lax.dot(x, matrix, preferred_element_type=jnp.int32)
    return jnp.clip(total >> (4 + round(math.log2(matrix.shape[0]) / 2)), -127, 127)


def norm(x: Int8[Array, "d"], weight: Int8[Array, "d"]) -> Int8[Array, "d"]:
    """x w / mean |x|, rounded towards 0, saturated: a product and a shift from two tables of 128 numbers."""
    mean = jnp.maximum(jnp.abs(wide(x)).sum(dtype=jnp.int32), 1) // x.shape[0]
    factor, places = (jnp.asarray(table)[jnp.maximum(mean, 1)] for table in reciprocals())
    product = wide(x) * wide(weight)
    return clip(jnp.sign(product) * (jnp.abs(product) * factor >> places))


def log2_likelihood(logits: Int8[Array, "v"], target: Int[Array, ""]) -> Int32[Array, ""]:
    """log2 of the target's likelihood in 1/16 bits, from tables of 256 and of a few hundred numbers.

    y[target] - LOG2[sum EXP2[y]], y = logits + 128, EXP2[i] = int(16 * 2^(i / 16)), LOG2[j] = int(16 log2(j / 16)).
    LOG2's bins are found among their lower ends: the octave by counting leading zeros, the sixteenth by comparing.
    """
    y = wide(logits) + 128
    total = jnp.asarray(exponentials())[y].sum(dtype=jnp.int32)
    octave = 27 - jax.lax.clz(total)  # total is 2^(4 + octave) or more
    ends = jax.lax.dynamic_slice(jnp.asarray(logarithms()), [16 * octave], [16])
    return y[target] - 16 * octave - (total >= ends[1:]).sum(dtype=jnp.int32)


@lru_cache
def exponentials() -> Int32[np.ndarray, "256"]:
    """EXP2[i] = int(16 * 2^(i / 16))."""
    return np.array([int(16 * 2 ** (i / 16)) for i in range(256)], np.int32)


@lru_cache
def logarithms() -> Int32[np.ndarray, "ends"]:
    """The smallest total whose int(16 log2(total / 16)) is k: the lower ends of LOG2's bins."""
    return np.array([math.ceil(16 * 2 ** (k / 16)) for k in range(16 * 27)], np.int32)


@lru_cache
def reciprocals() -> tuple[Int32[np.ndarray, "128"], Int32[np.ndarray, "128"]]:
    """R and K with p // m = p R[m] >> K[m] for every p below 2^14: K = 14 + ceil(log2 m), R = ceil(2^K / m)."""
    places = [14 + (m - 1).bit_length() for m in range(1, 128)]
    factor = [-(-(2**k) // m) for m, k in enumerate(places, 1)]
    return np.array([0, *factor], np.int32), np.array([0, *places], np.int32)


def clip(x: Int32[Array, "..."]) -> Int8[Array, "..."]:
    """x saturated: -127 to 127, never -128, so that every number has its negative."""
    return jnp.clip(x, -127, 127).astype(jnp.int8)


def wide(x: Int8[Array, "..."]) -> Int32[Array, "..."]:
    """x in 32 bits, to add and multiply without overflow."""
    return x.astype(jnp.int32)
