"""Members side by side, each acting by its own parameters, one step at a time: the device's half of a host task.

A slot holds what is a member's own of its parameters: the thin factors of a low-rank member, whose noise is drawn once,
when it takes the slot; a shared base stays one array for all. Axes: `n` members, `w` slots, `f` newcomers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

from evo import lazy
from evo.compiler import options
from evo.express import express
from evo.host import Members
from evo.leaf import is_lazy
from evo.random import fold_in
from evo.task import Params


class Players(NamedTuple):
    """Who is in the slots."""

    own: list[Any]  # a leaf's part that is a member's own; None where it has none
    memory: Any  # what the policy remembers between steps
    words: UInt32[
        Array, "w 2"
    ]  # the key of the member's draws while it acts, as words: a jitted call wants plain arrays


@dataclass(frozen=True)
class Slots:
    """The programs of members in slots, compiled once for a number of slots.

    `start(params) -> memory` and `act(params, state, memory, x, key) -> memory, action` are of ONE member, in JAX.
    """

    noise: Any
    start: Callable
    act: Callable

    @cached_property
    def empty(self) -> Callable:
        """(width, members) -> players: nobody yet."""
        return jax.jit(self._empty, static_argnums=0)

    def bytes(self, members: Members) -> int:
        """What one slot takes."""
        one = self.empty(1, members)  # compiled once; `eval_shape` would trace the policy at every evaluation
        return sum(x.nbytes for x in jax.tree.leaves((one.own, one.memory)))

    @cached_property
    def fill(self) -> Callable:
        """(players, members, index [f], slot [f]) -> players: these members take these slots; one beyond the last
        slot is no slot. The old players' memory is the new ones'."""
        return jax.jit(self._fill, donate_argnums=0, compiler_options=options(steady=True))

    @cached_property
    def step(self) -> Callable:
        """(players, bases, state, x [w, ...], clock [2, w]) -> memory, actions [w, ...]. The clock says episode and
        step of each; the policy's memory starts anew at step 0."""
        return jax.jit(self._step, compiler_options=options(steady=True))

    @cached_property
    def join(self) -> Callable:
        """(players, players, slot [w]) -> players: those of these slots only, counted through both."""
        return jax.jit(lambda a, b, slot: jax.tree.map(lambda x, y: jnp.concatenate([x, y])[slot], a, b))

    def _one(self, bases, genome, luck, index):
        params = express(self.noise, bases, jax.tree.map(lambda x: x[index], genome))
        return (
            apart(bases, params, genome.parents is None),
            lazy.call(self.start, params),
            jax.random.key_data(luck[index]),
        )

    def _empty(self, width, members):
        shapes = jax.eval_shape(self._one, members.bases, members.genome, members.luck, jnp.int32(0))
        own, memory = jax.tree.map(lambda x: jnp.zeros((width, *x.shape), x.dtype), shapes[:2])
        return Players(own, memory, jnp.zeros((width, 2), jnp.uint32))

    def _fill(self, players, members, index, slot):
        came = jax.vmap(lambda i: self._one(members.bases, members.genome, members.luck, i))(index)
        put = lambda old, new: old.at[slot].set(new, mode="drop")  # noqa: E731
        return Players(*jax.tree.map(put, tuple(players), came))

    def _step(self, players, bases, state, x, clock):
        def one(own: Any, memory: Any, words: Any, x: Any, episode: Any, step: Any) -> Any:
            luck = fold_in(fold_in(jax.random.wrap_key_data(words), episode), step)
            return lazy.call(self._act, together(bases, own), state, memory, x, luck, step)

        return jax.vmap(one)(players.own, players.memory, players.words, x, clock[0], clock[1])

    def _act(self, params, state, memory, x, key, step):
        memory = jax.tree.map(lambda new, old: jnp.where(step == 0, new, old), self.start(params), memory)
        return self.act(params, state, memory, x, key)


def apart(bases: Params, params: Params, shared: bool) -> list[Any]:
    """Each leaf's part that is a member's own, of parameters from bases that are `shared`, or were gathered."""
    leaves = jax.tree.leaves(params, is_leaf=is_lazy)
    if not shared:
        return leaves
    own: list[Any] = []
    for leaf, base in zip(leaves, jax.tree.leaves(bases), strict=True):
        whole = None if leaf is base else leaf
        own.append(leaf._replace(base=None) if is_lazy(leaf) else whole)  # type: ignore[arg-type]
    return own


def together(bases: Params, own: list[Any]) -> Params:
    """Parameters of the bases and one member's own part: the inverse of `apart`."""
    leaves, tree = jax.tree.flatten(bases)
    return jax.tree.unflatten(tree, [_joined(base, part) for base, part in zip(leaves, own, strict=True)])


def _joined(base: Any, part: Any) -> Any:
    if part is None:
        return base
    return part._replace(base=base) if is_lazy(part) and part.base is None else part
