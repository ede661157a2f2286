"""Worlds of Gymnasium: made, stepped, closed, what networks see of them and what actions reach them."""

import math
import sys
from contextlib import closing

import drift  # noqa: F401  registers Drift-v0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from numpy.testing import assert_allclose, assert_array_equal

from evo.envs.atari import Atari
from evo.envs.bench import Rules, Windows, bench, blank
from evo.envs.gymnasium import Gymnasium, moments
from evo.envs.networks import CNN, GRU
from evo.envs.play import Tally
from evo.envs.spaces import Senses, motor, senses
from evo.envs.team import team
from evo.host import Host
from evo.noise import Gaussian
from evo.runtime import Runtime


def test_who_can_not_be_made_is_lost_and_who_is_gone_plays_again():
    def make():
        raise AttributeError("no such world")

    rules = Rules(None, None, 9, math.inf, ())
    worlds = bench(make, rules, Windows(*(np.zeros(1) for _ in Windows._fields)))
    ((_, error),) = worlds.begin([0], [1], True)
    assert "AttributeError: no such world" in error
    rules = rules._replace(senses=Senses((), "float32", None), motor=motor(Discrete(2), False, "tanh"))
    worlds = bench(make, rules, Windows(*(np.zeros(1) for _ in Windows._fields)))
    assert worlds.step([0], np.zeros(1)) == [(0, None)]


def test_worlds_that_fail_are_closed():
    closed = []

    class Failing:
        def reset(self, seed):
            raise RuntimeError

        def close(self):
            closed.append(self)
            raise OSError

    worlds = bench(Failing, Rules(None, None, 9, math.inf, ()), Windows(*(np.zeros(2) for _ in Windows._fields)))
    assert len(worlds.begin([0, 1, 0], [1, 2, 3], True)) == len(closed) == 3


@pytest.mark.parametrize(
    "space", [Box(-0.1, 0.1, (2,), np.float64), Box(-2, 2, (2,), np.int64), Box(-0.1, 0.1, (2,), np.float16)], ids=str
)
def test_actions_reach_both_bounds_and_nothing_beyond(space):
    own = motor(space, False, "clip")
    outputs = jnp.linspace(-1.2, 1.2, 13)
    rows = own.rows(np.stack([own.act(jnp.full(2, x), jax.random.key(0)) for x in outputs]))
    assert all(space.contains(row) for row in rows)
    assert (rows[0] == space.low).all()
    assert (rows[-1] == space.high).all()


def test_moments_are_of_what_the_network_sees():
    """By hand, of 0, 51 and 255 (in parts of 255), and of numbers whose squares are no float32."""
    seen = np.array([[0.0, 1e25], [51.0, 1e25], [255.0, 1e25]])
    off = seen - seen[:1]
    tally = Tally(np.zeros(1), np.full(1, 3), np.zeros((1, 0)), seen[:1], off.sum(0)[None], (off**2).sum(0)[None])
    pixels = tally._replace(**{name: getattr(tally, name)[:, :1] for name in ("first", "total", "square")})
    found = moments(pixels, 255)
    assert_allclose(found.mean, [[0.4]], rtol=1e-6)
    assert_allclose(found.m2, [[0.56]], rtol=1e-6)  # 0.16 + 0.04 + 0.36
    assert moments(tally).number == 0
    assert moments(pixels._replace(first=pixels.first + 20_000)).number == 3


def test_a_walker_has_new_physics_for_every_episode():
    pytest.importorskip("Box2D")
    make = Gymnasium("BipedalWalker-v3").world.make

    def walked(world, seed):
        seen, total, over = world.reset(seed=seed)[0], 0.0, False
        weights = np.random.default_rng(seed).normal(size=(4, 24))
        for _ in range(60):
            seen, reward, over, _, _ = world.step(np.tanh(weights @ seen).astype(np.float32))
            total += reward
            if over:
                break
        return total

    used = make()
    assert [walked(used, seed) for seed in range(6)] == [walked(make(), seed) for seed in range(6)]


def test_a_worker_that_is_slow_to_come_up_is_not_taken_for_one_that_hangs():
    """What the dead one was stepping says nothing of the one after it."""
    task = Gymnasium("drift:Drift-v0", GRU((6,)), options={"kind": "choices"}, time_limit=0.01)
    rules = task.open(Host(Gaussian(), Runtime())).rules
    with closing(team(task.world.make, rules, 1, 1)) as worlds:
        assert worlds.shared.now[0, 0] == -1
        worlds.begin([0], [3], True)
        worlds.shared.now[0] = 0, -1e6  # as if it had been stepping for long
        worlds.staff[0][0].kill()
        [failure] = worlds.step([0], np.zeros((1, 2), np.int32))
        assert "died" in failure.error
        assert worlds.shared.now[0, 0] == -1


def test_nobody_is_blamed_for_what_making_the_next_world_takes():
    task, looked, now = Gymnasium("Drift-v0"), [], [-1, 0.0]
    rules = task.open(Host(Gaussian(), Runtime())).rules

    def make():
        looked.append(now[0])
        return task.world.make()

    with closing(bench(make, rules, blank(rules, 2), now)) as worlds:
        assert worlds.begin([0, 1], [4, 5], True) == []
    assert looked == [-1, -1]


def test_mistakes_are_told(tmp_path, monkeypatch):
    (tmp_path / "raising.py").write_text("{}[1]")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "egl")  # as drawing leaves it
    for build, said in {
        lambda: Gymnasium("CartPol-v1"): "unknown Gymnasium env 'CartPol-v1'.*the nearest known one is 'CartPole-v1'",
        lambda: Gymnasium("nowhere:Env-v0"): "there is no module 'nowhere'",
        lambda: Gymnasium("raising:Env-v0"): r"module 'raising' can't be imported: KeyError: 1 \(raising.py, line 1\)",
        lambda: Gymnasium(slots=0): "`slots` must be at least 1; got 0",
        lambda: Gymnasium(time_limit=0): "`time_limit` is seconds, above 0",
        lambda: Gymnasium(squash="tan"): "the nearest known one is 'tanh'",
        lambda: Gymnasium(descriptor=("x",)): "got 1 names and 0 bounds",
        lambda: Gymnasium(options={"gravity": 3}).senses: "CartPole-v1 can't be made",
        lambda: Gymnasium("Drift-v0", options={"kind": "odd"}).motor: r"made: KeyError: 'odd' \(drift.py, line \d+\)",
        lambda: Gymnasium("Hopper-v3").senses: "needs a MuJoCo of long ago; its last version is 'Hopper-v5'",
        lambda: Gymnasium("CartPole-v1", atari=Atari()): "id starts with 'ALE/'; got 'CartPole-v1'",
        lambda: senses(Box(-1, 1, (0,))): "these observations have no numbers",
    }.items():
        with pytest.raises(ValueError, match=said):
            build()


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"run: pip install 'evo-engine\[atari\]'"):
        Gymnasium("ALE/Breakout-v5")


def test_atari_as_published():
    pytest.importorskip("ale_py")
    with pytest.raises(ValueError, match="by the ids of ALE: 'ALE/Breakout-v5' for 'BreakoutNoFrameskip-v4'"):
        Gymnasium("BreakoutNoFrameskip-v4")
    task = Gymnasium("ALE/Breakout-v5", policy=CNN(), episode_length=5000)
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(params)) == 4_052_658
    assert Gymnasium("ale_py:ALE/Breakout-v5").atari == Atari()
    assert (task.atari, task.senses.shape, task.senses.dtype) == (Atari(), (84, 84, 4), "uint8")
    game, starts = task.world.make(), []
    for seed in (0, 1, 0):
        first, _ = game.reset(seed=seed)
        starts.append(game.env.ale.getEpisodeFrameNumber())
        assert first[..., -1].max() > 0 == first[..., :-1].max()
    assert starts[0] == starts[2] != starts[1]
    assert all(1 <= start <= 30 for start in starts)
    frames = [game.step(1)[0].copy() for _ in range(4)]
    assert game.env.ale.getEpisodeFrameNumber() == starts[2] + 16
    assert_array_equal(frames[3][..., :-1], frames[2][..., 1:])
    assert game.action_space.n == 18
    assert Gymnasium("ALE/Breakout-v5", atari=Atari(full_actions=False)).motor.choices == (4,)
    game.close()


def test_what_a_world_needs_to_be_drawn_is_named(monkeypatch):
    from evo.envs.worlds import attempt, drawing

    assert "apt-get install libegl1" in drawing("Hopper-v5", "no display")
    said = drawing("CartPole-v1", "pygame is not installed, run `pip install x`")
    assert said == "CartPole-v1 can't be drawn: pygame is not installed. Run: pip install 'evo-engine[classic]'"
    monkeypatch.setenv("MUJOCO_GL", "osmesa")

    def broken():
        raise AttributeError("no glGetError")

    with pytest.raises(ValueError, match=r"MUJOCO_GL=osmesa doesn't work here \(no glGetError\).*libosmesa6"):
        attempt(broken, "Hopper-v5")
    with pytest.raises(
        ValueError, match=r"CartPole-v1 can't be made: AttributeError: no glGetError \(test_worlds.py, line"
    ):
        attempt(broken, "CartPole-v1")
