"""Archives: the best member found for every kind of behaviour.

An archive is cells; a cell holds one elite or is empty. A verb (`Grid`, `evo.cvt.CVT`) says which cell a descriptor
belongs to; who moves in and how is the same for all: `insert`, which is `contest`, then `settle`. `evo.unstructured`
has no cells, only elites a distance apart; `evo.deep` keeps several elites a cell.
Axes: `n` newcomers, `c` cells, `d` descriptor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from evo.runtime import free_memory

BLOCK = 32  # cells counted by one row of a matmul
SLICE = 512  # newcomers moved in at a time; an eighth of that where their rows are large
SMALL = 1 << 22  # bytes of rows that are not large
LARGE = 1 << 25  # bytes of rows that are made at a time, or one row
NOWHERE = np.iinfo(np.int32).max  # no row of anything

Outside = Literal["clip", "refuse"]  # what becomes of a descriptor out of bounds
Bounds = tuple[tuple[float, float], ...]  # of each descriptor
Rows = Any  # a pytree of arrays with a leading axis: dense parameters, genomes, anything


class Archive(NamedTuple):
    """Elites by cell. What an empty cell (fitness -inf) holds in its other fields means nothing."""

    rows: Rows
    fitness: Float[Array, "c"]
    descriptor: Float[Array, "c d"]  # as reported, not clipped to the bounds
    record: Any = None  # what else is kept of each elite (its parents, the generation it came in): a pytree [c, ...]
    threshold: Float[Array, "c"] | None = None  # what a newcomer must beat, where that isn't the tenant's fitness


class Inserted(NamedTuple):
    """What became of each newcomer, compared with the archive before the batch."""

    status: Int[Array, "n"]  # 0: not better than the tenant, or invalid; 1: better; 2: the cell was empty
    improvement: Float[Array, "n"]  # fitness minus the tenant's (an empty cell counts as `offset`); -inf where invalid
    accepted: Bool[Array, "n"]  # moved in: of those with a status above 0, the best of its cell
    cell: Int[Array, "n"]  # c where the newcomer is invalid
    outside: Bool[Array, "n"]  # finite, but out of bounds: filed in the cell at the edge, or refused


class Unsaid(Bounds):
    """Bounds that nobody gave: [0, 1] for each descriptor, until a task says better, see `placed`."""


UNIT = Unsaid(((0.0, 1.0), (0.0, 1.0)))


class Cells(Protocol):
    """What an archive is: `Grid`, `evo.cvt.CVT`, `evo.unstructured.Unstructured`, or a `evo.deep.Deep` one of these."""

    @property
    def bounds(self) -> Bounds: ...

    @property
    def offset(self) -> float: ...

    @property
    def learning_rate(self) -> float | None: ...

    @property
    def threshold_min(self) -> float: ...

    @property
    def outside(self) -> Outside: ...

    @property
    def cells(self) -> int: ...

    @property
    def surface(self) -> Cells:
        """The archive that is shown: this one, or what is left of it at one elite a cell."""
        ...

    def top(self, archive: Archive) -> Archive:
        """The archive of `surface`."""
        ...

    def compare(self, archive: Archive, fitness: Float[Array, "n"], descriptor: Float[Array, "n d"] | None) -> Inserted:
        """What would become of these newcomers, and where those that move in go."""
        ...


@dataclass(frozen=True)
class Grid:
    """A grid of any dimension over the box of descriptors `bounds`: the cell is computed, never searched for.

    Cells are numbered row-major, the last descriptor fastest. A descriptor out of bounds belongs to the cell at the
    edge (`outside="clip"`) or never enters (`"refuse"`). Bounds that aren't given are, in a run, the task's
    `descriptor_bounds` if it has those, else [0, 1] for each descriptor. `offset` is the fitness that an empty cell
    counts as, in improvements and in the QD score. With a `learning_rate` the archive anneals, see `anneal`: newcomers
    are compared with thresholds, which start at `threshold_min`; the elites are still the best there ever were.
    """

    shape: tuple[int, ...] = (32, 32)
    bounds: Bounds = UNIT
    offset: float = 0.0
    learning_rate: float | None = None
    threshold_min: float = 0.0
    outside: Outside = "clip"

    def __post_init__(self):
        if isinstance(self.bounds, Unsaid):
            object.__setattr__(self, "bounds", Unsaid(UNIT[:1] * len(self.shape)))
        if len(self.shape) != len(self.bounds) or not self.shape:
            raise ValueError(
                f"A grid has one length and one pair of bounds for each descriptor; got shape {self.shape} and "
                f"{len(self.bounds)} pairs of bounds. Use e.g. shape={(32,) * max(len(self.bounds), 1)}."
            )
        if min(self.shape) < 1 or self.cells >= 2**31 - 1:
            raise ValueError(f"A grid needs from 1 to 2^31 cells, at least 1 along each axis; got shape {self.shape}.")
        check(self)

    @property
    def cells(self) -> int:
        """The number of cells."""
        return math.prod(self.shape)

    def cell(self, descriptor: Float[Array, "n d"] | None) -> tuple[Int[Array, "n"], Bool[Array, "n"]]:
        """The cell of each descriptor, `cells` (none) where it isn't finite; and whether it is out of bounds."""
        descriptor = checked(self, descriptor)
        return filed(self, descriptor, boxes(descriptor, self.bounds, self.shape))

    @property
    def surface(self) -> Grid:
        return self

    def top(self, archive: Archive) -> Archive:
        return archive

    def compare(self, archive: Archive, fitness: Float[Array, "n"], descriptor: Array | None) -> Inserted:
        """Each newcomer against its cell's tenant and its rivals in the batch; see `contest`."""
        cell, outside = self.cell(descriptor)
        return contest(archive, cell, fitness, self.offset, outside)


def boxes(descriptor: Float[Array, "n d"], bounds: Bounds, shape: tuple[int, ...]) -> Int[Array, "n"]:
    """Which box of a grid of this shape each descriptor is in, row-major; out of bounds, the one at the edge."""
    low, high = np.asarray(bounds, np.float32).T
    sides = np.asarray(shape, np.float32)
    place = jnp.clip(jnp.floor((descriptor - low[None]) / (high - low)[None] * sides[None]), 0.0, sides[None] - 1)
    strides = np.cumprod([1, *shape[:0:-1]])[::-1].astype(np.int32)
    return (place.astype(jnp.int32) * strides[None]).sum(-1)


def placed(verb: Any, task: Any) -> Any:
    """A strategy, or an archive, over the `descriptor_bounds` of the task wherever nobody gave it any bounds."""
    known = getattr(task, "descriptor_bounds", ())
    if not known:
        return verb
    values = {name: getattr(verb, name) for name in getattr(verb, "__dataclass_fields__", ())}
    new = {name: known for name, value in values.items() if isinstance(value, Unsaid)}
    new |= {name: placed(values[name], task) for name in ("cells", "of") if name in values}
    return verb if all(values[name] is value for name, value in new.items()) else replace(verb, **new)


def check(cells: Cells):
    """Raise where the bounds or the annealing of an archive make no sense."""
    for low, high in cells.bounds:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"Bounds are finite and go from low to high, e.g. (0, 1); got ({low}, {high}).")
    if cells.learning_rate is not None and not 0 <= cells.learning_rate <= 1:
        raise ValueError(f"An archive's `learning_rate` is from 0 to 1, or None; got {cells.learning_rate}.")
    if cells.learning_rate is not None and not math.isfinite(cells.threshold_min):
        raise ValueError(f"With a `learning_rate`, `threshold_min` is a finite fitness; got {cells.threshold_min}.")
    if cells.outside not in get_args(Outside):
        raise ValueError(f"`outside` is 'clip' or 'refuse'; got {cells.outside!r}.")


def checked(cells: Cells, descriptor: Array | None) -> Array:
    """The descriptors; raises where there are none, or not as many as the archive has bounds."""
    if descriptor is None:
        raise ValueError("Quality diversity needs a descriptor, and this task gives none. Return `evo.Evaluation`.")
    if descriptor.ndim != 2 or descriptor.shape[-1] != len(cells.bounds):
        raise ValueError(
            f"The {type(cells).__name__} has {len(cells.bounds)} pairs of bounds, so it files as many descriptors of a "
            f"member; the task gives "
            f"{descriptor.shape[-1] if descriptor.ndim == 2 else 'an array of shape ' + str(descriptor.shape)}. "
            "Give it one entry for each."
        )
    return descriptor


def filed(cells: Cells, descriptor: Array, cell: Int[Array, "n"]) -> tuple[Int[Array, "n"], Bool[Array, "n"]]:
    """Cells with those that nobody may enter replaced by `cells`, and who is out of bounds."""
    low, high = np.asarray(cells.bounds, np.float32).T
    valid = jnp.isfinite(descriptor).all(-1)
    outside = valid & ((descriptor < low[None]) | (descriptor > high[None])).any(-1)
    enters = valid & ~outside if cells.outside == "refuse" else valid
    return jnp.where(enters, cell, cells.cells), outside


def empty(cells: Cells, row: Any, record: Any = None, spare: int = 0) -> Archive:
    """An archive without elites, for rows and records like these, without the leading axis.

    Every row is a copy of `row`; `spare` more of them follow those of the cells.

    Raises, before any memory is taken, where the rows won't fit into what the device has free.
    """
    needs = (cells.cells + spare) * sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(lambda: row)))
    free = free_memory(jax.devices()[0])
    if needs > free:
        raise ValueError(
            f"An archive of {cells.cells:,} cells of these parameters takes {needs:,} bytes and {free:,} are free. Use "
            f"at most {int(free * 0.8 * cells.cells / needs):,} cells, or keep genomes instead of parameters."
        )
    fill = lambda n, x: jnp.broadcast_to(x, (n, *jnp.shape(x)))  # noqa: E731
    return Archive(
        jax.tree.map(partial(fill, cells.cells + spare), row),
        jnp.full(cells.cells, -jnp.inf, jnp.float32),
        jnp.zeros((cells.cells, len(cells.bounds)), jnp.float32),
        jax.tree.map(partial(fill, cells.cells), record),
        None if cells.learning_rate is None else jnp.full(cells.cells, cells.threshold_min, jnp.float32),
    )


def insert(cells: Cells, archive: Archive, fitness, descriptor, rows, record: Any = None) -> tuple[Archive, Inserted]:
    """Put each newcomer in its cell if it beats the tenant (Mouret & Clune 2015, Alg. 1).

    Two newcomers in one cell: the fitter wins, then the lower index, so a cell is always one whole member. A fitness
    or descriptor that isn't finite never enters. Give the archive away (`donate_argnums`) and it costs as much as the
    newcomers, not as much as the archive. `rows` and `record` as in `settle`.
    """
    inserted = cells.compare(archive, fitness, descriptor)
    archive = settle(archive, inserted, fitness, descriptor, rows, record)
    if cells.learning_rate is not None:
        archive = archive._replace(threshold=anneal(archive, inserted, fitness, cells.learning_rate))
    return archive, inserted


def contest(
    archive: Archive, cell: Int[Array, "n"], fitness: Float[Array, "n"], offset: float = 0.0, outside: Any = False
) -> Inserted:
    """Who beats what it must (strictly), and who of them is the best of the batch (ties: the lower index).

    That is the tenant's fitness, or the cell's threshold where the archive has those; who moves in must beat the
    tenant as well. A `cell` out of range, or a fitness that isn't finite, is an invalid newcomer. `outside` says whose
    descriptor is out of bounds.
    """
    cells, index = archive.fitness.shape[0], jnp.arange(fitness.shape[0])
    valid = jnp.isfinite(fitness) & (cell >= 0) & (cell < cells)
    cell = jnp.where(valid, cell, cells)
    tenant = archive.fitness.at[cell].get(mode="fill", fill_value=jnp.inf)
    vacant = jnp.isneginf(tenant)
    if archive.threshold is None:
        beats, bar = valid & (fitness > tenant), jnp.where(vacant, jnp.float32(offset), tenant)
    else:
        bar = archive.threshold.at[cell].get(mode="fill", fill_value=jnp.inf)
        beats = valid & (fitness > bar)
    rival = beats & (fitness > tenant)
    top = jax.ops.segment_max(jnp.where(rival, fitness, -jnp.inf), cell, cells + 1)[cell]
    best = rival & (fitness == top)
    first = jax.ops.segment_min(jnp.where(best, index, index.shape[0]), cell, cells + 1)[cell]
    status = jnp.where(beats, jnp.where(vacant, 2, 1), 0).astype(jnp.int32)
    improvement = jnp.where(valid, fitness - bar, -jnp.inf)
    return Inserted(status, improvement, best & (index == first), cell, outside & jnp.isfinite(fitness))


def anneal(archive: Archive, inserted: Inserted, fitness: Float[Array, "n"], learning_rate: float) -> Float[Array, "c"]:
    """The thresholds after a batch: t <- (1 - a)^k t + (1 - (1 - a)^k) m (Fontaine & Nikolaidis 2023, as in pyribs).

    k newcomers of mean fitness m beat the cell's threshold. With one such newcomer, a = 1 is CMA-ME's archive; a = 0
    keeps the thresholds.
    """
    assert archive.threshold is not None
    cells, beats = archive.fitness.shape[0], inserted.status > 0
    count = jax.ops.segment_sum(beats.astype(jnp.float32), inserted.cell, cells + 1)[:cells]
    total = jax.ops.segment_sum(jnp.where(beats, fitness, 0.0), inserted.cell, cells + 1)[:cells]
    kept = jnp.power(jnp.float32(1 - learning_rate), count)
    mean = total / jnp.maximum(count, 1)
    return jnp.where(count > 0, kept * archive.threshold + (1 - kept) * mean, archive.threshold)


def settle(
    archive: Archive,
    inserted: Inserted,
    fitness: Float[Array, "n"],
    descriptor: Float[Array, "n d"],
    rows: Rows | Callable[[Int[Array, "k"]], Rows],
    record: Any = None,
) -> Archive:
    """Move the accepted newcomers in, a slice of them at a time: only they cost anything.

    `rows` has a row each, or makes the rows of the newcomers it is given the indices of, so that only winners cost
    noise and arithmetic. `archive.rows` may have more rows than there are cells; those stay as they are.
    """
    n = fitness.shape[0]
    bytes_of_row = sum(x.nbytes // x.shape[0] for x in jax.tree.leaves(archive.rows))
    most = SLICE if bytes_of_row * SLICE <= SMALL else min(SLICE // 8, max(1, LARGE // bytes_of_row))
    chunk = min(n, archive.fitness.shape[0], most)
    rank = running_count(inserted.accepted)
    order = jnp.full(n, n).at[jnp.where(inserted.accepted, rank - 1, n)].set(jnp.arange(n), mode="drop")
    order = jnp.concatenate([order, jnp.full(chunk, n)])
    others = (fitness, descriptor, record)
    slices = (rank[-1] + chunk - 1) // chunk
    at = jnp.arange(n)
    if callable(rows):  # all of them before any moves in: they may be made from the very rows that are replaced
        rows, at = _made(rows, archive.rows, order, archive.fitness.shape[0], chunk, slices), rank - 1

    def step(i, archive):
        index = jax.lax.dynamic_slice(order, (i * chunk,), (chunk,))
        cell = jnp.where(index < n, inserted.cell.at[index].get(mode="clip"), NOWHERE)
        picked = jax.tree.map(lambda x: x.at[index].get(mode="clip"), others)
        place = at.at[index].get(mode="clip")
        new = Archive(jax.tree.map(lambda x: x.at[place].get(mode="clip"), rows), *picked)
        put = lambda old, new: old.at[cell].set(new.astype(old.dtype), mode="drop")  # noqa: E731
        return jax.tree.map(put, archive._replace(threshold=None), new)._replace(threshold=archive.threshold)

    return jax.lax.fori_loop(0, slices, step, archive)


def _made(make: Callable, like: Rows, order: Int[Array, "n"], cells: int, chunk: int, slices: Int[Array, ""]) -> Rows:
    """The winners' rows, in their order, and zeros after them: no more than there are cells."""
    n = order.shape[0] - chunk

    def step(i, rows):
        index = jax.lax.dynamic_slice(order, (i * chunk,), (chunk,))
        new = make(jnp.minimum(index, n - 1))
        return jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, i * chunk, 0), rows, new)

    most = min(n, cells) + chunk
    zeros = jax.tree.map(lambda x: jnp.zeros((most, *x.shape[1:]), x.dtype), like)
    return jax.lax.fori_loop(0, slices, step, zeros)


def running_count(mask: Bool[Array, "c"]) -> Int[Array, "c"]:
    """How many are true up to and including each place: `cumsum`, by small matmuls, which CPUs do faster."""
    within = _by_blocks(mask.astype(jnp.float32))
    block = within[:, -1]
    above = _by_blocks(block)
    total = above[:, -1].astype(jnp.int32)
    before = (above.astype(jnp.int32) + (jnp.cumsum(total) - total)[:, None]).reshape(-1)[: len(block)]
    return (within.astype(jnp.int32) + (before - block.astype(jnp.int32))[:, None]).reshape(-1)[: len(mask)]


def _by_blocks(x: Float[Array, "c"]) -> Float[Array, "b k"]:
    """Running sums within blocks of a few."""
    blocks = jnp.pad(x, (0, -len(x) % BLOCK)).reshape(-1, BLOCK)
    return jnp.dot(blocks, np.triu(np.ones((BLOCK, BLOCK), np.float32)))
