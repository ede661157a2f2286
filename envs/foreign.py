"""Running other people's code: their looser arithmetic, and their chatter while they are imported."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Trace the code inside as JAX does by default, whatever the user chose for theirs: dtypes and ranks are promoted.

    Deprecation warnings are dropped: they are between that code and its own dependencies.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def told(error: BaseException) -> str:
    """What other people's code raised, and where: "KeyError: 'x' (world.py, line 12)"."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = "" if at is None else f" ({Path(at.tb_frame.f_code.co_filename).name}, line {at.tb_lineno})"
    said = f": {error}" if str(error) else ""
    return f"{type(error).__name__}{said}{where}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow warnings and prints: for imports and model files that we can't mend."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
