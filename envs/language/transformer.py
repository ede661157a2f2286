"""A small decoder in float32. Axes: `t` tokens, `c` context before them, `d` width, `h` heads, `v` vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from evo.checkpoint import nest
from evo.envs.language.recurrent import check


@dataclass(frozen=True)
class Transformer:
    """A decoder: a layer is y += attention(norm(y)), y += relu(norm(y) W_up) W_down, with norm(x) = w x / rms(x).

    A query at i attends to keys at j <= i of its own document, with a bias of -2^(-8 h / heads) (i - j) in head h for
    places (ALiBi, Press et al. 2022). x W stands for x W / sqrt(inputs); weights start as standard normal draws. What
    it remembers between windows are the last `context` tokens, which it reads again.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    context: int = 32

    def __post_init__(self):
        check(self.width, self.layers)
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"`heads` divides `width`, {self.width}; got {self.heads}.")
        if self.context < 1:
            raise ValueError(f"`context` is at least 1 token; got {self.context}.")

    @property
    def unit(self) -> float:
        return 1.0

    def init(self, key, vocabulary):
        width = self.width
        shapes = {"embedding": (vocabulary, width), "head": (width, vocabulary)}
        for i in range(self.layers):
            shapes |= {f"layers/{i}/{name}": (width, width) for name in ("query", "key", "value", "out")}
            shapes |= {f"layers/{i}/up": (width, 4 * width), f"layers/{i}/down": (4 * width, width)}
        keys = jax.random.split(key, len(shapes))
        flat = {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
        norms = [f"layers/{i}/norm_{name}" for i in range(self.layers) for name in ("attention", "mlp")]
        return nest(flat | {name: jnp.ones(width) for name in ["norm", *norms]})

    def start(self):
        return jnp.full(self.context, -1, jnp.int32)  # -1: no token yet

    def score(self, params, carry, tokens, eos):
        read = jnp.concatenate([carry, tokens[:-1]])
        logits = self._logits(params, read, eos)[self.context :] * math.log(2)
        chosen = jnp.take_along_axis(logits, tokens[1:, None], 1)[:, 0]
        score = (chosen - jax.nn.logsumexp(logits, 1)) / math.log(2)
        return read[-self.context :], score

    def step(self, params, carry, token, eos):
        read = jnp.concatenate([carry[1:], token[None].astype(jnp.int32)])
        return read, self._logits(params, read, eos)[-1]

    def _logits(self, params, tokens: Int[Array, "t"], eos: int) -> Float[Array, "t v"]:
        """log2 of what is how likely after each token, up to a constant."""
        y = params["embedding"][jnp.maximum(tokens, 0)]
        bias = self._bias(tokens, eos)
        for i in range(self.layers):
            layer = params["layers"][str(i)]
            y = y + self._attention(layer, norm(y, layer["norm_attention"]), bias)
            y = y + times(jax.nn.relu(times(norm(y, layer["norm_mlp"]), layer["up"])), layer["down"])
        return times(norm(y, params["norm"]), params["head"])

    def _bias(self, tokens, eos) -> Float[Array, "h t t"]:
        """What is added to a query's say in a key: the distance, and minus infinity where it may not look."""
        place = jnp.arange(tokens.shape[0])
        apart = place[:, None] - place[None]
        document = jnp.cumsum(tokens == eos)
        seen = (apart >= 0) & (document[:, None] == document[None]) & ((tokens >= 0)[None] | (apart == 0))
        slope = 2.0 ** (-8 * jnp.arange(1, self.heads + 1, dtype=jnp.float32) / self.heads)
        return jnp.where(seen[None], -slope[:, None, None] * apart[None].astype(jnp.float32), -jnp.inf)

    def _attention(self, layer, x, bias):
        query, key, value = (
            times(x, layer[name]).reshape(x.shape[0], self.heads, -1) for name in ("query", "key", "value")
        )
        says = jnp.einsum("qhd,khd->hqk", query, key) / math.sqrt(query.shape[-1]) + bias
        mixed = jnp.einsum("hqk,khd->qhd", jax.nn.softmax(says, -1), value)
        return times(mixed.reshape(x.shape), layer["out"])


def times(x: Float[Array, "t i"], matrix: Float[Array, "i o"]) -> Float[Array, "t o"]:
    """x M / sqrt(inputs)."""
    return x @ matrix * (1 / math.sqrt(matrix.shape[0]))


def norm(x: Float[Array, "t d"], weight: Float[Array, "d"]) -> Float[Array, "t d"]:
    """x w / sqrt(mean x^2 + 1e-6), position by position."""
    return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight[None]
