"""Chains as bytes: an individual of any size in 12 bytes a mutation (Such et al. 2017, section 3.1)."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evo.checkpoint import flatten
from evo.lineage import Chain
from evo.task import Params

MAGIC, VERSION = b"EVOC", 2
HEADER = struct.Struct("<4sHHII16s")  # magic, version, words of a key, links, print of the start, name of the generator


class Encoded(NamedTuple):
    """A chain, and what it starts from."""

    chain: Chain
    start: int  # `fingerprint` of those parameters


def encode(chain: Chain, start: Params) -> bytes:
    """A chain as bytes: 32 of header, then 4 for each word of a key (threefry: 2) and 4 for the power of each link."""
    length = int(chain.length)
    words = np.asarray(jax.random.key_data(chain.key[:length]), "<u4")
    impl = str(jax.random.key_impl(chain.key)).encode()
    head = HEADER.pack(MAGIC, VERSION, words.shape[-1], length, fingerprint(start), impl)
    return head + words.tobytes() + np.asarray(chain.power[:length], "<f4").tobytes()


def decode(data: bytes) -> Encoded:
    """The chain of `encode`. Raises where the bytes aren't one, or not a whole one."""
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise ValueError("These bytes aren't an encoded chain: they don't begin with its header.")
    _, version, words, length, start, impl = HEADER.unpack_from(data)
    wanted = HEADER.size + 4 * length * (words + 1)
    if version != VERSION or len(data) != wanted:
        raise ValueError(
            f"An encoded chain of version {VERSION} with {length} links has {wanted} bytes; "
            f"got version {version} and {len(data)} bytes."
        )
    numbers = np.frombuffer(data, "<u4", offset=HEADER.size)
    key = numbers[: length * words].reshape(length, words).astype(np.uint32)
    power = numbers[length * words :].view("<f4").astype(np.float32)
    key = jax.random.wrap_key_data(jnp.asarray(key), impl=impl.rstrip(b"\0").decode())
    return Encoded(Chain(key, jnp.asarray(power), jnp.int32(length)), start)


def fingerprint(params: Params) -> int:
    """CRC-32 of the parameters' paths and bits: whether a chain is replayed from what it started from."""
    found = 0
    for path, x in sorted(flatten(params).items()):
        found = zlib.crc32(np.ascontiguousarray(x).tobytes(), zlib.crc32(path.encode(), found))
    return found


def size(params: Params) -> int:
    """Bytes of the parameters as they stand."""
    return sum(x.nbytes for x in flatten(params).values())
