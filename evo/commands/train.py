"""`evo run`."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from rich.console import Console
from tyro.conf import Positional, Suppress, UseAppendAction, arg

if TYPE_CHECKING:
    from evo.experiment import Experiment


@dataclass(frozen=True)
class Run:
    """Run an experiment.

    Any field of it can be set, as YAML: --strategy.sigma 0.1 --task.policy.hidden "[32, 32]" --chunk 64.
    """

    config: Annotated[Positional[str], arg(metavar="CONFIG", help="A name that `evo list` shows, or a YAML file.")]
    out: Annotated[
        Path | None, arg(metavar="DIR", help="The run's folder; runs/CONFIG-sSEED if left out. It must be new.")
    ] = None
    resume: Annotated[bool, arg(help="Go on with the run that is in the folder, from its last checkpoint.")] = False
    generations: Annotated[str | None, arg(metavar="N", help="How many generations; more than before to go on.")] = None
    seed: Annotated[str | None, arg(metavar="S", help="The seed of everything random.")] = None
    log: Annotated[
        UseAppendAction[tuple[str, ...]], arg(metavar="LOGGER", help="tensorboard or wandb, besides metrics.jsonl.")
    ] = ()
    quiet: Annotated[bool, arg(help="Show no progress.")] = False
    watch: Annotated[bool, arg(help="Show small curves in the terminal while it runs.")] = False
    overrides: Suppress[tuple[tuple[str, str], ...]] = ()

    def __call__(self, console: Console) -> int:
        from evo.experiment import dump, load

        experiment = load(self.config, self._overrides())
        name = Path(self.config).name.removesuffix(".yaml").removesuffix(".yml")
        out = self.out or Path("runs") / f"{name}-s{experiment.seed}"
        config = dump(experiment)
        if self._goes_on(out, config):
            console.print(f"going on with {out}", soft_wrap=True)
        elif self.resume:
            console.print(f"there is no run in {out} to go on with: it begins", soft_wrap=True)
        status, result = train(experiment, out, config, console, self.quiet, self.watch)
        if status:
            stood = f"stopped after {len(result.metrics['generation'])} of {experiment.generations} generations"
            again = shlex.join(["evo", "run", self.config, "--out", str(out), "--resume", *self._words()])
            console.print(f"{stood}; go on with: {again}", soft_wrap=True)
        return status

    def _overrides(self) -> list[tuple[str, str]]:
        own = [(name, value) for name in ("generations", "seed") if (value := getattr(self, name)) is not None]
        log = [("log", f"[{', '.join(self.log)}]")] if self.log else []
        return [*self.overrides, *own, *log]

    def _words(self) -> list[str]:
        """The overrides as they are typed."""
        return [word for path, value in self._overrides() for word in (f"--{path}", value)]

    def _goes_on(self, out: Path, config: str) -> bool:
        """Whether a run is there to go on with. Raises where that wasn't asked for, or it is another's."""
        if out.is_file():
            raise ValueError(f"--out: wanted a folder; {out} is a file.")
        there = out.exists() and any(out.iterdir())
        if there and not self.resume:
            raise ValueError(f"{out} is there already; give --resume to go on with it, or another --out.")
        if there:
            from evo.folder import Folder

            check_same(out, config)
            Folder(out).configure(config)
        return there


def train(
    experiment: Experiment, out: Path, config: str, console: Console, quiet: bool, curves: bool = False
) -> tuple[int, Any]:
    """Run with progress and loggers; the exit status, 128 + signal where one ended it, and what `evo.run` returned."""
    from evo.experiment import parse
    from evo.loggers import logging
    from evo.progress import watching
    from evo.run import run

    told_apart = ("task", "strategy", "log")
    settings = {f.name: getattr(experiment, f.name) for f in fields(experiment) if f.name not in told_apart}
    with (
        logging(experiment.log, out, parse(config, "config")) as log,
        watching(console, experiment.generations, quiet, curves) as watch,
        interruptible(console) as signals,
    ):

        def told(row: dict[str, Any]):
            """To the loggers and to the progress line."""
            log(row)
            watch(row)

        result = run(
            experiment.task,
            None,
            experiment.strategy,
            out=out,
            config=config,
            on_generation=told,
            stop=lambda: bool(signals),
            **settings,
        )
    finish(out, result, console, experiment.task)
    return (128 + signals[0] if signals else 0), result


def finish(out: Path, result: Any, console: Console, task: Any):
    """Draw the learning curve and say what the run left and where."""
    from evo.commands.look import draw_curves

    rows = len(result.metrics.get("best", ()))
    console.print(f"run folder      {out}", soft_wrap=True)
    if rows:
        picture = draw_curves([out], out / "curves.png", "generation")
        console.print(f"learning curve  {picture}", soft_wrap=True)
        console.print(f"best fitness    {result.metrics['best'].max() + 0.0:.6g}")  # no -0
        seen = result.metrics.get("eval_mean", np.zeros(0))
        if (fresh := seen[np.isfinite(seen)]).size:
            console.print(f"on fresh luck   {fresh[-1]:.6g}")
        for name, said in misfits(result.metrics):
            console.print(f"{name:15} {said}", soft_wrap=True)
    for name, value in getattr(task, "references", {}).items():
        console.print(f"{name:15} {value:.6g}  (what counting scores there)")


def misfits(metrics: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """What to know of the last generation's members whose descriptors an archive can't place, or hardly."""
    unfiled, outside = (int(metrics[name][-1]) if name in metrics else 0 for name in ("unfiled", "out_of_bounds"))
    if unfiled:
        yield "in no cell", f"{unfiled} of the last generation: a descriptor that isn't finite, or is refused"
    if outside > metrics["evaluations"][-1] / len(metrics["evaluations"]) / 2:
        yield "out of bounds", f"{outside} of the last generation; the archive's `bounds` may be too narrow"
    if "elites" in metrics and not metrics["elites"][-1]:
        yield "archive", "empty, so the solution is the initial parameters"


def check_same(out: Path, config: str):
    """Raise unless the run in `out` is of this config, up to what may differ when a run goes on."""
    from evo.experiment import difference, parse, searched

    try:
        theirs = parse((out / "config.yaml").read_text(encoding="utf-8"), str(out / "config.yaml"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{out} is not a run folder that can be read: {error}. Choose another --out.") from None
    mine = parse(config, "config")
    if not isinstance(theirs, dict) or "strategy" not in theirs:
        raise ValueError(f"{out / 'config.yaml'} is not the config of a run. Choose another --out.")
    found = difference(searched(mine), searched(theirs))
    if found:
        raise ValueError(f"{out} holds a run of another config: {found}. Choose another --out, or set it back.")
    before = theirs.get("generations", 0)
    if mine["generations"] < before:
        raise ValueError(
            f"generations: {out} is a run of {before}, which may grow but not shrink; got {mine['generations']}."
        )


@contextmanager
def interruptible(console: Console) -> Iterator[list[int]]:
    """The signals that came: Ctrl-C and SIGTERM are noted, for the run to stop; a second Ctrl-C ends it at once."""
    came: list[int] = []

    def note(number: int, frame: object):
        """What a signal does: it is remembered, and a second Ctrl-C ends the run at once."""
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)
        console.print("stopping after this generation; Ctrl-C again stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
