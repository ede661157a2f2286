"""Chains of a run on disk: an individual as its mutations, and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evo.opened import Run

SUFFIX, START = ".chain", ".start.safetensors"


def export(run: Run, out: Path, keep: int | None) -> Iterator[str]:
    """Write the chain of parent 0 (Deep GA's elite, the most novel of GA-NS), read it back, and say what that saves.

    `keep` re-bases it to its last so many links, with the parameters before them in a file beside. Raises where the
    run has no chains, where `out` isn't a .chain file, or where what is read back isn't that parent, bit for bit.
    """
    import jax

    from evo import encoding, lineage
    from evo.checkpoint import flatten
    from evo.files import write, write_safetensors

    if out.suffix != SUFFIX:
        raise ValueError(f"{out}: wanted a file that ends in {SUFFIX}.")
    found = lineage_of(run)
    chain, start = lineage.member_of(found.chains), lineage_of(run, 0).base
    if keep is not None:
        links = int(chain.length) - keep
        if keep < 0 or links < 0:
            raise ValueError(f"--rebase: the chain has {int(chain.length)} links to keep; got {keep}.")
        start = replayed(run, start, lineage.Chain(chain.key, chain.power, chain.length * 0 + links))
        chain = lineage.rebased(chain, links)
        write_safetensors(beside(out), flatten(start))
    write(out, encoding.encode(chain, start))
    links, params = decoded(run, out)
    elite = jax.tree.map(lambda rows: rows[0], found.rows)
    if encoding.fingerprint(params) != encoding.fingerprint(elite):
        raise RuntimeError(f"{out}: the chain doesn't replay to the parent; was the run made on another machine?")
    written, dense = out.stat().st_size, encoding.size(elite)
    yield f"{links} mutations, {written:,} bytes, written to {out}; read back, they give parent 0 bit for bit"
    yield f"compression {dense / written:,.1f} : 1 (its parameters take {dense:,} bytes)"
    if keep is not None:
        yield f"they start from {beside(out)}, which takes {beside(out).stat().st_size:,} bytes"


def decoded(run: Run, path: Path) -> tuple[int, Any]:
    """How many links an encoded chain has, and the parameters at its end.

    It starts from the run's initial parameters, or from what `export` re-based it to. Raises where it starts from
    neither.
    """
    from evo import encoding
    from evo.checkpoint import unflatten

    chain, start = encoding.decode(path.read_bytes())
    params = lineage_of(run, 0).base
    if encoding.fingerprint(params) != start and beside(path).exists():
        from safetensors.numpy import load_file

        params = unflatten(load_file(beside(path)), params)
    if encoding.fingerprint(params) != start:
        raise ValueError(
            f"{path} starts neither from the initial parameters of {run.path} nor from {beside(path)}: "
            "it is a chain of another run, or its start is missing."
        )
    return int(chain.length), replayed(run, params, chain)


def lineage_of(run: Run, g: int | None = None) -> Any:
    """The parents of a run before generation g (None: after the last). Raises where its strategy has none."""
    state = run.strategy_state(g)
    if not hasattr(state, "lineage"):
        kind = run.config["strategy"].get("kind", "this strategy")
        raise ValueError(f"{run.path}: {kind} keeps no chains of mutations; deep_ga and novelty_ga do.")
    return state.lineage


def replayed(run: Run, start: Any, chain: Any) -> Any:
    """The parameters at the end of a chain."""
    import jax

    from evo.lineage import replay

    return jax.jit(lambda start, chain: replay(run.strategy.noise, start, chain))(start, chain)


def beside(path: Path) -> Path:
    """Where the start of a re-based chain is kept."""
    return path.with_suffix(START)
