"""Unmodified models of other people's libraries: lazy leaves give what dense ones give, and stay lazy.

Models are only shapes until `perturbed` fills them in.
"""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from numpy.testing import assert_allclose

from evo.axes import split_axes
from evo.lazy import Lazy, call, densify, is_lazy, report
from evo.leaf import path_of

MEMBERS = 3
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def _as_the_libraries_expect():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def made(module, *args):
    """A linen module as a function of its variables."""
    return lambda variables, *inputs: module.apply(variables, *inputs), jax.eval_shape(module.init, KEY, *args)


def linen_mlp():
    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.LayerNorm()(nn.relu(nn.Dense(24)(x)))
            return nn.Dense(8, use_bias=False)(nn.gelu(nn.Dense(24, dtype=jnp.float32)(x)))

    x = jnp.ones((5, 12))
    return *made(MLP(), x), x, {"Dense_0": ((0,), (1,)), "LayerNorm_0/scale": None}


def linen_cnn():
    class CNN(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(8, (3, 3))(x)))
            x = nn.Conv(16, (3, 3), strides=2, padding="VALID")(x)
            x = nn.GroupNorm(4)(nn.Conv(16, (3, 3), feature_group_count=16)(x))
            x = nn.ConvTranspose(8, (3, 3), strides=(2, 2))(nn.max_pool(x, (2, 2)))
            return nn.Dense(10)(x.reshape(len(x), -1))

    x = jnp.ones((2, 9, 9, 4))
    return *made(CNN(), x), x, {"Conv_0/kernel": ((0, 1, 2), (3,)), "Conv_2/kernel": ((0, 1), (3,))}


def linen_gru():
    class Reader(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            embed = nn.Embed(20, 12)
            y = nn.RNN(nn.remat(nn.GRUCell)(12))(embed(tokens))
            return embed.attend(y)

    tokens = jnp.arange(12).reshape(2, 6)
    return *made(Reader(), tokens), tokens, {"Embed_0/embedding": ((0,), (1,))}


def linen_half():
    class Half(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.tanh(nn.Dense(24, dtype=jnp.bfloat16)(x))
            return nn.Dense(8, dtype=jnp.bfloat16)(x)

    x = jnp.ones((5, 12))
    return *made(Half(), x), x, {"Dense_1/kernel": ((0,), (1,))}


def nnx_block():
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(20, 16, rngs=rngs)
            self.norm = nnx.LayerNorm(16, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(4, 16, rngs=rngs, decode=False)
            self.up = nnx.Linear(16, 32, rngs=rngs)
            self.down = nnx.Linear(32, 16, rngs=rngs)

        def __call__(self, tokens):
            x = self.embed(tokens)
            x = x + self.attention(self.norm(x), mask=nnx.make_causal_mask(tokens))
            x = x + self.down(nnx.gelu(self.up(self.norm(x))))
            return self.embed.attend(x)

    graph, params = nnx.split(nnx.eval_shape(lambda: Block(nnx.Rngs(0))), nnx.Param)
    tokens = jnp.arange(6)[None]
    wanted = {"query/kernel": ((0,), (1, 2)), "out/kernel": ((0, 1), (2,)), "embedding": ((0,), (1,))}
    return lambda params, tokens: nnx.merge(graph, params)(tokens), params, tokens, wanted


def equinox(build, x, wanted):
    """An equinox module as a function of its arrays."""
    params, rest = eqx.partition(eqx.filter_eval_shape(build), lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    return lambda params, x: eqx.combine(params, rest)(x), params, x, wanted


def equinox_mlp():
    return equinox(lambda: eqx.nn.MLP(12, 8, 24, 2, key=KEY), jnp.ones(12), {"layers/0/weight": ((1,), (0,))})


class Reader(eqx.Module):
    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear

    def __call__(self, x):
        hidden, _ = lax.scan(lambda h, x: (self.cell(x, h), None), jnp.zeros(12), x)
        return self.head(hidden)


def equinox_gru():
    build = lambda: Reader(eqx.nn.GRUCell(8, 12, key=KEY), eqx.nn.Linear(12, 9, key=KEY))  # noqa: E731
    return equinox(build, jnp.ones((6, 8)), {"cell/weight_ih": ((1,), (0,))})


class Attention(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm

    def __call__(self, x):
        x = jax.vmap(self.norm)(x)
        return self.attention(x, x, x)


def equinox_attention():
    build = lambda: Attention(eqx.nn.MultiheadAttention(4, 16, key=KEY), eqx.nn.LayerNorm(16))  # noqa: E731
    return equinox(build, jnp.ones((5, 16)), {"query_proj/weight": ((1,), (0,))})


def equinox_conv():
    def build():
        first, second = eqx.nn.Conv2d(4, 8, 3, key=KEY), eqx.nn.ConvTranspose2d(8, 4, 3, stride=2, key=KEY)
        return eqx.nn.Sequential([first, eqx.nn.Lambda(jnp.tanh), second])

    return equinox(build, jnp.ones((4, 7, 7)), {"layers/0/weight": ((1, 2, 3), (0,))})


def plain(function, shapes, x, wanted):
    return function, {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}, x, wanted


def stacked_layers():
    def model(p, x):
        @jax.checkpoint
        def layer(x, w):
            y = x * w["norm"] / jnp.sqrt((x**2).mean(-1, keepdims=True))
            qkv = jnp.einsum("td,dchk->cthk", y, w["qkv"])
            weights = jax.nn.softmax(jnp.einsum("thk,shk->hts", qkv[0], qkv[1]))
            x = x + jnp.einsum("hts,shk,hkd->td", weights, qkv[2], w["out"])
            return x + jax.nn.silu(y @ w["up"]) @ w["down"], None

        return lax.scan(layer, x, p)[0]

    shapes = {"norm": (3, 12), "qkv": (3, 12, 3, 2, 6), "out": (3, 2, 6, 12), "up": (3, 12, 24), "down": (3, 24, 12)}
    wanted = {"norm": None, "qkv": ((1,), (2, 3, 4)), "out": ((1, 2), (3,)), "up": ((1,), (2,))}
    return plain(model, shapes, jnp.ones((5, 12)), wanted)


def lstm_over_time():
    def model(p, x):
        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x @ p["in"] + h @ p["own"] + p["bias"], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), h

        return lax.scan(step, (jnp.zeros(12), jnp.zeros(12)), x)[1]

    shapes = {"in": (8, 48), "own": (12, 48), "bias": (48,)}
    return plain(model, shapes, jnp.ones((6, 8)), {"in": ((0,), (1,)), "own": ((0,), (1,))})


def experts():
    def model(p, x):
        gate, chosen = lax.top_k(x @ p["router"], 2)
        up, down = p["up"][chosen], p["down"][chosen]
        y = jax.nn.relu(jnp.einsum("td,tkdh->tkh", x, up) + p["bias"][chosen])
        return jnp.einsum("tk,tkh,tkhd->td", jax.nn.softmax(gate), y, down)

    shapes = {"router": (12, 8), "up": (8, 12, 24), "down": (8, 24, 12), "bias": (8, 24)}
    return plain(model, shapes, jnp.ones((5, 12)), {"up": ((1,), (2,)), "down": ((1,), (2,)), "router": ((0,), (1,))})


def tied_embedding():
    def model(p, tokens):
        def step(carry, _):
            cache, token, i = carry
            cache = lax.dynamic_update_slice_in_dim(cache, p["embed"][token][None], i, 0)
            h = jnp.tanh(cache.mean(0) @ p["w"])
            logits = p["embed"] @ h
            return (cache, jnp.argmax(logits), i + 1), logits

        return lax.scan(step, (jnp.zeros((6, 12)), tokens[0], 0), None, 6)[1]

    shapes = {"embed": (20, 12), "w": (12, 12)}
    return plain(model, shapes, jnp.arange(3), {"embed": ((0,), (1,)), "w": ((0,), (1,))})


MODELS = [
    linen_mlp,
    linen_cnn,
    linen_gru,
    linen_half,
    nnx_block,
    equinox_mlp,
    equinox_gru,
    equinox_attention,
    equinox_conv,
    stacked_layers,
    lstm_over_time,
    experts,
    tied_embedding,
]


def perturbed(params, axes):
    """Lazy leaves for all members where a leaf is a matrix, as inferred; the rest as it is."""
    random = np.random.default_rng(0)

    def leaf(path, x):
        x = jnp.asarray(random.normal(size=x.shape) * 0.3, x.dtype)
        x = jnp.abs(x) if path_of(path).endswith("var") else x
        rows, cols = axes.get(path_of(path), ((), ()))
        if not rows:
            return x
        a = [1 if i in cols else n for i, n in enumerate(x.shape)]
        b = [1 if i in rows else n for i, n in enumerate(x.shape)]
        return Lazy(x, *(jnp.asarray(random.normal(size=(MEMBERS, *s, 1)) * 0.3, x.dtype) for s in (a, b)))

    return jax.tree_util.tree_map_with_path(leaf, params)


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_model_is_as_its_dense_twin(build):
    model, params, x, wanted = build()
    axes = split_axes(model, params, x)
    for name, split in wanted.items():
        (found,) = {axes[path] for path in axes if name in path and len(axes[path][0]) + (split is None)} or {((), ())}
        assert found == (split or ((), ()))
    assert not report(model, params, x).dense
    assert all(axes[path][0] for path in axes if "kernel" in path or "weight" in path or "embedding" in path)

    lazy = perturbed(params, axes)
    where = jax.tree.map(lambda x: Lazy(None, 0, 0) if is_lazy(x) else None, lazy, is_leaf=is_lazy)
    x = x if jnp.issubdtype(x.dtype, jnp.integer) else jax.random.normal(KEY, x.shape)

    def both(params):
        return call(model, params, x, strict=True), model(densify(params), x)

    got, want = jax.jit(jax.vmap(both, (where,)))(lazy)
    atol = 0.05 if got.dtype == jnp.bfloat16 else 2e-5
    assert_allclose(
        got.astype(jnp.float32), want.astype(jnp.float32), rtol=0, atol=atol * max(1, float(abs(want).max()))
    )
    assert float(jnp.abs(got[0] - got[1]).max()) > 0.01
