"""Gymnasium's environments as tasks: simulators on the host, and one batched forward for all who play in them.

Axes: `n` members, `o` numbers in an observation, `e` episodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evo.envs.atari import Atari
from evo.envs.bench import Rules, Worlds, bench, blank
from evo.envs.moments import Moments, merge, normalise, nothing, pool
from evo.envs.networks import MLP, Network
from evo.envs.play import Tally, breadth, play, seating
from evo.envs.spaces import SQUASHES, Motor, Senses, motor, senses
from evo.envs.team import team
from evo.envs.worlds import World, attempt, checked, drawing, look_into
from evo.genome import size
from evo.host import Host, Lost, Members, words
from evo.random import fold_in, split
from evo.registry import nearest
from evo.runtime import host_memory
from evo.slots import Slots
from evo.task import Evaluation
from evo.view.scene import Film

SHARE = 0.25  # of the free memory that slots may take
PACE = 30  # pictures a second of a film


@dataclass(frozen=True)
class Gymnasium:
    """Any Gymnasium environment (classic control, Box2D, MuJoCo, Atari, your own), with a network as its policy.

    Fitness is the mean return of `episodes` episodes, each from its own seed out of the trial's key and at most
    `episode_length` steps long (None: as long as the env lets it). Actions: Box, Discrete or MultiDiscrete, see
    `evo.envs.spaces.Motor`; observations that aren't arrays are flattened. With `normalise`, observations are divided
    by the running std about the running mean of those of the generations before (`evo.envs.moments`), the task's state.

    `options` go to `gymnasium.make`. An id that starts with "ALE/" is an Atari game, played as `atari` says (None: as
    published), its frames divided by 255. `descriptor`: keys of the last step's info, or indices into the last
    observation, averaged over episodes. `slots` members play at a time (fewer where `chunk` or the memory says so).
    Their worlds are stepped in this process, or in `workers` processes beside it.

    A member whose world raises, says NaN, or takes longer than `time_limit` seconds for the evaluation is lost for this
    generation: its fitness is NaN, and `lost.jsonl` in the run's folder says why.
    """

    env: str = "CartPole-v1"
    policy: Network = MLP()
    episodes: int = 1
    episode_length: int | None = None
    deterministic: bool = True
    squash: str = "tanh"
    normalise: bool = False
    options: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    atari: Atari | None = None
    descriptor: tuple[str | int, ...] = ()
    descriptor_bounds: tuple[tuple[float, float], ...] = ()
    slots: int = 128
    workers: int = 0
    time_limit: float = 120.0

    def __post_init__(self):
        object.__setattr__(self, "options", tuple(sorted(dict(self.options).items())))
        try:
            hash(self.options)
        except TypeError:
            raise ValueError(
                f"`options` are numbers, words and tuples by name; got {dict(self.options)}. Nested ones go into an "
                "environment of your own (docs/host.md)."
            ) from None
        if self._arcade and self.atari is None:
            object.__setattr__(self, "atari", Atari())
        self._check()
        checked(self.env)

    def _check(self):
        if self.atari is not None and not self._arcade:
            raise ValueError(f"`atari` says how games are played whose id starts with 'ALE/'; got {self.env!r}.")
        if self.squash not in SQUASHES:
            raise ValueError(f"unknown squash {self.squash!r}; {nearest(self.squash, SQUASHES)}")
        for name in ("episodes", "slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1; got {getattr(self, name)}.")
        if self.workers < 0:
            raise ValueError(f"`workers` is a number of processes, 0 for none; got {self.workers}.")
        if self.episode_length is not None and self.episode_length < 1:
            raise ValueError(f"`episode_length` must be at least 1; got {self.episode_length}.")
        if not self.time_limit > 0:
            raise ValueError(f"`time_limit` is seconds, above 0 (.inf: no limit); got {self.time_limit}.")
        if len(self.descriptor) != len(self.descriptor_bounds):
            raise ValueError(
                "`descriptor` and `descriptor_bounds` describe the same numbers; "
                f"got {len(self.descriptor)} names and {len(self.descriptor_bounds)} bounds."
            )

    @property
    def _arcade(self) -> bool:
        """Whether it is one of ALE's games."""
        return self.env.rpartition(":")[2].startswith("ALE/")

    @property
    def descriptor_names(self) -> tuple[str, ...]:
        return tuple(f"observation {x}" if isinstance(x, int) else x for x in self.descriptor)

    @cached_property
    def world(self) -> World:
        """The environment, to be made."""
        return World(self.env, tuple(dict(self.options).items()), self.atari)

    @cached_property
    def senses(self) -> Senses:
        """What the network sees."""
        return senses(look_into(self.world)[0])

    @cached_property
    def motor(self) -> Motor:
        """What its outputs do."""
        return motor(look_into(self.world)[1], not self.deterministic, self.squash)

    @property
    def observation(self) -> int:
        """Numbers in an observation, where they are normalised; else 0."""
        return math.prod(self.senses.shape) if self.normalise else 0

    def init(self, key):
        shape = self.senses.shape
        params = self.policy.init(key, shape[0] if len(shape) == 1 else shape, self.motor.outputs)
        return params, nothing(self.observation) if self.normalise else ()

    def absorb(self, state, aux):
        return merge(state, pool(aux["observations"])) if self.normalise else state

    def use(self, params, state, key):
        x = jnp.zeros(self.senses.shape, self.senses.dtype)
        return self.act(params, state, self.policy.start(params), x, key)[1]

    def act(self, params, state, memory, x, key):
        """See and act: one step of one member."""
        x = self.senses.scaled(x)
        if self.normalise:
            x = normalise(state, x.reshape(-1)).reshape(x.shape)
        memory, output = self.policy.apply(params, memory, x)
        return memory, self.motor.act(output, key)

    def scene(self, params, state, key) -> Film:
        """One episode of one member, as its world draws it."""
        seeds, keys = drawn(key[None], 1)
        env = attempt(partial(self.world.make, True), self.env)
        try:
            return shot(self, env, params, state, int(seeds[0, 0]), keys[0])
        finally:
            env.close()

    def open(self, host: Host) -> Arena:
        length = self.episode_length or 2**31 - 1
        rules = Rules(self.senses, self.motor, length, self.time_limit, self.descriptor)
        return Arena(self, host, Slots(host.noise, self.policy.start, self.act), rules, [])


@dataclass(frozen=True)
class Arena:
    """An opened `Gymnasium`: its worlds, made when the first members come and kept for all that follow."""

    task: Gymnasium
    host: Host
    slots: Slots
    rules: Rules
    made: list[Worlds]

    def __call__(self, members: Members, state: Any) -> tuple[Evaluation, list[Lost]]:
        mesh = self.host.runtime.mesh
        devices = [jax.devices()[0]] if mesh is None else list(mesh.devices.flat)
        count = self._seats(members)
        width = breadth(members, count, devices[0].platform == "cpu", len(devices))
        seats = seating(count, width, len(devices))
        worlds = self._worlds(width * len(seats))
        seeds, keys = drawn(members.luck, self.task.episodes)
        members = members._replace(luck=keys)
        with worlds.guarded():
            tally, lost = play(
                self.slots, worlds, members, state, np.asarray(seeds), width, seats, devices, self.task.observation
            )
        return self._evaluation(tally), lost

    def close(self) -> None:
        while self.made:
            self.made.pop().close()

    def _seats(self, members: Members) -> int:
        """How many members play at a time."""
        most = min(self.task.slots, size(members.genome), self.host.runtime.chunk or self.task.slots)
        room = int(SHARE * host_memory() / max(self.slots.bytes(members), 1))
        return min(most, max(room, 1))

    def _worlds(self, count: int) -> Worlds:
        """At least so many worlds."""
        if not self.made or len(self.made[-1].windows.reward) < count:
            self.close()
            make = self.task.world.make
            if self.task.workers:
                self.made.append(team(make, self.rules, count, min(self.task.workers, count)))
            else:
                self.made.append(bench(make, self.rules, blank(self.rules, count)))
        return self.made[-1]

    def _evaluation(self, tally: Tally) -> Evaluation:
        episodes = self.task.episodes
        aux: dict[str, Any] = {"steps": tally.steps.astype(np.int32)}
        if self.task.normalise:
            aux["observations"] = moments(tally, self.task.senses.unit)
        found: Any = (tally.found / episodes).astype(np.float32) if self.task.descriptor else None
        reward: Any = (tally.reward / episodes).astype(np.float32)
        return Evaluation(reward, found, aux)


def shot(task: Gymnasium, env: Any, params: Any, state: Any, seed: int, key: Any) -> Film:
    """The film of an episode in a world that can be looked at: some `PACE` pictures a second, and the last."""
    act = jax.jit(lambda memory, x, step: task.act(params, state, memory, x, fold_in(fold_in(key, 0), step)))
    memory, (x, _) = task.policy.start(params), env.reset(seed=seed)
    rate = env.metadata.get("render_fps", PACE)
    stride = max(int(rate / PACE), 1)  # drawing costs more than stepping
    frames, rewards, over, step = [picture(env, task.env)], [0.0], False, 0
    while not over and step < (task.episode_length or math.inf):
        x = np.asarray(task.senses.read(x)).astype(task.senses.dtype)
        memory, action = act(memory, x, step)
        x, reward, ended, cut, _ = env.step(task.motor.rows(np.asarray(action)[None])[0])
        if step % stride == 0:
            rewards.append(0.0)
        rewards[-1] += float(reward)
        over, step = ended or cut, step + 1
        if step % stride == 0 or over:
            frames.append(picture(env, task.env))
    if len(frames) < len(rewards):  # cut by `episode_length`
        frames.append(picture(env, task.env))
    return Film(np.stack(frames), stride / rate, np.array(rewards), task.env)


def picture(env: Any, name: str) -> np.ndarray:
    """What the world looks like. Raises ValueError where nothing here can draw it."""
    try:
        return np.asarray(env.render(), np.uint8)
    except Exception as error:  # of whatever library draws
        raise ValueError(drawing(name, str(error))) from None


@jax.jit
def _drawn(luck, episode):
    world, own = jnp.split(jax.vmap(lambda key: split(key, 2))(luck), 2, axis=1)
    seeds = jax.vmap(lambda e: words(jax.vmap(lambda key: fold_in(key, e))(world[:, 0])))(episode)
    return seeds.T, own[:, 0]


def drawn(luck: Any, episodes: int) -> tuple[Any, Any]:
    """Each member's seeds, one an episode, and the key of what it draws itself."""
    return _drawn(luck, jnp.arange(episodes))


def moments(tally: Tally, unit: int = 1) -> Moments:
    """Each member's moments of what it saw, divided by `unit` as its network saw it. Members that were lost, or saw
    what isn't finite, or not when squared, count for nothing."""
    number = tally.steps.astype(np.float64)
    mean = tally.total / np.maximum(number, 1)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        m2 = ((tally.square - tally.total * mean) / unit**2).astype(np.float32)
        mean = ((tally.first + mean) / unit).astype(np.float32)
        sane = np.isfinite(tally.reward) & np.isfinite(mean * mean).all(1) & np.isfinite(m2).all(1)

    def keep(x: np.ndarray) -> Any:
        return np.where(sane.reshape(-1, *(1,) * (x.ndim - 1)), x, 0).astype(np.float32)

    return Moments(keep(number), keep(mean), keep(np.maximum(m2, 0)))
