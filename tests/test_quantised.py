"""Quantised weights against NumPy, GPTQ folders, QZO's step by hand, one product for all members, learning."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load_file, save_file

from evo.envs.language.causal import logits_of
from evo.envs.language.checkpoint import load
from evo.envs.language.drift import drift
from evo.envs.language.generate import padded
from evo.envs.language.quantised import dense, dequantised, quantise, quantised, times, whole
from evo.express import ByPath, own_keys, plan
from evo.genome import Genome
from evo.noise import Frozen, Gaussian
from evo.runtime import Runtime, temporaries
from evo.strategies.qes import QES, stepped
from evo.strategies.qzo import QZO, QZOState
from evo.task import Evaluation

GOLDEN = Path(__file__).parent / "golden" / "language"
KEY = jax.random.key(0)


@pytest.mark.parametrize(("bits", "group"), [(8, 0), (8, 4), (4, 0), (4, 4)])
def test_codes_scales_and_products_are_those_of_numpy(bits, group):
    w = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    most, size = 2 ** (bits - 1) - 1, group or 12
    made = quantise(jnp.asarray(w), bits, group)
    nudged = made._replace(nudge=jnp.asarray(np.eye(12, 5), jnp.bfloat16))
    scale = abs(w.reshape(-1, size, 5)).max(1) / most
    codes = np.rint(w.reshape(-1, size, 5) / scale[:, None]).astype(np.int8)
    assert_allclose(made.scale, scale, rtol=1e-6)
    assert_array_equal(whole(made), codes)
    assert made.codes.nbytes == 12 * 5 * bits // 8
    assert_allclose(dense(made), (codes * scale[:, None]).reshape(12, 5), rtol=1e-6)
    x = np.random.default_rng(1).normal(size=(3, 2, 12)).astype(np.float32)
    assert_allclose(times(jnp.asarray(x), made), x @ np.asarray(dense(made)), atol=1e-5)
    assert_allclose(times(jnp.asarray(x), nudged), x @ np.asarray(dense(nudged)), atol=1e-5)
    assert_allclose(dense(nudged), (codes.reshape(12, 5) + np.eye(12, 5)) * scale.repeat(size, 0), rtol=1e-5)
    assert abs(np.asarray(dense(made)) - w).max() <= scale.max() * 0.5001


def test_packed_by_hand():
    """Two codes a byte, the even one low: -7 is 1 and 7 is 15."""
    made = quantise(jnp.array([[-7.0], [7.0], [0.0], [1.0]]), 4)
    assert_array_equal(made.codes, [[0xF1], [0x98]])
    assert_array_equal(made.scale, [[1.0]])
    gained = quantise(jnp.array([[-7.0], [7.0]]), 4, relative=True)._replace(gain=jnp.array([[2.0]]))
    assert_array_equal(dense(gained), [[-14.0], [14.0]])
    assert_array_equal(quantise(jnp.zeros((2, 1)), 8).codes, [[0], [0]])
    with pytest.raises(ValueError, match=r"`group` divides the 12 inputs of every matrix, which are even .*; got 5"):
        quantise(jnp.ones((12, 3)), 4, 5)
    with pytest.raises(ValueError, match="`bits` is 4 or 8; got 3"):
        quantise(jnp.ones((12, 3)), 3)


def test_a_quantised_model_says_what_its_dense_twin_says():
    _, model, params = load(GOLDEN / "qwen2")
    prompts = padded([[3, 1, 4, 1, 5], [2, 7]])
    small = quantised(params, 4, 8)
    got, want, plain = (logits_of(model, p, *prompts) for p in (small, dequantised(small), params))
    real = prompts.real
    assert_allclose(got[real], want[real], atol=2e-5)
    assert 0.01 < abs(got - plain)[real].max() < 2


def test_drift_is_of_the_weights():
    """One of eight codes a step up: the matrix differs in one place, by one scale. Nothing has moved at first."""
    one = {"w": quantise(jnp.array([[7.0], [2.0], [3.0], [1.0]]), 4), "b": jnp.zeros(4)}
    two = {**one, "w": one["w"]._replace(codes=one["w"].codes.at[0, 0].add(16))}
    assert {name: float(x) for name, x in drift(two, one).items()} == {"distance": 1.0, "moved": 0.125}
    odd = {"w": quantise(jax.random.normal(KEY, (64, 8)), 4, 8)}
    assert float(jax.jit(drift)(odd, jax.tree.map(jnp.copy, odd))["moved"]) == 0


def filed(folder, offset):
    """Turn a folder's matrices into GPTQ's: 8 codes a word along the inputs, zeros likewise along the outputs."""
    tensors = load_file(folder / "model.safetensors")
    truth = {}
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        w = tensors.pop(name).T  # [in, out]
        i, o = w.shape
        random = np.random.default_rng(i * o)
        codes, zeros = random.integers(0, 16, (i, o)), random.integers(1, 9, (i // 8, o))
        scales = random.uniform(0.01, 0.1, (i // 8, o)).astype(np.float16)
        stem = name.removesuffix(".weight")
        tensors[f"{stem}.qweight"] = words(codes.reshape(i // 8, 8, o).transpose(0, 2, 1))
        tensors[f"{stem}.qzeros"] = words((zeros - offset).reshape(i // 8, o // 8, 8))
        tensors[f"{stem}.scales"] = scales
        tensors[f"{stem}.g_idx"] = (np.arange(i) // 8).astype(np.int32)
        truth[name] = scales.astype(np.float32).repeat(8, 0) * (codes - zeros.repeat(8, 0))
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    kind = {"quant_method": "gptq", "bits": 4, "group_size": 8, "desc_act": False, "sym": False}
    kind |= {"checkpoint_format": "gptq" if offset else "gptq_v2"}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": kind}))
    return truth


def words(codes):
    """The last axis, eight codes from 0 to 15, as one int32, the first lowest."""
    return (codes.astype(np.uint32) << (4 * np.arange(8, dtype=np.uint32))).sum(-1, dtype=np.uint32).view(np.int32)


@pytest.mark.parametrize("offset", [1, 0])
def test_a_gptq_folder(offset, tmp_path):
    shutil.copytree(GOLDEN / "qwen3", tmp_path / "q")
    truth = filed(tmp_path / "q", offset)
    _, model, params = load(tmp_path / "q")
    for i in range(2):
        for name, leaf in (("self_attn.q", "q"), ("mlp.down", "down")):
            got = dense(params["layers"][leaf])[i]
            assert_allclose(got, truth[f"model.layers.{i}.{name}_proj.weight"], rtol=1e-3)
    assert params["layers"]["q"].codes.dtype == jnp.uint8
    assert jnp.isfinite(logits_of(model, params, *padded([[1, 2]]))).all()
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    wrong = [({"bits": 3}, "`bits` is 3"), ({"desc_act": True}, "`desc_act`"), ({"group_size": 3}, "groups of 3")]
    for change, message in wrong:
        kind = config["quantization_config"] | change
        (tmp_path / "q" / "config.json").write_text(json.dumps(config | {"quantization_config": kind}))
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "q")


def test_no_step_of_qzo_is_lost_to_half_precision():
    qzo = QZO(2, lr=1e-5, noise=ByPath((("gain", Gaussian()),), Frozen()))
    state = qzo.init(KEY, {"gain": jnp.ones(64, jnp.bfloat16), "free": jnp.ones(3, jnp.bfloat16)})
    after, _ = qzo.tell(Runtime(), state, qzo.ask(KEY, state)[0], Evaluation(jnp.array([1.0, 0.0])))
    assert (after.center["gain"] != 1).all()  # half of what bfloat16 tells apart is 2^-8
    assert [x.dtype for x in jax.tree.leaves(qzo.solution(after))] == [jnp.bfloat16] * 2


def test_a_step_of_qzo_by_hand():
    """d = (f+ - f-) / 2 epsilon, clipped; s <- max(s + lr mean(d z), floor); codes and a pair with NaN don't move."""
    qzo = QZO(6, epsilon=0.1, lr=0.01, clip=2.0, floor=0.5)
    params = {"w": quantise(jnp.array([[7.0, -7.0], [3.5, 7.0]]), 4), "free": jnp.ones(3)}
    state = qzo.init(KEY, params)
    genome, trial = qzo.ask(KEY, state)
    assert_array_equal(trial, 0)
    fitness = jnp.array([0.3, 0.1, 5.0, -5.0, jnp.nan, 1.0])  # slopes 1, 50 (clipped to 2) and none
    noise = qzo.noise.rules[0][1]
    after, info = qzo.tell(Runtime(), state, genome, Evaluation(fitness))
    leaf = [x for x in plan(qzo.noise, params).of(params) if x.path == "w/scale"]
    z = [noise.dense(own_keys(leaf, genome.key[i])[0, 0], (1, 2)) for i in range(3)]
    want = np.maximum(np.asarray(params["w"].scale) + 0.01 * (1 * z[0] + 2 * z[1]) / 3, 0.5)
    assert_allclose(after.center["w"].scale, want, rtol=1e-5)
    assert_array_equal(after.center["w"].codes, params["w"].codes)
    assert_array_equal(after.center["free"], 1)
    assert_allclose(info["clipped"], 1 / 3)
    assert isinstance(after, QZOState)
    for wrong, message in (({"population": 3}, "even"), ({"epsilon": 0.0}, "above 0"), ({"clip": 0.0}, "above 0")):
        with pytest.raises(ValueError, match=message):
            QZO(**wrong)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_codes_move_by_whole_steps_and_what_is_left_is_kept(decay):
    """u = decay left + lr g; a code moves where |u| >= 1/2; at the end of its range it stays and nothing is left."""
    params = {"w": quantise(jnp.array([[7.0, -7.0], [3.0, 1.0]]), 4, nudge=True)}
    qes = QES(4, sigma=0.5, lr=0.4, decay=decay)
    state = qes.init(KEY, params)
    genome, trial = qes.ask(KEY, state)
    assert_array_equal(trial, 0)
    left, codes = np.zeros((2, 2)), np.asarray(whole(params["w"]))[0] + 8
    for fitness in ([1.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 1.0], [1.0, 0.0, 3.0, 0.0], [0.0, 5.0, 0.0, 2.0]):
        w = np.array(fitness) - np.mean(fitness)
        leaf = [x for x in plan(qes.noise, params).of(params) if x.path == "w/nudge"]
        z = [leaf[0].noise.dense(own_keys(leaf, genome.key[i])[0, 0], (2, 2)) for i in range(2)]
        g = ((w[0] - w[1]) * z[0] + (w[2] - w[3]) * z[1]) / np.sqrt((w**2).sum())
        u = decay * left + 0.4 * np.asarray(g)
        step = np.where(abs(u) >= 0.5, np.sign(u), 0)
        taken = np.clip(codes + step, 0, 15) - codes
        codes, left = codes + taken, np.where(taken == step, u - step, 0)
        state, info = qes.tell(Runtime(), state, genome, Evaluation(jnp.array(fitness)))
        assert_array_equal(np.asarray(whole(state.center["w"]))[0] + 8, codes)
        assert_allclose(np.asarray(state.center["w"].nudge, np.float32), left, atol=0.01)
        assert_allclose(info["stepped"], (taken != 0).mean())
    assert_array_equal(qes.bases(state)["w"].nudge, 0)
    assert_array_equal(state.center["w"].scale, params["w"].scale)
    assert abs(left).max() > 0.05


def test_steps_by_hand():
    """Two codes a byte; none leaves its range."""
    new, taken = stepped(jnp.array([[0xF1, 0x08]], jnp.uint8), jnp.array([[1, -1], [1, 1]]))
    assert_array_equal(new, [[0xF2, 0x17]])
    assert_array_equal(taken, [[1, -1], [0, 1]])
    new, taken = stepped(jnp.array([[127, -127]], jnp.int8), jnp.array([[1, 1]]))
    assert_array_equal(new, [[127, -126]])
    assert_array_equal(taken, [[0, 1]])
    for wrong, message in (({"population": 3}, "even"), ({"sigma": 0.0}, "above 0"), ({"decay": 2.0}, "from 0 to 1")):
        with pytest.raises(ValueError, match=message):
            QES(**wrong)
    nudged = {"w": quantise(jnp.ones((2, 2)), 4, nudge=True)}
    with pytest.raises(ValueError, match=r"there are none\. Quantise with `nudge: true`"):
        QES().check({"w": nudged["w"]._replace(nudge=None)})
    with pytest.raises(ValueError, match="it acts on 'w/scale'"):
        QES(noise=ByPath((("**/scale", Gaussian()),), Frozen())).check(nudged)


@pytest.mark.parametrize("strategy", [QZO(64), QES(64)])
def test_members_share_one_product_with_the_codes(strategy):
    """n members of a 512 x 512 matrix: codes stay packed but for one copy, and no member has a matrix of its own."""
    n, width = 64, 512
    params = {"w": quantise(jnp.ones((width, width)), 4, 128, nudge=isinstance(strategy, QES))}
    state = jax.eval_shape(strategy.init, KEY, params)

    def task(params, key):
        return times(jnp.ones((1, width)), params["w"]).sum()

    keys, luck = jax.eval_shape(lambda: (jax.random.split(KEY, n // 2)[:, None], jax.random.split(KEY, n)))
    genome = Genome(keys, jax.ShapeDtypeStruct((n, 1), jnp.float32))
    judge = lambda state, *a: Runtime().map(task, strategy.noise, strategy.bases(state), *a)  # noqa: E731
    program = jax.jit(judge).lower(state, genome, luck).compile()
    one = width * width * 4
    assert temporaries(program) < 2.5 * one < n * one / 20
