"""Fine-tuning by reward: EGGROLL against GRPO (Shao et al. 2024, arXiv 2402.03300) from one start, judged alike.

    python benchmarks/grpo.py [--quick] [--json FILE] [--seeds 4] [--generations 300] [--config sums_eggroll]

EGGROLL is configs/sums_eggroll.yaml, or countdown_eggroll.yaml. GRPO moves the same weights of the same model by
backpropagation through what it wrote itself, at temperature 1, for the same reward: a completion's advantage is its
reward's z-score among those of its question, every update is on fresh completions (so nothing is ever clipped), and
nothing holds it to its start. It is run twice: on a generation's very questions and as many completions of each as
EGGROLL has members, one update a generation; and with 16 completions of each, as it is used, so with many more updates.
Both are judged on those held-out questions that `evo eval` judges on, 32 draws each at temperature 1 and one at 0. Two
seeds run at a time, a thread each; CPU seconds are without compilation. `--folder` may have {seed} in it, for a start
of each seed's own.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from measure import Row, show
from quality import STUDENT

from evo.ascent import live, merged
from evo.envs.language.causal import logits_of
from evo.experiment import load
from evo.run import prepare
from evo.runtime import Runtime

TRIES, DRAWS = 16, 32
RATES = {"one update a generation": 1e-3, f"{TRIES} completions a question": 1e-3}


class Point(NamedTuple):
    """Where a run stood: completions so far, CPU seconds so far, and shares of held-out questions answered right."""

    written: int
    seconds: float
    sampled: float
    greedy: float


def eggroll(experiment: Any, seed: int) -> Iterator[tuple[Any, int]]:
    """The solution after each generation, and how many completions that took; one before the first."""
    engine, moment, _ = prepare(experiment.task, None, experiment.strategy, seed, Runtime())
    judge, solution = engine.compile(moment), jax.jit(engine.strategy.solution)
    _ = engine.tell.lower(moment.state, *outcome(judge(0, moment))).compile()
    yield solution(moment.state), 0
    for generation in range(experiment.generations):
        state, _ = engine.tell(moment.state, *outcome(judge(generation, moment)))
        moment = moment._replace(state=state)
        yield solution(state), experiment.strategy.population * experiment.task.prompts


def outcome(judged: Any) -> tuple[Any, Any]:
    """What a strategy is told."""
    genome, evaluation, _ = judged
    return genome, evaluation._replace(aux=None)


def grpo(experiment: Any, seed: int, tries: int, lr: float) -> Iterator[tuple[Any, int]]:
    """As `eggroll`, of GRPO with `tries` completions of each question; the questions are the same."""
    task, frozen = replace(experiment.task, temperature=1.0), experiment.strategy.noise
    engine, moment, params = prepare(task, None, experiment.strategy, seed, Runtime())
    optimizer = optax.adam(lr)

    @jax.jit
    def update(own, state, key):
        whole = merged(frozen, params, own)
        key_pick, key_write = jax.random.split(key)  # as `Prompted.evaluate` does
        rows = jax.random.choice(key_pick, task.split, (task.prompts,), replace=task.split < task.prompts)
        scores, written = task.answered(whole, rows, key_write, tries)
        gain = (scores - scores.mean(1, keepdims=True)) / (scores.std(1, keepdims=True) + 1e-4)

        def loss(own):
            said = likelihood(task, merged(frozen, params, own), jnp.repeat(rows, tries), written)
            return -(gain.reshape(-1) * said).mean()

        updates, state = optimizer.update(jax.grad(loss)(own), state, own)
        return optax.apply_updates(own, updates), state

    own = live(frozen, params)
    state = optimizer.init(own)
    luck = jax.jit(lambda generation: engine.ask(generation, moment.state)[1].key[0])
    jax.block_until_ready(update(own, state, luck(0)))
    yield params, 0
    while True:
        for generation in range(experiment.generations):
            own, state = update(own, state, luck(generation))
            yield merged(frozen, params, own), task.prompts * tries


def likelihood(task: Any, params: Any, rows: Any, written: Any) -> Any:
    """Mean log-likelihood of each completion's tokens, its end among them."""
    table, width = task._asked.table, task._asked.table.tokens.shape[1]
    tokens = jnp.concatenate([table.tokens[rows], written.tokens], axis=1)
    own = jnp.arange(written.tokens.shape[1])[None] < written.length[:, None]
    scores = logits_of(task.model.checkpoint.model, params, tokens, jnp.concatenate([table.real[rows], own], axis=1))
    scores = jax.nn.log_softmax(scores[:, width - 1 : -1] / task.temperature)
    each = jnp.take_along_axis(scores, written.tokens[..., None], axis=-1)[..., 0]
    return (each * own).sum(1) / written.length.astype(jnp.float32)


def judge_of(task: Any) -> Callable[[Any], tuple[float, float]]:
    """Parameters -> shares of held-out questions answered right: drawn at temperature 1, and the likeliest answer."""
    rows = jnp.arange(*task.test)

    @jax.jit
    def shares(params):
        one, greedy = (replace(task, temperature=heat, tries=1) for heat in (1.0, 0.0))
        scores = (
            one.answered(params, rows, jax.random.key(7), DRAWS)[0],
            greedy.answered(params, rows, jax.random.key(7))[0],
        )
        return [(x >= 1 - 1e-6).mean() for x in scores]

    return lambda params: tuple(float(x) for x in shares(params))


def curve(steps: Iterator, judge: Callable, every: int, most: int, seconds: float = math.inf) -> list[Point]:
    """Points about every `every` completions, to `most` of them or to so many CPU seconds."""
    points, written, spent = [], 0, 0.0
    began = time.process_time()
    for params, count in steps:
        jax.block_until_ready(params)
        spent += time.process_time() - began if count else 0.0
        written += count
        ended = written >= most or spent >= seconds
        if written >= every * len(points) or ended:
            points.append(Point(written, spent, *judge(params)))
        if ended:
            break
        began = time.process_time()
    return points


def compared(
    seed: int, config: str, changes: list[tuple[str, str]], rates: dict[str, float], whole: bool
) -> dict[str, list[Point]]:
    """A curve of each method from one seed; GRPO ends with EGGROLL's time or completions, `whole`: the latter."""
    experiment = load(config, [(field, value.replace("{seed}", str(seed))) for field, value in changes])
    judge, count = judge_of(experiment.task), experiment.strategy.population * experiment.task.prompts
    most = count * experiment.generations
    found = {"EGGROLL": curve(eggroll(experiment, seed), judge, max(count, most // 20), most)}
    limit = found["EGGROLL"][-1].seconds
    for (name, lr), tries in zip(rates.items(), (experiment.strategy.population, TRIES), strict=True):
        often = (most // 40, math.inf if whole else limit)
        every, seconds = often if tries > TRIES else (experiment.task.prompts * tries * 25, limit)
        found[f"GRPO, {name}"] = curve(grpo(experiment, seed, tries, lr), judge, every, most, seconds)
    return found


def last(points: list[Point], most: float = math.inf, seconds: float = math.inf) -> Point:
    """The last point within limits."""
    return [x for x in points if x.written <= most and x.seconds <= seconds][-1]


def spread(values: list[float]) -> str:
    """Half the 95 % interval of the mean, as text."""
    if len(values) < 2:
        return ""
    return f" +- {STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5:.3f}"


def table_of(runs: list[dict[str, list[Point]]]) -> list[Row]:
    """Means over seeds, with 95 % intervals: at the start, at equal completions, and at equal CPU time."""
    rows = []
    for name in runs[0]:
        ends = [(run[name], run["EGGROLL"][-1]) for run in runs]
        cases = {
            "start": [x[0] for x, _ in ends],
            "1/10 of the completions": [last(x, end.written / 10) for x, end in ends],
            "1/4 of the completions": [last(x, end.written / 4) for x, end in ends],
            "1/10 of the time": [last(x, seconds=end.seconds / 10) for x, end in ends],
            "all the time": [last(x, seconds=end.seconds) for x, end in ends],
            "end": [x[-1] for x, _ in ends],
        }
        for case, points in cases.items():
            at, values = (f"{name}, {case}", list(zip(*points, strict=True)))
            rows.append(Row(f"{at}: sampled{spread(values[2])}", statistics.mean(values[2]), "share right"))
            rows.append(Row(f"{at}: greedy{spread(values[3])}", statistics.mean(values[3]), "share right"))
            rows.append(Row(f"{at}: completions", statistics.mean(values[0]), ""))
            rows.append(Row(f"{at}: time", statistics.mean(values[1]), "CPU s"))
    return rows


def main():
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--quick", action="store_true", help="one seed and few generations: under 2 minutes on 2 cores")
    flags.add_argument("--json", type=Path, help="also write the rows here")
    flags.add_argument("--seeds", type=int, default=4)
    flags.add_argument("--first", type=int, default=0, help="the first of the seeds")
    flags.add_argument("--generations", type=int, default=300)
    flags.add_argument("--config", default="sums_eggroll", help="or countdown_eggroll")
    flags.add_argument(
        "--whole", action="store_true", help="GRPO's one update a generation goes through all generations"
    )
    flags.add_argument("--folder", default="", help="the start, a folder that examples/imitate.py wrote")
    flags.add_argument("--set", nargs=2, action="append", default=[], help="a field of the config, and a value")
    flags.add_argument("--rates", nargs=2, type=float, default=list(RATES.values()), help="GRPO's learning rates")
    flags = flags.parse_args()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "evo-benchmarks"))
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    generations, seeds = (10, 1) if flags.quick else (flags.generations, flags.seeds)
    changes = [("generations", str(generations)), ("task.model.folder", flags.folder), *flags.set]
    rates = dict(zip(RATES, flags.rates, strict=True))
    work = partial(
        compared, config=flags.config, changes=[(k, v) for k, v in changes if v], rates=rates, whole=flags.whole
    )
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        runs = list(pool.map(work, range(flags.first, flags.first + seeds)))
    show(f"shares of held-out questions answered right, {seeds} seeds", table_of(runs), flags.json)


if __name__ == "__main__":
    main()
