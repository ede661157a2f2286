"""Lazy leaves: every use of a parameter equals its dense twin, and stays thin where it should."""

from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import lax
from leaves import MATRIX, MEMBERS, both, draw, first, lazy
from numpy.testing import assert_allclose

from evo.axes import split_axes
from evo.lazy import Lazy, call, report

STACK = (1,), (2,)
NONE = (), ()
T, D, O = 5, 8, 6  # noqa: E741  rows of an input, its width, the output's


@jax.custom_vjp
def with_vjp(w, x):
    return x @ w


with_vjp.defvjp(lambda w, x: (x @ w, (w, x)), lambda kept, g: (g, g))


@jax.custom_jvp
def with_jvp(w, x):
    return x @ w


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), tangents[1] @ primals[0]))

STRIPES = (np.arange(D * O).reshape(D, O) % 3 > 0).astype(np.float32)
TOKENS = np.array([3, 0, 7, 7, 2])
IMAGE = (2, 9, 8, 4)


def conv(w, x, strides=(1, 1), padding="SAME", layout=("NHWC", "HWIO", "NHWC"), **how):
    image = jnp.broadcast_to(x.reshape(-1)[:32].reshape(1, 1, 8, 4), IMAGE) * draw(*IMAGE)
    image = image if layout[0] == "NHWC" else image.transpose(0, 3, 1, 2)
    return lax.conv_general_dilated(image, w, strides, padding, dimension_numbers=layout, **how)


def loop(w, x):
    return lax.fori_loop(0, 3, lambda i, c: jnp.tanh(c @ w @ w.T), x)


def decode(w, x):
    def body(carry):
        i, h, token = carry
        h = jnp.tanh(h + w[token])
        return i + 1, h, jnp.argmax(h @ w.T)

    return lax.while_loop(lambda carry: carry[0] < 3, body, (0, x[0], jnp.int32(2)))[1]


def branching(w, x):
    def step(h, i):
        return lax.cond(i % 2 == 0, lambda h: jnp.tanh(h @ w), lambda h: h @ jnp.sin(w), h), None

    return lax.scan(step, x, jnp.arange(4))[0]


def trained(w, x):
    def loss(w):
        return lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, None, 2)[0].mean()

    return lax.fori_loop(0, 2, lambda i, w: w - 0.1 * jax.grad(loss)(w), w)


def until(w, x):
    return lax.while_loop(lambda c: (c[0] < 6) & (c[1][0] < 0.5), lambda c: (c[0] + 1, jnp.tanh(c[1] @ w)), (0, x))


def carried(w, x):
    return lax.fori_loop(0, 3, lambda i, c: (c[0], jnp.tanh(c[1] @ c[0])), (w, x))[1]


def walked(w, x):
    return lax.fori_loop(0, 3, lambda i, c: (c[0] * 0.5 + 1, jnp.tanh(c[1] @ c[0])), (w, x))[1]


def nested(w, x):
    def layers(h, _):
        return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), h, w)[0], h[0]

    return lax.scan(layers, x, None, 3)


def ragged(w, x):
    """Rows sorted by expert, and how many each has."""
    chosen = jnp.sort(jnp.argmax(x[:, :3], 1))
    return lax.ragged_dot(x, w, (chosen[:, None] == jnp.arange(3)[None]).sum(0, dtype=jnp.int32))


# name: shape, inferred (rows, columns), what needs it dense, the use
USES = {
    "x w": ((D, O), MATRIX, None, lambda w, x: x @ w),
    "one row": ((D, O), MATRIX, None, lambda w, x: x[0] @ w),
    "x w^T": ((O, D), ((1,), (0,)), None, lambda w, x: x @ w.T),
    "w x": ((O, D), ((1,), (0,)), None, lambda w, x: w @ x[0]),
    "w^T x^T": ((D, O), MATRIX, None, lambda w, x: w.T @ x.T),
    "heads out": ((D, 4, 6), ((0,), (1, 2)), None, lambda w, x: jnp.einsum("td,dhk->htk", x, w)),
    "heads in": ((2, 4, O), ((0, 1), (2,)), None, lambda w, x: jnp.einsum("thk,hko->to", x.reshape(T, 2, 4), w)),
    "batched": ((T, D, O), STACK, None, lambda w, x: jnp.einsum("td,tdo->to", x, w)),
    "unpaired stack": ((4, D, O), ((1,), (0, 2)), None, lambda w, x: jnp.einsum("td,kdo->tko", x, w)),
    "contracted twice": ((T, D, O), ((0, 1), (2,)), None, lambda w, x: jnp.einsum("td,tdo->o", x, w)),
    "bilinear": ((D, D), MATRIX, None, lambda w, x: jnp.einsum("i,ij,j->", x[0], w, x[1])),
    "linear of a constant": ((D, O), ((1,), (0,)), None, lambda w, x: x @ (w @ draw(O, 7))),
    "bf16": ((D, O), MATRIX, None, lambda w, x: x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)),
    "float16 sum": (
        (D, O),
        MATRIX,
        None,
        lambda w, x: jnp.dot(x.astype(jnp.float16), w.astype(jnp.float16), preferred_element_type=jnp.float32),
    ),
    "look-up": ((20, D), MATRIX, None, lambda w, x: w[TOKENS] * x),
    "take": ((20, D), MATRIX, None, lambda w, x: jnp.take(w, TOKENS, axis=0) + x),
    "look-up, then x": ((20, D), MATRIX, None, lambda w, x: w[TOKENS] @ draw(D, O)),
    "columns looked up": ((D, 20), ((1,), (0,)), None, lambda w, x: w[:, TOKENS].T + x),
    "out of bounds": ((20, D), MATRIX, None, lambda w, x: w.at[TOKENS * 9].get(mode="fill", fill_value=2.0) + x),
    "entries": ((D, O), NONE, None, lambda w, x: w[TOKENS, TOKENS % O] + x[:, 0]),
    "one token": ((20, D), MATRIX, None, lambda w, x: w[jnp.argmax(x[0])] + x[0]),
    "mapped tokens": ((20, D), MATRIX, None, lambda w, x: jax.vmap(lambda i, x: w[i] + x)(jnp.argmax(x, 1), x)),
    "tied": ((20, D), MATRIX, None, lambda w, x: (w[TOKENS] + x) @ w.T),
    "tied, decoded": ((20, D), MATRIX, None, decode),
    "expert": ((4, D, O), STACK, None, lambda w, x: x @ w[jnp.argmax(x[0, :4])]),
    "experts": ((4, D, O), STACK, None, lambda w, x: jnp.einsum("td,tdo->to", x, w[jnp.argmax(x[:, :4], 1)])),
    "mapped experts": ((4, D, O), STACK, None, lambda w, x: jax.vmap(lambda i, x: x @ w[i])(TOKENS % 4, x)),
    "ragged experts": ((3, D, O), STACK, None, ragged),
    "fused, sliced": ((D, 12), MATRIX, None, lambda w, x: (x @ w[:, :6]) * (x @ w[:, 6:])),
    "fused, split": ((D, 12), MATRIX, None, lambda w, x: sum(x @ part for part in jnp.split(w, 3, 1))),
    "fused, at a place": (
        (D, 24),
        MATRIX,
        None,
        lambda w, x: x @ lax.dynamic_slice_in_dim(w, jnp.argmax(x[0]), 12, axis=1),
    ),
    "strided": ((D, 12), MATRIX, None, lambda w, x: x @ w[:, ::2]),
    "flipped": ((D, O), MATRIX, None, lambda w, x: x @ w[::-1, ::-1]),
    "unrolled layers": ((2, D, D), STACK, None, lambda w, x: x @ w[0] @ w[1]),
    "reshaped": ((D, 12), MATRIX, None, lambda w, x: jnp.einsum("td,dhk->thk", x, w.reshape(D, 2, 6))),
    "heads merged": ((2, 4, O), ((0, 1), (2,)), None, lambda w, x: x @ w.reshape(8, O)),
    "heads batched": ((D, 12), MATRIX, None, lambda w, x: jnp.einsum("htd,dhk->htk", x[None], w.reshape(D, 1, 12))),
    "padded": ((D, O), MATRIX, None, lambda w, x: x @ jnp.pad(w, ((0, 0), (1, 2)), constant_values=1.0)),
    "expanded": ((D, O), MATRIX, None, lambda w, x: x @ w[None, :, None].squeeze((0, 2))),
    "repeated": ((D, O), MATRIX, None, lambda w, x: jnp.einsum("td,kdo->kto", x, jnp.broadcast_to(w, (2, D, O)))),
    "scaled": ((D, O), MATRIX, None, lambda w, x: x @ (w * 0.5 / x[0, 0])),
    "rows scaled": ((D, O), MATRIX, None, lambda w, x: x @ (w * x[0][:, None])),
    "columns scaled": ((D, O), MATRIX, None, lambda w, x: x @ (w / (1 + x[:1, :O] ** 2))),
    "negative": ((D, O), MATRIX, None, lambda w, x: x @ -w),
    "moved": ((D, O), MATRIX, None, lambda w, x: x @ (1.5 - w)),
    "symmetric": ((D, D), MATRIX, None, lambda w, x: x @ (w + w.T)),
    "beside its transpose": ((D, D), MATRIX, "concatenate", lambda w, x: x @ w @ jnp.concatenate([w, w.T], 1)),
    "by columns": ((D, D), MATRIX, None, lambda w, x: x @ w.reshape(D, D, order="F")),
    "by columns, in heads": ((D, D), ((1,), (0,)), None, lambda w, x: x @ w.T @ w.reshape(D, 2, 4, order="F")[:, 1]),
    "edges repeated": ((D, O), MATRIX, None, lambda w, x: x @ jnp.pad(w, ((0, 0), (1, 2)), mode="edge")),
    "padded with its own": ((D, O), MATRIX, None, lambda w, x: x @ jnp.pad(w, 2, constant_values=w[0, 0])[2:-2]),
    "no rows": ((D, O), MATRIX, None, lambda w, x: ((x[:0] @ w).sum(0), x[:, :0] @ w[:0])),
    "no columns": ((D, O), MATRIX, None, lambda w, x: sum((x @ part).sum(1) for part in jnp.split(w, [0, O], 1))),
    "frozen part": ((D, O), NONE, None, lambda w, x: x @ (draw(D, O) + 2.0 * w)),
    "sum of parts": ((D, 12), MATRIX, None, lambda w, x: x @ (w[:, :6] - w[:, 6:])),
    "beside itself": ((D, 12), MATRIX, None, lambda w, x: x @ jnp.concatenate([w, w[:, 3:], 2 * w], 1)),
    "stacked anew": ((D, 12), MATRIX, None, lambda w, x: jnp.einsum("td,kdo->tko", x, jnp.stack([w, -w]))),
    "unstacked": ((2, D, D), STACK, None, lambda w, x: x @ jnp.unstack(w)[1]),
    "tiled": ((D, O), MATRIX, None, lambda w, x: x @ jnp.tile(w, (1, 2))),
    "rolled": ((D, 12), MATRIX, None, lambda w, x: x @ jnp.roll(w, 5, 1)),
    "stacked with a constant": (
        (D, O),
        NONE,
        None,
        lambda w, x: jnp.einsum("td,kdo->tko", x, jnp.stack([w, draw(D, O)])),
    ),
    "copied": ((D, O), MATRIX, None, lambda w, x: x @ jax.device_put(jnp.array(w))),
    "chosen": ((D, O), MATRIX, None, lambda w, x: x @ jnp.where(x[0, 0] > 0, w, 2 * w)),
    "column sums": ((D, O), MATRIX, None, lambda w, x: x @ w - w.sum(0, keepdims=True)),
    "stop_gradient": ((D, O), MATRIX, None, lambda w, x: x @ lax.stop_gradient(w)),
    "barrier": ((D, O), MATRIX, None, lambda w, x: x @ lax.optimization_barrier((w, x))[0]),
    "jit": ((D, O), MATRIX, None, lambda w, x: jax.jit(lambda w, x: (x @ w, w))(w, x)),
    "remat": ((D, O), MATRIX, None, lambda w, x: jax.checkpoint(lambda w, x: jnp.tanh(x @ w))(w, x)),
    "custom_vjp": ((D, O), MATRIX, None, with_vjp),
    "custom_jvp": ((D, O), MATRIX, None, with_jvp),
    "gradient": ((D, O), MATRIX, None, lambda w, x: jax.grad(lambda x: jnp.tanh(x @ w).sum())(x)),
    "cond": ((D, O), MATRIX, None, lambda w, x: lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: 2 * x @ w)),
    "switch": ((D, O), MATRIX, None, lambda w, x: lax.switch(2, [lambda w: x @ w] * 2 + [lambda w: -x @ w], w)),
    "for": ((D, O), MATRIX, None, loop),
    "while, mapped": ((D, D), MATRIX, None, lambda w, x: jax.vmap(partial(until, w))(x)),
    "carried along": ((D, D), MATRIX, None, carried),
    "layers": ((3, D, D), STACK, None, lambda w, x: lax.scan(lambda h, w: (jnp.tanh(h @ w), h), x, w)),
    "layers backwards": ((3, D, D), STACK, None, lambda w, x: lax.scan(lambda h, w: (h @ w, h), x, w, reverse=True)),
    "layers in time": ((3, D, D), STACK, None, nested),
    "layer by number": ((3, D, D), STACK, None, lambda w, x: lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ w[i]), x)),
    "rows in a loop": ((D, O), NONE, None, lambda w, x: lax.scan(lambda c, w: (c + w, w[0]), x[0, :O], w)),
    "conv": ((3, 3, 4, 8), ((0, 1, 2), (3,)), None, conv),
    "conv, strided": ((4, 5, 4, 8), ((0, 1, 2), (3,)), None, partial(conv, strides=(2, 3), padding="VALID")),
    "conv, dilated": ((3, 3, 4, 8), ((0, 1, 2), (3,)), None, partial(conv, rhs_dilation=(2, 1))),
    "conv, holes and strides": (
        (3, 3, 4, 8),
        ((0, 1, 2), (3,)),
        None,
        partial(conv, strides=(2, 1), rhs_dilation=(2, 1)),
    ),
    "conv, transposed": (
        (3, 3, 4, 8),
        ((0, 1, 2), (3,)),
        None,
        partial(conv, lhs_dilation=(2, 2), padding=((1, 2), (2, 2))),
    ),
    "conv, grouped": ((3, 3, 2, 8), ((0, 1, 2), (3,)), None, partial(conv, feature_group_count=2)),
    "conv, depthwise": ((3, 3, 1, 8), ((0, 1), (3,)), None, partial(conv, feature_group_count=4)),
    "conv, cropped": ((3, 3, 4, 8), ((0, 1, 2), (3,)), None, partial(conv, padding=((-1, 0), (0, -2)))),
    "conv, channels first": ((8, 4, 3, 3), ((1, 2, 3), (0,)), None, partial(conv, layout=("NCHW", "OIHW", "NCHW"))),
    "conv, large window": ((9, 8, 4, 8), ((0, 1, 2), (3,)), None, conv),
    "conv, bf16": (
        (3, 3, 4, 8),
        ((0, 1, 2), (3,)),
        None,
        lambda w, x: conv(w.astype(jnp.bfloat16), x.astype(jnp.bfloat16)) if x.dtype == jnp.bfloat16 else conv(w, x),
    ),
    "w as image": ((9, 8), NONE, "conv", lambda w, x: lax.conv(w[None, None], draw(1, 1, 3, 3), (1, 1), "SAME")),
    "added": ((T, D), NONE, "tanh", lambda w, x: jnp.tanh(x + w)),
    "squashed": ((D, O), MATRIX, "sin", lambda w, x: x @ jnp.sin(w)),
    "masked": ((D, O), NONE, "mul", lambda w, x: x @ (w * STRIPES)),
    "squared": ((D, O), NONE, "integer_pow", lambda w, x: (w**2).sum() + x),
    "weight norm": ((D, O), MATRIX, "mul|square", lambda w, x: x @ (w / jnp.linalg.norm(w, axis=0, keepdims=True))),
    "flattened": ((D, O), NONE, "reshape", lambda w, x: x @ w.ravel()[:40].reshape(D, 5)),
    "maximum": ((D, O), NONE, "reduce_max", lambda w, x: w.max() * x),
    "repeated, then joined": (
        (D, O),
        NONE,
        "concatenate",
        lambda w, x: x @ jnp.concatenate([jnp.broadcast_to(w, (2, D, O)), jnp.ones((1, D, O))]),
    ),
    "repeated, out of bounds": (
        (D, O),
        MATRIX,
        "gather",
        lambda w, x: x @ jnp.broadcast_to(w, (3, D, O)).at[TOKENS].get(mode="fill", fill_value=2.0),
    ),
    "product of its own": ((D, O), MATRIX, "dot_general", lambda w, x: x @ w @ w.T @ (w @ w.T)),
    "both in one loop": (
        (D, D),
        MATRIX,
        "sin",
        lambda w, x: lax.fori_loop(0, 3, lambda i, c: jnp.tanh(c @ w @ jnp.sin(w.T)), x),
    ),
    "in a branch in a loop": ((D, D), MATRIX, "sin", branching),
    "out of a branch": ((D, D), NONE, "cond", lambda w, x: lax.cond(x[0, 0] > 0, lambda: w, lambda: 2 * w)),
    "trained inside": ((D, D), NONE, "scan", trained),
    "changed in a loop": ((D, D), NONE, "scan", walked),
}


@pytest.mark.parametrize("name", USES)
def test_use_equals_its_dense_twin(name):
    shape, axes, reason, use = USES[name]
    x = jnp.asarray(draw(MEMBERS, T, D))
    assert split_axes(use, jnp.zeros(shape), x[0])[""] == axes
    rows, cols = axes if axes[0] else ((len(shape) - 2,), (len(shape) - 1,))
    w = lazy(shape, rows, cols)
    got, want = both(use, w, x)
    for g, d in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert g.dtype == d.dtype
        near = 3e-2 if g.dtype == jnp.bfloat16 else 4e-3 if "16" in name else 2e-5
        scale = np.abs(np.nan_to_num(np.asarray(d, np.float32))).max()
        assert_allclose(np.asarray(g, np.float32), np.asarray(d, np.float32), rtol=0, atol=near * max(scale, 1))
    member = first(w)
    if reason is None:
        jax.eval_shape(lambda w, x: call(use, w, x, strict=True), member, x[0])
    else:
        with pytest.raises(ValueError, match=f"made dense: ({reason})"):
            jax.eval_shape(lambda w, x: call(use, w, x, strict=True), member, x[0])


def test_a_choice_of_its_own_gives_no_member_a_copy():
    def own(w, x):
        return lax.switch(x[0].astype(int) % 3, [lambda w: x @ w, lambda w: x @ w.T, lambda w: x], w)

    n, size = 32, 256
    w = lazy((size, size), *MATRIX)
    thin = Lazy(w.base, *(jnp.tile(w[i][:1], (n, 1, 1, 1)) for i in (1, 2)), jnp.ones(n))
    program = jax.jit(jax.vmap(partial(call, own), (Lazy(None, 0, 0, 0), 0)))
    compiled = program.lower(thin, jnp.arange(n * size, dtype=jnp.float32).reshape(n, size)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < size * size * 4


@pytest.mark.parametrize(
    ("use", "verdict"),
    [
        (lambda p, x: (x @ p["w"]) * p["gain"][None], "kept lazy"),
        (lambda p, x: x @ (p["w"] * p["gain"][None]), "made dense: mul with a leaf's own noise (test_lazy.py:"),
        (
            lambda p, x: x @ (p["w"] / jnp.exp(p["gain"])[None]),
            "made dense: div with a leaf's own noise (test_lazy.py:",
        ),
    ],
)
def test_a_matrix_that_is_every_members_own_is_reported(use, verdict):
    params = {"gain": jnp.ones(O), "w": jnp.zeros((D, O))}
    assert report(use, params, jnp.ones((T, D))).rows[1].verdict.startswith(verdict)


@pytest.mark.parametrize(("count", "said"), [(3, "gather"), (4, "gather as large as the leaf")])
def test_a_look_up_of_all_of_a_leaf_is_told(count, said):
    """Columns in another order are as many numbers as the matrix has, and every member's own."""
    permuted = lambda params, x: (x @ params["w"][:, jnp.arange(count)[::-1]]).sum()  # noqa: E731
    assert report(permuted, {"w": jnp.ones((5, 4))}, jnp.ones((2, 5))).rows[0].uses == (said,)


# --- random programs --------------------------------------------------------------------------------------------

STEPS = {
    "transpose": lambda w: w.T,
    "flip": lambda w: w[::-1],
    "scale": lambda w: w * -0.7,
    "rows": lambda w: w * jnp.linspace(0.5, 1.5, w.shape[0])[:, None],
    "columns": lambda w: w / jnp.linspace(0.5, 1.5, w.shape[1])[None],
    "crop": lambda w: w[1:, :-1],
    "stride": lambda w: w[:, ::2],
    "pad": lambda w: jnp.pad(w, ((1, 0), (0, 2)), constant_values=0.3),
    "join": lambda w: jnp.concatenate([w, 2 * w], 1),
    "sum": lambda w: w + 2 * w[::-1],
    "move": lambda w: 1.0 - w,
    "expand": lambda w: jnp.squeeze(w[:, None, :, None], (1, 3)),
    "split": lambda w: w.reshape(1, *w.shape, 1).reshape(w.shape),
    "halves": lambda w: sum(jnp.split(w, [w.shape[0] - 2])[1] * k for k in (1, 2)),
    "place": lambda w: lax.dynamic_slice_in_dim(w, jnp.int32(1), w.shape[0] - 1),
    "choose": lambda w: lax.select(jnp.bool_(True), w, w * 2),
    "squash": jnp.tanh,
    "jit": jax.jit(lambda w: w.T),
    "remat": jax.checkpoint(lambda w: 3 * w),
}


def in_scan(x, w):
    return lax.scan(lambda c, x: (c, x @ w), 0, x)[1]


def in_while(x, w):
    return lax.fori_loop(0, 2, lambda i, y: y * 0.5 + x @ w, jnp.zeros((len(x), w.shape[1])))


def in_cond(x, w):
    return lax.cond(x.sum() > 0, lambda: x @ w, lambda: x[::-1] @ w)


def in_conv(x, w):
    """Along a row of places, each with as many channels as w has rows."""
    return lax.conv_general_dilated(x[None], w[None], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))


ENDS = {
    "dot": lambda x, w: x @ w,
    "row": lambda x, w: x[0] @ w,
    "tied": lambda x, w: jnp.tanh(x @ w) @ w.T,
    "look-up": lambda x, w: w[jnp.argmax(x, 1)] * 2,
    "expert": lambda x, w: x @ jnp.stack([w, -w])[jnp.argmax(x[0, :2])],
    "mapped": lambda x, w: jax.vmap(lambda column: x @ column, 1)(w),
    "conv": in_conv,
    "scan": in_scan,
    "while": in_while,
    "cond": in_cond,
}


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=4), st.lists(st.sampled_from(sorted(ENDS)), min_size=1))
def test_random_programs_equal_their_dense_twins(steps, ends):
    def program(w):
        for step in steps:
            w = STEPS[step](w)
        return [ENDS[end](jnp.asarray(draw(4, w.shape[0])), w) for end in ends[:2]]

    got, want = both(program, lazy((9, 12), *MATRIX))
    for g, d in zip(got, want, strict=True):
        assert_allclose(g, d, rtol=0, atol=2e-5 * max(1, np.abs(d).max()))
