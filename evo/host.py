"""Host tasks: worlds that JAX can't see (simulators, games, any Python code), judging members on the host.

A host task is opened once a run and gets each generation's members as genomes. It has them expressed as it needs them:
side by side in slots (`evo.slots`), or as a batch of dense parameters. Axes: `n` members.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from evo.express import express_dense
from evo.genome import Genome, as_they_stand, expand, size
from evo.runtime import Runtime
from evo.task import Evaluation, Params, State, Task


class Lost(NamedTuple):
    """A member that its world let down: it has no fitness in this generation, and this is why."""

    member: int
    error: str


class Members(NamedTuple):
    """Everyone who is to be judged: what they are expressed from, their genomes (a row each) and their luck."""

    bases: Params
    genome: Genome
    luck: Key[Array, "n"]


@dataclass(frozen=True)
class Host:
    """What a host task is opened with: how noise acts on members, which devices there are, and how many members of a
    time it may hold (None: as many as it likes)."""

    noise: Any
    runtime: Runtime


class Judge(Protocol):
    """An opened host task."""

    def __call__(self, members: Members, state: State) -> tuple[Evaluation, list[Lost]]:
        """Numpy arrays with a leading axis n; NaN fitness for the members that were lost, in the list with why."""
        ...

    def close(self) -> None:
        """Let go of processes and simulators."""
        ...


@runtime_checkable
class HostTask(Protocol):
    """A task whose worlds are on the host. `init` and `absorb` are those of `evo.Task`, and run under jit.

    Optional: `use(params, state, key)`, what one member does with its parameters, in JAX: it is traced to learn which
    axes of a leaf are rows and columns, never run. What `Task` may have besides, a host task may have too.
    """

    def init(self, key: Key[Array, ""]) -> tuple[Params, State]:
        """Initial parameters of one member, and the state shared by all."""
        ...

    def absorb(self, state: State, aux: Any) -> State:
        """Fold what a whole generation saw into the state."""
        ...

    def open(self, host: Host) -> Judge:
        """Set the worlds up."""
        ...


@dataclass(frozen=True)
class Scorer:
    """Any Python function as a host task: a batch of parameters in, one number a member out, higher is better.

    `function` gets the parameters with a leading axis of members on every leaf, as numpy arrays; with `seeds` also a
    whole number a member, equal for members that share their luck (antithetic pairs). It gets at most `batch` members
    at a time (None: `chunk`, or all). With `workers`, that many batches are scored at a time in a pool of processes,
    which are spawned: `function` is then importable, and a script guards its main part by `__name__ == "__main__"`.
    What it raises ends the run, for it can't be told whose fault it was; a NaN makes one member invalid.
    """

    function: Callable
    batch: int | None = None
    seeds: bool = False
    workers: int = 0

    def __post_init__(self):
        if not callable(self.function):
            raise ValueError(f"a host task scores members by a function; got {self.function!r}.")
        if self.workers < 0 or (self.batch is not None and self.batch < 1):
            raise ValueError(f"`workers` is at least 0 and `batch` at least 1; got {self.workers} and {self.batch}.")

    def init(self, key):
        return None, ()  # it makes none: they are given

    def absorb(self, state, aux):
        return state

    def open(self, host: Host) -> Judge:
        return Scoring(self, host, _pool(self.workers))


@dataclass(frozen=True)
class Scoring:
    """An opened `Scorer`."""

    scorer: Scorer
    host: Host
    pool: Any

    def __call__(self, members: Members, state: State) -> tuple[Evaluation, list[Lost]]:
        n = size(members.genome)
        batch = min(self.scorer.batch or self.host.runtime.chunk or -(-n // max(self.scorer.workers, 1)), n)
        jobs = (self._job(members, start, min(start + batch, n), batch) for start in range(0, n, batch))
        score = self.scorer.function
        scored = (
            [score(*job) for job in jobs] if self.pool is None else list(self.pool.map(score, *zip(*jobs, strict=True)))
        )
        sizes = [min(batch, n - start) for start in range(0, n, batch)]
        fitness = np.concatenate([_numbers(x, k) for x, k in zip(scored, sizes, strict=True)])
        return Evaluation(jnp.asarray(fitness)), []

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def _job(self, members: Members, start: int, stop: int, batch: int) -> tuple[Any, ...]:
        """The function's arguments for members `start` to `stop`, expressed `batch` at a time."""
        index = np.minimum(np.arange(start, start + batch), stop - 1)
        rows = _dense(self.host.noise, members.bases, members.genome, index)
        rows = jax.tree.map(lambda x: np.asarray(x)[: stop - start], rows)
        return (rows, np.asarray(words(members.luck))[start:stop]) if self.scorer.seeds else (rows,)


@partial(jax.jit, static_argnums=0)
def _dense(noise: Any, bases: Params, genome: Genome, index: Int[Array, "b"]) -> Params:
    return jax.vmap(lambda i: express_dense(noise, bases, jax.tree.map(lambda x: x[i], genome)))(index)


@jax.jit
def words(luck: Key[Array, "n"]) -> Int[Array, "n"]:
    """A whole number from 0 to 2^31 - 1 for each key, to seed other generators with."""
    return (jax.random.key_data(luck)[..., 1] >> np.uint32(1)).astype(jnp.int32)


def _numbers(scored: Any, count: int) -> np.ndarray:
    """What a function returned, as float32. Raises where it isn't a number a member."""
    fitness = np.asarray(scored, np.float32)
    if fitness.shape != (count,):
        raise ValueError(
            f"the scorer was given {count} members and returns a number for each; got shape {fitness.shape}."
        )
    return fitness


def _pool(workers: int) -> Any:
    if not workers:
        return None
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def stands(task: Any) -> TypeGuard[Task | HostTask]:
    """Whether a task is an object with parameters and a state of its own, rather than a plain function."""
    return isinstance(task, Task | HostTask)


def everyone(bases: Params, genome: Genome, luck: Key[Array, "n"]) -> Members:
    """The members of a genome."""
    return Members(bases, expand(genome), luck)


def alone(params: Params, luck: Key[Array, "n"]) -> Members:
    """One set of parameters, judged once a key."""
    genome = as_they_stand(jnp.zeros(luck.shape[0], jnp.int32))
    return Members(jax.tree.map(lambda x: x[None], params), genome, luck)
