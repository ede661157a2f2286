"""Worlds side by side in this process, a row each: begun, stepped and watched; one that fails costs its episode only.

Axes: `w` rows, `o` an observation's own axes, `a` an action's, `d` descriptor.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from evo.envs.foreign import told
from evo.envs.spaces import Motor, Senses

TICK = 0.2  # seconds between looks at whether a world hangs


class Rules(NamedTuple):
    """What holds for every episode."""

    senses: Senses
    motor: Motor
    length: int  # steps after which it ends
    limit: float  # seconds that a world may take for one evaluation
    descriptor: tuple[str | int, ...]  # entries of the last step's info, or indices into the last observation


class Windows(NamedTuple):
    """What is seen of the worlds, row by row; written by them, read by everyone."""

    seen: np.ndarray  # [w, *o] the latest observation
    reward: np.ndarray  # [w] of the latest step
    over: np.ndarray  # [w] whether it ended the episode
    found: np.ndarray  # [w, d] the descriptor of an episode that is over


class Failure(NamedTuple):
    """A world that failed. Without an error it is no fault of the member's, who is to be judged again."""

    row: int
    error: str | None


class Gone(Exception):
    """No world is in this row any more: the process that had it was replaced."""


class Overtime(Exception):
    """A world took longer than its member is allowed."""


class Worlds(Protocol):
    """Worlds side by side, wherever they are."""

    @property
    def windows(self) -> Windows:
        """What is seen of them."""
        ...

    def begin(self, rows: Sequence[int], seeds: Sequence[int], anew: bool) -> list[Failure]:
        """Begin an episode in each row, from its own seed; `anew`: of the next member, whose time starts to count."""
        ...

    def step(self, rows: Sequence[int], actions: np.ndarray) -> list[Failure]:
        """One step in each row."""
        ...

    def guarded(self) -> AbstractContextManager[None]:
        """While a generation plays: whatever keeps others from using them."""
        ...

    def close(self) -> None:
        """Let go of them."""
        ...


@dataclass(frozen=True)
class Bench:
    """Worlds in this process, made when they are first needed."""

    make: Callable[[], Any]
    rules: Rules
    windows: Windows
    envs: list[Any]
    infos: list[Any]
    steps: list[int]
    spent: list[float]  # seconds that each row's world took for its member so far
    now: Any  # [2] the row that is being stepped (-1: none), and since when

    def begin(self, rows: Sequence[int], seeds: Sequence[int], anew: bool) -> list[Failure]:
        failed = []
        for row, seed in zip(rows, seeds, strict=True):
            self.steps[row] = 0
            if anew:
                self.spent[row] = 0.0
            try:
                self._begin(row, seed)
            except (Exception, SystemExit) as error:
                failed.append(self._fail(row, error))
        self.now[0] = -1
        return failed

    def step(self, rows: Sequence[int], actions: np.ndarray) -> list[Failure]:
        """The loop that costs: one pass a world and step."""
        envs, infos, steps, spent, now = self.envs, self.infos, self.steps, self.spent, self.now
        seen, read = self.windows.seen, self.rules.senses.read if self.rules.senses.flat is not None else None
        length, limit, clock = self.rules.length, self.rules.limit, time.perf_counter
        rewards, overs, failed = [], [], []
        now[1] = clock()
        for row, action in zip(rows, self.rules.motor.rows(actions), strict=True):
            now[0] = row
            reward, over = 0.0, True
            try:
                if (env := envs[row]) is None:
                    raise Gone
                x, paid, ended, cut, infos[row] = env.step(action)
                seen[row] = x if read is None else read(x)
                steps[row] += 1
                over = bool(ended or cut or steps[row] >= length)
                since, now[1] = now[1], clock()
                spent[row] += now[1] - since
                if spent[row] > limit:
                    raise Overtime
                reward = float(paid)
            except (Exception, SystemExit) as error:
                failed.append(self._fail(row, error))
            rewards.append(reward)
            overs.append(over)
        now[0] = -1
        place = np.asarray(rows)
        self.windows.reward[place], self.windows.over[place] = rewards, overs
        if self.rules.descriptor and any(overs):
            failed += self._describe(place[overs])
        return failed

    def close(self) -> None:
        for row, env in enumerate(self.envs):
            if env is not None:
                env.close()
                self.envs[row] = None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Interrupt a world that hangs, as far as Python can: on the main thread, by an alarm."""
        if not math.isfinite(self.rules.limit) or threading.current_thread() is not threading.main_thread():
            yield
            return

        def look(number: int, frame: Any):
            row, since = self.now
            if row >= 0 and self.spent[int(row)] + time.perf_counter() - since > self.rules.limit:
                raise Overtime

        before = signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _begin(self, row: int, seed: int):
        if self.envs[row] is None:
            self.now[0] = -1  # whoever began before is done with
            self.envs[row] = self.make()
        self.now[:] = row, time.perf_counter()
        x, self.infos[row] = self.envs[row].reset(seed=seed)
        self.windows.seen[row] = self.rules.senses.read(x)
        self.spent[row] += time.perf_counter() - self.now[1]

    def _fail(self, row: int, error: BaseException) -> Failure:
        """What a world that failed says; it isn't used again. One that hung isn't closed, for it may hang again."""
        env, self.envs[row] = self.envs[row], None
        self.now[:] = -1, time.perf_counter()
        if isinstance(error, Gone):
            return Failure(row, None)
        if isinstance(error, Overtime):
            return Failure(row, f"took more than time_limit, {self.rules.limit:g} s")
        if env is not None:
            with suppress(Exception):
                env.close()
        return Failure(row, told(error))

    def _describe(self, rows: np.ndarray) -> list[Failure]:
        failed = []
        for row in rows.tolist():
            info, last = self.infos[row], self.windows.seen[row].reshape(-1)
            try:
                self.windows.found[row] = [info[x] if isinstance(x, str) else last[x] for x in self.rules.descriptor]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                failed.append(Failure(row, f"descriptor: {type(error).__name__}: {error}"))
        return failed


def bench(make: Callable[[], Any], rules: Rules, windows: Windows, now: Any = None) -> Bench:
    """No world yet, room for one in every row. `now` is where to say what is being stepped."""
    count = len(windows.reward)
    now = [-1, 0.0] if now is None else now
    return Bench(make, rules, windows, [None] * count, [None] * count, [0] * count, [0.0] * count, now)


def blank(rules: Rules, count: int) -> Windows:
    """Windows on `count` worlds."""
    return Windows(*(np.zeros(shape, dtype) for shape, dtype in shapes(rules, count)))


def shapes(rules: Rules, count: int) -> list[tuple[tuple[int, ...], str]]:
    """Shape and dtype of each window."""
    senses = rules.senses
    seen = ((count, *senses.shape), senses.dtype)
    return [seen, ((count,), "float64"), ((count,), "bool"), ((count, len(rules.descriptor)), "float64")]
