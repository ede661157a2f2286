"""The command `evo`: its arguments, and what an error looks like.

Exit status: 0 done; 1 the run failed; 2 bad input, told in a sentence or two; 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import jax
import tyro
from rich.console import Console

from evo.commands.atlas import Archive
from evo.commands.judge import Eval
from evo.commands.listing import List
from evo.commands.look import Plot, Render
from evo.commands.rebuild import Export, Replay
from evo.commands.sample import Sample
from evo.commands.train import Run
from evo.compiler import keep_memory
from evo.registry import nearest

COMMANDS: dict[str, Any] = {
    "list": List,
    "run": Run,
    "eval": Eval,
    "replay": Replay,
    "render": Render,
    "plot": Plot,
    "sample": Sample,
    "archive": Archive,
    "export": Export,
}
ABOUT = "Evolution strategies, genetic algorithms and quality diversity on one population runtime in JAX."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; a user's mistake is a sentence on stderr, never a traceback."""
    keep_memory()
    sys.path.append(os.getcwd())  # for modules of your own that a config names
    jax.config.update("jax_traceback_filtering", "off")  # `ours` needs to see where an error was raised
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # where Orbax logs a traceback of what it raises too
    try:
        return parse(list(sys.argv[1:] if argv is None else argv))(Console(highlight=False, markup=False))
    except SystemExit as error:  # tyro's help and errors
        return error.code if isinstance(error.code, int) else 2
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except BrokenPipeError:  # `evo list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        mistaken = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError | FileExistsError)
        where = f": {error.filename}" if error.filename else ""
        return fail(f"{error.strerror or error}{where}", 2 if mistaken else 1)
    except Exception as error:
        if not ours(error):
            traceback.print_exc()
            return 1
        return fail(str(error), 2 if isinstance(error, ValueError) else 1)


def parse(argv: list[str]) -> Any:
    """The command that the arguments describe."""
    argv, overrides = split(argv)
    command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="evo", description=ABOUT, args=argv, config=(tyro.conf.FlagCreatePairsOff,)
    )
    return replace(command, overrides=overrides) if isinstance(command, Run) else command


def split(argv: list[str]) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """The arguments of `evo run` without those that set fields of the experiment, and those as (path, value)."""
    if argv[:1] != ["run"]:
        return argv, ()
    from evo.experiment import Experiment

    own = {field.name for field in fields(Run)} - {"overrides"} | {"help"}
    settable = {field.name for field in fields(Experiment)}
    rest, found, words = [], [], iter(argv)
    for word in words:
        name, given, value = word.removeprefix("--").partition("=")
        path = name.replace("-", "_")
        if not word.startswith("--") or path in own:
            rest.append(word)
            continue
        if "." not in path and path not in settable:
            near = nearest(path, own | settable).replace("_", "-")
            raise ValueError(
                f"unknown option --{name}; {near} Other fields are set by path, as --strategy.{path} VALUE."
            )
        value = value if given else next(words, "--")
        if value.startswith("--"):
            raise ValueError(f"--{name}: wanted a value after it, got nothing.")
        found.append((path, value))
    return rest, tuple(found)


def ours(error: Exception) -> bool:
    """Whether an error was raised by this package's own checks, so that its text is meant for the user."""
    last = list(traceback.walk_tb(error.__traceback__))[-1][0]
    name = last.f_globals.get("__name__", "")
    return isinstance(error, ValueError | RuntimeError) and name.partition(".")[0] == "evo"


def fail(text: str, status: int) -> int:
    """Tell on stderr what went wrong."""
    Console(stderr=True, highlight=False, markup=False).print(f"evo: {text}", soft_wrap=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
