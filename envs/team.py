"""Worlds in processes of their own, a share of the rows each: for worlds that are slow, or that crash or hang for good.

One message a worker and step, for all of its rows; observations and actions lie in memory that everyone sees. A worker
that dies or hangs is replaced: whose world did it is lost, and whoever else lost a world plays again from the start.
Axes: `w` rows, `a` an action's own axes.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from evo.envs.bench import Failure, Rules, Windows, bench, shapes

GRACE = 1.0  # seconds beyond the limit in which a worker may interrupt its world by itself
DEATHS = 3  # in a row, of workers that die without a world to blame


@dataclass(frozen=True)
class Shared:
    """Memory that everyone sees."""

    windows: Windows
    actions: np.ndarray  # [w, *a]
    now: np.ndarray  # [workers, 2] the row that each is stepping (-1: none), and since when


@dataclass(frozen=True)
class Team:
    """Row i belongs to worker i modulo their number."""

    make: Callable[[], Any]
    rules: Rules
    memory: Any
    shared: Shared
    staff: list[Any]  # (process, connection) of each worker
    deaths: list[int]  # of each, without a world to blame and a message answered since
    count: int

    @property
    def windows(self) -> Windows:
        return self.shared.windows

    def begin(self, rows: Sequence[int], seeds: Sequence[int], anew: bool) -> list[Failure]:
        given = dict(zip(rows, seeds, strict=True))
        return self._told(rows, lambda own: ("begin", own, [given[row] for row in own], anew))

    def step(self, rows: Sequence[int], actions: np.ndarray) -> list[Failure]:
        self.shared.actions[rows] = actions
        return self._told(rows, lambda own: ("step", own))

    def close(self) -> None:
        for process, connection in self.staff:
            connection.close()  # which ends it, unless it hangs
            process.join(GRACE)
            process.kill()

    def guarded(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _told(self, rows: Sequence[int], message: Callable[[list[int]], tuple]) -> list[Failure]:
        """Tell every worker what to do with its rows, and hear what went wrong."""
        shares = [[row for row in rows if row % len(self.staff) == i] for i in range(len(self.staff))]
        for i, own in enumerate(shares):
            if own:
                with contextlib.suppress(BrokenPipeError, ConnectionError):
                    self.staff[i][1].send(message(own))
        return [failure for i, own in enumerate(shares) if own for failure in self._heard(i, own)]

    def _heard(self, i: int, own: list[int]) -> list[Failure]:
        """A worker's answer; if it can't give one, it is replaced."""
        process, connection = self.staff[i]
        try:
            while not connection.poll(GRACE):
                row, since = self.shared.now[i]
                if row >= 0 and time.perf_counter() - since > self.rules.limit + GRACE:
                    return self._replaced(i, own, f"took more than time_limit, {self.rules.limit:g} s, for a step")
            failed = connection.recv()
        except (EOFError, ConnectionError):
            process.join()
            return self._replaced(i, own, f"its process died (exit code {process.exitcode})")
        self.deaths[i] = 0
        return failed

    def _replaced(self, i: int, own: list[int], error: str) -> list[Failure]:
        """A new worker; the one whose world was being stepped is to blame, and all others are to play again."""
        process, _ = self.staff[i]
        process.kill()
        process.join()
        row = int(self.shared.now[i, 0])
        self.shared.now[i, 0] = -1  # the new one is stepping nothing yet, however long it takes to come up
        self.deaths[i] += row < 0
        if self.deaths[i] >= DEATHS:
            raise RuntimeError(f"the worlds' processes keep dying before a world is stepped: {error}.")
        self.staff[i] = hired(self.make, self.rules, self.memory, i, len(self.staff), self.count)
        return [Failure(r, error if r == row else None) for r in own]


def team(make: Callable[[], Any], rules: Rules, count: int, workers: int) -> Team:
    """`count` rows and `workers` processes. `make` is pickled, so what it makes is importable."""
    memory = multiprocessing.get_context("spawn").RawArray("B", _size(rules, count, workers))
    shared = laid_out(memory, rules, count, workers)
    shared.now[:, 0] = -1  # nobody is stepping anything, however long they take to come up
    staff = [hired(make, rules, memory, i, workers, count) for i in range(workers)]
    return Team(make, rules, memory, shared, staff, [0] * workers, count)


def hired(make: Callable[[], Any], rules: Rules, memory: Any, i: int, workers: int, count: int) -> tuple[Any, Any]:
    """A worker's process, and the connection to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(make, rules, memory, i, workers, count, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def work(make: Callable[[], Any], rules: Rules, memory: Any, i: int, workers: int, count: int, connection: Any):
    """A worker's life: do as told, until nobody is there to tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    shared = laid_out(memory, rules, count, workers)
    own = bench(make, rules, shared.windows, shared.now[i])
    with closing(own), own.guarded():
        while True:
            try:
                verb, rows, *rest = connection.recv()
            except EOFError:
                return
            connection.send(own.begin(rows, *rest) if verb == "begin" else own.step(rows, shared.actions[rows]))


def laid_out(memory: Any, rules: Rules, count: int, workers: int) -> Shared:
    """The shared memory as arrays."""
    arrays, at = [], 0
    for shape, dtype in _layout(rules, count, workers):
        arrays.append(np.frombuffer(memory, dtype, math.prod(shape), at).reshape(shape))
        at += _rounded(shape, dtype)
    return Shared(Windows(*arrays[:-2]), *arrays[-2:])


def _layout(rules: Rules, count: int, workers: int) -> list[tuple[tuple[int, ...], str]]:
    actions = ((count, *rules.motor.shape), rules.motor.numbers)
    return [*shapes(rules, count), actions, ((workers, 2), "float64")]


def _rounded(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of an array, up to the next cache line."""
    return -(-math.prod(shape) * np.dtype(dtype).itemsize // 64) * 64


def _size(rules: Rules, count: int, workers: int) -> int:
    return sum(_rounded(*array) for array in _layout(rules, count, workers))
