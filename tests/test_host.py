"""Host tasks: worlds that JAX can't see. A member's fitness is its own: no slot, chunk or neighbour is in it."""

import json
import math
import sys
from contextlib import closing
from dataclasses import replace

import drift  # noqa: F401  registers Drift-v0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from numpy.testing import assert_allclose, assert_array_equal
from scorers import distance, lucky

import evo
from evo.cli import main
from evo.engine import settle
from evo.envs.atari import Atari
from evo.envs.bench import Bench, Rules, Windows, bench, blank
from evo.envs.gymnasium import Gymnasium, drawn, moments
from evo.envs.moments import Moments
from evo.envs.networks import CNN, GRU, MLP
from evo.envs.play import Tally, breadth, seating
from evo.envs.spaces import Senses, motor, senses
from evo.envs.team import team
from evo.express import express_dense
from evo.genome import Genome, member
from evo.host import Host, Scorer, everyone
from evo.noise import Gaussian
from evo.random import fold_in
from evo.runtime import Runtime
from evo.slots import Slots
from evo.strategies.deep_ga import DeepGA
from evo.strategies.es import EGGROLL, ES
from evo.strategies.map_elites import MapElites
from evo.strategies.random_search import RandomSearch

SAID = ("IndexError: list index", "took more than time_limit, 1 s", "the observation is NaN", "the reward is nan")
SMALL, TINY = MLP((8,)), EGGROLL(population=12, sigma=0.3, lr=0.1)


KINDS = {
    "recurrent": Gymnasium("Drift-v0", GRU((6,)), options={"kind": "choices"}, episodes=2, episode_length=9),
    "stochastic box": Gymnasium("Drift-v0", SMALL, deterministic=False, normalise=True, episodes=2),
    "stochastic choice": Gymnasium("Drift-v0", SMALL, options={"kind": "choice"}, deterministic=False),
}


def run(task, strategy=TINY, generations=3, **settings):
    return evo.run(task, None, strategy, generations=generations, seed=4, **settings)


def fitness(out, g=0):
    return evo.open(out).fitness(g)


def judged(task, params, state, **layout):
    """What 12 members are told, with no run around them."""
    strategy = settle(TINY, task, params, state)
    members = everyone(params, *strategy.ask(jax.random.key(1), strategy.init(jax.random.key(0), params)))
    members = members._replace(luck=jax.random.split(jax.random.key(3), 12))
    with closing(replace(task, **layout).open(Host(strategy.noise, Runtime()))) as judge:
        evaluation, lost = judge(members, state)
    return members, strategy.noise, evaluation, lost


def loop(task, params, state, luck):
    """What a user writes first: one member, one step at a time. Its fitness, and what it saw."""
    seeds, keys = drawn(luck[None], task.episodes)
    env, total, seen = task.world.make(), 0.0, []
    act = jax.jit(task.act)
    for episode, seed in enumerate(np.asarray(seeds[0])):
        (x, _), memory, over, step = env.reset(seed=int(seed)), task.policy.start(params), False, 0
        while not over and step < (task.episode_length or 500):
            seen.append(np.asarray(task.senses.read(x)).astype(np.float32))
            memory, action = act(params, state, memory, seen[-1], fold_in(fold_in(keys[0], episode), step))
            x, reward, ended, cut, _ = env.step(task.motor.rows(np.asarray(action)[None])[0])
            total, step, over = total + reward, step + 1, ended or cut
    return total / task.episodes, np.stack(seen)


@pytest.mark.parametrize("name", KINDS)
def test_fitness_is_that_of_a_plain_loop_whatever_the_slots(name):
    """And so are the moments of what was seen, and the number of steps."""
    task = KINDS[name]
    params, state = task.init(jax.random.key(0))
    if task.normalise:
        state = Moments(jnp.float32(50), jnp.linspace(-1, 1, 5), jnp.linspace(40, 90, 5))
    members, noise, evaluation, lost = judged(task, params, state)
    assert len(set(evaluation.fitness.tolist())) > 6
    assert not lost
    again = judged(task, params, state, slots=4)[2]
    jax.tree.map(assert_array_equal, evaluation, again)
    for i in (0, 5, 11):
        own = express_dense(noise, params, member(members.genome, i))
        told, seen = loop(task, own, state, members.luck[i])
        assert_allclose(told, evaluation.fitness[i], rtol=1e-4)
        assert len(seen) == evaluation.aux["steps"][i]
        if task.normalise:
            found = jax.tree.map(lambda x, i=i: x[i], evaluation.aux["observations"])
            assert_allclose(found.mean, seen.mean(0), atol=1e-5)
            assert_allclose(found.m2, seen.var(0) * len(seen), rtol=1e-3, atol=1e-4)


NETS = {
    "mlp": (MLP((64, 64)), "Pendulum-v1"),
    "wide": (MLP((1024, 520)), "Pendulum-v1"),
    "narrow": (GRU((6,)), "Pendulum-v1"),
    "pixels": (CNN((16, 32), (8, 4), (4, 2), (256,)), "ALE/Breakout-v5"),
}


@pytest.mark.parametrize("name", NETS)
def test_a_row_has_the_same_bits_wherever_it_is(name):
    """XLA's own products and convolutions have another order of sums for the last rows."""
    policy, env = NETS[name]
    task = Gymnasium(env, policy, deterministic=False, normalise=name != "pixels")
    params, _ = task.init(jax.random.key(0))
    state = Moments(jnp.float32(50), jnp.linspace(-0.3, 0.3, 3), jnp.linspace(40, 90, 3)) if task.normalise else ()
    strategy = settle(ES(64, sigma=0.1), task, params, state)
    genome, _ = strategy.ask(jax.random.key(1), strategy.init(jax.random.key(2), params))
    members = everyone(params, genome, jax.random.split(jax.random.key(3), 64))

    def act(params, state, memory, x, key):
        memory, action = task.act(params, state, memory, x, key)
        return (memory, policy.apply(params, memory, task.senses.scaled(x))[1]), action

    slots = Slots(
        strategy.noise,
        lambda params: (policy.start(params), jnp.zeros(task.motor.outputs)),
        lambda p, s, m, *rest: act(p, s, m[0], *rest),
    )
    width = breadth(members, 1, True, 1)
    row = np.arange(width, dtype=np.int32)
    seen = np.random.default_rng(0).normal(size=(4, width, *task.senses.shape)) * 100
    told = []
    for place in (row, row[::-1], np.roll(row, 3)):
        players, found = slots.fill(slots.empty(width, members), members, row, place), []
        for step in range(4):
            x = np.empty(seen.shape[1:], task.senses.dtype)
            x[place] = seen[step].astype(task.senses.dtype)
            memory, action = slots.step(players, members.bases, state, x, np.stack([0 * row, 0 * row + step]))
            players = players._replace(memory=memory)
            found.append([np.asarray(x)[place] for x in jax.tree.leaves((memory, action))])
        told.append(found)
    assert len(np.unique(told[0][-1][0], axis=0)) > width // 2
    jax.tree.map(assert_array_equal, told[0], told[1])
    jax.tree.map(assert_array_equal, told[0], told[2])


@pytest.mark.parametrize("slots", [1, 2, 5, 9, 200])
def test_so_many_members_play_at_a_time(slots, monkeypatch):
    """In groups that alternate, whose forward is the same program whatever their number of seats."""
    playing, most, widths = {}, [], set()
    task = KINDS["stochastic choice"]
    step, forward = Bench.step, Slots._step

    def stepped(self, rows, actions):
        playing.update(dict.fromkeys(rows, True))
        most.append(len(rows))
        return step(self, rows, actions)

    def forwarded(self, players, *rest):
        widths.add(len(players.words))
        return forward(self, players, *rest)

    monkeypatch.setattr(Bench, "step", stepped)
    monkeypatch.setattr(Slots, "_step", forwarded)
    judged(task, *task.init(jax.random.key(0)), slots=slots)
    assert len(playing) == min(slots, 12)
    assert most[0] == min(slots, 12) // min(slots, 2)
    assert widths == {64}


@pytest.mark.parametrize(
    ("seats", "width", "devices", "expected"),
    [
        (1, 64, 1, [1]),
        (5, 64, 1, [2, 3]),
        (200, 64, 1, [50, 50, 50, 50]),
        (33, 8, 1, [6, 6, 7, 7, 7]),
        (9, 8, 4, [2, 2, 2, 3]),
    ],
)
def test_seats_are_spread_over_groups(seats, width, devices, expected):
    assert sorted(seating(seats, width, devices)) == expected


@pytest.mark.parametrize(
    ("weights", "seats", "cpu", "devices", "expected"),
    [
        (1, 1, True, 1, 64),
        (2**17, 999, True, 1, 64),
        (2**17 + 1, 1, True, 1, 32),
        (2**22, 512, True, 1, 8),
        (1, 1, False, 1, 8),
        (9, 130, False, 1, 128),
        (9, 130, False, 4, 64),
        (9, 130, True, 4, 64),
    ],
)
def test_a_groups_width_is_the_networks_on_cpus(weights, seats, cpu, devices, expected):
    """Elsewhere it is that of its seats."""
    genome = Genome(jax.random.split(jax.random.key(0), (1, 1)), jnp.ones((1, 1)))
    assert breadth(everyone(jnp.zeros(weights), genome, None), seats, cpu, devices) == expected


def test_a_world_that_fails_costs_its_member_and_nobody_else():
    task = Gymnasium("Drift-v0", SMALL, time_limit=1, normalise=True)
    params, state = task.init(jax.random.key(0))
    members, _, good, _ = judged(task, params, state)
    _, _, evaluation, lost = judged(task, params, state, options={"faulty": True})
    seeds, _ = drawn(members.luck, 1)
    wrong = {i: SAID[seed % 8] for i, seed in enumerate(np.asarray(seeds)[:, 0]) if seed % 8 < 4}
    told = {row.member: row.error for row in lost}
    assert set(wrong.values()) == set(SAID)
    assert told.keys() == wrong.keys()
    assert all(wrong[i] in told[i] for i in wrong)
    assert np.isnan(evaluation.fitness[list(wrong)]).all()
    seen = evaluation.aux["observations"].number
    assert_array_equal(seen == 0, [i in wrong for i in range(12)])  # what a lost one saw counts for nothing
    assert_array_equal(np.delete(evaluation.fitness, list(wrong)), np.delete(good.fitness, list(wrong)))


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
    worlds = [Gymnasium("BipedalWalker-v3").world.make() for _ in range(2)]

    def walked(world, seed):
        seen, total = world.reset(seed=seed)[0], 0.0
        for _ in range(60):
            seen, reward, over, _, _ = world.step(np.sin(np.arange(4) + 9 * seen[:4]).astype(np.float32))
            total += reward
            if over:
                break
        return total

    used = [walked(worlds[0], seed) for seed in range(12)]
    assert used[-1] == walked(worlds[1], 11)


def test_worlds_in_processes_say_the_same_and_their_crashes_are_survived():
    """A world that ends its process takes others' worlds with it: those members play again."""
    task = replace(KINDS["recurrent"], env="drift:Drift-v0", time_limit=3, episodes=1)
    params, state = task.init(jax.random.key(0))
    members, _, good, _ = judged(task, params, state)
    options = {"kind": "choices", "faulty": True, "deadly": True}
    _, _, evaluation, lost = judged(task, params, state, options=options, workers=2, slots=8)
    said = ("its process died (exit code 7)", "took more than time_limit, 3 s, for a step", *SAID[2:])
    seeds, _ = drawn(members.luck, 1)
    wrong = {i: said[seed % 8] for i, seed in enumerate(np.asarray(seeds)[:, 0]) if seed % 8 < 4}
    assert {row.member: row.error for row in lost} == wrong
    assert set(said) == set(wrong.values())
    assert_array_equal(np.delete(evaluation.fitness, list(wrong)), np.delete(good.fitness, list(wrong)))


def test_a_worker_that_is_slow_to_come_up_is_not_taken_for_one_that_hangs():
    """What the dead one was stepping says nothing of the one after it."""
    task = replace(KINDS["recurrent"], env="drift:Drift-v0", time_limit=0.01)
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
    task, looked, now = KINDS["stochastic box"], [], [-1, 0.0]
    rules = task.open(Host(Gaussian(), Runtime())).rules

    def make():
        looked.append(now[0])
        return task.world.make()

    with closing(bench(make, rules, blank(rules, 2), now)) as worlds:
        assert worlds.begin([0, 1], [4, 5], True) == []
    assert looked == [-1, -1]


def test_what_a_world_raises_or_pays_costs_its_own_episode_only():
    task = KINDS["stochastic box"]
    rules = task.open(Host(Gaussian(), Runtime())).rules

    def odd(paid):
        env = task.world.make()
        step = env.step
        env.step = lambda action: (step(action)[0], paid(), False, False, {})
        return env

    envs = [odd(lambda: "much"), odd(lambda: None), odd(sys.exit), odd(lambda: 2)]
    with closing(bench(lambda: envs.pop(0), rules, blank(rules, 4))) as worlds:
        assert worlds.begin(range(4), range(4), True) == []
        failed = {row: error for row, error in worlds.step(range(4), np.zeros((4, 2), np.float32))}
        assert failed[0].startswith("ValueError: could not convert string to float: 'much' (bench.py, line ")
        assert failed[1].startswith("TypeError: ")
        assert failed[2].startswith("SystemExit (test_host.py, line ")
        assert (sorted(failed), worlds.windows.reward[3]) == ([0, 1, 2], 2.0)


def test_a_run_counts_and_writes_down_whom_it_lost_in_second_looks_too(tmp_path, caplog):
    ga = DeepGA(population=12, parents=4, sigma=0.3, elite_candidates=4, elite_episodes=3, horizon=4)
    task = Gymnasium("Drift-v0", SMALL, options={"faulty": True}, normalise=True, time_limit=0.5)
    result = run(task, ga, 2, out=tmp_path, chunk=5)
    rows = [json.loads(line) for line in (tmp_path / "lost.jsonl").read_text().splitlines()]
    for g in (0, 1):
        gone = np.flatnonzero(np.isnan(fitness(tmp_path, g)))
        assert result.metrics["lost"][g] == result.metrics["invalid"][g] == len(gone) > 0
        assert sorted(row["member"] for row in rows if row["generation"] == g) == gone.tolist()
    assert len(fitness(tmp_path)) == 13 + 12
    assert max(row["member"] for row in rows) > 12
    assert rows[0]["error"] in caplog.text


def test_resumed_it_ends_the_same_and_reports_on_the_way_change_nothing(tmp_path):
    task, search = KINDS["stochastic box"], RandomSearch(12, sigma=0.3)
    whole = run(task, search, 5, devices=2, eval_every=1, eval_episodes=3)
    run(task, search, 3, out=tmp_path, checkpoint_every=2)
    resumed = run(task, search, 5, out=tmp_path, checkpoint_every=2)
    jax.tree.map(assert_array_equal, resumed.solution, whole.solution)
    jax.tree.map(assert_array_equal, resumed.task_state, whole.task_state)
    for name in ("mean", "evaluations", "steps"):
        assert_array_equal(resumed.metrics[name], whole.metrics[name])
    assert len(set(whole.metrics["eval_mean"])) > 1


def test_it_learns_to_balance_and_compiles_once(caplog):
    task = Gymnasium("CartPole-v1", policy=MLP((16,)))
    with jax.log_compiles():
        result = run(
            task, EGGROLL(population=32, sigma=0.2, lr=0.2), 12, on_generation=lambda row: caplog.records.append(row)
        )
    rows = [i for i, record in enumerate(caplog.records) if isinstance(record, dict)]
    compiles = [i for i, r in enumerate(caplog.records) if not isinstance(r, dict) and "Compiling" in r.getMessage()]
    caplog.records.clear()
    assert result.metrics["mean"][-1] > 200 > 60 > result.metrics["mean"][0]
    assert min(compiles) < rows[0]
    assert max(compiles) < rows[1]


def test_quality_diversity_files_members_by_what_the_world_says(tmp_path):
    task = Gymnasium("Drift-v0", policy=SMALL, descriptor=("x", 1), descriptor_bounds=((-2, 2), (-2, 2)), episodes=2)
    me = MapElites(16, shape=(4, 4), bounds=((-2, 2), (-2, 2)), iso=0.3)
    result = run(task, me, 2, out=tmp_path)
    assert task.descriptor_names == ("x", "observation 1")
    assert result.metrics["elites"][-1] > 1
    found = evo.open(tmp_path).folder.records.read(1)["descriptor"]
    assert found.shape == (16, 2)
    assert 0.5 < np.abs(found).max() < 4
    wrong = Gymnasium("Drift-v0", policy=SMALL, descriptor=("y", 1), descriptor_bounds=((-2, 2), (-2, 2)))
    with pytest.raises(evo.AllInvalid, match=r"had a finite fitness \(member \d+: descriptor: KeyError: 'y'\)"):
        run(wrong, me, 1)


def test_any_function_scores_batches(tmp_path):
    start, strategy = {"w": jnp.zeros(3)}, ES(population=16, sigma=0.1, lr=0.1, noise=Gaussian())
    jitted = evo.run(
        lambda p, key: -((p["w"] - jnp.array([1.0, -2.0, 3.0])) ** 2).sum(), start, strategy, generations=20
    )
    called = evo.run(distance, start, strategy, generations=20, host=True, out=tmp_path / "r")
    assert_allclose(called.metrics["mean"], jitted.metrics["mean"], rtol=1e-4)
    opened = evo.open(tmp_path / "r", task=distance)
    assert_allclose(distance({"w": np.asarray(opened.member(19, 3)["w"])[None]})[0], opened.fitness(19)[3], rtol=1e-5)
    pooled = evo.run(Scorer(distance, batch=5, workers=1), start, strategy, generations=3)
    assert_allclose(pooled.metrics["mean"], called.metrics["mean"][:3], rtol=1e-6)
    result = evo.run(Scorer(lucky, seeds=True), start, strategy, generations=1, out=tmp_path / "s")
    pairs = fitness_of(tmp_path / "s").reshape(8, 2)
    assert_array_equal(pairs[:, 0], pairs[:, 1])
    assert len(set(pairs[:, 0])) > 4
    assert result.metrics["invalid"][0] == 0
    with pytest.raises(ValueError, match="given 16 members and returns a number for each; got shape"):
        evo.run(lambda params: 1.0, start, strategy, generations=1, host=True)
    with pytest.raises(ValueError, match="needs `params`"):
        evo.run(distance, None, strategy, generations=1, host=True)


def fitness_of(out):
    return evo.open(out, task=distance).fitness(0)


def test_mistakes_are_told(tmp_path, monkeypatch):
    (tmp_path / "raising.py").write_text("{}[1]")
    monkeypatch.syspath_prepend(tmp_path)
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


def test_the_command_runs_judges_and_films(tmp_path, capsys):
    out = tmp_path / "r"
    config = tmp_path / "drift.yaml"
    config.write_text(
        "task: {kind: gymnasium, env: Drift-v0, policy: {mlp: [8]}, options: {kind: choice}}\n"
        "strategy: {kind: random_search, population: 8}\ngenerations: 2\n"
    )
    assert main(["run", str(config), "--out", str(out), "--quiet"]) == 0
    assert main(["eval", str(out), "--episodes", "6"]) == 0
    assert "(6 episodes)" in capsys.readouterr().out
    assert main(["replay", str(out), "--generation", "1", "--member", "3"]) == 0
    assert main(["render", str(out)]) == 0
    from PIL import Image

    with Image.open(out / "episode.gif") as film:
        assert 1 < film.n_frames <= 21
        assert film.info["duration"] == 100
    assert "Drift-v0" in (out / "episode.html").read_text()


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
        ValueError, match=r"CartPole-v1 can't be made: AttributeError: no glGetError \(test_host.py, line"
    ):
        attempt(broken, "CartPole-v1")
