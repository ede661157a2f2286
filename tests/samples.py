"""Archives, metrics and episodes that tests of pictures and pages share."""

from __future__ import annotations

import numpy as np

from evo.arrivals import kind
from evo.view.archive import ArchiveData
from evo.view.scene import Scene, Shape

HOSTILE = '</script><script>window.owned=1</script><img src=x onerror="window.owned=1">&<b>${window.owned=1}'
COLORS = ("#4477aa", "#ee6677")


def walker(steps=60, dt=0.05, speed=2.0, title="walker"):
    """Two linked capsules that swing and travel along x, over a ground."""
    time = dt * np.arange(steps)
    swing = 0.6 * np.sin(4 * time)
    position = np.zeros((steps, 2, 3))
    position[:, :, 0] = (speed * time)[:, None] + np.stack([0 * time, 0.4 * np.sin(swing)], 1)
    position[:, :, 2] = [1.0, 0.5]
    half = np.stack([0 * swing, -swing / 2], 1)
    rotation = np.stack([np.cos(half), 0 * half, np.sin(half), 0 * half], -1)
    shapes = [Shape("plane", -1), *(Shape("capsule", b, size=(0.1, 0.3), color=c) for b, c in enumerate(COLORS))]
    return Scene(shapes, position, rotation, dt, np.ones(steps), title)


def archive(shape=(12, 10), names=("left foot", "right foot")):
    """A hill over the box [0, 2] x [-1, 1] ..., its outer cells empty."""
    index = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij"), -1).reshape(-1, len(shape))
    fitness = 3 - ((index - 0.4) ** 2).sum(-1)
    fitness[((index - 0.5) ** 2).sum(-1) > 0.2] = -np.inf
    bounds = ((0.0, 2.0), (-1.0, 1.0), (0.0, 1.0), (0.0, 1.0))[: len(shape)]
    low, high = np.array(bounds).T
    return ArchiveData(fitness, low + index * (high - low), shape, bounds, names[: len(shape)])


def tessellation(cells=300, d=2):
    centroids = np.random.default_rng(0).uniform([0, -1, 0][:d], [2, 1, 1][:d], (cells, d))
    fitness = np.where(centroids[:, 0] < 0.3, np.nan, centroids.sum(-1))
    return ArchiveData(fitness, centroids, None, ((0.0, 2.0), (-1.0, 1.0), (0.0, 1.0))[:d], (), centroids)


def columns(seed=0, rows=40):
    generation = np.arange(rows)
    mean = 10.0 * generation + np.random.default_rng(seed).normal(0, 5, rows)
    score = np.where(generation % 10 == 0, mean + 20, np.nan)
    run = {"generation": generation, "steps": 1000.0 * generation, "mean": mean, "best": mean + 50, "std": mean * 0 + 9}
    return run | {"eval_mean": score, "coverage": generation / rows, "qd_score": 100.0 * generation}


def with_past(data, generations=6):
    """The archive with a past: better elites on the left come later, each made of one further left and of a new one."""
    rows, cells = [], np.flatnonzero(np.isfinite(data.fitness))
    for generation in range(generations):
        some = cells[: max(1, len(cells) * (generation + 1) // generations)]
        new = np.zeros(len(some), kind(data.descriptor.shape[1], 2))
        new["generation"], new["cell"], new["emitter"] = generation, some, 0
        new["fitness"] = data.fitness[some] - (generations - 1 - generation)
        new["descriptor"], new["parents"] = data.descriptor[some], np.stack([np.roll(some, 1), some], 1)
        rows.append(new)
    return data._replace(past=np.concatenate(rows))
