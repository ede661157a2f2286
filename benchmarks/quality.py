"""What strategies reach at equal evaluations: several configs, several seeds, the solution judged on fresh luck.

    python benchmarks/quality.py [--quick] [--json FILE] [--seeds 5] [--first 0] [CONFIG ...]

Each run's solution is evaluated on `--episodes` fresh episodes (an archive: its coverage); the table gives the mean
over seeds, the 95 % interval of that mean (Student's t), and the total of evaluations. Runs share two worker processes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

CONFIGS = (
    "hopper_eggroll",
    "hopper_openai_es",
    "hopper_deep_ga",
    "inverted_double_pendulum_eggroll",
    "inverted_double_pendulum_openai_es",
    "inverted_double_pendulum_deep_ga",
    "arm_map_elites",
)
STUDENT = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}  # 97.5 % quantiles by sample size


def judged(
    job: tuple[str, int], overrides: tuple[tuple[str, str], ...], generations: int | None, episodes: int
) -> dict:
    """One run of one config and seed: what it started from and what it reached."""
    import evo
    from evo.experiment import load

    config, seed = job
    experiment = load(config, [*overrides, ("seed", str(seed))])
    count = generations or experiment.generations
    began = time.perf_counter()
    result = evo.run(
        experiment.task, None, experiment.strategy,
        generations=count, seed=seed, chunk=experiment.chunk, eval_every=count, eval_episodes=episodes,
    )  # fmt: skip
    metrics = result.metrics
    name = "coverage" if "coverage" in metrics else "eval_mean"
    reached = float(metrics[name][-1]) * (100 if name == "coverage" else 1)
    return {
        "config": config, "seed": seed, "measure": name, "start": float(metrics["mean"][0]), "reached": reached,
        "evaluations": int(metrics["evaluations"][-1]), "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds, which count up from it")
    parser.add_argument("--episodes", type=int, default=128, help="that a solution is judged on")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 3 generations, two configs")
    parser.add_argument("--json", type=Path, help="also write every run here")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="override a field everywhere")
    args = parser.parse_args()
    seeds = 2 if args.quick else args.seeds
    configs = ("sphere", "arm_map_elites") if args.quick else args.configs
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "evo-quality"))
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    overrides = tuple(tuple(s.split("=", 1)) for s in args.set)
    work = partial(judged, overrides=overrides, generations=3 if args.quick else None, episodes=args.episodes)
    jobs = [(config, seed) for config in configs for seed in range(args.first, args.first + seeds)]
    done = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        for run in pool.map(work, jobs):
            done.append(run)
            print(json.dumps(run), flush=True)
            if args.json:
                args.json.write_text(json.dumps(done, indent=1))
    print("\n| config | measure | start | reached | 95 % of the mean | evaluations | seconds a run |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for config in configs:
        print(line([run for run in done if run["config"] == config]))


def line(runs: list[dict]) -> str:
    """A row of the table over the seeds of one config."""
    reached = [run["reached"] for run in runs]
    spread = STUDENT[len(runs)] * statistics.stdev(reached) / len(runs) ** 0.5 if len(runs) > 1 else float("nan")
    start, seconds = (statistics.mean(run[name] for run in runs) for name in ("start", "seconds"))
    one = runs[0]
    return (
        f"| {one['config']} | {one['measure']} | {start:.1f} | {statistics.mean(reached):.1f} | +- {spread:.1f} "
        f"| {one['evaluations']:,} | {seconds:.0f} |"
    )


if __name__ == "__main__":
    main()
