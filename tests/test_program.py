"""Programs with lazy leaves cost what they would if written by hand, and the report says what is in them."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from leaves import MATRIX, by_member, draw, first, lazy
from numpy.testing import assert_allclose

from evo.lazy import Lazy, call, densify, report

N, HIDDEN = 7, 40


def compiled(function, params, *args):
    return jax.jit(lambda params, *args: by_member(function, params, *args)).lower(params, *args).compile()


def cost(program):
    """Floating-point operations, temporaries in bytes and dots of a compiled program."""
    dots = len(re.findall(r" (?:dot|convolution)\(|__onednn|custom_call_target", program.as_text()))
    return np.array([program.cost_analysis()["flops"], program.memory_analysis().temp_size_in_bytes, dots])


def mlp(params, x):
    for w in params[:-1]:
        x = jnp.tanh(x @ w)
    return x @ params[-1]


def mlp_by_hand(params, x):
    for i, w in enumerate(params):
        x = x @ w.base + (x @ w.a[:, 0]) @ w.b[0].T
        x = jnp.tanh(x) if i < len(params) - 1 else x
    return x


def over_time(policy, params, x):
    def step(x, _):
        x = jnp.cos(x + policy(params, x))
        return x, x.sum()

    return lax.scan(step, x, None, 11)[1].sum()


def conv_net(params, x):
    for w in params:
        x = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jnp.tanh(x)
    return x


def conv_by_hand(params, x):
    for w in params:
        high, wide = x.shape[1:3]
        y = lax.conv_general_dilated(x, w.base, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        places = jnp.einsum("nhwc,ijcr->nhwijr", jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), w.a[:, :, :, 0])
        thin = sum(places[:, i : i + high, j : j + wide, i, j] for i in range(3) for j in range(3))
        x = jnp.tanh(y + thin @ w.b[0, 0, 0].T)
    return x


DENSE = [lazy((24, HIDDEN), *MATRIX, 1, N), lazy((HIDDEN, 24), *MATRIX, 1, N)]
KERNELS = [lazy((3, 3, 8, 16), (0, 1, 2), (3,), 1, N), lazy((3, 3, 16, 24), (0, 1, 2), (3,), 1, N)]
PROGRAMS = {
    "mlp": (mlp, mlp_by_hand, DENSE, (N, 5, 24)),
    "mlp, one row": (mlp, mlp_by_hand, DENSE, (N, 24)),
    "mlp over time": (partial(over_time, mlp), partial(over_time, mlp_by_hand), DENSE, (N, 24)),
    "conv net": (conv_net, conv_by_hand, KERNELS, (N, 2, 9, 8, 8)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_is_the_one_written_by_hand(name):
    model, by_hand, params, shape = PROGRAMS[name]
    x = jnp.asarray(draw(*shape))
    program, twin = compiled(partial(call, model), params, x), compiled(by_hand, params, x)
    assert_allclose(program(params, x), twin(params, x), rtol=2e-5, atol=2e-5)
    assert_allclose(cost(program), cost(twin), rtol=0.03)  # one row's sum counts its additions twice
    shapes = {tuple(sorted(map(int, found.split(",")))) for found in re.findall(r"f32\[([\d,]+)\]", program.as_text())}
    for w in params:
        assert tuple(sorted((N, *w.base.shape))) not in shapes


def test_noise_is_drawn_outside_of_the_loop():
    def member(key, x):
        draws = [jax.random.normal(key, (2, n, 1)) for n in (24, HIDDEN)]
        w = Lazy(jnp.ones((24, HIDDEN)), draws[0][0][:, None], draws[1][0][None])
        v = Lazy(jnp.ones((HIDDEN, 24)), draws[1][1][:, None], draws[0][1][None])
        return call(partial(over_time, mlp), [w, v], x)

    text = jax.jit(jax.vmap(member)).lower(jax.random.split(jax.random.key(0), N), draw(N, 24)).compile().as_text()
    blocks = {block.split()[0].lstrip("%"): block for block in re.split(r"\n(?=%|ENTRY)", text) if block.strip()}
    rollouts = [body for body in re.findall(r"body=%([\w.\-]+)", text) if "cosine" in inside(blocks, body)]
    assert rollouts
    for body in rollouts:
        assert "xor(" not in inside(blocks, body)


def test_factors_cross_a_loops_edge_without_axes_of_length_1():
    """With those XLA lays a loop's constants out in a way of its own, and copies them in every round."""

    def task(w, x):
        return lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, 5)[0]

    w = lazy((8, 8), *MATRIX, rank=1, members=N)
    jaxpr = jax.make_jaxpr(lambda w, x: by_member(partial(call, task), w, x))(w, draw(N, 8))
    loop = next(eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan")
    assert sorted(var.aval.shape for var in loop.invars) == [(N, 8), (N, 8), (N, 8), (8, 8)]


def inside(blocks, name):
    """A computation of a compiled program, with all that it calls."""
    calls = re.findall(r"(?:calls|body|condition|to_apply)=%([\w.\-]+)", blocks[name])
    return blocks[name] + "".join(inside(blocks, call) for call in calls)


# --- what is said of it -----------------------------------------------------------------------------------------


def test_dense_in_a_loop_is_made_before_it():
    def task(params, x):
        return lax.scan(lambda c, _: (jnp.tanh(c @ jnp.sin(params)), None), x, None, 5)[0]

    jaxpr = jax.make_jaxpr(lambda w, x: call(task, w, x))(first(lazy((8, 8), *MATRIX)), draw(8))
    loop = next(eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan")
    assert [len(var.aval.shape) for var in loop.invars if len(var.aval.shape) > 1] == [2]


def test_half_precision_is_summed_in_single():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), first(lazy((64, 64), *MATRIX)))
    half, x = half._replace(a=half.a * jnp.bfloat16(1e-3)), jnp.asarray(draw(64), jnp.bfloat16)
    full = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    got = call(lambda w, x: jnp.dot(x, w, preferred_element_type=jnp.float32), half, x)
    assert_allclose(got, x.astype(jnp.float32) @ densify(full), atol=1e-4)
    assert call(lambda w, x: x @ w, half, x).dtype == jnp.bfloat16


class Tagger:
    """A task with parameters of its own: a tied embedding, layers to scan over, a table added, a leaf squashed."""

    def init(self, key):
        shapes = {
            "embed": (50, 8),
            "layers": (3, 8, 8),
            "norm": (3, 8),
            "place": (5, 8),
            "gate": (8, 8),
            "spare": (2, 2),
        }
        return jax.tree.map(lambda shape: jax.random.normal(key, shape), shapes, is_leaf=lambda x: type(x) is tuple), ()

    def evaluate(self, params, state, key):
        x = params["embed"][np.arange(5) * 3] + params["place"]
        layer = lambda x, w: (jnp.tanh(x @ w[0]) * w[1][None], None)  # noqa: E731
        x, _ = lax.scan(layer, x, (params["layers"], params["norm"]))
        return (x @ jnp.sin(params["gate"]) @ params["embed"].T).mean()


def test_report_says_what_is_kept_and_why_not():
    found = report(Tagger())
    words = re.sub(r"test_program.py:\d+", "test_program.py:n", str(found))
    assert re.sub(r" {2,}", " | ", words).splitlines() == [
        "leaf | shape | rows | columns | uses",
        "embed | 50,8 | 0 | 1 | gather, dot_general | kept lazy",
        "gate | 8,8 | 0 | 1 | sin | made dense: sin (test_program.py:n)",
        "layers | 3,8,8 | 1 | 2 | dot_general | kept lazy",
        "norm | 3,8 | - | - | broadcast_in_dim | vector noise",
        "place | 5,8 | - | - | add | vector noise",
        "spare | 2,2 | - | - | not used",
    ]
    assert found.dense == ("gate",)


def test_a_function_brings_its_parameters():
    with pytest.raises(ValueError, match="give `params`"):
        report(lambda params, key: params.sum())


def test_without_lazy_leaves_a_function_is_called_as_it_is():
    assert call(lambda params, x: (type(params), x), {"w": 1.0}, "text") == (dict, "text")
