"""Genome to parameters: which noise acts on which leaf, and how it is put there.

Axes: `k` genes, `p` parents, `r` rank; a leaf's own axes are rows, columns or stacked.
"""

from __future__ import annotations

import fnmatch
import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from evo.genome import Genome, expand, size
from evo.integer import Integer
from evo.lazy import Lazy, densify
from evo.leaf import Axes, is_whole, path_of, shifted
from evo.noise import SMALL_LEAF, Frozen, LowRank, Noise, sizes_of
from evo.noise import thin as is_thinner
from evo.random import fold_in, kept, stocked

SMALL = 1 << 23  # bytes of rows up to which `maker` makes all members at once
WORDS = 1 << 22  # random words, of all leaves and rows of keys, that are hashed at once

Params = Any
Own = Any  # a leaf's own keys, of some genes or members: an array of keys, or a `Stock`


@dataclass(frozen=True)
class ByPath:
    """A noise for each leaf: the first glob that matches the leaf's path decides, `otherwise` the rest."""

    rules: tuple[tuple[str, Noise], ...]
    otherwise: Noise = LowRank()


@dataclass(frozen=True)
class Leaf:
    """How noise acts on one leaf. A leaf without row axes gets vector noise."""

    path: str
    noise: Noise
    rows: tuple[int, ...]
    cols: tuple[int, ...]

    @property
    def name(self) -> np.uint32:
        """The path's hash. A leaf's own key is the member's folded with it, so that no other leaf matters."""
        return np.uint32(zlib.crc32(self.path.encode()))

    def order(self, ndim: int) -> tuple[int, ...]:
        """The leaf's axes as stacked, rows, columns."""
        stack = tuple(i for i in range(ndim) if i not in self.rows + self.cols)
        return stack + self.rows + self.cols

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape `[*stack, m, n]` in which the noise sees the leaf; a leaf without rows is seen as a vector."""
        if not self.rows:
            return (int(np.prod(shape)),)
        stack = [shape[i] for i in self.order(len(shape))[: len(shape) - len(self.rows + self.cols)]]
        return (*stack, int(np.prod([shape[i] for i in self.rows])), int(np.prod([shape[i] for i in self.cols])))

    def unmatrix(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        """The leaf of a matrix: the inverse of the view that `matrix` describes."""
        if not self.rows:
            return matrix.reshape(shape)
        order = self.order(len(shape))
        return matrix.reshape([shape[i] for i in order]).transpose(np.argsort(order))

    def spread(self, factor: Array, own: tuple[int, ...], shape: tuple[int, ...]) -> Array:
        """A thin factor `[*stack, own, r]` as a `Lazy` wants it: the leaf's axes, 1 where not its own, then r."""
        order = self.order(len(shape))
        other = self.cols if own == self.rows else self.rows
        full = factor.reshape([1 if i in other else shape[i] for i in order] + [factor.shape[-1]])
        return full.transpose([*np.argsort(order).tolist(), len(shape)])

    def words(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """How many random words of each stream its noise would have hashed together with other leaves'."""
        count: Any = getattr(self.noise, "words", None)  # optional, so no part of the protocol
        return count(self.matrix(shape)) if count else ()

    def numbers(self, shape: tuple[int, ...]) -> int:
        """How many numbers a member's noise is made of."""
        matrix, rank = self.matrix(shape), getattr(self.noise, "rank", 0)
        if isinstance(self.noise, Frozen):
            return 0
        return sum(sizes_of(matrix, rank)) if rank and is_thinner(matrix, rank) else int(np.prod(shape))

    def put(self, base: Array, keys: Own, scale: Array) -> Array | Lazy:
        """base + sum_k scale_k noise(key_k), with this leaf's own keys: lazy where the noise is thin."""
        if isinstance(self.noise, Frozen) or scale.shape[0] == 0:
            return base
        shape = base.shape
        wide, scale = scale, scale.astype(base.dtype)
        matrix = self.matrix(shape)
        each = [_row(keys, k) for k in range(len(scale))]
        factors = [self.noise.factors(key, matrix, base.dtype) for key in each]
        thin = [f for f in factors if f is not None]
        if not thin and isinstance(self.noise, Integer):
            fine = [s * self.noise.dense(key, matrix) for key, s in zip(each, wide, strict=True)]
            return shifted(base, self.unmatrix(functools.reduce(jnp.add, fine), shape))
        if not thin and len(each) == 1 and len(shape) > 1 and max(shape) == base.size:
            line = self.unmatrix(self.noise.dense(each[0], matrix, base.dtype), shape)
            return Lazy(base, line[..., None], scale.reshape([1] * (len(shape) + 1)))  # one row or column: a factor
        if not thin:
            return jax.lax.fori_loop(
                0,
                len(each),
                lambda k, w: w + scale[k] * self.unmatrix(self.noise.dense(_row(keys, k), matrix, base.dtype), shape),
                base,
            )
        if len(thin) == 1 and not is_whole(base):
            a, b = thin[0]
            return Lazy(base, self.spread(a, self.rows, shape), self.spread(b, self.cols, shape), scale[0])
        a = jnp.concatenate([self.spread(f[0], self.rows, shape) for f in thin], -1)
        b = jnp.concatenate([scale[k] * self.spread(f[1], self.cols, shape) for k, f in enumerate(thin)], -1)
        return Lazy(base, a, b)

    def total(self, keys: Own, weights: Array, like: Array) -> Array:
        """sum_i weight_i noise(key_i) in the leaf's own shape, with this leaf's own keys."""
        return self.unmatrix(self.noise.total(keys, weights, self.matrix(like.shape), like.dtype), like.shape)


@dataclass(frozen=True)
class Plan:
    """How noise acts on every leaf of a tree, by path; what `plan` resolves a strategy's noise to."""

    leaves: tuple[Leaf, ...]

    def of(self, params: Params) -> list[Leaf]:
        """The leaves in the order in which JAX flattens `params`."""
        named = {leaf.path: leaf for leaf in self.leaves}
        paths = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        if missing := [path for path in paths if path not in named]:
            raise ValueError(f"noise: planned for the leaves {', '.join(named)}; got parameters with {missing[0]!r}.")
        return [named[path] for path in paths]


def plan(noise: Noise | ByPath | Plan, params: Params, axes: Mapping[str, Axes] | None = None) -> Plan:
    """Resolve a noise for every leaf of `params`.

    `axes` says which axes of a leaf are rows and columns, by path, as inferred from a task; a leaf that it doesn't
    name is taken as stacked matrices over its last two axes, or as a vector. Raises where nothing fits: a glob that
    matches no leaf, a rank above every matrix, integer leaves that noise would be lost on.
    """
    if isinstance(noise, Plan):
        return noise
    rules = noise.rules if isinstance(noise, ByPath) else ()
    otherwise = noise.otherwise if isinstance(noise, ByPath) else noise
    named = jax.tree_util.tree_leaves_with_path(params)
    paths = [path_of(path) for path, _ in named]
    for glob, _ in rules:
        if not any(matches(path, glob) for path in paths):
            raise ValueError(f"noise: no leaf matches {glob!r}; the leaves are {', '.join(paths[:8])}.")
    leaves = []
    for path, (_, leaf) in zip(paths, named, strict=True):
        chosen = next((n for glob, n in rules if matches(path, glob)), otherwise)
        if not (is_whole(leaf) if isinstance(chosen, Integer) else jnp.issubdtype(jnp.result_type(leaf), jnp.floating)):
            chosen = Frozen()
        ndim = len(jnp.shape(leaf))
        rows, cols = (axes or {}).get(path, ((ndim - 2,), (ndim - 1,)) if ndim >= 2 else ((), ()))
        leaves.append(Leaf(path, chosen, tuple(rows), tuple(cols)))
    if leaves and all(is_whole(x) for _, x in named) and not isinstance(otherwise, Frozen | Integer):
        kind = type(otherwise).__name__
        raise ValueError(f"noise: {kind} would be lost on leaves of whole numbers alone; use `integer`, with `egg`.")
    if len({zlib.crc32(p.encode()) for p in paths}) < len(paths):
        raise ValueError("noise: two leaves have the same path hash, so would share noise; rename one of them.")
    _check_rank(leaves, [jnp.shape(leaf) for _, leaf in named])
    return Plan(tuple(leaves))


def _check_rank(leaves: list[Leaf], shapes: list[tuple[int, ...]]):
    largest: dict[int, int] = {}
    for leaf, shape in zip(leaves, shapes, strict=True):
        if isinstance(leaf.noise, LowRank | Integer):
            matrix = leaf.matrix(shape)
            smaller = min(matrix[-2:]) if len(matrix) >= 2 else 0
            largest[leaf.noise.rank] = max(largest.get(leaf.noise.rank, 0), smaller)
    for rank, limit in largest.items():
        if limit and rank > limit:
            raise ValueError(
                f"noise: rank {rank} is larger than every matrix it is for; the largest allows {limit}. "
                f"Use a rank of at most {limit}, or Gaussian noise."
            )


def matches(path: str, glob: str) -> bool:
    """Whether a leaf's path matches a glob, in which `**/` stands for any number of folders, none included."""
    return fnmatch.fnmatchcase(path, glob) or (glob.startswith("**/") and fnmatch.fnmatchcase(path, glob[3:]))


def express(noise: Noise | ByPath | Plan, bases: Params, genome: Genome) -> Params:
    """The parameters of ONE member (a genome without its leading axis), with lazy leaves where the noise is thin.

    With `parents` None, `bases` is the shared centre itself and is never gathered; else its leaves have a leading
    axis of rows. Dense leaves of many genes are added in the genome's order, so a chain replays bit for bit.
    """
    if genome.parents is None:
        base = bases
    else:
        parents, mix = genome.parents, genome.mix
        base = jax.tree.map(lambda rows: _mixed(rows, parents, mix), bases)
    leaves, tree = jax.tree.flatten(base)
    chosen = plan(noise, base).of(base)
    owns = own_noise(chosen, [x.shape for x in leaves], genome.key)
    put = [leaf.put(x, own, genome.scale) for leaf, x, own in zip(chosen, leaves, owns, strict=True)]
    if genome.mix is not None:  # a row of its own, however many ask for it
        put = [made(x) for x in put]
    return jax.tree.unflatten(tree, put)


def made(leaf: Array | Lazy) -> Array | Lazy:
    """The leaf; where it is small and dense, as one that is in memory before anything uses it."""
    if isinstance(leaf, Lazy) or leaf.dtype != jnp.float32 or not 0 < leaf.size <= SMALL_LEAF:
        return leaf
    return kept(leaf)


def own_noise(leaves: Sequence[Leaf], shapes: Sequence[tuple[int, ...]], keys: Key[Array, "k"]) -> list[Own]:
    """Each leaf's own keys, with their words where a hash makes those of many leaves, if they aren't too many."""
    own, counts = own_keys(leaves, keys), [leaf.words(shape) for leaf, shape in zip(leaves, shapes, strict=True)]
    owns: list[Own] = [own[:, i] for i in range(len(leaves))]
    if 0 < keys.shape[0] * sum(map(sum, counts)) <= WORDS:
        which = [i for i, count in enumerate(counts) if count]
        names, counts = [leaves[i].name for i in which], [counts[i] for i in which]
        for i, stock in zip(which, jax.vmap(lambda key: stocked(key, names, counts))(keys), strict=True):
            owns[i] = stock
    return owns


def own_keys(leaves: Sequence[Leaf], keys: Key[Array, "k"]) -> Key[Array, "k leaves"]:
    """Each leaf's own keys: one hash for all leaves is a much smaller program than one each."""
    names = jnp.array([leaf.name for leaf in leaves], jnp.uint32)
    return jax.vmap(lambda key: jax.vmap(partial(fold_in, key))(names))(keys)


def _row(keys: Own, k) -> Any:
    return jax.tree.map(lambda x: x[k], keys)


def _mixed(rows: Array, parents: Array, mix: Array | None) -> Array:
    """sum_p mix_p rows[parents_p]; a single parent that isn't scaled is taken as it stands, integers too."""
    if mix is None or not jnp.issubdtype(rows.dtype, jnp.floating):
        return rows[parents[0]]
    scaled = [mix[p].astype(rows.dtype) * rows[parents[p]] for p in range(len(parents))]
    return functools.reduce(jnp.add, scaled)


def express_dense(noise: Noise | ByPath | Plan, bases: Params, genome: Genome) -> Params:
    """`express` with every leaf an ordinary array."""
    return densify(express(noise, bases, genome))


def maker(noise: Noise | ByPath | Plan, bases: Params, genome: Genome) -> Any:
    """Dense rows of members by index, for `settle`. Small ones are made all at once, for then the compiler finds
    that judging them has made them already."""
    genome = expand(genome)
    express = jax.vmap(lambda g: express_dense(noise, bases, g))
    if size(genome) * sum(x.nbytes // x.shape[0] for x in jax.tree.leaves(bases)) <= SMALL:
        return express(genome)
    return lambda index: express(jax.tree.map(lambda x: x[index], genome))
