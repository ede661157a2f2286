"""Optimise what gradients cannot: evolution strategies, genetic algorithms and quality diversity on one runtime.

`evo.run` searches, `evo.open` looks at what a search left; strategies are in `evo.strategies`, tasks in `evo.envs`.
"""

from evo import lazy
from evo.express import ByPath, express, plan
from evo.genome import Genome
from evo.host import HostTask, Scorer
from evo.noise import Frozen, Gaussian, LowRank, Noise
from evo.opened import Run, open
from evo.run import AllInvalid, Result, run
from evo.runtime import Runtime
from evo.strategy import Strategy
from evo.task import Evaluation, Task

__all__ = [
    "AllInvalid",
    "ByPath",
    "Evaluation",
    "Frozen",
    "Gaussian",
    "Genome",
    "HostTask",
    "LowRank",
    "Noise",
    "Result",
    "Run",
    "Runtime",
    "Scorer",
    "Strategy",
    "Task",
    "express",
    "lazy",
    "open",
    "plan",
    "run",
]
