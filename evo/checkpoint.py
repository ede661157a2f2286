"""Checkpoints: the state of a run, atomic, checked, the last few kept and the first one always.

Orbax writes them in the background and renames them into place. A digest of the contents is stored beside them; a
checkpoint that can't be read or whose digest differs is passed over for the one before.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evo.leaf import path_of

ROOM = 1 << 16  # bytes on a disk that a checkpoint takes beside its arrays, about


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """A pytree as plain arrays by path; PRNG keys become their words, None leaves nothing."""
    named = jax.tree_util.tree_leaves_with_path(tree)
    return {path_of(path) or "value": np.asarray(_words(leaf)) for path, leaf in named}


def unflatten(arrays: dict[str, np.ndarray], like: Any) -> Any:
    """The inverse of `flatten`, in the structure and dtypes of `like`; raises ValueError on what doesn't fit."""
    named, tree = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    for path, leaf in named:
        name = path_of(path) or "value"
        want = jax.eval_shape(_words, leaf)
        if want.size == 0:
            arrays = {**arrays, name: np.zeros(want.shape, want.dtype)}
        if name not in arrays:
            raise ValueError(
                f"the checkpoint has no {name!r}: it was made by another task or strategy, "
                "or by another version of evo."
            )
        if tuple(want.shape) != tuple(np.shape(arrays[name])):
            raise ValueError(
                f"{name!r} has shape {tuple(np.shape(arrays[name]))} in the checkpoint and {tuple(want.shape)} here: "
                "it was made by another task or strategy."
            )
        array = jnp.asarray(arrays[name], want.dtype)
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        leaves.append(jax.random.wrap_key_data(array, impl=generator(leaf.dtype)) if is_key else array)
    return jax.tree.unflatten(tree, leaves)


def nest(arrays: Mapping[str, Any]) -> Any:
    """Arrays by path as nested dicts: the inverse of `flatten` where the structure is unknown."""
    if set(arrays) <= {"", "value"}:
        return next(iter(arrays.values()), {})
    tree: dict[str, Any] = {}
    for path, x in arrays.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = x
    return tree


def generator(dtype: Any) -> str:
    """The name of the random bit generator of a key's dtype."""
    return str(jax.random.key_impl(jnp.empty((0,), dtype)))


def digest(arrays: dict[str, np.ndarray]) -> str:
    """A hash of names, shapes, dtypes and contents."""
    hash = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        x = np.ascontiguousarray(arrays[name])
        hash.update(f"{name} {x.shape} {x.dtype}".encode())
        hash.update(x.tobytes())
    return hash.hexdigest()


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, path: Path, keep: int = 3):
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as managers

        self.path = path
        self._ocp = ocp
        policy = managers.AnyPreservationPolicy([managers.LatestN(keep), managers.CustomSteps([0])])
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(path.absolute(), options=options)

    def generations(self) -> list[int]:
        """Those that are there, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, generation: int, tree: Any):
        """Write a checkpoint in the background; raises OSError with the path if the one before it failed, or if the
        disk has no room for this one."""
        self.finish()  # one write at a time, and an error of the last one is told now
        arrays = {name: x for name, x in flatten(tree).items() if x.size}
        if shutil.disk_usage(self.path).free < ROOM + sum(x.nbytes for x in arrays.values()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._guard(
            lambda: self._manager.save(
                generation,
                force=True,
                args=self._ocp.args.Composite(
                    state=self._ocp.args.StandardSave(arrays),
                    check=self._ocp.args.JsonSave({"digest": digest(arrays)}),
                ),
            )
        )

    def load(self, generation: int) -> dict[str, np.ndarray]:
        """One checkpoint's arrays; raises ValueError if it is torn."""
        args = self._ocp.args
        try:
            found = self._manager.restore(
                generation, args=args.Composite(state=args.StandardRestore(), check=args.JsonRestore())
            )
            arrays = {name: np.asarray(x) for name, x in found.state.items()}
        except Exception as error:
            raise ValueError(f"the checkpoint {self.path / str(generation)} can't be read: {error}") from error
        if digest(arrays) != found.check["digest"]:
            raise ValueError(f"the checkpoint {self.path / str(generation)} is damaged: its digest differs.")
        return arrays

    def latest(self, up_to: int | None = None) -> tuple[int, dict[str, np.ndarray]] | None:
        """The newest checkpoint (not above `up_to`) that is whole; torn ones are passed over."""
        for generation in reversed(self.generations()):
            if up_to is not None and generation > up_to:
                continue
            try:
                return generation, self.load(generation)
            except ValueError:
                continue
        return None

    def cut(self, generation: int):
        """Remove checkpoints newer than `generation`: the run goes on from there."""
        for newer in self.generations():
            if newer > generation:
                self._guard(self._manager.wait_until_finished)
                shutil.rmtree(self.path / str(newer), ignore_errors=True)
        self._manager.reload()

    def busy(self) -> bool:
        """Whether one is being written."""
        return self._manager.is_saving_in_progress()

    def finish(self):
        """Wait for what is being written."""
        self._guard(self._manager.wait_until_finished)

    def close(self):
        self._manager.close()

    def _guard(self, write):
        try:
            return write()
        except Exception as error:
            raise OSError(f"could not write a checkpoint under {self.path}: {error}") from error


def _words(leaf):
    leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
