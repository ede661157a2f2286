"""Run an experiment: generations of ask, judge, tell, with everything that happened kept in a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evo import runtime as runtimes
from evo.archive import placed
from evo.arrivals import moved
from evo.book import Blank, Book, bound
from evo.checks import check_numbers, check_params, check_run
from evo.engine import Engine, Moment, keys_of, settle, start
from evo.experiment import LEAST, written
from evo.folder import columns
from evo.fused import Block, fused
from evo.host import HostTask, Lost, Scorer
from evo.random import PROGRESS
from evo.strategy import Strategy
from evo.task import Evaluation, Params, Task, unit_of


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
    task: Task | HostTask | Callable[..., Any],
    params: Params | None = None,
    strategy: Strategy | None = None,
    *,
    host: bool = False,
    generations: int = 100,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = True,
    chunk: int | None = None,
    devices: int | None = 1,
    fuse: int = 1,
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
    the search starts (None: the task makes them). With `host`, `task` is any Python function: a batch of parameters in,
    a number a member out, see `evo.host.Scorer`. With `out`, everything is kept in that folder and a run that is
    there goes on from its last checkpoint, to the very same end; with `resume=False` it is refused. `stop` is asked
    once a generation. Raises AllInvalid, with the last good checkpoint in place, when a whole generation is invalid.
    Up to `fuse` generations are one program (see `evo.fused`): rows, checkpoints and `stop` wait for its end.
    """
    check_run(task, strategy, generations)
    own = dict(generations=generations, checkpoint_every=checkpoint_every, fuse=fuse, chunk=chunk, seed=seed)
    check_numbers(LEAST, eval_every=eval_every, eval_episodes=eval_episodes, keep=keep, **own)
    task = hosted(task, fuse) if host or isinstance(task, HostTask) else task
    strategy = placed(strategy, task)
    engine, moment, params = prepare(task, params, strategy, seed, replace(runtimes.over(devices), chunk=chunk))
    text = config or written(
        task, strategy, seed=seed, generations=generations, devices=devices, chunk=chunk, fuse=fuse
    )
    book = Blank() if out is None else bound(Path(out), resume, keep, checkpoint_every, engine.pack)
    stopped = False
    steps: Callable = search if fuse == 1 else partial(search_fused, fuse=fuse)
    with book:
        moment, rows = book.open(moment, text, engine, params)
        with closing(engine):
            for reached, new in steps(engine, moment, rows, generations, book, eval_every, eval_episodes):
                moment = reached
                rows += new
                if on_generation is not None:
                    for row in new:
                        on_generation(row)
                if stop is not None and stop():
                    stopped = len(rows) < generations
                    break
        solution = engine.strategy.solution(moment.state)
        book.close(len(rows), moment, solution)
    return Result(solution, moment.state, moment.task_state, columns(rows), stopped)


def hosted(task: Any, fuse: int) -> HostTask:
    """A Python function as a host task; a host task as it is."""
    if fuse > 1:
        raise ValueError(
            f"`fuse` is for tasks in JAX: worlds on the host are judged between programs; got {fuse}. Use 1."
        )
    return task if isinstance(task, HostTask) else Scorer(task)


def prepare(task, params, strategy, seed: int, runtime: runtimes.Runtime) -> tuple[Engine, Moment, Params]:
    """The engine of a run, the moment before its first generation, and its initial parameters."""
    key_init, key_params, key_run = keys_of(seed)
    params, task_state = start(task, params, key_params)
    if hasattr(strategy, "check"):
        strategy.check(params)
    check_params(params, strategy)
    settled = settle(strategy, task, params, task_state)
    own = jax.tree.map(jnp.copy, params)  # the first state may be these very arrays, and `tell` consumes states
    moment = Moment(jax.jit(settled.init)(key_init, own), task_state)
    engine = Engine(task, settled, runtime, jax.device_put(key_run, runtime.everywhere), params)
    return engine, jax.device_put(moment, runtime.everywhere), params


def search(
    engine: Engine,
    moment: Moment,
    rows: list,
    generations: int,
    book: Book | Blank,
    eval_every: int,
    eval_episodes: int,
) -> Iterator[tuple[Moment, list[dict[str, Any]]]]:
    """The generations that `rows` lacks, one after another, with the row of each."""
    began = time.perf_counter() - (rows[-1]["seconds"] if rows else 0.0)
    if len(rows) >= generations:
        return
    judged = engine.compile(moment)
    total = {name: rows[-1][name] if rows else 0 for name in ("evaluations", "steps")}
    known: Any = engine.glimpse(moment.state) if engine.glimpse else None
    for generation in range(len(rows), generations):
        genome, evaluation, lost = judged(generation, moment)
        fitness = np.asarray(evaluation.fitness)
        book.lose(generation, lost)
        if not np.isfinite(fitness).any():
            book.checkpoint(generation, moment, force=True)
            why = f" (member {lost[0].member}: {lost[0].error})" if lost else ""
            raise AllInvalid(
                f"no member of generation {generation} had a finite fitness{why}; {book.where(generation)}"
            )
        book.record(generation, evaluation, moment.task_state)
        scores = evaluation._replace(aux=None)
        state, info = engine.tell(moment.state, genome, scores)
        moment = Moment(state, engine.absorb(moment.task_state, evaluation.aux))
        if engine.glimpse:
            before, known = known, engine.glimpse(state)
            book.follow(generation, moved(before, known, fitness.size))
        row = row_of(generation, fitness * unit_of(engine.task), steps_of(evaluation), total, info)
        row |= lost_of(engine.task, lost)
        if eval_every and (generation + 1) % eval_every == 0:
            row |= fresh(engine, moment, generation, eval_episodes)
        row["seconds"] = round(time.perf_counter() - began, 4)
        book.log(row)
        book.checkpoint(generation + 1, moment)
        yield moment, [row]


def search_fused(
    engine: Engine,
    moment: Moment,
    rows: list,
    generations: int,
    book: Book | Blank,
    eval_every: int,
    eval_episodes: int,
    fuse: int,
) -> Iterator[tuple[Moment, list[dict[str, Any]]]]:
    """`search` by blocks of up to `fuse` generations, which end where a checkpoint or an evaluation is due."""
    before = rows[-1]["seconds"] if rows else 0.0
    began, like = time.perf_counter() - before, jax.eval_shape(lambda: moment)
    total = {name: rows[-1][name] if rows else 0 for name in ("evaluations", "steps")}
    play = fused(engine, moment, fuse) if len(rows) < generations else None
    generation = len(rows)
    while play is not None and generation < generations:
        due = [every - generation % every for every in (book.every, eval_every) if every]
        moment, found = play(moment, generation, min(fuse, generations - generation, *due))
        block = jax.device_get(found)
        new = list(told(block, generation, total, book, unit_of(engine.task)))
        if len(new) < block.done:
            invalid(engine, like, play, book, generation + len(new), fuse)
        generation += len(new)
        if eval_every and generation % eval_every == 0:
            new[-1] |= fresh(engine, moment, generation - 1, eval_episodes)
        now = time.perf_counter() - began
        for i, row in enumerate(new):
            row["seconds"] = round(before + (now - before) * (i + 1) / len(new), 4)
            book.log(row)
        before = now
        book.checkpoint(generation, moment)
        yield moment, new


def told(block: Block, first: int, total: dict[str, int], book: Book | Blank, unit: float) -> Iterator[dict[str, Any]]:
    """Record a block's generations, up to one that is all invalid, and make their rows."""
    for i in range(block.done):
        fitness, descriptor, steps, task_state, info, moves = jax.tree.map(lambda x, i=i: x[i], tuple(block[1:]))
        if not np.isfinite(fitness).any():
            return
        book.record(first + i, Evaluation(fitness, descriptor), task_state)
        if moves is not None:
            book.follow(first + i, moves)
        played = 0 if steps is None else int(steps.sum(dtype=np.int64))
        yield row_of(first + i, fitness * unit, played, total, info)


def invalid(engine: Engine, like: Moment, play: Callable, book: Book | Blank, generation: int, fuse: int):
    """Play again from the last checkpoint to the all invalid generation, keep what was before it, and raise."""
    found = book.latest(generation, like, engine)
    if found is not None:
        reached, moment = found
        while reached < generation:
            moment, block = play(moment, reached, min(fuse, generation - reached))
            reached += int(block.done)
        book.checkpoint(generation, moment, force=True)
    raise AllInvalid(f"no member of generation {generation} had a finite fitness; {book.where(generation)}")


def fresh(engine: Engine, moment: Moment, generation: int, episodes: int) -> dict[str, Any]:
    """How the solution does on luck that the search never saw: mean and standard deviation over episodes, whatever the
    task measures of it, and what simple rules would score."""
    key = jax.random.fold_in(jax.random.fold_in(engine.key, PROGRESS), generation)
    fitness = np.asarray(engine.evaluate(moment, jax.random.split(key, episodes)).fitness)
    measured = engine.measure(moment, engine.begun, key) if engine.measure else {}
    scored = {"eval_mean": number(fitness.mean()), "eval_std": number(fitness.std())}
    simple = {f"reference_{name}": float(x) for name, x in getattr(engine.task, "references", {}).items()}
    return scored | simple | {name: number(x) for name, x in measured.items()}


def row_of(generation: int, fitness: np.ndarray, steps: int, total: dict[str, int], info: dict[str, Any]) -> dict:
    """A generation's row of metrics; `total` goes on counting."""
    total["evaluations"] += fitness.size
    total["steps"] += steps
    return {"generation": generation} | summary(fitness) | total | {name: number(x) for name, x in info.items()}


def summary(fitness: np.ndarray) -> dict[str, float]:
    """A generation's fitness in numbers, of its valid members."""
    valid = fitness[np.isfinite(fitness)].astype(np.float64)
    row = {"best": valid.max(), "mean": valid.mean(), "median": np.median(valid), "std": valid.std()}
    return {name: float(x) for name, x in row.items()} | {"invalid": int(fitness.size - valid.size)}


def lost_of(task: Any, lost: list[Lost]) -> dict[str, int]:
    """How many members their worlds let down, where worlds can."""
    return {"lost": len(lost)} if isinstance(task, HostTask) else {}


def number(x: Any) -> float | None:
    """A scalar for metrics.jsonl, which has no NaN or infinity: None."""
    return float(x) if np.isfinite(x) else None


def steps_of(evaluation: Evaluation) -> int:
    """Environment steps, where the task counts them in `aux["steps"]`."""
    aux = evaluation.aux
    return int(np.asarray(aux["steps"], np.int64).sum()) if isinstance(aux, dict) and "steps" in aux else 0
