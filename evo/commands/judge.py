"""`evo eval`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from evo.opened import Run

FRESH = 0x5EED  # what the evaluation's key folds in, so that it shares no luck with the search
SHOWN = 10  # elites in the table


class Estimate(NamedTuple):
    """What some episodes say of a mean: it, their standard deviation, a 95 % interval, and how many were not finite."""

    mean: float
    std: float
    low: float
    high: float
    invalid: int


@dataclass(frozen=True)
class Eval:
    """Judge a run's solution on fresh luck, and each elite where there is an archive (written to eval.csv)."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="A run folder.")]
    episodes: Annotated[int, arg(metavar="N", help="How many episodes each is judged on.")] = 128

    def __call__(self, console: Console) -> int:
        from evo.commands.opened import elites, opened

        if self.episodes < 1:
            raise ValueError(f"--episodes: wanted at least 1, got {self.episodes}.")
        run = opened(self.run)
        scores = judge(run, self.episodes)
        said = estimate(scores(run.solution()))
        console.print(f"solution  {shown(said)}  ({self.episodes} episodes)", highlight=False, soft_wrap=True)
        if said.invalid:
            console.print(f"          {said.invalid} episodes were not finite and don't count", highlight=False)
        if hasattr(run.strategy, "archive"):
            self._elites(run, *elites(run), scores, console)
        return 0

    def _elites(self, run: Run, archive: Any, cells: np.ndarray, scores, console: Console):
        import jax

        quiet = not console.is_terminal
        found = {
            int(cell): estimate(scores(jax.tree.map(lambda rows, cell=cell: rows[cell], archive.rows)))
            for cell in track(cells, "elites", console=console, disable=quiet, transient=True)
        }
        recorded = np.asarray(archive.fitness)
        with (run.path / "eval.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["cell", "recorded", *Estimate._fields])
            rows.writerows([cell, float(recorded[cell]), *said] for cell, said in found.items())
        console.print(_table(found, recorded))
        means = np.array([said.mean for said in found.values()])
        console.print(
            f"{len(found)} elites: mean {np.nanmean(means):.6g} where the archive says {recorded[cells].mean():.6g}; "
            f"all of them are in {run.path / 'eval.csv'}",
            highlight=False,
            soft_wrap=True,
        )


def judge(run: Run, episodes: int):
    """A function that gives the fitness of parameters in `episodes` fresh episodes, the same luck for all."""
    import jax

    from evo.engine import judge as judge_of
    from evo.task import unit_of

    keys = jax.random.split(jax.random.fold_in(jax.random.key(run.config["seed"]), FRESH), episodes)
    one = judge_of(run.task, run.task_state())
    scores = jax.jit(lambda params: jax.vmap(lambda key: one(params, key).fitness)(keys))
    return lambda params: np.asarray(scores(params), np.float64) * unit_of(run.task)


def estimate(scores: np.ndarray) -> Estimate:
    """Mean and its 95 % interval by Student's t; NaN where too few scores are finite."""
    from scipy.special import stdtrit

    valid = scores[np.isfinite(scores)]
    invalid = int(scores.size - valid.size)
    if valid.size == 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, invalid)
    mean = float(valid.mean())
    if valid.size == 1:
        return Estimate(mean, np.nan, np.nan, np.nan, invalid)
    std = float(valid.std(ddof=1))
    half = float(stdtrit(valid.size - 1, 0.975)) * std / valid.size**0.5
    return Estimate(mean, std, mean - half, mean + half, invalid)


def shown(said: Estimate) -> str:
    return f"mean {said.mean:.6g}  std {said.std:.4g}  95 % interval [{said.low:.6g}, {said.high:.6g}]"


def _table(found: dict[int, Estimate], recorded: np.ndarray) -> Table:
    table = Table(title=f"the best {min(SHOWN, len(found))} elites on fresh luck", title_justify="left")
    for title in ("cell", "recorded", "mean", "std", "95 % interval"):
        table.add_column(title, justify="right")
    best = sorted(found.items(), key=lambda pair: -np.nan_to_num(pair[1].mean, nan=-np.inf))[:SHOWN]
    for cell, said in best:
        numbers = (f"{recorded[cell]:.6g}", f"{said.mean:.6g}", f"{said.std:.4g}")
        table.add_row(str(cell), *numbers, f"[{said.low:.6g}, {said.high:.6g}]".replace("[", r"\["))
    return table
