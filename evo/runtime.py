"""The population runtime: the whole of parallelism.

`map` judges every member, `sum` is the same map transposed. Layout (chunk, devices) never enters a key, so it decides
when and where a member is judged and nothing else. Axes: `n` members, `u` rows of keys, `k` genes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, Sharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from evo import lazy
from evo.compiler import options
from evo.express import ByPath, Plan, express, own_noise, plan
from evo.genome import Genome, expand, size
from evo.noise import Noise
from evo.task import Evaluation, Params, as_evaluation

AXIS = "population"
CACHE = 6 << 20  # bytes of noise, and of what members are judged on, that a CPU works on at a time
FEWEST = 128  # members whose shared product is efficient, with a row each
SHARE = 0.8  # of the free memory that a generation's temporaries may take


@dataclass(frozen=True)
class Runtime:
    """How a population is laid out.

    `mesh` has one axis, "population"; None is one device. `chunk` is how many members each device evaluates at a
    time; None is all of them, or on a CPU as many as keep their noise in its cache, and in any case no more than fit
    its memory where the runtime compiles by itself (`fit`, and so `evo.run`).
    """

    mesh: Mesh | None = None
    chunk: int | None = None

    def __post_init__(self):
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(
                f"`chunk` is a number of members, at least 1; got {self.chunk}. Leave it out to fit memory."
            )

    @property
    def devices(self) -> int:
        """How many devices share the population."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def everywhere(self) -> Sharding:
        """Where the strategy's state lives: whole on every device."""
        device = SingleDeviceSharding(self._device())
        return device if self.mesh is None else NamedSharding(self.mesh, P())

    def map(self, task: Callable, noise: Noise | ByPath | Plan, bases: Params, genome: Genome, key: Any):
        """Evaluate every member: `task(params, key)` of each, with its own luck: `key` [n], or a tree of [n, ...].

        Returns `Evaluation` [n, ...].

        Low-rank members are never made dense: a chunk costs one shared matmul a layer and its thin ones. Neighbours
        that share a row of keys have it drawn once; those that share a row of parents are a litter, and their parents'
        matrix is one matmul for all of them.
        """

        def one(genome: Genome, key) -> Evaluation:
            return as_evaluation(lazy.call(task, express(noise, bases, genome), key))

        n, runtime = size(genome), replace(self, chunk=self._cached(noise, bases, genome, key))
        together, axes = runtime._together(genome)
        count, chunk = runtime._slices(n // together, together)
        rows, luck, judged = expand(genome), key, jax.vmap(one)
        if together > 1:
            apart = lambda x: x.reshape(n // together, together, *x.shape[1:])  # noqa: E731
            rows, luck = jax.tree.map(apart, (rows, luck))
            shared = lambda x, axis: x[:, 0] if axis is None and x is not None else x  # noqa: E731
            rows = Genome(*map(shared, rows, axes))
            judged = jax.vmap(jax.vmap(one, (Genome(*axes), 0)))
        members = jax.tree.map(partial(_pad, to=self.devices * count * chunk), (rows, luck))

        def block(members):
            if count == 1:
                return judged(*members)
            sliced = jax.tree.map(lambda x: x.reshape(count, chunk, *x.shape[1:]), members)
            out = jax.lax.map(lambda slice: judged(*slice), sliced)
            return jax.tree.map(lambda x: x.reshape(count * chunk, *x.shape[2:]), out)

        if self.mesh is not None:
            block = jax.shard_map(block, mesh=self.mesh, in_specs=P(AXIS), out_specs=P(AXIS), check_vma=False)
        flat = lambda x: x.reshape(x.shape[0] * together, *x.shape[2:]) if together > 1 else x  # noqa: E731
        return jax.tree.map(lambda x: flat(x)[:n], block(members))

    def sum(self, noise: Noise | ByPath | Plan, like: Params, genome: Genome, weights: Float[Array, "n"]) -> Params:
        """sum_i w_i sum_k scale_ik noise(key_ik), shaped like `like`: one matmul a leaf, never member by member.

        Members that share a row of keys are one weight: an antithetic pair costs what one member does.
        """
        rows, genes = genome.key.shape
        weight = (weights[:, None] * genome.scale).reshape(rows, -1, genes).sum(1).reshape(-1)
        keys = genome.key.reshape(-1)
        leaves, tree = jax.tree.flatten(like)
        chosen = plan(noise, like).of(like)

        def total(keys, weight):
            owns = own_noise(chosen, [x.shape for x in leaves], keys)
            return [leaf.total(own, weight, x) for leaf, x, own in zip(chosen, leaves, owns, strict=True)]

        if self.mesh is not None:
            even = math.ceil(keys.shape[0] / self.devices) * self.devices
            weight = jnp.pad(weight, (0, even - keys.shape[0]))
            keys = _pad(keys, even)
            share = lambda *a: jax.lax.psum(total(*a), AXIS)  # noqa: E731
            total_of = jax.shard_map(share, mesh=self.mesh, in_specs=P(AXIS), out_specs=P(), check_vma=False)
            return jax.tree.unflatten(tree, total_of(keys, weight))
        return jax.tree.unflatten(tree, total(keys, weight))

    def fit(
        self, program: Callable[[Runtime], Callable], n: int, *args, donate: tuple[int, ...] = ()
    ) -> tuple[Runtime, Any]:
        """Compile `program(runtime)` for `args` with the largest chunk whose temporaries fit the device's memory.

        XLA's own analysis of the compiled program decides; a chunk that doesn't fit is cut in proportion and
        compiled again. Returns the runtime with that chunk, and the compiled program. A chunk that was given stays.
        Arguments whose indices are in `donate` lend their memory to the results.
        """
        limit = SHARE * free_memory(self._device())
        chunk = self.chunk or math.ceil(n / self.devices)
        runtime = self
        while True:
            where = None if self.mesh is None else self.everywhere
            jitted = jax.jit(program(runtime), in_shardings=where, out_shardings=where, donate_argnums=donate)
            traced = jitted.trace(*args)
            compiled = traced.lower().compile(compiler_options=options(traced.jaxpr.jaxpr))
            needs = temporaries(compiled)
            if self.chunk or chunk == 1 or needs <= limit:
                return runtime, compiled
            chunk = max(1, min(chunk // 2, int(chunk * limit / needs)))
            runtime = replace(self, chunk=chunk)

    def _cached(self, noise: Noise | ByPath | Plan, bases: Params, genome: Genome, key: Any) -> int | None:
        """The chunk that was given, or one whose noise and inputs stay in a CPU's cache: a loop over memory that is
        fresh costs several times one over memory that is warm."""
        n = size(genome)
        if self.chunk is not None or genome.parents is not None or self._device().platform != "cpu":
            return self.chunk
        leaves = zip(plan(noise, bases).of(bases), jax.tree.leaves(bases), strict=True)
        numbers = sum(leaf.numbers(jnp.shape(x)) for leaf, x in leaves) * genome.key.size
        inputs = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(key))
        by_noise, by_input = (CACHE * n // max(total, 1) for total in (4 * numbers, inputs))
        return min(max(FEWEST, by_noise), max(FEWEST // 8, by_input))

    def _together(self, genome: Genome) -> tuple[int, tuple[Any, ...]]:
        """How many neighbours are judged side by side, and along which axis each field is theirs (None: shared)."""
        n = size(genome)
        most = self.chunk or math.ceil(n / self.devices)
        if genome.parents is not None and genome.mix is None and genome.parents.shape[0] < n:
            born = n // genome.parents.shape[0]
            return max(m for m in range(1, min(born, most) + 1) if born % m == 0), (0, 0, None, None)
        rows = genome.key.shape[0]
        whole = rows % self.devices == 0 and n // rows <= most
        return (n // rows, (None, 0, 0, 0)) if whole else (1, (0, 0, 0, 0))

    def _slices(self, rows: int, together: int) -> tuple[int, int]:
        """How many chunks a device evaluates one after another, and of how many rows each, as even as they get.

        Chunks that fill up with copies cost a pass over all inputs, so up to twice as many without any are preferred.
        """
        own = math.ceil(rows / self.devices)
        most = own if self.chunk is None else max(1, self.chunk // together)
        least = math.ceil(own / most)
        count = next((c for c in range(least, 2 * least + 1) if own % c == 0), least)
        return count, math.ceil(own / count)

    def _device(self):
        return jax.devices()[0] if self.mesh is None else self.mesh.devices.flat[0]


def over(devices: int | None = None) -> Runtime:
    """A runtime over the first `devices` devices; None is all that this process sees."""
    found = jax.devices()
    if devices is not None and not 1 <= devices <= len(found):
        raise ValueError(f"`devices` is between 1 and {len(found)}, what JAX sees here; got {devices}.")
    chosen = found[:devices]
    return Runtime() if len(chosen) == 1 else Runtime(Mesh(np.array(chosen), (AXIS,)))


def temporaries(compiled: Any) -> int:
    """Bytes that a compiled program needs on a device beside its arguments, by XLA's own analysis."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes


def free_memory(device) -> int:
    """Bytes free on a device; a CPU device has its share of what the machine has free."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return host_memory() // len(jax.devices("cpu"))


def host_memory() -> int:
    """Bytes that a new program can have on this machine; 4 GiB where the system doesn't say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
        if found:
            return int(found[1]) * 1024
    return 4 << 30


def _pad(x: Array, to: int) -> Array:
    """`x` with its first row repeated until it has `to` rows."""
    missing = to - x.shape[0]
    return x if missing == 0 else jnp.concatenate([x, jnp.repeat(x[:1], missing, axis=0)])
