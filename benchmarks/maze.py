"""The published effect of novelty search: who gets out of the hard maze, at equal evaluations.

    python benchmarks/maze.py [--quick] [--json FILE] [--seeds 10] [--out DIR] [CONFIG ...]

A run has solved the maze when a member ended within 5 of the goal. The table gives how many seeds did, with the 95 %
interval of that share (Wilson's), the nearest that a run came (median over seeds), and how many evaluations those that
solved it took. Run folders stay in DIR, where a run that is there isn't made again, so that
`evo plot DIR/* --descriptors` draws where everyone ended up.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from measure import Row, compiled_once, show

CONFIGS = ("maze_ga", "maze_es", "maze_novelty_ga", "maze_novelty_es")
SOLVED = -5.0  # the fitness within 5 of the goal


def judged(config: str, seed: int, out: Path | None, generations: int | None) -> dict:
    """One run: how near it came, and when it got there."""
    import evo
    from evo.experiment import dump, load

    experiment = load(config, [("seed", str(seed))])
    count = generations or experiment.generations
    result = evo.run(
        experiment.task, None, experiment.strategy, generations=count, seed=seed,
        out=out and out / f"{config}-s{seed}", checkpoint_every=1000, config=dump(experiment),
    )  # fmt: skip
    best = result.metrics["best"]
    solved = [int(n) for n, fitness in zip(result.metrics["evaluations"], best, strict=True) if fitness > SOLVED]
    return {
        "config": config, "seed": seed, "nearest": -float(best.max()), "took": solved[0] if solved else None,
        "evaluations": int(result.metrics["evaluations"][-1]),
    }  # fmt: skip


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z, share = 1.96, hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def rows(runs: list[dict]) -> list[Row]:
    """The table's lines of one config."""
    config, took = runs[0]["config"], sorted(run["took"] for run in runs if run["took"])
    low, high = wilson(len(took), len(runs))
    table = [
        Row(f"{config}: solved, of {len(runs)} (95 %: {low:.0%} to {high:.0%})", len(took), "seeds"),
        Row(f"{config}: nearest to the goal, median", statistics.median(run["nearest"] for run in runs), "units"),
        Row(f"{config}: evaluations of a run", runs[0]["evaluations"], "members"),
    ]
    if took:
        table.insert(1, Row(f"{config}: evaluations to solve it, median", statistics.median(took), "members"))
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="2 seeds, 20 generations, the two genetic algorithms")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    args = parser.parse_args()
    compiled_once()
    seeds, configs = (2, ("maze_ga", "maze_novelty_ga")) if args.quick else (args.seeds, args.configs)
    table = []
    for config in configs:
        runs = [judged(config, seed, args.out, 20 if args.quick else None) for seed in range(seeds)]
        table += rows(runs)
        show(f"{config}: {[round(run['nearest'], 1) for run in runs]}", rows(runs))
    show(f"The hard maze, {seeds} seeds", table, args.json)


if __name__ == "__main__":
    main()
