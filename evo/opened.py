"""A run folder as an object: what happened, and any candidate of any generation, rebuilt exactly."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evo import experiment, schema
from evo import runtime as runtimes
from evo.checkpoint import unflatten
from evo.engine import Engine, Moment, keys_of
from evo.folder import Folder, columns
from evo.fused import fused
from evo.genome import Genome, concatenate, member
from evo.host import HostTask, stands
from evo.leaf import path_of
from evo.strategy import Strategy
from evo.task import Evaluation, Params, Task


def open(
    path: str | Path,
    *,
    task: Task | HostTask | Callable | None = None,
    strategy: Strategy | None = None,
    params: Params | None = None,
) -> Run:
    """The run in a folder. Raises where there is none, or where its files can't be read.

    `task`, `strategy` and `params` are needed only for what a config can't hold: a task that is the user's own
    function, a strategy that isn't registered, parameters whose structure isn't nested dicts.
    """
    folder = Folder(Path(path))
    if not folder.path.exists():
        raise ValueError(f"there is no run folder {folder.path}.")
    if not folder.exists():
        raise ValueError(f"{folder.path} is empty: no run was made there.")
    return Run(folder, task, strategy, params)


@dataclass(frozen=True)
class Run:
    """One run. `g` counts generations from 0, `i` members of a generation from 0."""

    folder: Folder
    given_task: Task | HostTask | Callable | None = None
    given_strategy: Strategy | None = None
    given_params: Params | None = None

    @property
    def path(self) -> Path:
        return self.folder.path

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml as plain data."""
        return experiment.parse(self.folder.config(), str(self.path / "config.yaml"))

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """metrics.jsonl as columns."""
        return columns(self.folder.rows())

    @property
    def generations(self) -> int:
        """How many generations are on record."""
        return len(self.folder.records)

    def fitness(self, g: int) -> np.ndarray:
        """What every member of a generation scored; second looks come last."""
        return self.folder.records.read(g)["fitness"]

    @cached_property
    def task(self) -> Any:
        return self._made("task", self.given_task, Task)

    @cached_property
    def strategy(self) -> Strategy:
        """The strategy as it ran, its noise planned."""
        return replace(self._made("strategy", self.given_strategy, Strategy), noise=self.folder.plan())

    def solution(self) -> Params:
        """What the run takes home, as far as it got."""
        return self.strategy.solution(self.strategy_state())

    def strategy_state(self, g: int | None = None) -> Any:
        """The strategy's state before generation g (None: after the last), told again from what was recorded."""
        g = self.generations if g is None else g
        if not 0 <= g <= self.generations:
            raise ValueError(f"{self.path} has {self.generations} generations; asked for the state before {g}.")
        found = self._checkpoint(g)
        if found is None:
            raise ValueError(f"{self.path} has no checkpoint that can be read.")
        nearest, arrays = found
        if self.config.get("fuse", 1) > 1 and nearest < g:
            played = self._played(arrays, nearest, g)
            if played is not None:
                return played
        state = self._unpacked(arrays).state
        for generation in range(nearest, g):
            state, _ = self.engine.tell(state, self._members(generation, state), self._scores(generation))
        return state

    def task_state(self, g: int | None = None) -> Any:
        """The task's state under which generation g was judged (None: after the last)."""
        like = self._task_state_like()
        if g is None:
            last = self._checkpoint(self.generations)
            return (
                unflatten(self.folder.load("task"), like)
                if last is None
                else unflatten(last[1], Moment((), like)).task_state
            )
        arrays = self.folder.records.read(g)
        found = {name.removeprefix("task."): x for name, x in arrays.items() if name.startswith("task.")}
        if _paths(like) and not found:
            raise ValueError(f"{self.path} didn't record the task's state with every generation: it is too large.")
        slashed = {path: found[path.replace("/", ".")] for path in _paths(like) if path.replace("/", ".") in found}
        return unflatten(slashed, like)

    def luck(self, purpose: int) -> Any:
        """A key for something that the search never did, so that it shares no luck with it: see `evo.random`."""
        return jax.random.fold_in(jax.random.key(self.config["seed"]), purpose)

    def archive(self, g: int | None = None) -> Any:
        """The archive before generation g (None: after the last)."""
        if not hasattr(self.strategy, "archive"):
            raise ValueError(f"{self.path} has no archive: {type(self.strategy).__name__} keeps none.")
        return self.strategy.archive(self.strategy_state(g))

    def genome(self, g: int) -> Genome:
        """Everyone who was judged in generation g."""
        return self._members(g, self.strategy_state(g))

    def member(self, g: int, i: int) -> Params:
        """The dense parameters of one candidate, rebuilt exactly."""
        count = len(self.fitness(g))
        if not 0 <= i < count:
            raise ValueError(f"generation {g} has members 0 to {count - 1}; got {i}.")
        state = self.strategy_state(g)
        return self.engine.express(state, member(self._members(g, state), i))

    @cached_property
    def engine(self) -> Engine:
        """The run's own programs. Uses as many devices as it did, where there are so many."""
        *_, key = keys_of(self.config["seed"])
        devices = min(self.config.get("devices") or 1, len(jax.devices()))
        return Engine(self.given_task or (lambda params, key: 0.0), self.strategy, runtimes.over(devices), key)

    def _checkpoint(self, g: int) -> tuple[int, dict[str, np.ndarray]] | None:
        """The last whole checkpoint that isn't after generation g."""
        with closing(self.folder.checkpoints()) as checkpoints:
            return checkpoints.latest(g)

    def _unpacked(self, arrays: dict[str, np.ndarray], task_state: Any = ()) -> Moment:
        """A checkpoint's arrays as the moment that they are of; `task_state` is like the task's."""
        moment = unflatten(arrays, Moment(self._state_like(), task_state))
        return moment._replace(state=self.engine.unpack(moment.state))

    def _played(self, arrays: dict[str, np.ndarray], first: int, g: int) -> Any:
        """The state before generation g of a fused run, by playing it again from a checkpoint, judging included: only
        that gives the same bits. None where the task isn't known, or this machine scores otherwise than the record."""
        if self.given_task is None and "kind" not in (self.config.get("task") or {}):
            return None
        moment = self._unpacked(arrays, self._task_state_like())
        most, chunk = self.config["fuse"], self.config.get("chunk")
        engine = replace(self.engine, task=self.task, runtime=replace(self.engine.runtime, chunk=chunk))
        play = fused(engine, moment, most)
        while first < g:
            moment, block = play(moment, first, min(most, g - first))
            done = int(block.done)
            for i, fitness in enumerate(np.asarray(block.fitness)[:done]):
                if not np.array_equal(fitness, self.fitness(first + i), equal_nan=True):
                    return None
            first += done
        return moment.state

    def _members(self, g: int, state: Any) -> Genome:
        genome, _ = self.engine.ask(g, state)
        if self.engine.again is None:
            return genome
        n = genome.scale.shape[0]
        first = jax.tree.map(lambda x: x[:n], self._scores(g))
        return concatenate(genome, self.engine.again(g, state, genome, first)[0])

    def _scores(self, g: int) -> Evaluation:
        record = self.folder.records.read(g)
        descriptor = jnp.asarray(record["descriptor"]) if "descriptor" in record else None
        return Evaluation(jnp.asarray(record["fitness"]), descriptor)

    def _state_like(self) -> Any:
        state = jax.eval_shape(self.strategy.init, jax.random.key(0), self._params_like())
        return self.engine.pack(Moment(state, ())).state

    def _params_like(self) -> Params:
        """Shapes of the parameters in the user's own structure where it is known, else in nested dicts."""
        if self.given_params is not None:
            return jax.eval_shape(lambda: self.given_params)
        if self.given_task is None and "kind" not in (self.config.get("task") or {}):
            return self.folder.template()
        made = jax.eval_shape(self.task.init, jax.random.key(0))[0] if stands(self.task) else None
        return self.folder.template() if made is None else made

    def _task_state_like(self) -> Any:
        return jax.eval_shape(self.task.init, jax.random.key(0))[1] if stands(self.task) else ()

    def _made(self, name: str, given: Any, contract: Any) -> Any:
        if given is not None:
            return given
        raw = self.config.get(name)
        if not isinstance(raw, dict) or "kind" not in raw:
            said = raw.get("python") if isinstance(raw, dict) else raw
            raise ValueError(
                f"{self.path} was made with your own {name} ({said}): give it, evo.open(path, {name}=...)."
            )
        return schema.build(contract, raw, name)


def _paths(tree: Any) -> list[str]:
    return [path_of(path) or "value" for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
