"""Where metrics go besides metrics.jsonl: TensorBoard and Weights & Biases, if asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from evo.registry import missing, nearest

Log = Callable[[dict[str, Any]], None]  # is given each generation's row of metrics
Open = Callable[[Path, dict[str, Any]], AbstractContextManager[Log]]  # given the run folder and the config


@contextmanager
def logging(names: tuple[str, ...], out: Path, config: dict[str, Any]) -> Iterator[Log]:
    """One function that sends a row to every logger named; they are opened when the first row comes.

    Raises at once where a name isn't known or its package is missing.
    """
    unknown = [name for name in names if name not in LOGGERS]
    if unknown:
        raise ValueError(f"log: unknown logger {unknown[0]!r}; {nearest(unknown[0], LOGGERS)}")
    opens = [LOGGERS[name]() for name in names]
    logs: list[Log] = []
    with ExitStack() as stack:

        def log(row: dict[str, Any]):
            if not logs:
                logs.extend(stack.enter_context(open(out, config)) for open in opens)
            for each in logs:
                each(row)

        yield log


def tensorboard() -> Open:
    """Event files in the run folder's `tensorboard/`."""
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError as error:
        raise missing(error, "log: tensorboard") from None

    @contextmanager
    def open(out: Path, config: dict[str, Any]) -> Iterator[Log]:
        with SummaryWriter(str(out / "tensorboard")) as writer:

            def log(row: dict[str, Any]):
                for name, value in row.items():
                    if value is not None:
                        writer.add_scalar(name, value, row["generation"])

            yield log

    return open


def wandb() -> Open:
    """A Weights & Biases run named as the run folder, in the project `evo`; a resumed run is a new one there."""
    try:
        import wandb as client
    except ModuleNotFoundError as error:
        raise missing(error, "log: wandb") from None

    @contextmanager
    def open(out: Path, config: dict[str, Any]) -> Iterator[Log]:
        with client.init(project="evo", name=out.name, dir=str(out), config=config) as run:
            yield lambda row: run.log(row, step=row["generation"])

    return open


LOGGERS: dict[str, Callable[[], Open]] = {"tensorboard": tensorboard, "wandb": wandb}
