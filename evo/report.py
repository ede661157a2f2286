"""What becomes of each leaf in a task: kept lazy, or made dense, where and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from evo.axes import dry, split_axes
from evo.leaf import Axes, Lazy, Params, path_of
from evo.rules import shape_of
from evo.walk import Track, look, walk


@dataclass(frozen=True)
class Row:
    """One leaf: which of its axes are rows and columns, what uses it, and what needs it dense, each use in words."""

    path: str
    shape: tuple[int, ...]
    axes: Axes
    uses: tuple[str, ...]
    dense: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Kept lazy, or not and why."""
        if self.dense:
            return f"made dense: {', '.join(self.dense)}"
        if not self.axes[0]:
            return "vector noise" if self.uses else "not used"
        return "kept lazy"


@dataclass(frozen=True)
class Report:
    """A row for each leaf, in the order of the parameters; printed as a table."""

    rows: tuple[Row, ...]

    @property
    def dense(self) -> tuple[str, ...]:
        """The paths of the leaves that are made dense somewhere."""
        return tuple(row.path for row in self.rows if row.dense)

    def __str__(self) -> str:
        table = [("leaf", "shape", "rows", "columns", "uses", "")]
        for row in self.rows:
            shape, rows, cols = (",".join(map(str, x)) or "-" for x in (row.shape, *row.axes))
            table.append((row.path, shape, rows, cols, ", ".join(row.uses), row.verdict))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
        return "\n".join(line.rstrip() for line in lines)


def report(task: Any, params: Params = None, *args: Any) -> Report:
    """How a task uses each leaf, from one dry run with noise of rank 1: shapes only, nothing is computed.

    `task`, `params` and `args` as for `evo.axes.split_axes`. What a leaf's axes are is inferred. Numbers in the columns
    of rows and columns are axes.
    """
    axes = split_axes(task, params, *args)
    function, params, args = dry(task, params, args)
    closed = jax.make_jaxpr(function)(params, *args)
    named = [(path_of(path), shape_of(leaf)) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    tracks = [tracked(path, leaf, axes.get(path, ((), ()))) for path, leaf in named]
    uses, dense = follow(closed.jaxpr, tracks)
    rows = [
        Row(path, tuple(leaf.shape), axes.get(path, ((), ())), counted(uses, path), counted(dense, path))
        for path, leaf in named
    ]
    return Report(tuple(rows))


def tracked(path: str, leaf: jax.ShapeDtypeStruct, axes: Axes) -> Track:
    """A leaf with factors of rank 1; without, if it has vector noise."""
    rows, cols = axes
    if not rows:
        return Track(leaf, (), (path,))
    a, b = (
        jax.ShapeDtypeStruct([*(1 if i in gone else n for i, n in enumerate(leaf.shape)), 1], leaf.dtype)
        for gone in (cols, rows)
    )
    return Track(leaf, (a, b), (path,))


def follow(jaxpr: Jaxpr, tracks: Sequence[Track | None]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Every use of every leaf, and those that need it dense, as (path, words) in order of appearance.

    What is computed of leaves with vector noise alone is tracked too, without a name: scaled by it, or added to it, a
    matrix is another one for every member.
    """
    uses: list[tuple[str, str]] = []
    dense: list[tuple[str, str]] = []

    def visit(eqn: JaxprEqn, tracks: list[Track | None]) -> list[Track | None]:
        plain = [t for t in tracks if t and not t.factors]
        uses.extend((name, eqn.primitive.name) for t in plain for name in t.names)
        lazy = [t if t and t.factors else None for t in tracks]
        if not any(lazy):
            own = all(t or isinstance(var, Literal) for var, t in zip(eqn.invars, tracks, strict=True))
            return [Track(shape_of(var), (), ()) if own else None for var in eqn.outvars]
        outs, lost = look(eqn, lazy)
        if plain and any(outs):  # the shared matrix is every member's own from here on
            words = f"{eqn.primitive.name} with a leaf's own noise{place(eqn)}"
            dense.extend((name, words) for t in lazy if t for name in t.names)
        if not any(outs):
            uses.extend((name, use_of(eqn, t)) for t in lazy if t for name in t.names)
        dense.extend((name, f"{eqn.primitive.name}{place(eqn)}") for t in lost for name in t.names)
        return outs

    walk(jaxpr, [*tracks, *[None] * (len(jaxpr.invars) - len(tracks))], visit)
    return uses, dense


def use_of(eqn: JaxprEqn, track: Track) -> str:
    """The words for one use. Rows that are looked up are activations, every member's own: as many as the leaf has, or
    more, cost what the leaf would."""
    name, made = eqn.primitive.name, shape_of(eqn.outvars[0])
    whole = name in ("gather", "dynamic_slice") and math.prod(made.shape) >= math.prod(track.base.shape)
    return f"{name} as large as the leaf" if whole else name


def counted(found: list[tuple[str, str]], path: str) -> tuple[str, ...]:
    """The words for one leaf, each once, with how often."""
    counts = Counter(words for name, words in found if name == path)
    return tuple(words if n == 1 else f"{words} x{n}" for words, n in counts.items())


def place(eqn: JaxprEqn) -> str:
    """Where in the user's code an equation comes from, as ` (model.py:12)`."""
    traceback = eqn.source_info.traceback
    frames: Sequence[Any] = traceback.frames if traceback else ()
    for frame in frames:
        folder = Path(frame.file_name).parts
        if "site-packages" not in folder and "evo" not in folder[-2:-1]:
            return f" ({Path(frame.file_name).name}:{frame.line_num})"
    return ""


def refuse(jaxpr: Jaxpr, leaves: list[tuple[str, Any]]) -> None:
    """Raise a ValueError if one of these leaves (path, value) has to be made dense by what it goes through."""
    tracks = [
        Track(shape_of(leaf.base), (shape_of(leaf.a), shape_of(leaf.b)), (path,)) if isinstance(leaf, Lazy) else None
        for path, leaf in leaves
    ]
    _, dense = follow(jaxpr, tracks)
    words = [
        f"`{path}` is made dense: {', '.join(counted(dense, path))}" for path in dict.fromkeys(p for p, _ in dense)
    ]
    if words:
        raise ValueError(f"strict: {'; '.join(words)}. Use `strict=False`, or noise without factors for these leaves.")
