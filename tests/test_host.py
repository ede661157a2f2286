"""Host tasks: worlds that JAX can't see. A member's fitness is its own: no slot, chunk or neighbour is in it."""

import json
import sys
from contextlib import closing
from dataclasses import replace

import drift  # noqa: F401  registers Drift-v0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scorers import distance, lucky

import evo
from evo.cli import main
from evo.engine import settle
from evo.envs.bench import Bench, bench, blank
from evo.envs.gymnasium import Gymnasium, drawn
from evo.envs.moments import Moments
from evo.envs.networks import CNN, GRU, MLP
from evo.envs.play import breadth, seating
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
