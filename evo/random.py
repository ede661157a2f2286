"""Random numbers for noise: counter-based, the same under any vmap, chunk or sharding, and cheap on CPUs too.

The generator is Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), written out in a
straight line so that XLA makes one vectorised loop of it and of what consumes it; JAX's own keeps a rolled loop on
CPUs. Keys are folded with 20 rounds, bit for bit as JAX does (`jax.random.key`, implementation threefry2x32). Noise is
made with 13, the fewest with which the authors found it to pass TestU01's BigCrush.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

Law = Literal["normal", "bytes4", "sign"]
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
FIRST = np.array([True, False])  # a constant: made in a program, it keeps equal hashes from looking equal
ROUNDS = 13  # of noise
ALIKE = 32  # words up to which hashing some for nothing is cheaper than another hash
NORMAL = (  # sqrt(2) erfinv(u) / u as a polynomial of -log(1 - u^2) / 8 - 1, of least relative error (Chebyshev points)
    3.7638457, 1.9954013, -0.45771164, 0.17462403, -0.050248582, -0.0027146235, 0.053385507, -0.11471008, 0.064397357,
    0.035872363, -0.031882863,
)  # fmt: skip

# Purposes: what a key is folded with, so that no two uses of it share luck. Beside a run's generations and trials:
SECOND_LOOK = 0xA6A1
ADMISSION = 0xAD317  # whether a member is admitted to those that are differed from
PROGRESS = 0xE7A1  # judging the solution now and then, as a run goes on
EVALUATION = 0x5EED  # judging it, or elites, afterwards
FILM = 0xF11A
MORE_LOOKS = 0x5C03E  # of the elites that an archive's page shows


def threefry(
    key: UInt32[Array, "2"] | tuple[Array, Array], x0: UInt32[Array, "..."], x1: UInt32[Array, "..."], rounds: int = 20
):
    """One block of Threefry-2x32 for each counter (x0, x1): two words."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x0, x1 = x0 + schedule[0], x1 + schedule[1]
    for number in range(1, rounds + 1):
        distance = ROTATIONS[(number - 1) % 8]
        x0 = x0 + x1
        x1 = (x1 << np.uint32(distance)) | (x1 >> np.uint32(32 - distance))
        x1 = x0 ^ x1
        if number % 4 == 0:
            group = number // 4
            x0 = x0 + schedule[group % 3]
            x1 = x1 + schedule[(group + 1) % 3] + np.uint32(group)
    return x0, x1


@jax.jit
def fold_in(key: Key[Array, ""], number: int | Int[Array, ""]) -> Key[Array, ""]:
    """`jax.random.fold_in`, bit for bit, in a straight line: the block of the counter (0, number)."""
    number = jnp.asarray(number).astype(jnp.uint32)
    first, second = threefry(jax.random.key_data(key), jnp.zeros_like(number), number)
    return jax.random.wrap_key_data(jnp.where(FIRST, first, second))  # `stack` would hash in two loops


@partial(jax.jit, static_argnums=1)
def split(key: Key[Array, ""], count: int) -> Key[Array, "count"]:
    """`jax.random.split`, bit for bit, in a straight line: key i is `fold_in(key, i)`."""
    return jax.vmap(partial(fold_in, key))(jnp.arange(count))


def integers(key: Key[Array, ""], count: int, bound: Int[Array, ""]) -> Int[Array, "count"]:
    """Whole numbers from 0 to bound - 1, uniform but for a part in 2^32 / bound; 0 where the bound isn't positive.

    The upper half of word * bound (Lemire 2019), put together from halves: CPUs do many of those at a time, and no
    division.
    """
    bound, word = jnp.maximum(bound, 1).astype(jnp.uint32), once(words(key, count))
    low, half = np.uint32(0xFFFF), np.uint32(16)
    (a, b), (c, d) = ((x >> half, x & low) for x in (word, bound))
    carry = ((a * d) & low) + ((b * c) & low) + ((b * d) >> half)
    return (a * c + ((a * d) >> half) + ((b * c) >> half) + (carry >> half)).astype(jnp.int32)


@partial(jax.jit, static_argnames=("count", "stream"))
def words(key: Key[Array, ""], count: int, stream: int = 0) -> UInt32[Array, "count"]:
    """Random words: the first halves of the blocks of the counters (1 + stream, i). Streams are independent.

    The second halves go unused: on a CPU, joining the two costs more than the rounds that it saves.
    """
    index = jnp.arange(count, dtype=jnp.uint32)
    return threefry(jax.random.key_data(key), jnp.full_like(index, 1 + stream), index, ROUNDS)[0]


def once(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """x as it stands, computed before its consumers.

    XLA repeats cheap elementwise work in every consumer, and for every element that a consumer makes of one; it
    doesn't repeat a reduction. This is the smallest: the exclusive or of x and 0.
    """
    both = x.reshape(1, -1) & jnp.array([[0xFFFFFFFF], [0]], jnp.uint32)
    return jax.lax.reduce(both, np.uint32(0), jax.lax.bitwise_xor, (0,)).reshape(x.shape)


def kept(x: Array) -> Array:
    """32-bit numbers as they stand, computed before their consumers; see `once`."""
    return jax.lax.bitcast_convert_type(once(jax.lax.bitcast_convert_type(x, jnp.uint32)), x.dtype)


def kept_keys(key: Key[Array, "..."]) -> Key[Array, "..."]:
    """Keys as they stand, hashed before their consumers; see `once`."""
    return jax.random.wrap_key_data(once(jax.random.key_data(key)), impl=jax.random.key_impl(key))


class Stock(NamedTuple):
    """A key whose words are made already; what draws takes it for the key."""

    key: Key[Array, ""]
    words: tuple[UInt32[Array, "count"], ...]  # of each stream


def stocked(key: Key[Array, ""], names: Sequence[np.uint32], counts: Sequence[Sequence[int]]) -> list[Stock]:
    """`fold_in(key, name)` for each name, with so many words of each of its streams, as `words` gives them.

    The compiler takes 30 ms for every hash in a program: here names with alike counts share one.
    """
    sizes, stocks = [sum(count) for count in counts], {}
    for group in alike(sizes):
        data = jax.random.key_data(jax.vmap(partial(fold_in, key))(jnp.array([names[i] for i in group], jnp.uint32)))
        own = data @ jnp.eye(2, dtype=jnp.uint32)  # as it is; but XLA would hash again for each word, without a product
        stream, index = np.zeros((2, len(group), sizes[group[0]]), np.uint32)
        for row, i in enumerate(group):
            stream[row, : sizes[i]] = np.repeat(np.arange(1, 1 + len(counts[i])), counts[i])
            index[row, : sizes[i]] = np.concatenate([np.arange(count) for count in counts[i]])
        word = threefry((own[:, :1], own[:, 1:]), jnp.asarray(stream), jnp.asarray(index), ROUNDS)[0]
        word = once(word)
        for row, i in enumerate(group):
            parts = jnp.split(word[row, : sizes[i]], np.cumsum(counts[i])[:-1])
            stocks[i] = Stock(jax.random.wrap_key_data(own[row]), tuple(parts))
    return [stocks[i] for i in range(len(names))]


def alike(sizes: Sequence[int]) -> list[list[int]]:
    """The indices of sizes in groups of which the largest, that comes first, is small or at most twice the others."""
    groups: list[list[int]] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if not groups or sizes[groups[-1][0]] > max(ALIKE, 2 * sizes[i]):
            groups.append([])
        groups[-1].append(i)
    return groups


def packed(key: Key[Array, ""] | Stock, count: int, stream: int = 0) -> UInt32[Array, "count"]:
    """`words`, made before anything unpacks them."""
    return key.words[stream] if isinstance(key, Stock) else once(words(key, count, stream))


@partial(jax.jit, static_argnames=("shape", "law", "dtype", "stream", "keep"))
def draw(
    key: Key[Array, ""] | Stock,
    shape: tuple[int, ...],
    law: Law,
    dtype=jnp.float32,
    stream: int = 0,
    keep: bool = False,
) -> Array:
    """Independent numbers of mean 0 and variance 1, symmetric about 0, of one of three laws.

    `normal`: the standard normal law, of 2^23 quantiles. `bytes4`: the sum of a word's four bytes, centred and scaled,
    which looks normal up to 3.4 deviations. `sign`: -1 or 1, 32 to a word. With `keep` they are in memory before
    anything uses them; otherwise the compiler may draw them again for each use.
    """
    count = math.prod(shape)
    if law == "sign":
        word = packed(key, -(-count // 32), stream)
        bits = (word[:, None] << jnp.arange(32, dtype=jnp.uint32)[None]).reshape(-1)[:count]
        ones = (bits & np.uint32(0x80000000)) | np.uint32(0x3F800000)  # the sign bit, before a 1.0
        return jax.lax.bitcast_convert_type(ones, jnp.float32).reshape(shape).astype(dtype)
    word = words(key, count, stream)
    word = once(word) if keep else word
    drawn = _normal(word) if law == "normal" else _bytes4(word)
    return (kept(drawn) if keep else drawn).reshape(shape).astype(dtype)


def _normal(word: UInt32[Array, "count"]) -> Array:
    """sqrt(2) erfinv(u), u uniform in (-1, 1): u times a polynomial of log(1 - u^2), to 4e-6 of itself.

    `jax.lax.erf_inv` is as accurate, but has two branches and a square root: CPUs take twice the time.
    """
    one_to_two = jax.lax.bitcast_convert_type((word >> np.uint32(9)) | np.uint32(0x3F800000), jnp.float32)
    uniform = (one_to_two - 1) * 2 + np.float32(2**-23 - 1)  # odd multiples of 2^-23: symmetric, never -1, 0 or 1
    x = jnp.log((1 - uniform) * (1 + uniform)) * np.float32(-1 / 8) - 1
    value = jnp.full_like(x, NORMAL[-1])
    for c in NORMAL[-2::-1]:
        value = value * x + np.float32(c)
    return uniform * value


def _bytes4(word: UInt32[Array, "count"]) -> Array:
    """(b0 + b1 + b2 + b3 - 510) / sqrt(4 (256^2 - 1) / 12)."""
    pairs = (word & np.uint32(0x00FF00FF)) + ((word >> np.uint32(8)) & np.uint32(0x00FF00FF))
    total = (pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))
    return (total.astype(jnp.int32) - 510).astype(jnp.float32) * np.float32((4 * (256**2 - 1) / 12) ** -0.5)
