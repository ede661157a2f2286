"""One generation, as three compiled programs: ask, judge, tell.

They are compiled apart so that a recorded generation can be told again, without judging, to the very same bits:
`evo.open` and a resumed run use the programs that the run itself used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from evo.archive import placed
from evo.axes import split_axes
from evo.compiler import options
from evo.express import Plan, express_dense, plan
from evo.genome import Genome, concatenate, size
from evo.host import Host, HostTask, Judge, Lost, alone, everyone, stands
from evo.random import SECOND_LOOK, fold_in, once, split
from evo.runtime import Runtime
from evo.strategy import Strategy
from evo.task import Evaluation, Params, State, Task, Trial, as_evaluation, unit_of

Judged = tuple[Genome, Evaluation, list[Lost]]


def judge(task: Any, state: State) -> Callable[[Params, Key[Array, ""]], Evaluation]:
    """A task as a function of one member and its luck."""
    if isinstance(task, Task):
        return lambda params, key: as_evaluation(task.evaluate(params, state, key))
    return lambda params, key: as_evaluation(task(params, key))


def start(task: Task | HostTask | Callable, params: Params | None, key: Key[Array, ""]) -> tuple[Params, State]:
    """Initial parameters (the user's, where given) and the task's state."""
    made, state = jax.jit(task.init)(key) if stands(task) else (None, ())
    if made is None and params is None:
        raise ValueError("A task that is a plain function needs `params`, the parameters to start from; got None.")
    return made if params is None else params, state


def keys_of(seed: int) -> tuple[Key[Array, ""], Key[Array, ""], Key[Array, ""]]:
    """A seed's keys: of the strategy's first state, of the first parameters, and of the run, in its programs."""
    init, params, run = jax.random.split(jax.random.key(seed), 3)
    return init, params, run


def settle(strategy: Any, task: Task | HostTask | Callable, params: Params, state: State) -> Any:
    """The strategy with its noise planned for these parameters as this task uses them, and its archive over the task's
    descriptors."""
    strategy = placed(strategy, task)
    if isinstance(strategy.noise, Plan):
        return strategy
    if isinstance(task, HostTask):
        axes = split_axes(lambda params, key: task.use(params, state, key), params) if hasattr(task, "use") else None
    else:
        axes = split_axes(judge(task, state), params, jax.random.key(0))
    return replace(strategy, noise=plan(strategy.noise, params, axes))


class Moment(NamedTuple):
    """Where a run stands: all that the next generation needs, and what a checkpoint keeps."""

    state: Any  # the strategy's
    task_state: State


def luck(key: Key[Array, ""], trial: Int[Array, "n"]) -> Key[Array, "n"]:
    """Each member's luck: a function of its trial alone, so members of one trial share it.

    `once` keeps XLA from knowing the trials: where all are the same it would compile for ever.
    """
    return jax.vmap(partial(fold_in, key))(once(trial.astype(jnp.uint32)))


def counted(evaluation: Evaluation, strategy: Any) -> Evaluation:
    """The evaluation with a fitness that the strategy can take: whole numbers if it is `whole`, else float32."""
    if getattr(strategy, "whole", False):
        return evaluation
    return evaluation._replace(fitness=evaluation.fitness.astype(jnp.float32))


@jax.jit
def _joined(first, second):
    join = lambda *x: jnp.concatenate(x)  # noqa: E731
    return concatenate(first[0], second[0]), jax.tree.map(join, first[1], second[1])


@dataclass(frozen=True)
class Engine:
    """A task, a settled strategy and a runtime, and their compiled programs."""

    task: Task | HostTask | Callable
    strategy: Strategy
    runtime: Runtime
    key: Key[Array, ""]  # of the run; every generation folds in its number
    begun: Params = None  # what the search began with, for tasks that `measure` how far it came

    @cached_property
    def ask(self) -> Callable:
        """(generation, state) -> genome, luck: the members, and each one's luck."""
        return jax.jit(self._ask)

    @cached_property
    def again(self) -> Callable | None:
        """(generation, state, genome, evaluation) -> genome, luck of the second look; None where there is none."""
        return jax.jit(self._again) if hasattr(self.strategy, "again") else None

    @cached_property
    def tell(self) -> Callable:
        """(state, genome, evaluation) -> state, info. The old state's memory is the new one's: it is gone."""
        return jax.jit(partial(self.strategy.tell, self.runtime), donate_argnums=0)

    def program(self, runtime: Runtime) -> Callable:
        """(moment, genome, luck) -> evaluation, for `Runtime.fit` to compile."""

        def judged(moment, genome, luck):
            bases = self.strategy.bases(moment.state)
            judged = runtime.map(judge(self.task, moment.task_state), self.strategy.noise, bases, genome, luck)
            return counted(judged, self.strategy)

        return judged

    def compile(self, moment: Moment) -> Callable[[int, Moment], Judged]:
        """(generation, moment) -> genome, evaluation, lost: everyone who is judged in a generation, second looks last,
        and who of them was lost to a world's failure."""
        first, second = (self._outside,) * 2 if isinstance(self.task, HostTask) else self._compiled(moment)

        def judged(generation: int, moment: Moment) -> Judged:
            genome, luck = self.ask(generation, moment.state)
            evaluation, lost = first(moment, genome, luck)
            if self.again is None:
                return genome, evaluation, lost
            looked, luck = self.again(generation, moment.state, genome, evaluation._replace(aux=None))
            seen, more = second(moment, looked, luck)
            more = [row._replace(member=row.member + size(genome)) for row in more]
            return *_joined((genome, evaluation), (looked, seen)), lost + more

        return judged

    def _compiled(self, moment: Moment) -> tuple[Callable, Callable]:
        """What judges the members of a generation, and its second looks."""
        members = self.ask(0, moment.state)
        runtime, first = self.runtime.fit(self.program, size(members[0]), moment, *members)
        second = first
        if self.again is not None:
            scores = jax.eval_shape(self.program(runtime), moment, *members)
            looked = jax.eval_shape(self.again, 0, moment.state, members[0], scores._replace(aux=None))
            _, second = self.runtime.fit(self.program, size(looked[0]), moment, *looked)
        return lambda *args: (first(*args), []), lambda *args: (second(*args), [])

    def _outside(self, moment: Moment, genome: Genome, luck: Key[Array, "n"]) -> tuple[Evaluation, list[Lost]]:
        """Judge the members of a generation in a host task's worlds."""
        evaluation, lost = self.opened(everyone(self.bases(moment.state), genome, luck), moment.task_state)
        return jax.device_put(evaluation, self.runtime.everywhere), lost

    @cached_property
    def opened(self) -> Judge:
        """The host task, set up; `close` lets go of it."""
        assert isinstance(self.task, HostTask)
        return self.task.open(Host(self.strategy.noise, self.runtime))

    def close(self):
        """Let go of what the task holds outside of JAX."""
        if "opened" in vars(self):
            self.opened.close()

    @cached_property
    def bases(self) -> Callable:
        """state -> what genomes are expressed from."""
        return jax.jit(self.strategy.bases)

    def pack(self, moment: Moment) -> Moment:
        """What a checkpoint keeps of it: all, or what the strategy can rebuild its state from."""
        return moment._replace(state=self.strategy.pack(moment.state)) if hasattr(self.strategy, "pack") else moment

    @cached_property
    def unpack(self) -> Callable:
        """The inverse of `pack` for the strategy's state, to the same bits."""
        return jax.jit(self.strategy.unpack) if hasattr(self.strategy, "unpack") else lambda state: state

    @cached_property
    def glimpse(self) -> Callable | None:
        """state -> all elites without the rows: what is known of everyone; None where the strategy keeps none."""
        keeps = getattr(self.strategy, "elites", getattr(self.strategy, "archive", None))
        return None if keeps is None else jax.jit(lambda state: keeps(state)._replace(rows=()))

    @cached_property
    def absorb(self) -> Callable:
        """(task state, aux) -> task state, after what a generation saw."""
        return jax.jit(self._absorb, compiler_options=options())

    @cached_property
    def express(self) -> Callable:
        """(state, genome of one member) -> its dense parameters."""
        return jax.jit(lambda state, genome: express_dense(self.strategy.noise, self.strategy.bases(state), genome))

    @cached_property
    def evaluate(self) -> Callable:
        """(moment, keys) -> evaluation of the solution, once a key."""
        if isinstance(self.task, HostTask):
            solution = jax.jit(self.strategy.solution)
            opened = lambda moment, keys: self.opened(alone(solution(moment.state), keys), moment.task_state)  # noqa: E731
            return lambda moment, keys: self.in_units(opened(moment, keys)[0])

        def program(moment, keys):
            params = self.strategy.solution(moment.state)
            return self.in_units(jax.vmap(lambda key: judge(self.task, moment.task_state)(params, key))(keys))

        return jax.jit(program, compiler_options=options())

    @cached_property
    def measure(self) -> Callable | None:
        """(moment, start, key) -> numbers about the solution, for people; None where the task has none to tell."""
        task: Any = self.task  # `measure` is optional, so no part of the protocol
        if not hasattr(task, "measure"):
            return None

        def program(moment, start, key):
            return task.measure(self.strategy.solution(moment.state), start, moment.task_state, key)

        return jax.jit(program, compiler_options=options())

    def in_units(self, judged: Evaluation) -> Evaluation:
        """An evaluation in the numbers that people see."""
        return judged._replace(fitness=judged.fitness.astype(jnp.float32) * unit_of(self.task))

    def _absorb(self, task_state, aux):
        if not stands(self.task):
            return task_state
        after = self.task.absorb(task_state, aux)
        kinds = [jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), state) for state in (task_state, after)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"`absorb` returns a state like the one it gets, {kinds[0]} (shapes, types); got {kinds[1]}."
            )
        return after

    def _keys(self, generation):
        return split(fold_in(self.key, generation), 2)

    def _ask(self, generation, state):
        key_ask, key_task = self._keys(generation)
        genome, trial = self.strategy.ask(key_ask, state)
        return genome, self._luck(key_task, trial)

    def _again(self, generation, state, genome, evaluation):
        key_ask, key_task = self._keys(generation)
        key_again = fold_in(key_ask, SECOND_LOOK)
        look: Any = self.strategy  # `again` is optional, so no part of the protocol
        genome, trial = look.again(key_again, state, genome, evaluation)
        return genome, self._luck(key_task, trial)

    def _luck(self, key, trial):
        own = luck(key, trial)
        return Trial(own, trial.astype(jnp.int32)) if getattr(self.task, "trials", False) else own
