"""Any strategy of the evosax package, by its name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from evo.ascent import cast
from evo.express import ByPath, Plan
from evo.genome import Genome, as_they_stand
from evo.noise import Frozen, Noise
from evo.registry import nearest
from evo.runtime import Runtime
from evo.task import Evaluation, Params

Setting = float | int | bool


class State(NamedTuple):
    """The evosax state, and what it asked for."""

    rows: Params  # the population that is being judged: leaves [n, ...]
    inner: Any  # evosax's own state, a pytree of arrays
    started: Bool[Array, ""]  # whether a population-based strategy has seen its first population judged
    key: Key[Array, ""]  # what `tell` draws from


class Adapted(NamedTuple):
    """An evosax algorithm and its parameters; one for each structure of the user's parameters."""

    algorithm: Any
    settings: Any
    distribution: bool  # it keeps a distribution with a mean, rather than a population


@dataclass(frozen=True)
class Evosax:
    """Any strategy of evosax, by name: CMA_ES, PGPE, SNES, DifferentialEvolution, ... (Lange 2022, arXiv:2212.04180).

    evosax minimises; here higher fitness is better, as everywhere. Members are dense: a generation holds `population`
    x parameters numbers, several times over. `params` sets, by name, evosax's parameters (`std_init`), numbers of its
    constructor (`num_populations`, `subspace_dims`), `lr` (Adam at this rate, where it has an optimiser) and `std`
    (a constant, where it has a schedule; of RandomSearch, which draws around 0). A strategy that starts from a
    population gets `initial` * normal draws around the initial parameters, those themselves first. The solution is
    the mean of the distribution where there is one (the best mean of several), else the best member so far.
    """

    name: str = "CMA_ES"
    population: int = 128
    params: Mapping[str, Setting] | tuple[tuple[str, Setting], ...] = ()
    initial: float = 0.5
    noise: Noise | ByPath | Plan = Frozen()  # evosax draws its own

    def __post_init__(self):
        given: Any = self.params
        object.__setattr__(self, "params", tuple(sorted(dict(given).items())))
        _check_known(self.name, installed(), f"there is no strategy {self.name!r}")
        if self.population < 2:
            raise ValueError(f"evosax needs a `population` of at least 2; got {self.population}.")
        if self.population % self._populations:
            raise ValueError(
                f"`population` counts the members of all {self._populations} populations of {self.name}, so it must "
                f"be a multiple of that; got {self.population}."
            )
        numbers = _numbers(installed()[self.name][0])
        sizes = [int(value) for key, value in dict(given).items() if numbers.get(key) is int]
        self._adapt(jnp.zeros(max([1, *sizes]) + 1))  # raises what evosax refuses; large enough for any subspace

    def init(self, key: Key[Array, ""], params: Params) -> State:
        """The first population: asked of the distribution, or drawn around `params`."""
        params = jax.tree.map(jnp.asarray, params)
        algorithm, settings, distribution = self._adapt(params)
        key, key_draw, key_init, key_ask = jax.random.split(key, 4)
        with _lenient():
            if distribution:
                several = lambda x: jnp.repeat(x[None], self._populations, axis=0)  # noqa: E731
                start = jax.tree.map(several, params) if self._several else params
                rows, inner = algorithm.ask(key_ask, algorithm.init(key_init, start, settings), settings)
            else:
                draws = _normal(key_draw, params, self.initial, self.population)
                rows = jax.tree.map(lambda x, draws: x[None] + draws.at[0].set(0), params, draws)
                inner = algorithm.init(key_init, rows, jnp.full(self.population, jnp.inf), settings)
        return State(cast(rows, params), _strong(inner), jnp.asarray(distribution), key)

    def ask(self, key: Key[Array, ""], state: State) -> tuple[Genome, Int[Array, "n"]]:
        """The rows as they stand, with a trial each. (evosax's own ask changes its state, so `tell` did it.)"""
        return as_they_stand(jnp.arange(self.population)), jnp.arange(self.population)

    def bases(self, state: State) -> Params:
        """The population."""
        return state.rows

    def tell(
        self, runtime: Runtime, state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[State, dict[str, Array]]:
        """Tell evosax, and ask it for the next population. A generation without a valid member changes nothing.
        Logs `best_so_far`, and `std` where evosax keeps one: the mean of its search distribution's deviations."""
        adapted = self._adapt(jax.tree.map(lambda x: x[0], state.rows))
        key, key_tell, key_ask = jax.random.split(state.key, 3)
        cost = _cost(evaluation.fitness)

        def learn(state: State) -> State:
            with _lenient():
                inner = self._told(adapted, key_tell, state, cost)
                rows, inner = adapted.algorithm.ask(key_ask, inner, adapted.settings)
            return State(cast(rows, state.rows), _like(inner, state.inner), jnp.asarray(True), key)

        state = jax.lax.cond(jnp.isfinite(evaluation.fitness).any(), learn, lambda state: state, state)
        info = {"best_so_far": -jnp.min(state.inner.best_fitness)}
        return state, info | ({"search_std": jnp.mean(state.inner.std)} if hasattr(state.inner, "std") else {})

    def solution(self, state: State) -> Params:
        """The mean of the distribution, or the best member so far."""
        algorithm, _, distribution = self._adapt(jax.tree.map(lambda x: x[0], state.rows))
        flat = state.inner.mean if distribution else state.inner.best_solution
        flat = flat[jnp.argmin(state.inner.best_fitness)] if flat.ndim == 2 else flat
        with _lenient():
            return cast(algorithm._unravel_solution(flat), state.rows)

    @property
    def _several(self) -> bool:
        """Whether the strategy keeps several distributions side by side."""
        return "num_populations" in _numbers(installed()[self.name][0])

    @property
    def _populations(self) -> int:
        return max(int(dict(self.params).get("num_populations", 1)), 1) if self._several else 1

    @property
    def _own(self) -> int:
        """What evosax calls the population size: of one distribution."""
        return self.population // self._populations

    def _adapt(self, params: Params) -> Adapted:
        leaves, tree = jax.tree.flatten(params)
        if any(not jnp.issubdtype(x.dtype, jnp.floating) for x in leaves):
            raise ValueError("evosax searches over numbers: every leaf of the parameters must be floating-point.")
        return _adapted(self.name, self._own, self.params, tree, tuple((x.shape, str(x.dtype)) for x in leaves))

    def _told(self, adapted: Adapted, key, state: State, cost):
        """evosax's state once it knows the costs; the first ones are what a population-based strategy starts with."""
        algorithm, settings, distribution = adapted
        rows = state.rows
        if self._several:
            rows = jax.tree.map(lambda x: x.reshape(self._populations, self._own, *x.shape[1:]), rows)
        tell = lambda inner: _like(algorithm.tell(key, rows, cost, inner, settings)[0], inner)  # noqa: E731
        if distribution:
            return tell(state.inner)
        first = lambda inner: _like(algorithm.init(key, rows, cost, settings), inner)  # noqa: E731
        return jax.lax.cond(state.started, tell, first, state.inner)


@cache
def installed() -> dict[str, tuple[type, bool]]:
    """name -> class, and whether it keeps a distribution."""
    from evosax.algorithms.distribution_based import distribution_based_algorithms as distributions
    from evosax.algorithms.population_based import population_based_algorithms as populations

    return {name: (c, True) for name, c in distributions.items()} | {n: (c, False) for n, c in populations.items()}


@lru_cache(maxsize=32)
def _adapted(name: str, population: int, params: tuple, tree: Any, leaves: tuple) -> Adapted:
    """One instance for each structure: evosax compiles anew for every new object."""
    kind, distribution = installed()[name]
    template = jax.tree.unflatten(tree, [np.zeros(shape, dtype) for shape, dtype in leaves])
    arguments = {"population_size": population, "solution": template, "metrics_fn": _no_metrics}
    with jax.ensure_compile_time_eval(), _lenient():
        try:
            algorithm = kind(**arguments, **_constructed(kind, template, dict(params)))
        except (AssertionError, ValueError) as error:
            given = f"population={population} and params={dict(params)}"
            raise ValueError(f"evosax refuses {name} with {given}: {error}") from None
        settings = algorithm.default_params
        own = {f.name: getattr(settings, f.name) for f in fields(settings)}
        own = {
            key: value
            for key, value in own.items()
            if getattr(value, "shape", (1,)) == () or isinstance(value, int | float)
        }
        known = own.keys() | _numbers(kind).keys() | _objects(kind, template).keys()
        for key, _ in params:
            _check_known(key, known, f"{name} has no parameter {key!r}")
        settings = settings.replace(**{key: _as(type(own[key]), key, value) for key, value in params if key in own})
    return Adapted(algorithm, settings, distribution)


def _constructed(kind: type, template: Params, given: dict[str, Setting]) -> dict[str, Any]:
    """What the constructor gets of what was given, and what it can't do without."""
    numbers, objects = _numbers(kind), _objects(kind, template)
    needs: dict[str, Any] = {"num_populations": 1} if "num_populations" in numbers else {}
    if "sampling_fn" in inspect.signature(kind).parameters:
        needs["sampling_fn"] = objects["std"][1](1.0)
    made = {objects[name][0]: objects[name][1](value) for name, value in given.items() if name in objects}
    return needs | {name: _as(numbers[name], name, value) for name, value in given.items() if name in numbers} | made


def _numbers(kind: type) -> dict[str, type]:
    """The constructor's arguments that are numbers or switches, and of which type."""
    types = {"int": int, "float": float, "bool": bool}
    given = inspect.signature(kind).parameters.values()
    named = {p.name: inspect.formatannotation(p.annotation).strip("'").split(" |")[0] for p in given}
    return {name: types[a] for name, a in named.items() if a in types and name != "population_size"}


def _as(wanted: type, name: str, value: Setting) -> Setting:
    """The number in evosax's own type, for YAML and the command write 2.0 for 2."""
    if wanted is int and int(value) != value:
        raise ValueError(f"{name!r} is a whole number; got {value}.")
    return wanted(value) if wanted in (int, bool) else float(value)


def _objects(kind: type, template: Params) -> dict[str, tuple[str, Any]]:
    """Settings of ours that stand for an object in the constructor: its argument, and how it is made of a number."""
    made = {
        "lr": ("optimizer", optax.adam),
        "std": ("std_schedule", optax.constant_schedule),
    }
    if "sampling_fn" in inspect.signature(kind).parameters:
        made["std"] = ("sampling_fn", lambda std: partial(_normal, template=template, std=std))
    return {name: how for name, how in made.items() if how[0] in inspect.signature(kind).parameters}


def _check_known(name: str, known: Iterable[str], problem: str):
    if name not in known:
        raise ValueError(f"evosax: {problem}; {nearest(name, known)}")


def _normal(key, template: Params, std: float, n: int | None = None) -> Params:
    """Normal draws of deviation `std`, shaped like the template; n of them along a new first axis."""
    leaves, tree = jax.tree.flatten(template)
    keys = jax.random.split(key, len(leaves))
    shapes = [x.shape if n is None else (n, *x.shape) for x in leaves]
    draws = [jax.random.normal(k, shape, x.dtype) for k, shape, x in zip(keys, shapes, leaves, strict=True)]
    return jax.tree.unflatten(tree, [jnp.asarray(std, x.dtype) * x for x in draws])


def _no_metrics(*_) -> dict:
    """evosax's own metrics are as large as the parameters."""
    return {}


def _cost(fitness: Float[Array, "n"]) -> Float[Array, "n"]:
    """What evosax minimises. A fitness that isn't finite costs a little more than the worst that is."""
    valid = jnp.isfinite(fitness)
    worst = jnp.max(jnp.where(valid, -fitness, -jnp.inf))
    return jnp.where(valid, -fitness, worst + 1e-6 * jnp.abs(worst) + 1e-30)


def _strong(tree: Any) -> Any:
    """Every leaf an array of a definite dtype, as it will be after a generation."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), tree)


def _like(tree: Any, like: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.asarray(x).astype(y.dtype).reshape(jnp.shape(y)), tree, like)


@contextmanager
def _lenient() -> Iterator[None]:
    """evosax was written for JAX's ordinary promotion rules."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
