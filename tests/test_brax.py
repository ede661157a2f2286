"""Brax as a task: one compiled program of the cheapest physics env, against a plain Python rollout of the raw env."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from evo.envs.brax import BACKENDS, ENVS, Brax, environment
from evo.envs.brax_descriptors import FEET, WAYS, lowest
from evo.envs.foreign import lenient
from evo.envs.moments import Moments
from evo.envs.networks import GRU, MLP
from evo.view.scene import checked

LENGTH, EPISODES, MEMBERS = 30, 2, 4
TASK = Brax("inverted_pendulum", "spring", LENGTH, EPISODES, MLP((8,)))
SEEN = Moments(jnp.array(50.0), jnp.array([0.1, -0.05, 0.2, 0.3]), 50 * jnp.array([0.5, 0.1, 0.2, 2.0]) ** 2)
LUCK = jax.random.split(jax.random.key(1), MEMBERS)


@pytest.fixture(scope="module")
def members():
    """Random policies; the last one is all NaN, so its physics is too after one step."""
    params = jax.vmap(lambda key: TASK.init(key)[0])(jax.random.split(jax.random.key(0), MEMBERS))
    return jax.tree.map(lambda leaf: leaf.at[-1].set(jnp.nan), params)


@pytest.fixture(scope="module")
def judged(members):
    return jax.jit(jax.vmap(TASK.evaluate, (0, None, 0)))(members, SEEN, LUCK)


@pytest.fixture(scope="module")
def twins(members):
    """What a Python loop over the raw env sees of each member: returns and live observations by episode."""
    env = environment(TASK.env, TASK.backend)
    with lenient():
        reset, step = jax.jit(env.reset), jax.jit(env.step)
        rows = [jax.tree.map(lambda leaf, i=i: leaf[i], members) for i in range(3)]
        return [[twin(row, key, reset, step) for key in keys(i)] for i, row in enumerate(rows)]


def keys(i):
    return jax.random.split(LUCK[i], EPISODES)


def twin(params, key, reset, step):
    world = reset(jax.random.split(key)[0])
    total, seen = 0.0, []
    while len(seen) < LENGTH and not world.done:
        seen.append(np.asarray(world.obs, float))
        x = np.clip((seen[-1] - np.asarray(SEEN.mean)) / np.sqrt(np.asarray(SEEN.m2) / 50), -10, 10)
        first, last = (params["layers"][i] for i in "01")
        action = np.tanh(np.tanh(x @ first["kernel"] + first["bias"]) @ last["kernel"] + last["bias"])
        world = step(world, jnp.asarray(action, jnp.float32))
        total += float(world.reward)
    return total, np.stack(seen)


def test_rewards_count_until_done(judged, twins):
    returns = [np.mean([total for total, _ in episodes]) for episodes in twins]
    assert_allclose(judged.fitness[:3], returns, rtol=1e-4)
    lengths = [[len(seen) for _, seen in episodes] for episodes in twins]
    assert_array_equal(judged.aux["steps"][:3], np.sum(lengths, 1))
    assert 1 < np.min(lengths) < LENGTH, "some episode should end early, or this test sees nothing"


def test_observation_statistics_count_live_steps_only(judged, twins):
    for i, episodes in enumerate(twins):
        seen = np.concatenate([seen for _, seen in episodes])
        own = jax.tree.map(lambda leaf, i=i: leaf[i], judged.aux["observations"])
        assert own.number == len(seen)
        assert_allclose(own.mean, seen.mean(0), atol=2e-3)
        assert_allclose(own.m2 / own.number, seen.var(0), rtol=1e-2)


def test_absorb_merges_a_generation(judged, twins):
    state = TASK.absorb(SEEN, judged.aux)
    seen = np.concatenate([seen for episodes in twins for _, seen in episodes])
    assert state.number == 50 + len(seen)  # none of the member that broke its physics
    total = 50 * np.asarray(SEEN.mean) + seen.sum(0)
    assert_allclose(state.mean, total / state.number, atol=5e-3)


def test_broken_physics_is_invalid_and_stays_alone(judged):
    assert jnp.isnan(judged.fitness[3])
    assert judged.aux["steps"][3] == EPISODES
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(judged.aux))
    assert np.isfinite(judged.fitness[:3]).all()


def test_an_episode_can_be_drawn(members, twins):
    params = jax.tree.map(lambda leaf: leaf[1], members)
    scene = checked(TASK.scene(params, SEEN, LUCK[1]))
    total, seen = twins[1][0]
    assert_allclose(scene.reward.sum(), total, rtol=1e-4)
    assert scene.position.shape == (len(seen), 2, 3)
    assert scene.dt == pytest.approx(0.02)
    assert [shape.body for shape in scene.shapes] == [-1, 0, 1]
    assert_allclose(scene.position[: len(seen) - 1, 0, 0], seen[1:, 0], atol=2e-3)  # the cart, as it was seen next


def test_a_descriptor_watches_the_states_in_which_the_policy_acted(monkeypatch, members, twins):
    """Not those that the simulator has put in their place meanwhile."""

    class Cart:
        names, bounds = ("x",), ((-1.0, 1.0),)

        def watch(self, sys, x):
            return x.pos[0, :1]

        def measure(self, first, last, watched, steps, dt):
            return watched / steps.astype(jnp.float32)

    monkeypatch.setattr(Brax, "behaviour", property(lambda self: Cart()))
    row = jax.tree.map(lambda leaf: leaf[0], members)
    _, described = jax.jit(TASK.live)(row, SEEN, keys(0)[0])
    seen = twins[0][0][1][:, 0]
    assert abs(described[0] - seen.mean()) < 1e-4
    assert abs(seen[1:].sum() / len(seen) - seen.mean()) > 1e-4, "the first state should matter"


# cheap: no physics ------------------------------------------------------------------------------------------------


def test_actions_explore_around_the_mean_and_stay_in_range():
    task = Brax("fast", deterministic=False, squash="clip")
    output = jnp.concatenate([jnp.array([0.2, -5.0]), jnp.log(jnp.array([0.1, 3.0]))])
    draws = jax.vmap(lambda key: task.action(output, key))(jax.random.split(jax.random.key(0), 2000))
    assert_allclose(draws[:, 0].mean(), 0.2, atol=5 * 0.1 / 2000**0.5)
    assert_allclose(draws[:, 0].std(), 0.1, rtol=5 / 4000**0.5)
    assert_array_equal([draws[:, 1].min(), draws[:, 1].max()], [-1, 1])
    assert_array_equal(task.action(output, None), jnp.array([0.2, -1.0]))
    assert_allclose(Brax("fast").action(jnp.array([0.5]), None), jnp.tanh(jnp.array([0.5])))


@pytest.mark.parametrize("deterministic", [True, False])
def test_luck_is_only_in_the_key_and_a_recurrent_policy_runs(deterministic):
    task = Brax("fast", episode_length=40, policy=GRU((4,)), deterministic=deterministic, normalise=False)
    params, state = task.init(jax.random.key(3))
    assert state == ()
    evaluate = jax.jit(task.evaluate)
    first, again, other = (evaluate(params, state, key) for key in (LUCK[0], LUCK[0], LUCK[1]))
    assert first.fitness == again.fitness
    assert (first.fitness == other.fitness) == deterministic  # "fast" itself has no luck
    assert first.aux["steps"] == 40


# descriptors ------------------------------------------------------------------------------------------------------


def test_every_env_is_known():
    environment("fast", "spring")
    from brax import envs

    assert {*ENVS, "swimmer"} - {"ant_trap"} == set(envs._envs)
    assert set(FEET) == set(WAYS) <= set(ENVS)


FEET_COUNT = {
    "ant": 4,
    "ant_trap": 4,
    "halfcheetah": 2,
    "hopper": 1,
    "humanoid": 2,
    "humanoidstandup": 2,
    "walker2d": 2,
}


@pytest.mark.parametrize("env", FEET)
def test_descriptors_have_the_right_dimension(env):
    feet, position, velocity = (Brax(env, descriptor=kind) for kind in ("feet", "position", "velocity"))
    assert feet.descriptor_bounds == ((0.0, 1.0),) * FEET_COUNT[env]
    assert len(set(feet.descriptor_names)) == FEET_COUNT[env]
    ways = 2 if env in ("ant", "ant_trap", "humanoid", "humanoidstandup") else 1
    assert position.descriptor_bounds == ((-30.0, 30.0),) * ways
    assert velocity.descriptor_bounds == ((-5.0, 5.0),) * ways
    assert Brax(env).descriptor_names == ()


def test_lowest_point_of_a_foot_golden():
    """Hopper's foot: a capsule of radius 0.06 lying along x from -0.26 to 0.13, 0.1 above its link."""
    model = environment("hopper", "spring").sys.mj_model
    rot = jnp.array([[1.0, 0, 0, 0]] * 3 + [[0.5**0.5, 0, 0.5**0.5, 0]])  # a quarter about y: z is where -x was
    pos = jnp.array([[0.0, 0, 9]] * 3 + [[7.0, 0, 0.5]])
    flat = Links(pos, rot.at[3].set(rot[0]))
    assert_allclose(lowest(model, "foot_geom", flat), 0.5 + 0.1 - 0.06, atol=1e-5)
    assert_allclose(lowest(model, "foot_geom", Links(pos, rot)), 0.5 - 0.13 - 0.06, atol=1e-5)


def test_the_trap_is_a_u_that_opens_towards_the_ant():
    """The depth of the deepest contact with a wall, with the torso at places in the plane."""
    from brax import contact
    from brax.base import Transform

    system = environment("ant_trap", "spring").sys
    wall = np.array([system.mj_model.geom(g).name.startswith("trap") for g in range(system.mj_model.ngeom)])
    links = system.num_links()

    @jax.jit
    def deepest(x, y):
        with lenient():
            upright = jnp.zeros((links, 4)).at[:, 0].set(1.0)
            found = contact.get(system, Transform(jnp.tile(jnp.stack([x, y, 0.5]), (links, 1)), upright))
        return jnp.where(jnp.asarray(wall)[found.geom].any(-1), found.dist, jnp.inf).min()

    free = [(0.0, 0.0), (1.0, 0.0), (4.0, 0.0), (0.0, 5.0), (9.0, 0.0), (4.0, 6.0)]
    walled = [(5.8, 0.0), (5.8, 2.0), (4.0, 2.8), (2.5, -3.3), (6.5, 0.0)]
    assert min(float(deepest(*place)) for place in free) > 0
    assert max(float(deepest(*place)) for place in walled) < 0
    assert wall.sum() == 3


class Links:
    def __init__(self, pos, rot):
        self.pos, self.rot = pos, rot


BAD = [
    (dict(env="hoper"), "unknown Brax env 'hoper'; the nearest known one is 'hopper'"),
    (dict(env="swimmer"), "swimmer doesn't run on this jax"),
    (dict(backend="springy"), "'spring'"),
    (dict(squash="tan"), "'tanh'"),
    (dict(episodes=0), "`episodes` must be at least 1; got 0"),
    (dict(descriptor="foot"), "known: feet, position, velocity"),
    (dict(env="reacher", descriptor="feet"), "reacher has no descriptor 'feet'"),
    (dict(env="fast", descriptor="position"), "fast has no descriptor 'position'"),
    (dict(env="reacher", forward=False), "reacher doesn't reward moving forward"),
    (dict(env="ant", descriptor="feet", descriptor_limit=3.0), "bounds `position` and `velocity`; got 3.0 for feet"),
    (dict(env="ant", descriptor_limit=3.0), "bounds `position` and `velocity`; got 3.0 for None"),
    (dict(descriptor="velocity", descriptor_limit=0.0), "`descriptor_limit`, above 0, bounds"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_told_plainly(fields, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Brax(**fields)
    assert message in str(error.value)


# slow -------------------------------------------------------------------------------------------------------------


def random_members(task, n=4):
    params = jax.vmap(lambda key: task.init(key)[0])(jax.random.split(jax.random.key(0), n))
    luck = jax.random.split(jax.random.key(1), n)
    return jax.jit(jax.vmap(task.evaluate, (0, None, 0)))(params, task.init(luck[0])[1], luck)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("env", [env for env in ENVS if env != "fast"])
def test_every_env_runs_on_every_backend(env, backend):
    result = random_members(Brax(env, backend, episode_length=3, descriptor="feet" if env in FEET else None))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))
    assert_array_equal(result.aux["observations"].number, result.aux["steps"])


@pytest.mark.slow
def test_the_trap_holds_a_thrown_ant():
    """At 20 m/s towards the end of the trap it bounces off; away from it, it flies on."""
    env = environment("ant_trap", "spring")

    @jax.jit
    def thrown(speed):
        def one(world, _):
            world = env.step(world, jnp.zeros(8))
            return world, world.pipeline_state.x.pos[0, 0]

        with lenient():
            world = env.reset(jax.random.key(0))
            state = world.pipeline_state
            state = env.pipeline_init(state.q.at[:2].set(0.0), state.qd.at[:3].set(jnp.stack([speed, 0.0, 0.0])))
            return jax.lax.scan(one, world.replace(pipeline_state=state), length=40)[1]

    assert 4 < thrown(jnp.float32(20)).max() < 6
    assert thrown(jnp.float32(-20)).min() < -6


@pytest.mark.slow
def test_without_forward_reward_the_rest_is_left():
    """The ant's: 1 a step for being upright, less what its motors cost."""
    full, rest = (
        random_members(Brax("ant", episode_length=30, forward=on, descriptor="position")) for on in (True, False)
    )
    assert_array_equal(full.descriptor, rest.descriptor)
    moved = 0.05 * (full.fitness - rest.fitness)  # metres: the reward is the velocity in m/s, a step lasts 0.05 s
    assert_allclose(moved, full.descriptor[:, 0], atol=0.11)  # less where it started
    assert (rest.fitness <= 30).all()


@pytest.mark.slow
def test_a_film_shows_what_is_paid():
    task = Brax("hopper", episode_length=20, forward=False)
    params, state = task.init(jax.random.key(0))
    fitness = jax.jit(task.evaluate)(params, state, LUCK[1]).fitness
    assert_allclose(task.scene(params, state, LUCK[1]).reward.sum(), fitness, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("env", ["hopper", "ant"])
def test_descriptors_of_real_episodes(env):
    feet = random_members(Brax(env, episode_length=200, descriptor="feet")).descriptor
    assert feet.shape == (4, FEET_COUNT[env])
    assert ((feet >= 0) & (feet <= 1)).all()
    assert (feet.std(0) > 0).all()
    position, velocity = (
        random_members(Brax(env, episode_length=200, descriptor=kind, descriptor_limit=50.0))
        for kind in ("position", "velocity")
    )
    assert_allclose(position.fitness, velocity.fitness, rtol=1e-3)
    dt = float(environment(env, "spring").dt)
    moved = velocity.descriptor * velocity.aux["steps"][:, None].astype(jnp.float32) * dt
    assert_allclose(moved, position.descriptor, atol={"hopper": 0.006, "ant": 0.101}[env])  # how far off they start
