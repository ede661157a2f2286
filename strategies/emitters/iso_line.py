"""Iso+line: offspring that mix two elites."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from evo.elites import filled
from evo.genome import Genome
from evo.random import draw, integers, kept, split


@dataclass(frozen=True)
class IsoLine:
    """Iso+line variation (Vassiliades & Mouret 2018, eq. 1): x1 + iso * noise + line * N(0, 1) * (x2 - x1).

    x1 and x2 are drawn uniformly from the elites, one N(0, 1) for the whole member. As long as the archive is empty:
    initial parameters + `initial` * noise.
    """

    population: int = 256
    iso: float = 0.01
    line: float = 0.2
    initial: float = 0.1

    def __post_init__(self):
        if self.population < 1 or min(self.iso, self.line, self.initial) < 0:
            raise ValueError(
                f"Iso+line has a `population` of at least 1 and deviations of at least 0; got {self.population}, "
                f"iso={self.iso}, line={self.line}, initial={self.initial}."
            )

    @property
    def spare(self) -> int:
        return 0

    def init(self, key, params):
        return (), None

    def ask(self, key, state, archive, own):
        key_parents, key_line, key_noise = split(key, 3)
        n, (cells, count) = self.population, filled(archive)
        empty, pairs = count == 0, kept(cells[integers(key_parents, 2 * n, count)]).reshape(2, n).T
        line = kept(jnp.where(empty, 0.0, self.line * draw(key_line, (n,), "normal", keep=True)))
        scale = jnp.where(empty, jnp.float32(self.initial), jnp.float32(self.iso))
        keys = split(key_noise, n)[:, None]
        genome = Genome(keys, jnp.broadcast_to(scale, (n, 1)), pairs, jnp.stack([1 - line, line], -1))
        return genome, jnp.arange(n)

    def tell(self, key, state, archive, own, offspring, stage):
        return (), None
