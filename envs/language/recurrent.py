"""A small recurrent language model in float32: the EGG of `evo.envs.language.int8` without rounding.

Axes: `t` tokens, `d` width, `v` vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from evo.checkpoint import nest

LIMIT = 127 / 16  # activations saturate here, as int8 with 4 binary places does


@dataclass(frozen=True)
class Recurrent:
    """Gated recurrent layers with a linear network of `4 width` after each (arXiv 2511.16652, appendix G), in floats.

    x M stands for clip(x M / sqrt(inputs)), norm(x) = x w / mean |x|; a layer is y += GRU(norm(y)), y += MLP(norm(y)),
    f = clip(u W_f + s U_f + b_f), g = (f / LIMIT + 1) / 2, c = clip(u W_c + (g s) U_c + b_c), s <- s + g (c - s).
    Saturation at +-LIMIT is the only other nonlinearity. Weights start as standard normal draws.
    """

    width: int = 64
    layers: int = 1

    def __post_init__(self):
        check(self.width, self.layers)

    @property
    def unit(self) -> float:
        return 1.0

    def init(self, key, vocabulary):
        return weights(key, vocabulary, self.width, self.layers)

    def start(self):
        return jnp.zeros((self.layers, self.width))

    def score(self, params, carry, tokens, eos):
        rows = params["embedding"][tokens[:-1]]

        def step(carry, now):
            token, row, target = now
            carry, logits = self._step(params, carry, token, row, eos)
            return carry, logits[target] - jax.nn.logsumexp(logits * math.log(2)) / math.log(2)

        return jax.lax.scan(step, carry, (tokens[:-1], rows, tokens[1:]))

    def step(self, params, carry, token, eos):
        return self._step(params, carry, token, params["embedding"][token], eos)

    def _step(self, params, carry, token, y, eos):
        carry = jnp.where(token == eos, 0.0, carry)
        states = []
        for i in range(self.layers):
            layer = params["layers"][str(i)]
            states.append(gru(layer["gru"], carry[i], norm(y, layer["norm_gru"])))
            y = clip(y + states[-1])
            hidden = times(norm(y, layer["norm_mlp"]), layer["mlp"]["up"])
            y = clip(y + times(hidden, layer["mlp"]["down"]))
        return jnp.stack(states), times(norm(y, params["norm"]), params["head"])


def weights(key, vocabulary: int, width: int, layers: int) -> dict:
    """513 d + layers (4 d + 12 d^2) numbers for 256 tokens: matrices normal, norms 1, biases 0."""
    shapes = {"embedding": (vocabulary, width), "head": (width, vocabulary)}
    for i in range(layers):
        gru = {f"gru/{name}": (width, width) for name in ("input_gate", "input", "state_gate", "state")}
        mlp = {"mlp/up": (width, 4 * width), "mlp/down": (4 * width, width)}
        shapes |= {f"layers/{i}/{name}": shape for name, shape in (gru | mlp).items()}
    keys = jax.random.split(key, len(shapes))
    flat = {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
    flat["norm"] = jnp.ones(width)
    for i in range(layers):
        flat |= {f"layers/{i}/norm_{name}": jnp.ones(width) for name in ("gru", "mlp")}
        flat |= {f"layers/{i}/gru/bias{name}": jnp.zeros(width) for name in ("_gate", "")}
    return nest(flat)


def gru(weights: dict, s: Float[Array, "d"], u: Float[Array, "d"]) -> Float[Array, "d"]:
    """The new state."""
    f = clip(times(u, weights["input_gate"]) + times(s, weights["state_gate"]) + weights["bias_gate"])
    g = (f / LIMIT + 1) / 2
    c = clip(times(u, weights["input"]) + times(g * s, weights["state"]) + weights["bias"])
    return s + g * (c - s)


def times(x: Float[Array, "i"], matrix: Float[Array, "i o"]) -> Float[Array, "o"]:
    """x M / sqrt(inputs), saturated."""
    return clip(x @ matrix * (1 / math.sqrt(matrix.shape[0])))


def norm(x: Float[Array, "d"], weight: Float[Array, "d"]) -> Float[Array, "d"]:
    """x w / mean |x|, saturated."""
    return clip(x * weight / jnp.maximum(jnp.abs(x).mean(), 1 / 16))


def clip(x: Array) -> Array:
    """x saturated at +-LIMIT, as the int8 twin's numbers are."""
    return jnp.clip(x, -LIMIT, LIMIT)


def check(width: int, layers: int):
    """Raise where there is no width or no layer."""
    if width < 1 or layers < 1:
        raise ValueError(f"`width` and `layers` are at least 1; got {width} and {layers}.")
