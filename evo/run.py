"""Run an experiment: generations of ask, judge, tell, with everything that happened kept in a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evo import runtime as runtimes
from evo.checkpoint import Checkpoints, flatten, unflatten
from evo.engine import Engine, Moment, settle, start
from evo.experiment import written
from evo.express import Plan
from evo.folder import Folder, columns
from evo.strategy import Strategy
from evo.task import Evaluation, Params, Task

SMALL = 1 << 16  # bytes of task state that are recorded with every generation
FRESH = 0xE7A1  # what the keys of evaluations on fresh luck fold in, so that no generation shares them


class Result(NamedTuple):
    """What a run leaves behind, in the structure of the user's own parameters."""

    solution: Params
    state: Any
    task_state: Any
    metrics: dict[str, np.ndarray]  # a column each, a row a generation
    stopped: bool = False  # by `stop`, before its last generation


class AllInvalid(RuntimeError):
    """No member of a generation had a finite fitness."""


def run(
    task: Task | Callable,
    params: Params | None = None,
    strategy: Strategy | None = None,
    *,
    generations: int = 100,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = True,
    chunk: int | None = None,
    devices: int | None = 1,
    checkpoint_every: int = 10,
    keep: int = 3,
    eval_every: int = 0,
    eval_episodes: int = 32,
    config: str | None = None,
    on_generation: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Result:
    """Search for `generations` generations and return the solution.

    `task` is a function `task(params, key) -> fitness | Evaluation` of one member, or a `Task`; `params` are where
    the search starts (None: the task makes them). With `out`, everything is kept in that folder and a run that is
    there goes on from its last checkpoint, to the very same end; with `resume=False` it is refused. `stop` is asked
    once a generation. Raises AllInvalid, with the last good checkpoint in place, when a whole generation is invalid.
    """
    _check(strategy, generations, checkpoint_every)
    engine, moment, params = prepare(task, params, strategy, seed, replace(runtimes.over(devices), chunk=chunk))
    folder = Folder(Path(out)) if out is not None else None
    there = folder is not None and folder.exists()
    if there and not resume:
        raise ValueError(f"{folder.path} already holds a run. Choose another `out`, or resume it.")
    text = config or written(task, strategy, seed=seed, generations=generations, devices=devices, chunk=chunk)
    book = Book(folder, folder.checkpoints(keep) if folder else None, checkpoint_every)
    moment, rows = book.resume(moment, engine) if there else book.begin(moment, text, engine, params)
    stopped = False
    for reached, row in search(engine, moment, rows, generations, book, eval_every, eval_episodes):
        moment = reached
        rows.append(row)
        if on_generation is not None:
            on_generation(row)
        if stop is not None and stop():
            stopped = len(rows) < generations
            break
    solution = engine.strategy.solution(moment.state)
    book.close(len(rows), moment, solution)
    return Result(solution, moment.state, moment.task_state, columns(rows), stopped)


def prepare(task, params, strategy, seed: int, runtime: runtimes.Runtime) -> tuple[Engine, Moment, Params]:
    """The engine of a run, the moment before its first generation, and its initial parameters."""
    key_init, key_params, key_run = jax.random.split(jax.random.key(seed), 3)
    params, task_state = start(task, params, key_params)
    settled = settle(strategy, task, params, task_state)
    own = jax.tree.map(jnp.copy, params)  # the first state may be these very arrays, and `tell` consumes states
    moment = Moment(jax.jit(settled.init)(key_init, own), task_state)
    engine = Engine(task, settled, runtime, jax.device_put(key_run, runtime.everywhere))
    return engine, jax.device_put(moment, runtime.everywhere), params


def search(
    engine: Engine, moment: Moment, rows: list, generations: int, book: Book, eval_every: int, eval_episodes: int
) -> Iterator[tuple[Moment, dict[str, Any]]]:
    """The generations that `rows` lacks, one after another."""
    began = time.perf_counter() - (rows[-1]["seconds"] if rows else 0.0)
    judged = engine.compile(moment) if len(rows) < generations else None
    total = {name: rows[-1][name] if rows else 0 for name in ("evaluations", "steps")}
    for generation in range(len(rows), generations):
        genome, evaluation = judged(generation, moment)
        fitness = np.asarray(evaluation.fitness)
        if not np.isfinite(fitness).any():
            book.checkpoint(generation, moment, force=True)
            raise AllInvalid(f"no member of generation {generation} had a finite fitness; {book.where(generation)}")
        book.record(generation, evaluation, moment.task_state)
        scores = evaluation._replace(aux=None)
        state, info = engine.tell(moment.state, genome, scores)
        moment = Moment(state, engine.absorb(moment.task_state, evaluation.aux))
        total["evaluations"] += fitness.size
        total["steps"] += steps_of(evaluation)
        row = {"generation": generation} | summary(fitness) | total | {k: float(x) for k, x in info.items()}
        if eval_every and (generation + 1) % eval_every == 0:
            row |= fresh(engine, moment, generation, eval_episodes)
        row["seconds"] = round(time.perf_counter() - began, 4)
        book.log(row)
        book.checkpoint(generation + 1, moment)
        yield moment, row


def fresh(engine: Engine, moment: Moment, generation: int, episodes: int) -> dict[str, float]:
    """How the solution does on luck that the search never saw: mean and standard deviation over episodes."""
    key = jax.random.fold_in(jax.random.fold_in(engine.key, FRESH), generation)
    fitness = np.asarray(engine.evaluate(moment, jax.random.split(key, episodes)).fitness)
    return {"eval_mean": float(fitness.mean()), "eval_std": float(fitness.std())}


def summary(fitness: np.ndarray) -> dict[str, float]:
    """A generation's fitness in numbers, of its valid members."""
    valid = fitness[np.isfinite(fitness)].astype(np.float64)
    row = {"best": valid.max(), "mean": valid.mean(), "median": np.median(valid), "std": valid.std()}
    return {name: float(x) for name, x in row.items()} | {"invalid": int(fitness.size - valid.size)}


def steps_of(evaluation: Evaluation) -> int:
    """Environment steps, where the task counts them in `aux["steps"]`."""
    aux = evaluation.aux
    return int(np.asarray(aux["steps"], np.int64).sum()) if isinstance(aux, dict) and "steps" in aux else 0


@dataclass(frozen=True)
class Book:
    """What is written down of a run; nothing without a folder."""

    folder: Folder | None
    checkpoints: Checkpoints | None
    every: int

    def begin(self, moment: Moment, config: str, engine: Engine, params: Params) -> tuple[Moment, list[dict]]:
        """Write the folder's fixed files and the first checkpoint: where the run stands, and its rows so far."""
        if self.folder is not None:
            noise = getattr(engine.strategy, "noise", None)
            self.folder.begin(config, noise if isinstance(noise, Plan) else None, params)
            self.checkpoint(0, moment, force=True)
        return moment, []

    def resume(self, moment: Moment, engine: Engine) -> tuple[Moment, list[dict]]:
        """Go on from the last whole checkpoint: where the run stands, and its rows so far."""
        done = min(len(self.folder.rows()), len(self.folder.records))
        found = self.checkpoints.latest(done)
        if found is None:
            raise ValueError(f"{self.folder.path} has no checkpoint that can be read; start again in another folder.")
        generation, arrays = found
        self.checkpoints.cut(generation)
        self.folder.cut(generation)
        moment = jax.device_put(unflatten(arrays, moment), engine.runtime.everywhere)
        return moment, self.folder.rows()

    def record(self, generation: int, evaluation: Evaluation, task_state: Any):
        """Keep what everyone scored, and the task's state they were judged under."""
        if self.folder is None:
            return
        arrays = {"fitness": np.asarray(evaluation.fitness)}
        if evaluation.descriptor is not None:
            arrays["descriptor"] = np.asarray(evaluation.descriptor)
        state = {f"task.{name.replace('/', '.')}": x for name, x in flatten(task_state).items()}
        if sum(x.nbytes for x in state.values()) <= SMALL:
            arrays |= state
        self.folder.records.append(generation, arrays)

    def log(self, row: dict[str, Any]):
        if self.folder is not None:
            self.folder.log(row)

    def checkpoint(self, generation: int, moment: Moment, force: bool = False):
        """Write a checkpoint when one is due; one that falls due while another is being written is left out."""
        if self.checkpoints is None:
            return
        if not force and (generation % self.every or self.checkpoints.busy()):
            return
        if generation not in self.checkpoints.generations():
            self.checkpoints.save(generation, moment)

    def close(self, generation: int, moment: Moment, solution: Params):
        """The last checkpoint, and the solution."""
        if self.folder is None:
            return
        self.checkpoint(generation, moment, force=True)
        self.folder.save("solution", solution)
        self.folder.save("task", moment.task_state)
        self.checkpoints.finish()
        self.checkpoints.close()

    def where(self, generation: int) -> str:
        """For an error: what is left of the run."""
        if self.folder is None:
            return "check the task's arithmetic, or lower `sigma`."
        self.checkpoints.finish()
        return f"the state before it is kept in {self.folder.path / 'checkpoints' / str(generation)}."


def _check(strategy: Any, generations: int, checkpoint_every: int):
    if not isinstance(strategy, Strategy):
        raise ValueError(f"`strategy` needs init, ask, bases, tell and solution (evo.strategy); got {strategy!r}.")
    if generations < 1 or checkpoint_every < 1:
        raise ValueError(f"`generations` and `checkpoint_every` are at least 1; got {generations}, {checkpoint_every}.")
    if generations > getattr(strategy, "horizon", generations):
        raise ValueError(
            f"`horizon` is the longest run that {type(strategy).__name__} keeps a record of: {strategy.horizon} "
            f"generations; got {generations}. Raise `horizon`."
        )
