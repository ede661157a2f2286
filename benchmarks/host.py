"""An evaluation in worlds on the host, against its floor: the same worlds stepped with random actions, plus the same
forwards, each alone. And against what a user writes first: a plain loop over members, one step at a time.

    python benchmarks/host.py [--quick] [--json FILE]

CPU time of this process a step of a world, threads of XLA included; wall time beside it. The floor's worlds are begun
anew when their episodes end. Its forwards are those that the evaluation called, width by width; a second ratio has as
few calls as full groups of the slots would need, which no evaluation whose last episode is long can do with. What a
world costs depends on what is done in it (a hopper that stands has contacts to solve for), so a third ratio's worlds do
what they did in the evaluation, call by call. Low-rank
members around one centre: of random weights, whose episodes are short but for a few, or ("standing") of a policy that
balances, so that all episodes are long, as late in a run. Atari needs ale-py.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from measure import Row, arguments, compiled_once, show

from evo.engine import settle
from evo.envs.gymnasium import Gymnasium
from evo.envs.networks import CNN, MLP
from evo.envs.play import breadth, seating
from evo.express import express_dense
from evo.genome import member
from evo.host import Host, Members, everyone
from evo.random import fold_in
from evo.runtime import Runtime
from evo.slots import Slots
from evo.strategies.es import EGGROLL

SMALL = CNN(channels=(16, 32), kernels=(8, 4), strides=(4, 2), hidden=(256,))  # the paper's smaller network
STANDING = "CartPole-v1 standing"
CASES = {
    "CartPole-v1": (Gymnasium("CartPole-v1", MLP((64, 64)), slots=128), 512, 500),
    STANDING: (Gymnasium("CartPole-v1", MLP((64, 64)), slots=128), 256, 500),
    "Hopper-v5": (Gymnasium("Hopper-v5", MLP((64, 64)), normalise=True, slots=128), 256, 500),
}
ATARI = {"ALE/Breakout-v5": (partial(Gymnasium, "ALE/Breakout-v5", SMALL, slots=32), 64, 200)}


class Spent(NamedTuple):
    """Seconds."""

    cpu: float
    wall: float


class Case(NamedTuple):
    """Members of a task, and how they are judged."""

    task: Gymnasium
    noise: Any
    members: Members
    state: Any


def case(task: Gymnasium, population: int, length: int, stands: bool = False) -> Case:
    """`population` members with episodes of at most `length` steps."""
    task = replace(task, episode_length=length)
    params, state = task.init(jax.random.key(0))
    params, sigma = (balancing(params), 1e-3) if stands else (params, 0.2)
    strategy = settle(EGGROLL(population, sigma=sigma), task, params, state)
    genome, _ = strategy.ask(jax.random.key(1), strategy.init(jax.random.key(2), params))
    return Case(task, strategy.noise, everyone(params, genome, jax.random.split(jax.random.key(3), population)), state)


def balancing(params: Any) -> Any:
    """A policy that pushes the cart to where the pole falls, by one unit of each layer; all other weights are 0."""
    first, middle, last = (np.zeros_like(params["layers"][str(i)]["kernel"]) for i in range(3))
    first[:, 0], middle[0, 0], last[0] = (0.05, 0.1, 1.0, 0.3), 1.0, (-1.0, 1.0)
    layers = {
        str(i): {**params["layers"][str(i)], "kernel": jax.numpy.asarray(x)}
        for i, x in enumerate((first, middle, last))
    }
    return {"layers": layers}


def spent(work: Callable[[], Any]) -> tuple[Spent, Any]:
    """What it takes, and what it gives."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = jax.block_until_ready(work())
    return Spent(time.process_time() - cpu, time.perf_counter() - wall), result


def stepped(task: Gymnasium, steps: int, actions: list[Any]) -> Iterator[None]:
    """The floor's worlds: random actions, begun anew when an episode ends."""
    envs = [task.world.make() for _ in range(task.slots)]
    began = [env.reset(seed=i) for i, env in enumerate(envs)]
    length, since = task.episode_length, [0] * len(began)
    yield
    for i in range(steps):
        row = i % len(envs)
        since[row] += 1
        _, _, ended, cut, _ = envs[row].step(actions[i % len(actions)])
        if ended or cut or since[row] >= length:
            envs[row].reset(seed=i)
            since[row] = 0
    yield


@dataclass(frozen=True)
class Watched:
    """A world, and a list of what was asked of it and of the others."""

    env: Any
    calls: list[tuple[Callable, Any]]

    def reset(self, seed: int) -> Any:
        self.calls.append((lambda seed, env=self.env: env.reset(seed=seed), seed))
        return self.env.reset(seed=seed)

    def step(self, action: Any) -> Any:
        self.calls.append((self.env.step, copy(action)))
        return self.env.step(action)


def repeated(case: Case, judge: Any) -> Callable[[], None]:
    """The evaluation's worlds doing once more what they do in it, in the same order, and nothing else."""
    calls: list[tuple[Callable, Any]] = []
    envs = judge.made[-1].envs
    before = envs[:]
    envs[:] = [env and Watched(env, calls) for env in envs]
    judge(case.members, case.state)
    envs[:] = before

    def work():
        for call, what in calls:
            call(what)

    return work


def watched(slots: Slots) -> list[int]:
    """The widths of all forwards from now on."""
    widths: list[int] = []
    step = slots.step

    def seen(players, *rest):
        widths.append(len(players.words))
        return step(players, *rest)

    vars(slots)["step"] = seen
    return widths


def forwards(case: Case, slots: Slots, widths: list[int]) -> Callable[[], Any]:
    """The floor's forwards: one of each of these widths, compiled."""
    members, senses = case.members, case.task.senses

    def called(width: int) -> Callable[[], Any]:
        index = np.arange(width, dtype=np.int32)
        players = slots.fill(slots.empty(width, members), members, index, index)
        x, clock = np.zeros((width, *senses.shape), senses.dtype), np.ones((2, width), np.int32)
        return lambda: np.asarray(slots.step(players, members.bases, case.state, x, clock)[1])

    calls = {width: called(width) for width in set(widths)}
    for call in calls.values():
        call()
    return lambda: [calls[width]() for width in widths][:0]


def plain(case: Case, count: int) -> Callable[[], int]:
    """A loop over members: one compiled forward, one world."""
    own = [express_dense(case.noise, case.members.bases, member(case.members.genome, i)) for i in range(count)]
    act, env, key = jax.jit(case.task.act), case.task.world.make(), jax.random.key(0)
    luck = fold_in(key, 0)
    dtype = case.task.senses.dtype

    def work():
        steps = 0
        for i, params in enumerate(own):
            (x, _), memory, over, since = env.reset(seed=i), case.task.policy.start(params), False, 0
            while not over and since < case.task.episode_length:
                memory, action = act(params, case.state, memory, np.asarray(x).astype(dtype), luck)
                x, _, ended, cut, _ = env.step(case.task.motor.rows(np.asarray(action)[None])[0])
                over, since = ended or cut, since + 1
            steps += since
        return steps

    return work


def measured(name: str, case: Case, rounds: int, few: int) -> list[Row]:
    """Evaluation, floor and plain loop, a round after another; the median round counts."""
    judge = case.task.open(Host(case.noise, Runtime()))
    width = breadth(case.members, case.task.slots, jax.default_backend() == "cpu", 1)
    seats = seating(case.task.slots, width, 1)
    slots, widths = Slots(case.noise, case.task.policy.start, case.task.act), watched(judge.slots)
    judge(case.members, case.state)
    again, loop = repeated(case, judge), plain(case, few)
    loop()
    space = case.task.world.make().action_space
    space.seed(0)
    actions = [space.sample() for _ in range(1000)]
    found = []
    for _ in range(rounds):
        widths.clear()
        ours, (evaluation, _) = spent(lambda: judge(case.members, case.state))
        steps = int(evaluation.aux["steps"].sum())
        worlds = stepped(case.task, steps, actions)
        next(worlds)
        bare, _ = spent(lambda worlds=worlds: next(worlds) and None)
        acted, _ = spent(again)
        same, _ = spent(forwards(case, slots, widths[:]))
        fewest, _ = spent(forwards(case, slots, [width] * -(-steps // max(seats))))
        naive, played = spent(loop)
        found.append((steps, ours, bare, acted, same, fewest, naive, played))
    judge.close()
    return table(name, found)


def table(name: str, found: list[tuple]) -> list[Row]:
    """Microseconds a step, and ratios to the floor within a round."""
    out = []
    for kind in ("cpu", "wall"):
        each = [
            [1e6 * getattr(x, kind) / steps for x in alone] + [1e6 * getattr(naive, kind) / played]
            for steps, *alone, naive, played in found
        ]
        ours, bare, acted, same, fewest, naive = np.array(each).T
        case, unit = f"{name}, {kind}", "us/step"
        middle = lambda x: float(np.median(x))  # noqa: E731
        out += [
            Row(f"{case}: worlds alone", middle(bare), unit),
            Row(f"{case}: worlds alone, same actions", middle(acted), unit),
            Row(f"{case}: the same forwards alone", middle(same), unit),
            Row(f"{case}: fewest forwards alone", middle(fewest), unit),
            Row(f"{case}: evaluation", middle(ours), unit, middle(ours / (bare + same)), "worlds + same forwards"),
            Row(f"{case}: evaluation", middle(ours), unit, middle(ours / (bare + fewest)), "worlds + fewest forwards"),
            Row(
                f"{case}: evaluation", middle(ours), unit, middle(ours / (acted + same)), "same actions + same forwards"
            ),
            Row(f"{case}: plain loop", middle(naive), unit, middle(naive / ours), "evaluation"),
        ]
    return out


def main():
    args = arguments(__doc__.splitlines()[0])
    compiled_once()
    cases = {name: (task, n, length) for name, (task, n, length) in CASES.items()}
    if importlib.util.find_spec("ale_py") is not None:
        cases |= {name: (make(), n, length) for name, (make, n, length) in ATARI.items()}
    rows = []
    for name, (task, population, length) in cases.items():
        if args.quick:
            population, length = population // 2, length // 5
        rows += measured(
            name, case(task, population, length, name == STANDING), 2 if args.quick else 5, 2 if "ALE" in name else 8
        )
        show("A step of a member's evaluation", rows, args.json)  # so far


if __name__ == "__main__":
    main()
