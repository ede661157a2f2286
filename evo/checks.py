"""What a program that calls `evo.run` can get wrong, told before anything is computed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evo.ascent import floating, live
from evo.leaf import is_whole, path_of
from evo.noise import Frozen
from evo.strategy import Strategy
from evo.task import Params


def check_run(task: Any, strategy: Any, generations: int):
    """Raise unless this task and strategy can be run for so long."""
    if jnp.zeros(()).dtype != jnp.float32 or str(jax.random.key_impl(jax.random.key(0))) != "threefry2x32":
        raise ValueError(
            "evo wants JAX's 32 bits and its default generator; unset JAX_ENABLE_X64 and JAX_DEFAULT_PRNG_IMPL."
        )
    if isinstance(strategy, type):
        raise ValueError(f"`strategy` is an object with settings, such as {strategy.__name__}(); got the class itself.")
    if not isinstance(strategy, Strategy):
        raise ValueError(
            f"`strategy` needs population, noise, init, ask, bases, tell and solution (evo.strategy); got {strategy!r}."
        )
    if hasattr(task, "evaluate") and (lacking := [name for name in ("init", "absorb") if not hasattr(task, name)]):
        raise ValueError(
            f"A task that is an object has init, evaluate and absorb (evo.task); this one no {lacking[0]}."
        )
    horizon = getattr(strategy, "horizon", generations)
    if generations > horizon:
        raise ValueError(
            f"`horizon` is the longest run that {type(strategy).__name__} keeps a record of: {horizon} generations; "
            f"got {generations}. Raise `horizon`."
        )


def check_numbers(least: dict[str, int], **given: int | None):
    """Raise unless each is a whole number that is large enough; None, where it may be, is."""
    for name, value in given.items():
        if value is not None and (not isinstance(value, int | np.integer) or value < least[name]):
            raise ValueError(f"`{name}` is a whole number, at least {least[name]}; got {value!r}.")
        if name == "seed" and value is not None and value >= 2**32:
            raise ValueError(f"`seed` is a number below 2**32; got {value}.")


def check_params(params: Params, strategy: Any):
    """Raise where a leaf can't be a parameter, or where the strategy's noise moves none of them."""
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
            raise ValueError(f"{path_of(path)!r} is a PRNG key, which is no parameter; leave it out of `params`.")
    if not isinstance(strategy.noise, Frozen):  # evosax draws its own
        own = live(strategy.noise, params).values()
        if not any(floating(x) or is_whole(x) for x in own):
            raise ValueError("There is nothing to search for: no leaf of `params` holds floats that noise acts on.")
