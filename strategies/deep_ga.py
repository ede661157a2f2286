"""Deep GA: truncation selection and mutation, on individuals that are chains of noise keys.

Axes: `n` members (the elite, then `population` children), `t` parents, `h` links of a chain, `e` episodes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from evo.express import ByPath, Plan, express_dense
from evo.genome import Genome, expand
from evo.noise import Gaussian, Noise
from evo.runtime import Runtime
from evo.schedule import Schedule, at
from evo.task import Evaluation, Params

MAGIC, VERSION = b"EVOC", 1
HEADER = struct.Struct("<4sHHI16s")  # magic, version, words of a key, links, name of the random bit generator


class Chain(NamedTuple):
    """An individual: its mutations since the initial parameters, oldest first."""

    key: Key[Array, "h"]
    power: Float[Array, "h"]
    length: Int[Array, ""]  # links beyond it mean nothing


class State(NamedTuple):
    """The parents, as parameters (a cache, so that a child costs one mutation) and as chains. Parent 0 is the elite."""

    rows: Params  # leaves [t, ...]
    chains: Chain  # leaves [t, h], [t, h], [t]
    initial: Params  # where every chain starts
    generation: Int[Array, ""]


@dataclass(frozen=True)
class DeepGA:
    """Deep GA (Such et al. 2017, arXiv:1712.06567), as in its authors' GPU release.

    child = parent + sigma * noise(key), its parent drawn uniformly from the `parents` fittest; no crossover. A
    generation judges `population` children and, as member 0, the elite unchanged: `population` + 1 members, as the
    paper counts. Then the elite and the fittest `elite_candidates` - 1 of the others (in the first generation: the
    fittest `elite_candidates`) are judged on the same `elite_episodes` further trials each, and the best mean is the
    new elite. The next parents are the elite and the fittest others. Ties go to the lower index.

    The first generation mutates the initial parameters with power `initial` (None: `sigma`), where the paper draws
    networks afresh. `sigma` may be a schedule: each link keeps its own power. A member with a fitness that isn't
    finite, in any trial, is neither elite nor parent; if that is all of them, the state stays as it was. With fewer
    valid members than `parents`, those take turns. `horizon` is the longest chain kept, so the longest run.
    """

    population: int = 1000
    parents: int = 20
    sigma: float | Schedule = 0.002
    initial: float | None = None
    elite_candidates: int = 10
    elite_episodes: int = 30
    horizon: int = 2048
    noise: Noise | ByPath | Plan = Gaussian()

    def __post_init__(self):
        if min(self.parents, self.elite_candidates, self.elite_episodes, self.horizon) < 1:
            raise ValueError(
                "`parents`, `elite_candidates`, `elite_episodes` and `horizon` are at least 1; got "
                f"{self.parents}, {self.elite_candidates}, {self.elite_episodes} and {self.horizon}."
            )
        for name in ("parents", "elite_candidates"):
            if self.population < getattr(self, name):
                raise ValueError(
                    f"Deep GA chooses its {name} ({getattr(self, name)}) from the population, which is smaller: "
                    f"{self.population}. Use {name}={max(self.population, 1)}, or a larger `population`."
                )

    def init(self, key: Key[Array, ""], params: Params) -> State:
        """Every parent is `params`, with an empty chain."""
        params = jax.tree.map(jnp.asarray, params)
        rows = jax.tree.map(lambda x: jnp.repeat(x[None], self.parents, axis=0), params)
        links = (self.parents, self.horizon)
        chains = Chain(jnp.broadcast_to(key, links), jnp.zeros(links), jnp.zeros(self.parents, jnp.int32))
        return State(rows, chains, params, jnp.int32(0))

    def ask(self, key: Key[Array, ""], state: State) -> tuple[Genome, Int[Array, "n"]]:
        """The elite, then children of parents drawn uniformly; a trial each."""
        key_parent, key_noise = jax.random.split(key)
        n, sigma = self.population + 1, at(self.sigma, state.generation)
        first = sigma if self.initial is None else jnp.float32(self.initial)
        parent = jax.random.randint(key_parent, (n,), 0, self.parents).at[0].set(0)
        scale = jnp.full((n, 1), jnp.where(state.generation == 0, first, sigma)).at[0].set(0.0)
        return Genome(jax.random.split(key_noise, n)[:, None], scale, parent[:, None]), jnp.arange(n)

    def again(
        self, key: Key[Array, ""], state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[Genome, Int[Array, "m"]]:
        """The candidates, `elite_episodes` rows each, on trials that all candidates share and no one else has."""
        assert genome.parents is not None
        chosen, episodes = self._candidates(state, evaluation.fitness), self.elite_episodes
        rows = jnp.repeat(chosen, episodes)
        second = Genome(expand(genome).key[chosen], genome.scale[rows], genome.parents[rows])
        return second, self.population + 1 + jnp.tile(jnp.arange(episodes), len(chosen))

    def bases(self, state: State) -> Params:
        """The parents' parameters."""
        return state.rows

    def tell(
        self, runtime: Runtime, state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[State, dict[str, Array]]:
        """Elect the elite and the parents. Logs the mean of the new elite's further trials (`elite`), how many
        mutations it is from the initial parameters (`chain`), and how many of the parents' parents are distinct."""
        n = self.population + 1
        fitness, further = evaluation.fitness[:n], evaluation.fitness[n:].reshape(-1, self.elite_episodes)
        elite, score = self._elect(fitness, self._candidates(state, fitness), further.mean(1))
        chosen = self._parents(fitness, elite)
        mutation = jax.tree.map(lambda x: x[chosen, 0], expand(genome))
        valid = jnp.isfinite(fitness).any()
        state = jax.lax.cond(valid, self._next, lambda state, _: state, state, mutation)
        unique = jnp.zeros(self.parents, jnp.int32).at[mutation.parents].set(1).sum()
        return state, {"elite": score, "chain": state.chains.length[0], "unique_parents": unique}

    def solution(self, state: State) -> Params:
        """The elite."""
        return jax.tree.map(lambda rows: rows[0], state.rows)

    def _candidates(self, state: State, fitness: Float[Array, "m"]) -> Int[Array, "candidates"]:
        """Who may become the elite: from the second generation on, the elite of the one before is always first."""
        fitness = _valid(fitness[: self.population + 1])
        fitness = fitness.at[0].set(jnp.where(state.generation > 0, jnp.inf, fitness[0]))
        return jnp.argsort(-fitness, stable=True)[: self.elite_candidates]

    def _elect(self, fitness, candidates, score):
        """The candidate with the best score, and the score; the fittest member if no candidate is valid."""
        score = jnp.where(jnp.isfinite(fitness[candidates]), _valid(score), -jnp.inf)
        first = jnp.argmax(score)
        none = jnp.isneginf(score[first])
        return jnp.where(none, jnp.argmax(_valid(fitness)), candidates[first]), score[first]

    def _parents(self, fitness, elite):
        """The elite, then the fittest others; where too few are valid, these in turn."""
        count = jnp.maximum(jnp.isfinite(fitness).sum(dtype=jnp.int32), 1)
        order = jnp.argsort(-_valid(fitness).at[elite].set(jnp.inf), stable=True)
        return order[jnp.arange(self.parents) % count]

    def _next(self, state: State, mutation: Genome) -> State:
        """The state whose parents are these mutations of the present ones; a mutation without power is no link."""
        key, power, parent, _ = mutation
        rows = jax.lax.map(
            lambda m: link(self.noise, jax.tree.map(lambda x: x[m[2]], state.rows), m[0], m[1]), (key, power, parent)
        )
        old = jax.tree.map(lambda x: x[parent], state.chains)
        slot = jnp.arange(self.parents), jnp.where(power != 0, old.length, self.horizon)
        chains = Chain(
            old.key.at[slot].set(key, mode="drop"),
            old.power.at[slot].set(power, mode="drop"),
            old.length + (power != 0).astype(jnp.int32),
        )
        return State(rows, chains, state.initial, state.generation + 1)


def link(noise: Noise | ByPath | Plan, params: Params, key: Key[Array, ""], power: Float[Array, ""]) -> Params:
    """One mutation: params + power * noise(key), the one way in which children become parents and chains are replayed.

    XLA contracts the product and the sum into one rounding where it fuses them (an optimization barrier doesn't stop
    it on the CPU), so the bits are those of this expression in a loop of its own: in `lax.map` as in `fori_loop`, and
    for Gaussian noise also under `vmap` and outside `jit`; low-rank noise under `vmap` may differ in the last bit.
    """
    return express_dense(noise, params, Genome(key[None], power[None]))


def chain(state: State, slot: int | Int[Array, ""] = 0) -> Chain:
    """The chain of one parent; slot 0 is the elite."""
    return jax.tree.map(lambda x: x[slot], state.chains)


def replay(noise: Noise | ByPath | Plan, initial: Params, chain: Chain) -> Params:
    """The parameters at the end of a chain, link by link: bit for bit what the state has cached (see `link`)."""
    step = lambda i, params: link(noise, params, chain.key[i], chain.power[i])  # noqa: E731
    return jax.lax.fori_loop(0, chain.length, step, jax.tree.map(jnp.asarray, initial))


def encode(chain: Chain) -> bytes:
    """A chain as bytes: 28 of header, then 4 for each word of a key (threefry: 2) and 4 for the power of each link."""
    length = int(chain.length)
    words = np.asarray(jax.random.key_data(chain.key[:length]), "<u4")
    head = HEADER.pack(MAGIC, VERSION, words.shape[-1], length, _impl(chain.key).encode())
    return head + words.tobytes() + np.asarray(chain.power[:length], "<f4").tobytes()


def decode(data: bytes) -> Chain:
    """The chain of `encode`. Raises where the bytes aren't one, or not a whole one."""
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise ValueError("These bytes aren't an encoded chain: they don't begin with its header.")
    _, version, words, length, impl = HEADER.unpack_from(data)
    if version != VERSION or len(data) != HEADER.size + 4 * length * (words + 1):
        wanted = HEADER.size + 4 * length * (words + 1)
        raise ValueError(
            f"An encoded chain of version {VERSION} with {length} links has {wanted} bytes; "
            f"got version {version} and {len(data)} bytes."
        )
    numbers = np.frombuffer(data, "<u4", offset=HEADER.size)
    key = numbers[: length * words].reshape(length, words).astype(np.uint32)
    power = numbers[length * words :].view("<f4").astype(np.float32)
    key = jax.random.wrap_key_data(jnp.asarray(key), impl=impl.rstrip(b"\0").decode())
    return Chain(key, jnp.asarray(power), jnp.int32(length))


def _valid(fitness: Float[Array, "n"]) -> Float[Array, "n"]:
    return jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf)


def _impl(key) -> str:
    """The name of a key's random bit generator."""
    return str(jax.random.key_impl(key))
