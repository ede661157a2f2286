"""`evo sample`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Sample:
    """Let a run's language model write: the prompt, then what it makes of it."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="A run folder.")]
    prompt: Annotated[str, arg(metavar="TEXT", help="What comes before; left out, a document's beginning.")] = ""
    tokens: Annotated[int, arg(metavar="N", help="How many tokens it writes at most.")] = 200
    temperature: Annotated[float, arg(metavar="T", help="1: as likely as it thinks; 0: always the likeliest.")] = 1.0
    seed: Annotated[int, arg(metavar="S", help="The seed of its choices.")] = 0

    def __call__(self, console: Console) -> int:
        import jax

        from evo.commands.opened import opened

        if self.tokens < 1:
            raise ValueError(f"--tokens: wanted at least 1, got {self.tokens}.")
        if not self.temperature >= 0:
            raise ValueError(f"--temperature: wanted at least 0, got {self.temperature}.")
        run = opened(self.run)
        write = getattr(run.task, "sample", None)
        if write is None:
            raise ValueError(
                f"{self.run} writes no text: its task is {type(run.task).__name__}, wanted text or prompted."
            )
        run = replace(run, given_params=run.folder.template())  # needs no corpus
        text = write(run.solution(), self.prompt, self.tokens, self.temperature, jax.random.key(self.seed))
        console.print(printable(self.prompt + text), soft_wrap=True)
        return 0


def printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
