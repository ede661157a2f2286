"""Tasks that need no simulator, networks, and the moments that normalise observations."""

import math
import runpy
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from evo.envs import TASKS, moments
from evo.envs.arm import Arm, links
from evo.envs.custom import Custom
from evo.envs.functions import BBOB, Ackley, Rastrigin, Rosenbrock, Sphere, offset
from evo.envs.networks import CNN, GRU, MLP, NETWORKS, pqn
from evo.registry import FAMILIES, TASK, describe
from evo.task import Evaluation, Task
from evo.view.scene import checked

KEY = jax.random.key(0)
LUCK = jax.random.key(1)
EXAMPLE = Path(__file__).parent.parent / "examples" / "custom_fitness.py"


def value(task, x):
    return float(jax.jit(task.evaluate)(jnp.array(x, jnp.float32), (), LUCK).fitness)


# functions --------------------------------------------------------------------------------------------------------

GOLDEN = [
    (Sphere(2, shift=0), [1, 2], -5.0),
    (Sphere(2, shift=1), [1, 2], -1.25),  # z = (0.5, 1)
    (Rastrigin(2, shift=0), [0.5, 0], -20.25),
    (Ackley(3, shift=0), [1, 1, 1], 20 * (math.exp(-0.2) - 1)),
    (Rosenbrock(2, shift=0), [0, 0], -1.0),
    (Rosenbrock(2, shift=0), [-1, 1], -4.0),
    (Rosenbrock(3, shift=0), [1, 2, 4], -101.0),  # 100 (2 - 1)^2 + 0 + 100 (4 - 4)^2 + (1 - 2)^2
]


@pytest.mark.parametrize(("task", "x", "fitness"), GOLDEN, ids=lambda v: type(v).__name__)
def test_function_golden(task, x, fitness):
    assert_allclose(value(task, x), fitness, rtol=1e-5)


@pytest.mark.parametrize("task", [Sphere(4), Rastrigin(4), Ackley(4), Rosenbrock(4)], ids=lambda t: type(t).__name__)
def test_the_optimum_is_zero_at_the_offset_and_mirrored_it_is_worse(task):
    top = offset(4, task.shift) + float(isinstance(task, Rosenbrock))
    assert_allclose(value(task, top), 0, atol=1e-4)
    assert value(task, -top) < -0.5
    params, state = task.init(KEY)
    assert params.shape == (4,)
    assert isinstance(task, Task)
    assert task.absorb(state, None) == state


def test_bbob_is_negated_and_fixed_by_its_instance():
    task, other = BBOB(dim=3), BBOB(dim=3, instance=1)
    top = task.problem.x_opt
    fitness = jax.jit(jax.vmap(lambda x, key: task.evaluate(x, (), key).fitness))
    at_top, mirrored, again = fitness(jnp.stack([top, -top, -top]), jax.random.split(LUCK, 3))
    assert_allclose(at_top, 0, atol=1e-4)
    assert mirrored < -1
    assert mirrored == again  # whatever the key
    assert not np.allclose(other.problem.x_opt, top)


@pytest.mark.slow
def test_every_bbob_function_is_finite_and_below_its_optimum():
    from evosax.problems import bbob_fns

    assert len(bbob_fns) == 24
    for name in bbob_fns:
        task = BBOB(name, dim=5)
        xs = jax.random.uniform(KEY, (16, 5), minval=-5.0, maxval=5.0)
        fitness = jax.jit(jax.vmap(lambda x, task=task: task.evaluate(x, (), LUCK).fitness))(xs)
        assert jnp.isfinite(fitness).all(), name
        assert (fitness <= 1e-3).all(), name


# the arm ----------------------------------------------------------------------------------------------------------


def test_arm_golden():
    rows = jnp.array([[0.5, 0.5], [0.5, 0.75], [-3.0, 1.5], [0.0, 1.0]])
    fitness, place, _ = jax.jit(jax.vmap(lambda x: Arm(joints=2).evaluate(x, (), LUCK)))(rows)
    assert_allclose(place[0], [1.0, 0.5], atol=1e-6)
    assert_allclose(place[1], [0.75, 0.75], atol=1e-6)  # the second link turns left by a quarter
    assert_allclose(place[2], place[3], atol=1e-6)  # clipped
    assert_allclose(fitness, [0, -0.125, -0.5, -0.5], atol=1e-6)


def test_arm_noise_has_the_deviation_it_says():
    arm = Arm(joints=3, fitness_noise=0.05, descriptor_noise=0.02)
    x = jnp.array([0.4, 0.6, 0.7])
    seen = jax.jit(jax.vmap(lambda key: arm.evaluate(x, (), key)))(jax.random.split(LUCK, 4000))
    true = jax.jit(Arm(joints=3).evaluate)(x, (), LUCK)
    assert_allclose([seen.fitness.std(), *seen.descriptor.std(0)], [0.05, 0.02, 0.02], rtol=5 / math.sqrt(8000))
    assert abs(seen.fitness.mean() - true.fitness) < 5 * 0.05 / math.sqrt(4000)


def test_the_arm_can_be_drawn():
    x = jnp.array([0.5, 0.75, 0.5])
    scene = checked(Arm(joints=3).scene(x, (), LUCK))
    tip = 2 * scene.position[0, -1, :2] - np.asarray(links(x))[-2]  # the last link's middle is half way
    assert_allclose(tip, links(x)[-1], atol=1e-6)
    assert [shape.kind for shape in scene.shapes].count("capsule") == 3


# networks ---------------------------------------------------------------------------------------------------------


def numbers(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_the_deep_ga_network_has_its_published_size():
    params = jax.eval_shape(lambda key: CNN().init(key, (84, 84, 4), 18), KEY)
    assert numbers(params) == 4_052_658


def test_cnn_sees_an_image():
    net = CNN(channels=(3, 2), kernels=(3, 2), strides=(2, 1), hidden=(5,))
    params = jax.jit(lambda key: net.init(key, (7, 6, 2), 4))(KEY)
    assert params["layers"]["0"]["kernel"].shape == (4 * 3 * 2, 5)
    carry, y = jax.jit(net.apply)(params, net.start(params), jnp.ones((7, 6, 2)))
    assert carry == ()
    assert y.shape == (4,)


def test_mlp_golden():
    layers = {
        "0": {"kernel": jnp.array([[1.0, -1.0], [2.0, 0.5]]), "bias": jnp.array([0.0, 1.0])},
        "1": {"kernel": jnp.array([[2.0], [10.0]]), "bias": jnp.array([-1.0])},
    }
    _, y = MLP((2,), "relu").apply({"layers": layers}, (), jnp.array([3.0, 1.0]))  # hidden (5, relu(-1.5) = 0)
    assert_allclose(y, [9.0])


def test_networks_start_at_their_scales():
    params = MLP((400,), output_scale=0.1).init(KEY, 100, 50)
    assert jax.tree.map(jnp.shape, params) == {
        "layers": {"0": {"kernel": (100, 400), "bias": (400,)}, "1": {"kernel": (400, 50), "bias": (50,)}}
    }
    assert_allclose(params["layers"]["0"]["kernel"].std(), 0.1, rtol=0.03)
    assert_allclose(params["layers"]["1"]["kernel"].std(), 0.005, rtol=0.03)


def test_pqn_is_relu_of_layer_norm():
    assert_allclose(pqn(jnp.array([1.0, 2.0, 6.0])), [0, 0, 3 / math.sqrt(14 / 3)], rtol=1e-5)


def test_gru_is_its_formula_and_remembers():
    net = GRU((4, 3))
    params = jax.jit(lambda key: net.init(key, 2, 1))(KEY)
    step = jax.jit(net.apply)
    carry, x = net.start(params), jnp.array([0.5, -1.0])
    for _ in range(2):
        twin, carry_twin = np.asarray(x), []
        for i, h in enumerate(carry):
            carry_twin.append(twin := gru_twin(params["cells"][str(i)], np.asarray(h), twin))
        carry, y = step(params, carry, x)
        assert_allclose(carry[1], carry_twin[1], rtol=1e-5)
    assert_allclose(y, twin @ params["layers"]["0"]["kernel"], rtol=1e-5)
    assert not np.allclose(y, step(params, net.start(params), x)[1])
    assert_array_equal(step(params, carry, x[None])[1], step(params, carry, x)[1])  # a matrix is seen row by row


def gru_twin(cell, h, x):
    (wz, wr, wc), (uz, ur, uc) = (np.split(np.asarray(cell[name]), 3, 1) for name in ("kernel", "recurrent"))
    z, r = (1 / (1 + np.exp(-(x @ w + h @ u))) for w, u in ((wz, uz), (wr, ur)))
    return z * h + (1 - z) * np.tanh(x @ wc + r * (h @ uc))


# moments ----------------------------------------------------------------------------------------------------------


def test_moments_are_those_of_the_sane_observations():
    rng = np.random.default_rng(0)
    xs = (5 + 0.01 * rng.normal(size=(40, 2))).astype(np.float32)  # a mean of 500 deviations
    xs[[3, 17]] = [[np.nan, 5], [5, 1e30]]
    good = np.delete(xs, [3, 17], 0).astype(float)
    rows = [
        jax.lax.scan(lambda m, x: (moments.add(m, x), None), moments.nothing(2), part)[0] for part in (xs[:9], xs[9:])
    ]
    rows.append(moments.nothing(2))
    pooled = moments.pool(jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows))
    merged = moments.merge(moments.merge(rows[2], rows[0]), rows[1])
    for m in (pooled, merged):
        assert m.number == 38
        assert_allclose(m.mean, good.mean(0), rtol=1e-6)
        assert_allclose(m.m2 / 38, good.var(0), rtol=2e-3)
    assert_allclose(moments.normalise(pooled, good[0]), (good[0] - good.mean(0)) / good.std(0), atol=2e-2)


def test_moments_still_move_at_a_billion():
    deviation, old = np.array([0.1], np.float32), jnp.array([1.2])
    now = moments.Moments(jnp.array(1e9), old, 1e9 * deviation**2)
    batch = moments.Moments(jnp.array(1e5), old + 0.05, 1e5 * (2 * deviation) ** 2)
    after = jax.jit(lambda m: jax.lax.fori_loop(0, 5000, lambda _, m: moments.merge(m, batch), m))(now)
    assert_allclose(after.number, 1.5e9, rtol=5e-4)  # 1e5 isn't a multiple of float32's step there, 64
    assert_allclose(after.mean, 1.2 + 0.05 / 3, atol=0.01 * 0.1)  # a hundredth of a deviation
    variance = (2 * 0.1**2 + 0.2**2) / 3 + 0.05**2 * (2 / 3) * (1 / 3)
    assert_allclose(after.m2 / after.number, [variance], rtol=1e-3)


def test_normalising_by_nothing_changes_nothing():
    x = jnp.array([0.5, -300.0])
    assert_allclose(moments.normalise(moments.nothing(2), x), [0.5, -10.0])
    constant = moments.Moments(jnp.array(9.0), x, jnp.zeros(2))
    assert_allclose(moments.normalise(constant, x + jnp.array([0.001, 0.0])), [1.0, 0.0], atol=1e-3)


# the user's own ---------------------------------------------------------------------------------------------------

FILE = """
import jax.numpy as jnp
from evo.task import Evaluation
number = 3
def init(key): return {"w": jnp.ones(2)}
def other(key): return {"w": jnp.zeros(3)}
def fit(params, key): return params["w"].sum()
def scene(params, key): return "a picture of", params
class Counting:
    def init(self, key): return jnp.ones(1), jnp.zeros(())
    def evaluate(self, params, state, key): return Evaluation(params[0] + state, params)
    def absorb(self, state, aux): return state + 1
class Telling(Counting):
    unit, trials, descriptor_names, descriptor_bounds = 0.5, True, ("w",), ((-3.0, 3.0),)
    def measure(self, params, start, state, key): return {"far": 1.0}
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


def test_custom_functions_by_path(file):
    task = Custom(f"{file}:fit")
    params, state = task.init(KEY)
    assert task.evaluate(params, state, KEY).fitness == 2.0
    assert Custom(f"{file}:fit", params=f"{file}:other").init(KEY)[0]["w"].shape == (3,)
    assert task.absorb(state, None) == ()
    assert task.scene(params, state, KEY) == ("a picture of", params)  # what is beside the function draws it
    assert not hasattr(Custom("evo.envs.examples:parity"), "scene")
    assert not hasattr(Custom(f"{file}:Counting"), "scene")


def test_custom_task_by_path(file):
    task = Custom(f"{file}:Counting", descriptor_names=("w",), descriptor_bounds=((0.0, 1.0),))
    params, state = task.init(KEY)
    state = task.absorb(state, None)
    assert task.evaluate(params, state, KEY).fitness == 2.0


def test_a_whole_task_keeps_what_else_it_has(file):
    task, plain = Custom(f"{file}:Telling"), Custom(f"{file}:Counting")
    assert (task.unit, task.trials, task.measure(None, None, None, None)) == (0.5, True, {"far": 1.0})
    assert (task.descriptor_names, task.descriptor_bounds) == (("w",), ((-3.0, 3.0),))
    assert replace(task) == task  # as read back from a run's own config
    assert not any(hasattr(plain, name) for name in ("unit", "trials", "measure", "sample"))


def test_a_file_finds_those_beside_it(tmp_path):
    (tmp_path / "beside_mine.py").write_text("def init(key): return key * 2")
    (tmp_path / "asking.py").write_text("from beside_mine import init\ndef fit(params, key): return params.sum()")
    assert Custom(f"{tmp_path}/asking.py:fit").init(3)[0] == 6


def test_the_example_and_the_shipped_one_agree():
    mine, shipped = runpy.run_path(str(EXAMPLE)), Custom("evo.envs.examples:parity")
    params, _ = shipped.init(KEY)
    theirs = jax.tree.map(lambda x, y: x.reshape(y.shape), params, mine["init"](KEY))
    fitness = shipped.evaluate(params, (), LUCK).fitness
    assert fitness == mine["parity"](theirs, LUCK)
    assert 0 < fitness < 1


# the registry and bad input ---------------------------------------------------------------------------------------


def test_every_kind_is_there_and_says_what_it_is():
    assert TASK.kinds() == TASKS
    for family in FAMILIES:
        if family.contract.startswith("evo.envs") or family is TASK:
            assert all(family.load(kind) for kind in family.kinds())
            assert all(describe(family).values())
    assert set(NETWORKS) == {"mlp", "cnn", "gru"}


BAD = [
    (lambda file: Sphere(0), "at least 1; got 0"),
    (lambda file: Rosenbrock(1), "at least 2; got 1"),
    (lambda file: Arm(0), "`joints` must be at least 1"),
    (lambda file: BBOB("rastrigin_rotate"), "'rastrigin_rotated'"),
    (lambda file: MLP((8, 0)), "`hidden` must be at least 1"),
    (lambda file: MLP(activation="tan"), "'tanh'"),
    (lambda file: CNN(strides=(1,)), "one number per convolution; got 3, 3 and 1"),
    (lambda file: CNN().init(KEY, 11, 3), "Use MLP for vectors"),
    (lambda file: Custom("fit"), 'wanted "file.py:function"'),
    (lambda file: Custom("nowhere.py:fit"), "there is no file nowhere.py"),
    (lambda file: Custom("evo.nowhere:fit"), "there is no module 'evo.nowhere'"),
    (lambda file: Custom(f"{file}:fitt"), "has no 'fitt'; the nearest known one is 'fit'"),
    (lambda file: Custom(f"{file}:number"), "neither a function nor a task; got a int"),
    (lambda file: Custom(f"{file}:fit", params=f"{file}:number"), "isn't a function of a key"),
    (lambda file: Custom(f"{file}:fit", descriptor_names=("x",)), "got 1 names and 0 bounds"),
    (lambda file: Custom(f"{file}:Telling", descriptor_names=("x",)), "has its own `descriptor_names`"),
    (lambda file: Arm(fitness_noise=-1.0), "standard deviations, at least 0; got -1.0 and 0.0"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_told_plainly(make, message, file):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make(file)
    assert message in str(error.value)


def test_an_evaluation_has_one_fitness():
    assert isinstance(Sphere(2).evaluate(jnp.zeros(2), (), LUCK), Evaluation)
