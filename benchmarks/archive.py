"""Quality diversity against pyribs and QDax: insertions, whole MAP-Elites iterations, centroids, and what is reached.

    python benchmarks/archive.py [--quick] [--json FILE] [--only insertions] [--quality | --beside] [--seeds 10]

CPU time of whole processes. A peer that isn't installed is left out (`pip install ribs qdax`). `--quality` runs the
searches of the CMA-ME papers instead: QD score and coverage after 500,000 evaluations on a 100 x 100 grid.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from measure import Row, interleaved, rows, show

from evo.archive import Grid, empty, insert
from evo.cvt import CVT, centroids
from evo.envs.arm import Arm
from evo.envs.projection import Projection
from evo.fused import fused
from evo.noise import Gaussian
from evo.run import prepare
from evo.runtime import Runtime
from evo.strategies.emitters.cma import CMA
from evo.strategies.emitters.iso_line import IsoLine
from evo.strategies.map_elites import MapElites
from evo.strategies.qd import QD

BATCH, SIDE, FUSED, WARM = 4096, 100, 10, 40
DRIFT = 0.05  # by how much each batch is fitter than the one before, so that some always move in
GENERATIONS = 926  # of 540: 500,040 evaluations
UNIT = ((0.0, 1.0), (0.0, 1.0))


def ours(joints: int, law="normal"):
    """A function of no arguments that plays `FUSED` generations on the arm."""
    strategy = MapElites(BATCH, (SIDE, SIDE), iso=0.01, line=0.2, noise=Gaussian(law))
    engine, moment, _ = prepare(Arm(joints), None, strategy, 0, Runtime())
    program, held = fused(engine, moment, FUSED), {"moment": moment, "at": 0}

    def play():
        held["moment"], block = program(held["moment"], held["at"], FUSED)
        held["at"] += FUSED
        return block.fitness

    return play


def ribs(joints: int):
    from ribs.archives import GridArchive
    from ribs.emitters import IsoLineEmitter
    from ribs.schedulers import Scheduler

    archive = GridArchive(solution_dim=joints, dims=(SIDE, SIDE), ranges=UNIT, dtype=np.float32, seed=0)
    start = np.full(joints, 0.5, np.float32)
    emitter = IsoLineEmitter(archive, iso_sigma=0.01, line_sigma=0.2, x0=start, batch_size=BATCH, seed=1)
    scheduler = Scheduler(archive, [emitter])

    def play():
        for _ in range(FUSED):
            x = np.clip(scheduler.ask(), 0, 1)
            angle = np.cumsum(2 * np.pi * x - np.pi, 1)
            tip = np.stack([np.cos(angle).sum(1), np.sin(angle).sum(1)], 1) / joints
            scheduler.tell(-x.std(1), (tip + 1) / 2)

    return play


def qdax(joints: int):
    from qdax.core.containers.mapelites_repertoire import compute_euclidean_centroids
    from qdax.core.emitters.mutation_operators import isoline_variation
    from qdax.core.emitters.standard_emitters import MixingEmitter
    from qdax.core.map_elites import MAPElites
    from qdax.tasks.arm import arm_scoring_function
    from qdax.utils.metrics import default_qd_metrics

    vary = partial(isoline_variation, iso_sigma=0.01, line_sigma=0.2)
    emitter = MixingEmitter(lambda x, key: x, vary, 1.0, BATCH)
    search = MAPElites(arm_scoring_function, emitter, partial(default_qd_metrics, qd_offset=1.0))
    grid = compute_euclidean_centroids((SIDE, SIDE), 0.0, 1.0)
    start = jax.random.uniform(jax.random.key(0), (BATCH, joints))
    repertoire, state, _ = search.init(start, grid, jax.random.key(1))
    held = {"carry": (repertoire, state, jax.random.key(2))}
    step = jax.jit(lambda carry: search.scan_update(carry, None)[0], donate_argnums=0)

    def play():  # one generation: ten would take seconds
        held["carry"] = step(held["carry"])
        return held["carry"][0].fitnesses

    return play


def insertion(cells):
    """A function of no arguments that puts batches of 8-number rows into a filled archive, donated, and tells how many
    moved in."""

    def program(archive, at, fitness, descriptor, rows):
        archive, inserted = insert(cells, archive, fitness + DRIFT * at, descriptor, rows)
        return archive, inserted.accepted.sum()

    program = jax.jit(program, donate_argnums=0)
    batches = [tuple(map(jnp.asarray, batch)) for batch in drawn()]
    held = {"archive": empty(cells, jnp.zeros(8)), "at": 0}

    def put():
        won = 0
        for _ in range(FUSED):
            held["archive"], came = program(held["archive"], np.float32(held["at"]), *batches[held["at"] % WARM])
            held["at"] += 1
            won += came
        return won

    for _ in range(WARM // FUSED):
        put()
    return put


def drawn() -> list[tuple[np.ndarray, ...]]:
    """Batches of fitness, descriptors and rows."""
    rng = np.random.default_rng(0)
    return [
        tuple(
            x.astype(np.float32) for x in (rng.normal(size=BATCH), rng.random((BATCH, 2)), rng.normal(size=(BATCH, 8)))
        )
        for _ in range(WARM)
    ]


def mismatches(cells: CVT) -> int:
    """Of 100,000 places, how many a k-d tree files in another cell (those that are as near to both don't count)."""
    from scipy.spatial import cKDTree

    place = np.asarray(jax.random.uniform(jax.random.key(9), (100_000, 2)))
    cell = np.asarray(jax.jit(cells.cell)(place)[0])
    found, distance = cells.centroids.astype(np.float64), lambda c: np.linalg.norm(found[c] - place, axis=1)
    theirs = cKDTree(found).query(place)[1]
    return int(((cell != theirs) & (distance(cell) > distance(theirs) * (1 + 1e-5))).sum())


def insertion_ribs(kind: str, cells: int):
    from ribs.archives import CVTArchive, GridArchive

    side = round(cells**0.5)
    common = {"solution_dim": 8, "ranges": UNIT, "dtype": np.float32}
    if kind == "grid":
        archive = GridArchive(dims=(side, side), **common)
    else:
        archive = CVTArchive(centroids=centroids(cells, UNIT), **common)
    batches, at = drawn(), [0]

    def put():
        for _ in range(FUSED):
            fitness, descriptor, rows = batches[at[0] % WARM]
            archive.add(rows, fitness + np.float32(DRIFT * at[0]), descriptor)
            at[0] += 1

    for _ in range(WARM // FUSED):
        put()
    return put


def speed(quick: bool, only: str | None) -> list[Row]:
    peers, rounds = {name for name in ("ribs", "qdax") if importlib.util.find_spec(name)}, 5 if quick else 15
    whole = [] if only == "insertions" else iterations(peers, quick, rounds)
    return whole + ([] if only == "iterations" else insertions(peers, quick, rounds))


def iterations(peers: set[str], quick: bool, rounds: int) -> list[Row]:
    table: list[Row] = []
    for joints in (8, 100):
        case = f"iteration, arm of {joints} joints"
        programs = {f"{case}: evo": ours(joints), f"{case}: evo, bytes4 noise": ours(joints, "bytes4")}
        if "ribs" in peers:
            programs[f"{case}: pyribs"] = ribs(joints)
        for program in programs.values():
            for _ in range(WARM // FUSED):
                program()
        table += each(rows(interleaved(programs, rounds), f"{case}: evo"), FUSED)
        if "qdax" in peers and not (quick and joints == 100):
            slow = rows(interleaved({f"{case}: QDax": qdax(joints)}, 2), f"{case}: QDax")[0]
            table.append(slow._replace(ratio=slow.value / table[-len(programs)].value, against=f"{case}: evo"))
    return table


def insertions(peers: set[str], quick: bool, rounds: int) -> list[Row]:
    table: list[Row] = []
    for cells in (10_000,) if quick else (10_000, 100_000):
        case, side = f"insertion of {BATCH} into {cells:,}", round(cells**0.5)
        programs = {f"{case}: evo grid": insertion(Grid((side, side))), f"{case}: evo CVT": insertion(CVT(cells))}
        if "ribs" in peers:
            programs |= {f"{case}: pyribs {kind}": insertion_ribs(kind, cells) for kind in ("grid", "cvt")}
        table += each(rows(interleaved(programs, rounds), f"{case}: evo grid"), FUSED)
        for kind, row in zip(("grid", "CVT"), table[-len(programs) :], strict=False):
            won = int(programs[f"{case}: evo {kind}"]()) / FUSED
            table.append(Row(f"{case}: evo {kind}, a winner (of {won:.0f})", 1e3 * row.value / won, "CPU us"))
        table.append(Row(f"{cells:,} CVT cells: places misfiled", mismatches(CVT(cells)), "of 100,000"))
    centroids.cache_clear()
    began = time.process_time()
    centroids(10_000, UNIT)
    return [*table, Row("10,000 centroids in 2-D: evo", time.process_time() - began, "CPU s")]


def each(found: list[Row], count: int) -> list[Row]:
    return [row._replace(value=row.value / count) for row in found]


def searches(task) -> dict[str, QD]:
    """The settings of pyribs' own example: 540 offspring a generation from 15 emitters of 36."""
    arm = isinstance(task, Arm)
    offset, sigma = (-1.0, 0.1) if arm else (0.0, 0.5)
    iso = IsoLine(540, 0.01 if arm else 0.5, 0.2, 0.01 if arm else 0.5)
    grid = partial(Grid, (SIDE, SIDE), task.descriptor_bounds, offset)
    annealed = grid(learning_rate=0.01, threshold_min=offset)
    return {
        "iso+line": QD(grid(), (iso,)),
        "CMA-ME": QD(grid(), (CMA(15, 36, sigma),)),
        "CMA-MAE": QD(annealed, (CMA(15, 36, sigma, "improvement", "mu", "basic"),)),
    }


def reached(task, strategy: QD, seeds: range, generations: int) -> np.ndarray:
    """QD score and coverage of each seed after so many generations."""
    found, program = [], None
    for seed in seeds:
        start = jnp.full(task.joints, 0.5) if isinstance(task, Arm) else None
        engine, moment, _ = prepare(task, start, strategy, seed, Runtime())
        # the run's key is an argument of nothing here: seeds differ by the generations' numbers
        program = program or fused(engine, moment, generations)
        _, block = program(moment, seed * 1_000_000, generations)
        found.append([float(block.info["qd_score"][-1]), float(block.info["coverage"][-1])])
    return np.array(found)


def quality(seeds: int, generations: int, path: Path | None):
    tasks = {
        "arm 8-D": Arm(8), "sphere 20-D": Projection("sphere", 20), "rastrigin 20-D": Projection("rastrigin", 20),
        "arm 100-D": Arm(100), "sphere 100-D": Projection("sphere", 100),
        "rastrigin 100-D": Projection("rastrigin", 100),
    }  # fmt: skip
    table: list[Row] = []
    for name, task in tasks.items():
        for method, strategy in searches(task).items():
            began = time.process_time()
            found = reached(task, strategy, range(seeds), generations)
            (score, cover), spent = np.median(found, 0), time.process_time() - began
            low, high = found[:, 0].min(), found[:, 0].max()
            print(f"| {name} | {method} | {seeds} | {low:,.0f} / {score:,.0f} / {high:,.0f} | {cover:.2%} "
                  f"| {spent / seeds:.1f} |", flush=True)  # fmt: skip
            table += [Row(f"{name}, {method}: QD score", score, ""), Row(f"{name}, {method}: coverage", cover, "")]
    if path is not None:
        path.write_text(json.dumps([row._asdict() for row in table], indent=1))


def beside(seeds: int):
    """The searches that come nearest to the peers': QD scores of fresh seeds, and how they differ."""
    from scipy.stats import mannwhitneyu

    cases = [("arm 8-D", Arm(8), "iso+line"), ("arm 8-D", Arm(8), "CMA-MAE")]
    cases += [(f"sphere {d}-D", Projection("sphere", d), "iso+line") for d in (20, 100)]
    for name, task, method in cases:
        mine = reached(task, searches(task)[method], range(100, 100 + seeds), GENERATIONS)[:, 0]
        peers = {"pyribs": searched_ribs} | ({"QDax": searched_qdax} if method == "iso+line" else {})
        for peer, search in peers.items():
            if importlib.util.find_spec({"pyribs": "ribs", "QDax": "qdax"}[peer]) is None:
                continue
            theirs = np.array([search(task, method, seed) for seed in range(100, 100 + seeds)])
            rng = np.random.default_rng(0)
            draw = lambda x, rng=rng: np.median(rng.choice(x, (20_000, len(x))), 1)  # noqa: E731
            low, high = np.percentile(100 * (draw(mine) / draw(theirs) - 1), (2.5, 97.5))
            spans = [" / ".join(f"{x:,.0f}" for x in np.percentile(s, (0, 50, 100))) for s in (mine, theirs)]
            difference = 100 * (np.median(mine) / np.median(theirs) - 1)
            print(f"| {name} | {method} | {spans[0]} | {peer}: {spans[1]} | {difference:+.2f} % "
                  f"({low:.2f} to {high:.2f}) | {mannwhitneyu(mine, theirs).pvalue:.2f} |", flush=True)  # fmt: skip


def searched_ribs(task, method: str, seed: int) -> float:
    """The QD score of pyribs' search with the settings of `searches`."""
    from ribs.archives import GridArchive
    from ribs.emitters import EvolutionStrategyEmitter, IsoLineEmitter
    from ribs.schedulers import Scheduler

    arm, shift = isinstance(task, Arm), float(isinstance(task, Arm))
    start = np.full(task.joints, 0.5) if arm else np.zeros(task.dim)
    grid = partial(GridArchive, solution_dim=len(start), dims=(SIDE, SIDE), ranges=task.descriptor_bounds, seed=seed)
    result = grid()
    if method == "iso+line":
        archive = result
        emitters = [
            IsoLineEmitter(archive, iso_sigma=0.01 if arm else 0.5, line_sigma=0.2, x0=start, batch_size=540, seed=seed)
        ]
    else:
        archive, how = grid(learning_rate=0.01, threshold_min=0.0), {"ranker": "imp", "selection_rule": "mu"}
        how |= {"x0": start, "sigma0": 0.1 if arm else 0.5, "restart_rule": "basic", "batch_size": 36}
        emitters = [EvolutionStrategyEmitter(archive, seed=seed * 100 + i, **how) for i in range(15)]
    scheduler = Scheduler(archive, emitters, result_archive=None if archive is result else result)
    judge = jax.jit(jax.vmap(lambda x: task.evaluate(x, (), jax.random.key(0))))
    for _ in range(GENERATIONS):
        told = judge(scheduler.ask().astype(np.float32))
        scheduler.tell(np.asarray(told.fitness, np.float64) + shift, np.asarray(told.descriptor, np.float64))
    return float(result.stats.qd_score)


def searched_qdax(task, method: str, seed: int) -> float:
    """The QD score of QDax's iso+line; the grid finds the cells, for its own search would take hours."""
    from qdax.core.containers import mapelites_repertoire as repertoires
    from qdax.core.emitters.mutation_operators import isoline_variation
    from qdax.core.emitters.standard_emitters import MixingEmitter
    from qdax.core.map_elites import MAPElites
    from qdax.utils.metrics import default_qd_metrics

    from evo.exchange import middles

    arm, grid = isinstance(task, Arm), Grid((SIDE, SIDE), task.descriptor_bounds)
    repertoires.get_cells_indices = lambda descriptors, centroids: grid.cell(descriptors)[0]
    sigma, start = 0.01 if arm else 0.5, jnp.full(task.joints, 0.5) if arm else jnp.zeros(task.dim)
    vary = partial(isoline_variation, iso_sigma=sigma, line_sigma=0.2)
    keys = jax.random.split(jax.random.key(seed), 3)

    def scoring(x, key):
        told = jax.vmap(lambda x: task.evaluate(x, (), key))(x)
        return told.fitness[:, None], told.descriptor, {}

    emitter = MixingEmitter(lambda x, key: x, vary, 1.0, 540)
    search = MAPElites(scoring, emitter, partial(default_qd_metrics, qd_offset=float(arm)))
    first = start + sigma * jax.random.normal(keys[0], (540, len(start)))
    repertoire, state, _ = search.init(first, jnp.asarray(middles(grid)), keys[1])
    carry, _ = jax.jit(lambda c: jax.lax.scan(search.scan_update, c, None, length=GENERATIONS - 1))(
        (repertoire, state, keys[2])
    )
    fitness = np.asarray(carry[0].fitnesses)[:, 0]
    return float((fitness[np.isfinite(fitness)] + float(arm)).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds: under 2 minutes on 2 cores")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--quality", action="store_true", help="what the searches reach, instead of what they cost")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--beside", action="store_true", help="the searches nearest to the peers', beside them")
    parser.add_argument("--only", choices=("iterations", "insertions"), help="half of what is measured")
    args = parser.parse_args()
    if args.quality:
        quality(1 if args.quick else args.seeds, 40 if args.quick else GENERATIONS, args.json)
    elif args.beside:
        beside(args.seeds)
    else:
        show("Quality diversity, batch 4,096", speed(args.quick, args.only), args.json)


if __name__ == "__main__":
    main()
