"""Text that every Python brings along: the topics of `help()` and the docstrings of the standard library."""

from __future__ import annotations

import ast
import importlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from evo.envs.language.corpus import PIECE


def documents() -> Iterator[Iterator[str]]:
    """The topics, where there are any, then one document for each module: its docstrings."""
    for text in (*topics(), *docstrings()):
        yield (text[i : i + PIECE] for i in range(0, len(text), PIECE))


def topics() -> list[str]:
    """What `help("if")` and the like say; Debian's smallest Python has none."""
    try:
        found = importlib.import_module("pydoc_data.topics").topics
    except ModuleNotFoundError:
        return []
    return [found[name] for name in sorted(found)]


def docstrings() -> Iterator[str]:
    """Of the modules that lie directly in the standard library's folder; they are read, not imported."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        said = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
        if text := "\n\n".join(s for s in said if s):
            yield text
