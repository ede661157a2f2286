"""What is written down of a run while it goes on, so that nothing already computed is lost."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from evo.arrivals import Moves
from evo.checkpoint import Checkpoints, flatten, unflatten
from evo.engine import Engine, Moment
from evo.experiment import difference, parse, render, searched
from evo.folder import Folder
from evo.host import Lost
from evo.records import STATE
from evo.task import Evaluation, Params

LOG = logging.getLogger("evo")


def bound(path: Path, resume: bool, keep: int, every: int, pack: Callable[[Moment], Moment]) -> Book:
    """The book of a run in a folder. Raises where a run is there that isn't to be resumed, or something else is."""
    folder = Folder(path)
    there = folder.exists()
    if there and not resume:
        raise ValueError(f"{path} already holds a run. Choose another `out`, or resume it.")
    folder.make()
    held = folder.hold()
    try:
        there = folder.exists()
        checkpoints = folder.checkpoints(keep)
        if there and not checkpoints.generations() and len(folder.rows()) <= every:
            there = False  # killed before its first checkpoint was written: it begins anew, to the same end
        return Book(folder, checkpoints, every, there, pack, held)
    except BaseException:
        free(held)
        raise


@dataclass(frozen=True)
class Book:
    """The files of a run: a checkpoint `every` so many generations, a record and a line of metrics each."""

    folder: Folder
    checkpoints: Checkpoints
    every: int
    there: bool  # a run is there to go on with
    pack: Callable[[Moment], Moment]  # what a checkpoint keeps of a moment
    held: int | None = None  # keeps other processes out

    def __enter__(self) -> Book:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any):
        """Let others run in the folder. A mistake that is told before there is a row takes back what was begun."""
        if kind and issubclass(kind, ValueError) and not self.there and not self.folder.rows():
            self.checkpoints.finish()
            self.checkpoints.close()
            self.folder.unmake()
        free(self.held)

    def open(self, moment: Moment, config: str, engine: Engine, params: Params) -> tuple[Moment, list[dict[str, Any]]]:
        """Begin the folder, or go on from its last whole checkpoint: where the run stands, and its rows so far."""
        if self.there:
            self._same(config)
            return self._resume(moment, engine)
        if any((self.folder.path / name).exists() for name in ("fitness", "metrics.jsonl", "lost.jsonl")):
            self.folder.cut(0)  # of a run that was killed before its first checkpoint
        self.folder.begin(config, engine.strategy.noise, params)
        self.checkpoint(0, moment, force=True)
        return moment, []

    def record(self, generation: int, evaluation: Evaluation, task_state: Any):
        """Keep what everyone scored, and the task's state they were judged under."""
        arrays = {"fitness": np.asarray(evaluation.fitness)}
        if evaluation.descriptor is not None:
            arrays["descriptor"] = np.asarray(evaluation.descriptor)
        state = {f"task.{name.replace('/', '.')}": x for name, x in flatten(task_state).items()}
        if sum(x.nbytes for x in state.values()) <= STATE:
            arrays |= state
        self.folder.records.append(generation, arrays)

    def follow(self, generation: int, moves: Moves):
        """Keep who moved within the archive."""
        self.folder.arrivals.append(generation, moves)

    def lose(self, generation: int, lost: list[Lost]):
        """Write down who was lost, and why."""
        tell(generation, lost)
        for member, error in lost:
            self.folder.log({"generation": generation, "member": member, "error": error}, "lost.jsonl")

    def log(self, row: dict[str, Any]):
        self.folder.log(row)

    def checkpoint(self, generation: int, moment: Moment, force: bool = False):
        """Write a checkpoint when one is due; one that falls due while another is being written is left out."""
        if not force and (generation % self.every or self.checkpoints.busy()):
            return
        if generation not in self.checkpoints.generations():
            self.checkpoints.save(generation, self.pack(moment))

    def close(self, generation: int, moment: Moment, solution: Params):
        """The last checkpoint, and the solution."""
        self.checkpoint(generation, moment, force=True)
        self.folder.save("solution", solution)
        self.folder.save("task", moment.task_state)
        self.checkpoints.finish()
        self.checkpoints.close()

    def where(self, generation: int) -> str:
        """For an error: what is left of the run."""
        self.checkpoints.finish()
        return f"the state before it is kept in {self.folder.path / 'checkpoints' / str(generation)}."

    def latest(self, up_to: int, like: Moment, engine: Engine) -> tuple[int, Moment]:
        """The last whole checkpoint that isn't above a generation, and what it keeps. Raises where there is none."""
        found = self.checkpoints.latest(up_to)
        if found is None:
            raise ValueError(f"{self.folder.path} has no checkpoint that can be read; start again in another folder.")
        generation, arrays = found
        shapes = jax.eval_shape(self.pack, like)
        packed = jax.device_put(unflatten(arrays, shapes), engine.runtime.everywhere)
        return generation, packed._replace(state=engine.unpack(packed.state))

    def _same(self, config: str):
        """Raise unless the run there is of this task, strategy and seed; write down how long it is to be now."""
        mine, theirs = (parse(text, "config.yaml") or {} for text in (config, self.folder.config()))
        found = difference(_fixed(mine), _fixed(theirs))
        if found:
            raise ValueError(f"{self.folder.path} holds another run: {found}. Choose another `out`, or set it back.")
        if mine.get("generations", 0) > theirs.get("generations", 0):
            self.folder.configure(render({**theirs, "generations": mine["generations"]}))

    def _resume(self, moment: Moment, engine: Engine) -> tuple[Moment, list[dict[str, Any]]]:
        rows, records, kept = len(self.folder.rows()), len(self.folder.records), self.checkpoints.generations()
        done = min(rows, records)
        if not done and max(kept, default=0) > 0:
            lacking = "metrics.jsonl" if records else "fitness/" if rows else "metrics.jsonl and fitness/"
            raise ValueError(
                f"{self.folder.path} has checkpoints and no {lacking}; put it back, or choose another `out`."
            )
        generation, moment = self.latest(done, moment, engine)
        self.checkpoints.cut(generation)
        self.folder.cut(generation)
        return moment, self.folder.rows()


@dataclass(frozen=True)
class Blank:
    """The book of a run without a folder: nothing is written down."""

    every: int = 0  # never

    def __enter__(self) -> Blank:
        return self

    def __exit__(self, *_: Any):
        pass

    def open(self, moment: Moment, config: str, engine: Engine, params: Params) -> tuple[Moment, list[dict[str, Any]]]:
        return moment, []

    def record(self, generation: int, evaluation: Evaluation, task_state: Any):
        pass

    def follow(self, generation: int, moves: Moves):
        pass

    def lose(self, generation: int, lost: list[Lost]):
        tell(generation, lost)

    def log(self, row: dict[str, Any]):
        pass

    def checkpoint(self, generation: int, moment: Moment, force: bool = False):
        pass

    def close(self, generation: int, moment: Moment, solution: Params):
        pass

    def latest(self, up_to: int, like: Moment, engine: Engine) -> tuple[int, Moment] | None:
        return None

    def where(self, generation: int) -> str:
        return "check the task's arithmetic, or lower `sigma`."


def free(held: int | None):
    """Let go of a folder."""
    if held is not None:
        os.close(held)


def _fixed(raw: dict[str, Any]) -> dict[str, Any]:
    """What stays as it is when a run goes on; of a function the name, whatever module its file is imported as."""
    task = raw.get("task")
    if isinstance(task, dict) and isinstance(task.get("python"), str):
        task = {"python": task["python"].rpartition(":")[2]}
    return searched(raw) | {"task": task}


def tell(generation: int, lost: list[Lost]):
    """Tell a person, in one line, that members were lost."""
    if lost:
        LOG.warning("generation %d: %d lost, the first: member %d: %s", generation, len(lost), *lost[0])
