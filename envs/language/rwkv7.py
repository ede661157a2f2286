"""RWKV-7 (Peng et al. 2025, arXiv 2503.14456) in plain JAX: its memory is of constant size, whatever it has read.

Axes: `l` layers, `b` rows, `t` new positions, `h` heads, `d` numbers of a head, `w` width, `v` vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from evo.envs.language.causal import fresh
from evo.envs.language.decoder import along, layer_norm
from evo.envs.language.quantised import product

MIXED = ("r", "w", "k", "v", "a", "g")  # what is made of each token and the one before it
DECAY = math.exp(-0.5)  # the log of the fastest decay, per token


class States(NamedTuple):
    """What the layers remember: the last token before each half, and the matrix of every head, in float32."""

    before: Float[Array, "l b w"]
    fed: Float[Array, "l b w"]
    state: Float[Array, "l b h d d"]


@dataclass(frozen=True)
class RWKV7:
    """An RWKV-7 model's shape. `ranks` are those of the low-rank maps of decay, rate, value and gate."""

    vocabulary: int
    width: int
    layers: int
    head: int  # numbers of a head
    hidden: int
    ranks: tuple[int, int, int, int]  # w, a, v, g
    context: int = 0  # any
    epsilon: float = 1e-5
    tied: bool = False

    @property
    def heads(self) -> int:
        """Heads of a layer."""
        return self.width // self.head

    def shapes(self) -> dict[str, Any]:
        """Shape of every leaf."""
        w = self.width
        layer: dict[str, tuple[int, ...]] = {name: (w, w) for name in ("r", "k", "v", "o")}
        layer |= {"up": (w, self.hidden), "down": (self.hidden, w), "mix_up": (w,), "k_scale": (w,), "k_rate": (w,)}
        layer |= {f"mix_{name}": (w,) for name in MIXED} | {"bonus": (self.heads, self.head)}
        for name, rank in zip(("w", "a", "v", "g"), self.ranks, strict=True):
            layer |= {f"{name}_in": (w, rank), f"{name}_out": (rank, w)}
        layer |= {f"{name}_bias": (w,) for name in ("w", "a", "v")}
        for name in ("norm1", "norm2", "head_norm"):
            layer |= {name: (w,), f"{name}_bias": (w,)}
        outer: dict[str, Any] = {"embed": (self.vocabulary, w)} | ({} if self.tied else {"head": (self.vocabulary, w)})
        for name in ("norm0", "norm"):
            outer |= {name: (w,), f"{name}_bias": (w,)}
        return outer | {"layers": {name: (self.layers, *shape) for name, shape in layer.items()}}

    def init(self, key: Key[Array, ""]) -> dict[str, Any]:
        """Fresh float32 weights, see `fresh`."""
        return fresh(key, self.shapes())

    def begin(self, params: Any, rows: int, length: int) -> States:
        """The memory before the first token, of the same size for any length."""
        last = jnp.zeros((self.layers, rows, self.width), params["embed"].dtype)
        return States(last, last, jnp.zeros((self.layers, rows, self.heads, self.head, self.head)))

    def grow(self, memory: States, more: int) -> States:
        """The memory as it is: it has room for any number of tokens."""
        return memory

    def read(
        self, params: Any, tokens: Int[Array, "b t"], real: Bool[Array, "b t"], memory: States
    ) -> tuple[Float[Array, "b t w"], States]:
        """What the last layer says of every new token, normed, and the memory after them.

        `real` is False at padding on the left, which leaves no trace.
        """
        x = self._normed(params, "norm0", params["embed"][tokens])
        keep = real[..., None].astype(x.dtype)

        def layer(carry, row):
            x, first = carry
            own, index, (before, fed, state) = row
            y = self._normed(own, "norm1", x) * keep
            out, first, state = self._mix_time(own, y, shifted(y, before), first, index, keep, state)
            x = x + out
            z = self._normed(own, "norm2", x) * keep
            mixed = z + (shifted(z, fed) - z) * along(own["mix_up"], z)
            x = x + product(jax.nn.relu(product(mixed, own["up"])) ** 2, own["down"])
            return (x, first), States(y[:, -1], z[:, -1], state)

        rows = (params["layers"], jnp.arange(self.layers), memory)
        (x, _), memory = lax.scan(layer, (x, jnp.zeros_like(x)), rows)
        return self._normed(params, "norm", x), memory

    def logits(self, params: Any, x: Float[Array, "*b w"]) -> Float[Array, "*b v"]:
        """Scores of every token, in float32."""
        table = params["embed" if self.tied else "head"]
        return jnp.einsum("...w,vw->...v", x, table, preferred_element_type=jnp.float32)

    def _mix_time(self, own, x, last, first, index, keep, state):
        """The half of a layer that looks back: its output, the first layer's values, and the heads' matrices."""
        r, w, k, v, a, g = (x + (last - x) * along(own[f"mix_{name}"], x) for name in MIXED)
        decay = jnp.exp(-DECAY * jax.nn.sigmoid(self._low(own, "w", jnp.tanh, w).astype(jnp.float32)))
        rate = jax.nn.sigmoid(self._low(own, "a", None, a))
        gate = product(jax.nn.sigmoid(product(g, own["g_in"])), own["g_out"])
        values = product(v, own["v"])
        first = jnp.where(index == 0, values, first)
        values = jnp.where(index == 0, values, values + (first - values) * jax.nn.sigmoid(self._low(own, "v", None, v)))
        values = values * keep
        r, k = product(r, own["r"]), product(k, own["k"])
        removed = unit(self._split(k * along(own["k_scale"], k)))
        k = k * (1 + (rate - 1) * along(own["k_rate"], k))
        r, k, values, rate, decay = map(self._split, (r, k, values, rate, decay))
        out, state = recur(state, r, decay, k, values, removed, rate)
        scale, bias = (own[name].reshape(self.heads, self.head) for name in ("head_norm", "head_norm_bias"))
        out = layer_norm(out, scale, bias, self.head * self.epsilon)
        out = out.astype(values.dtype) + (r * k * along(own["bonus"], r)).sum(-1, keepdims=True) * values
        return product(out.reshape(x.shape) * gate, own["o"]), first, state

    def _low(self, own, name: str, act, x):
        """A low-rank map with a bias."""
        inner = product(x, own[f"{name}_in"])
        y = product(inner if act is None else act(inner), own[f"{name}_out"])
        return y + along(own[f"{name}_bias"], y)

    def _split(self, x):
        return x.reshape(*x.shape[:2], self.heads, self.head)

    def _normed(self, own, name: str, x):
        return layer_norm(x, own[name], own[f"{name}_bias"], self.epsilon)


def recur(state, r, decay, k, v, removed, rate):
    """S_t = S_{t-1} (diag(decay) - removed^T (rate * removed)) + v^T k and out_t = S_t r, in float32."""
    steps = [jnp.moveaxis(x.astype(jnp.float32), 1, 0) for x in (r, decay, k, v, removed, removed * rate)]

    def step(s, row):
        r, decay, k, v, gone, back = row
        stale = jnp.einsum("bhvk,bhk->bhv", s, gone)
        s = s * decay[:, :, None] - stale[..., None] * back[:, :, None] + v[..., None] * k[:, :, None]
        return s, jnp.einsum("bhvk,bhk->bhv", s, r)

    state, out = lax.scan(step, state, steps)
    return jnp.moveaxis(out, 0, 1), state


def shifted(x: Float[Array, "b t w"], before: Float[Array, "b w"]) -> Float[Array, "b t w"]:
    """Each position's predecessor."""
    return jnp.concatenate([before[:, None], x[:, :-1]], axis=1)


def unit(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """x / |x|, in float32; 0 stays 0."""
    wide = x.astype(jnp.float32)
    return (wide / jnp.maximum(jnp.sqrt((wide**2).sum(-1, keepdims=True)), 1e-12)).astype(x.dtype)
