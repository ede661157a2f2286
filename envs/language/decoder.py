"""Transformer decoders in plain JAX: Llama, Mistral, Qwen2, Qwen3, GPT-2, told apart by settings alone.

Layers are stacked leaves [l, in, out] and a scan. Nothing here knows of noise: `evo.lazy` keeps perturbed matrices
thin. Axes: `l` layers, `b` rows, `t` new positions, `s` slots of the cache, `h` heads, `g` heads of keys and values,
`d` numbers of a head, `w` width, `v` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from evo.envs.language.causal import fresh
from evo.envs.language.quantised import product
from evo.envs.language.rope import Rope, turn

HIDDEN = -1e30  # the score of what a position may not see; finite, so a row of padding has no NaN
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
}


class Cache(NamedTuple):
    """Keys and values of the positions so far; `used` slots are filled, some of them with padding."""

    keys: Float[Array, "l b s g d"]
    values: Float[Array, "l b s g d"]
    real: Bool[Array, "b s"]  # False: padding, or not filled yet
    used: Int[Array, ""]


@dataclass(frozen=True)
class Decoder:
    """A decoder's shape: what its config.json says, and nothing of its weights."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    groups: int  # heads of keys and values
    head: int  # numbers of a head
    hidden: int  # numbers between the two halves of a feed-forward layer
    context: int
    norm: Literal["rms", "layer"] = "rms"
    epsilon: float = 1e-6
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = "silu"
    gated: bool = True
    rope: Rope | None = Rope()  # None: a learned table of positions
    head_norm: bool = False  # an RMS norm of each head of queries and of keys
    biased: tuple[str, ...] = ()  # the products with a bias, of q, k, v, o, gate, up, down
    tied: bool = False  # the embedding is the head
    windows: tuple[int, ...] = ()  # per layer, how many positions it sees, its own included; 0: all

    def shapes(self) -> dict[str, Any]:
        """Shape of every leaf."""
        inner, keys, w = self.heads * self.head, self.groups * self.head, self.width
        ends = {"q": (w, inner), "k": (w, keys), "v": (w, keys), "o": (inner, w)}
        ends |= {"up": (w, self.hidden), "down": (self.hidden, w)} | ({"gate": (w, self.hidden)} if self.gated else {})
        layer: dict[str, tuple[int, ...]] = {**ends, "norm1": (w,), "norm2": (w,)}
        layer |= {f"{name}_bias": (ends[name][1],) for name in self.biased}
        layer |= dict.fromkeys(("q_norm", "k_norm"), (self.head,)) if self.head_norm else {}
        layer |= dict.fromkeys(("norm1_bias", "norm2_bias"), (w,)) if self.norm == "layer" else {}
        outer: dict[str, Any] = {"embed": (self.vocabulary, w), "norm": (w,)}
        outer |= {} if self.tied else {"head": (self.vocabulary, w)}
        outer |= {"norm_bias": (w,)} if self.norm == "layer" else {}
        outer |= {"positions": (self.context, w)} if self.rope is None else {}
        return outer | {"layers": {name: (self.layers, *shape) for name, shape in layer.items()}}

    def init(self, key: Key[Array, ""]) -> dict[str, Any]:
        """Fresh float32 weights, see `fresh`."""
        return fresh(key, self.shapes())

    def begin(self, params: Any, rows: int, length: int) -> Cache:
        """An empty cache of `length` slots."""
        room = jnp.zeros((self.layers, rows, length, self.groups, self.head), params["embed"].dtype)
        return Cache(room, room, jnp.zeros((rows, length), bool), jnp.int32(0))

    def grow(self, cache: Cache, more: int) -> Cache:
        """The cache with `more` empty slots."""
        wide = ((0, 0), (0, 0), (0, more), (0, 0), (0, 0))
        keys, values = jnp.pad(cache.keys, wide), jnp.pad(cache.values, wide)
        return Cache(keys, values, jnp.pad(cache.real, ((0, 0), (0, more))), cache.used)

    def read(
        self, params: Any, tokens: Int[Array, "b t"], real: Bool[Array, "b t"], cache: Cache
    ) -> tuple[Float[Array, "b t w"], Cache]:
        """What the last layer says of every new token, normed, and the cache with them in it.

        `real` is False at padding, which stands left of a row's tokens. The cache needs `t` free slots.
        """
        t, slots = real.shape[1], cache.real.shape[1]
        seen = cache.real.sum(1, dtype=jnp.int32)
        position = jnp.maximum(seen[:, None] + jnp.cumsum(real, 1, dtype=jnp.int32) - 1, 0)
        there = lax.dynamic_update_slice(cache.real, real, (0, cache.used))
        back = (cache.used + jnp.arange(t))[:, None] - jnp.arange(slots)[None]
        x = params["embed"][tokens]
        if self.rope is None:
            x = x + params["positions"][position]
        table = None if self.rope is None else self.rope.table(position, self.head)

        def layer(carry, row):
            x, keys, values = carry
            own, index, window = row
            q, k, v = self._heads(own, self._normed(own, "norm1", x), table)
            at = (index, 0, cache.used, 0, 0)
            keys, values = (lax.dynamic_update_slice(old, new[None], at) for old, new in ((keys, k), (values, v)))
            visible = there[:, None] & ((back >= 0) & (back < window))[None]
            k, v = (lax.dynamic_index_in_dim(every, index, keepdims=False) for every in (keys, values))
            x = x + self._linear(own, "o", attend(q, k, v, visible))
            x = x + self._feed(own, self._normed(own, "norm2", x))
            return (x, keys, values), None

        rows = (params["layers"], jnp.arange(self.layers), self._windows(slots))
        (x, keys, values), _ = lax.scan(layer, (x, cache.keys, cache.values), rows)
        return self._normed(params, "norm", x), Cache(keys, values, there, cache.used + t)

    def logits(self, params: Any, x: Float[Array, "*b w"]) -> Float[Array, "*b v"]:
        """Scores of every token, in float32."""
        table = params["embed" if self.tied else "head"]
        return jnp.einsum("...w,vw->...v", x, table, preferred_element_type=jnp.float32)

    def _heads(self, own: Any, x: Array, table: Any) -> tuple[Array, Array, Array]:
        """Queries, keys and values of the new positions, turned to their places."""
        split = lambda name, n: self._linear(own, name, x).reshape(*x.shape[:2], n, self.head)  # noqa: E731
        q, k, v = split("q", self.heads), split("k", self.groups), split("v", self.groups)
        if self.head_norm:
            q, k = rms(q, own["q_norm"], self.epsilon), rms(k, own["k_norm"], self.epsilon)
        return (q, k, v) if table is None else (turn(q, table), turn(k, table), v)

    def _feed(self, own: Any, x: Array) -> Array:
        act, up = ACTIVATIONS[self.activation], self._linear(own, "up", x)
        return self._linear(own, "down", act(self._linear(own, "gate", x)) * up if self.gated else act(up))

    def _linear(self, own: Any, name: str, x: Array) -> Array:
        y = product(x, own[name])
        return y + own[f"{name}_bias"][None, None] if name in self.biased else y

    def _normed(self, own: Any, name: str, x: Array) -> Array:
        if self.norm == "rms":
            return rms(x, own[name], self.epsilon)
        return layer_norm(x, own[name], own[f"{name}_bias"], self.epsilon)

    def _windows(self, slots: int) -> Int[Array, "l"]:
        return jnp.array([window or slots + 1 for window in self.windows or (0,) * self.layers], jnp.int32)


def attend(
    q: Float[Array, "b t h d"], k: Float[Array, "b s g d"], v: Float[Array, "b s g d"], visible: Bool[Array, "b t s"]
) -> Float[Array, "b t hd"]:
    """Softmax attention, scores and their sum in float32; h / g query heads share a head of keys and values."""
    b, t, h, d = q.shape
    q = q.reshape(b, t, k.shape[2], -1, d)
    scores = jnp.einsum("btgrd,bsgd->bgrts", q, k, preferred_element_type=jnp.float32) * d**-0.5
    scores = jnp.where(visible[:, None, None], scores, HIDDEN)
    out = jnp.einsum("bgrts,bsgd->btgrd", jax.nn.softmax(scores).astype(v.dtype), v)
    return out.reshape(b, t, h * d)


def rms(x: Float[Array, "*b w"], scale: Float[Array, "w"], epsilon: float) -> Float[Array, "*b w"]:
    """x / sqrt(mean x^2 + epsilon) * scale, in float32 up to the scale."""
    wide = x.astype(jnp.float32)
    wide = wide * lax.rsqrt((wide**2).mean(-1, keepdims=True) + epsilon)
    return wide.astype(x.dtype) * along(scale, x)


def layer_norm(x: Float[Array, "*b w"], scale: Float[Array, "w"], bias: Float[Array, "w"], epsilon: float) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, in float32."""
    wide = x.astype(jnp.float32)
    wide = wide - wide.mean(-1, keepdims=True)
    wide = wide * lax.rsqrt((wide**2).mean(-1, keepdims=True) + epsilon)
    return (wide * along(scale, wide).astype(jnp.float32) + along(bias, wide).astype(jnp.float32)).astype(x.dtype)


def along(vector: Float[Array, "w"], x: Array) -> Array:
    """The vector with x's number of axes."""
    return vector.reshape((1,) * (x.ndim - vector.ndim) + vector.shape)
