"""`evo eval`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from rich.console import Console
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from evo.opened import Run


class Estimate(NamedTuple):
    """What some episodes say of a mean: it, their standard deviation, a 95 % interval, and how many were not finite."""

    mean: float
    std: float
    low: float
    high: float
    invalid: int


@dataclass(frozen=True)
class Eval:
    """Judge a run's solution on fresh luck; where there is an archive, every elite, and what is left of the archive."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="A run folder.")]
    episodes: Annotated[
        int | None,
        arg(metavar="N", help="How often each is judged, on fresh episodes; 128, or 512 where there is an archive."),
    ] = None

    def __call__(self, console: Console) -> int:
        from evo.commands.opened import opened
        from evo.commands.review import reviewed

        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"--episodes: wanted at least 1, got {self.episodes}.")
        run = opened(self.run)
        archive = hasattr(run.strategy, "archive")
        episodes = self.episodes or (512 if archive else 128)
        said = estimate(judge(run, episodes))
        console.print(f"solution  {shown(said)}  ({times(run.task, episodes)})", soft_wrap=True)
        if said.invalid:
            console.print(f"          {said.invalid} of these were not finite and don't count")
        console.print(*references(run.task), sep="", end="")
        if archive and not np.isfinite(np.asarray(run.archive().fitness)).any():
            console.print("the archive is empty, so there are no elites to judge")
        elif archive:
            reviewed(run, episodes, console)
        return 0


def judge(run: Run, episodes: int) -> np.ndarray:
    """The solution's fitness, judged so often on fresh luck, in the numbers that people see."""
    from evo.engine import Moment

    with closing(replace(run.engine, task=run.task)) as engine:
        said = engine.evaluate(Moment(run.strategy_state(), run.task_state()), fresh(run, episodes))
    return np.asarray(said.fitness, np.float64)


def times(task: Any, count: int) -> str:
    """How often something was judged, in words: a task may judge by the mean of several episodes."""
    each = getattr(task, "episodes", 1)
    return f"{count} episodes" if each == 1 else f"{count} evaluations of {each} episodes"


def fresh(run: Run, count: int) -> Any:
    """Luck that the search never saw."""
    import jax

    from evo.random import EVALUATION

    return jax.random.split(run.luck(EVALUATION), count)


def references(task: Any) -> list[str]:
    """A line for each of the simple rules that a task has to compare with."""
    return [f"{name:8}  mean {value:.6g}  (counting)\n" for name, value in getattr(task, "references", {}).items()]


def estimate(scores: np.ndarray) -> Estimate:
    """Mean and its 95 % interval by Student's t; NaN where too few scores are finite."""
    valid = scores[np.isfinite(scores)]
    mean = float(valid.mean()) if valid.size else np.nan
    return interval(mean, float(valid.var()) if valid.size else np.nan, valid.size, scores.size)


def interval(mean: float, variance: float, valid: int, count: int) -> Estimate:
    """The estimate of `valid` finite scores out of `count`, of this mean and this mean square about it."""
    from scipy.special import stdtrit

    if valid < 2:
        return Estimate(mean if valid else np.nan, np.nan, np.nan, np.nan, count - valid)
    std = (variance * valid / (valid - 1)) ** 0.5
    half = float(stdtrit(valid - 1, 0.975)) * std / valid**0.5
    return Estimate(mean, std, mean - half, mean + half, count - valid)


def shown(said: Estimate) -> str:
    """An estimate as a line prints it."""
    return f"mean {said.mean:.6g}  std {said.std:.4g}  95 % interval [{said.low:.6g}, {said.high:.6g}]"
