"""Brax's environments as tasks: a policy's return in a physics simulator that runs inside the compiled program.

Axes: `e` episodes, `o` observation, `a` action.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from evo.envs.brax_descriptors import Descriptor, descriptor
from evo.envs.brax_trap import trapped
from evo.envs.foreign import lenient, quiet
from evo.envs.moments import add, merge, normalise, nothing, pool
from evo.envs.networks import MLP, Network
from evo.registry import nearest
from evo.task import Evaluation

ENVS = (
    "ant",
    "ant_trap",
    "fast",
    "halfcheetah",
    "hopper",
    "humanoid",
    "humanoidstandup",
    "inverted_double_pendulum",
    "inverted_pendulum",
    "pusher",
    "reacher",
    "walker2d",
)
BACKENDS = ("spring", "positional", "generalized", "mjx")
FORWARD = {  # what Brax's metrics call the part of the reward that is for moving forward
    "ant": "forward_reward",
    "ant_trap": "forward_reward",
    "halfcheetah": "reward_run",
    "hopper": "reward_forward",
    "humanoid": "forward_reward",
    "walker2d": "reward_forward",
}
SQUASHES = {"tanh": jnp.tanh, "clip": lambda x: jnp.clip(x, -1, 1)}


class Life(NamedTuple):
    """One episode so far."""

    world: Any  # Brax's State
    memory: Any  # the policy's
    steps: Int[Array, ""]
    reward: Float[Array, ""]
    seen: Any  # Moments, or () when nothing is normalised
    watched: Float[Array, "w"]


@dataclass(frozen=True)
class Brax:
    """A Brax locomotion or control environment with a network as its policy; fitness is the mean return of an episode.

    An episode ends when the env says so (that step's reward counts) or after `episode_length` steps; nothing restarts.
    The policy acts in [-1, 1], which Brax's envs scale to their motors: `squash` of the network's output, or of a
    normal draw around it when not `deterministic` (the network then has twice the outputs: means and log stds).
    With `normalise`, observations are divided by the running std about the running mean of all live observations of
    the generations before (see `evo.envs.moments`), which is the task's state. All luck comes from the trial's key.

    Physics that blows up (an observation that isn't finite) ends the episode and makes the fitness NaN, for some envs
    would pay it to the end; none of that episode's observations are counted.
    `descriptor`: "feet" (share of live time that each foot is on the floor), "position" (the torso's final x-y, in
    metres), "velocity" (its mean, m/s); averaged over episodes. `descriptor_limit` bounds the last two at +- itself.
    Without `forward` the reward for moving forward is left out: to be filed by where it goes, whichever way. `ant_trap`
    is the ant in front of a U-shaped trap (see `evo.envs.brax_trap`).
    """

    env: str = "hopper"
    backend: str = "spring"
    episode_length: int = 1000
    episodes: int = 1
    policy: Network = MLP()
    deterministic: bool = True
    squash: str = "tanh"
    normalise: bool = True
    descriptor: str | None = None
    descriptor_limit: float | None = None
    forward: bool = True

    def __post_init__(self):
        _check_env(self.env, self.backend)
        if not self.forward and self.env not in FORWARD:
            raise ValueError(f"{self.env} doesn't reward moving forward; the envs that do: {', '.join(FORWARD)}.")
        if self.squash not in SQUASHES:
            raise ValueError(f"unknown squash {self.squash!r}; {nearest(self.squash, SQUASHES)}")
        for name in ("episode_length", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1; got {getattr(self, name)}.")
        descriptor(self.descriptor, self.env, self.descriptor_limit)

    @property
    def behaviour(self) -> Descriptor:
        """What is measured of an episode besides its return."""
        return descriptor(self.descriptor, self.env, self.descriptor_limit)

    @property
    def descriptor_names(self) -> tuple[str, ...]:
        return self.behaviour.names

    @property
    def descriptor_bounds(self) -> tuple[tuple[float, float], ...]:
        return self.behaviour.bounds

    def init(self, key):
        observation, action = sizes(self.env, self.backend)
        params = self.policy.init(key, observation, action if self.deterministic else 2 * action)
        return params, nothing(observation) if self.normalise else ()

    def evaluate(self, params, state, key):
        keys = jax.random.split(key, self.episodes)
        life, described = jax.vmap(lambda key: self.live(params, state, key))(keys)
        aux: dict[str, Any] = {"steps": life.steps.sum(dtype=jnp.int32)}
        if self.normalise:
            aux["observations"] = pool(life.seen)
        return Evaluation(life.reward.mean(), described.mean(0) if self.descriptor else None, aux)

    def absorb(self, state, aux):
        return merge(state, pool(aux["observations"])) if self.normalise else state

    def live(self, params, state, key: Key[Array, ""]) -> tuple[Life, Float[Array, "d"]]:
        """One episode and its descriptor."""
        key_reset, key_act = jax.random.split(key)
        env = environment(self.env, self.backend)
        born = self.born(params, key_reset)
        life = jax.lax.while_loop(self.alive, lambda life: self.step(params, state, key_act, life), born)
        valid = jnp.isfinite(life.reward)
        life = life._replace(seen=jax.tree.map(lambda leaf: jnp.where(valid, leaf, 0), life.seen))
        first, last = (_links(life.world) for life in (born, life))
        return life, self.behaviour.measure(first, last, life.watched, life.steps, seconds(env))

    def born(self, params, key: Key[Array, ""]) -> Life:
        """The start of an episode."""
        env = environment(self.env, self.backend)
        with lenient():
            world = env.reset(key)
        watched = self.behaviour.watch(getattr(env, "sys", None), _links(world))
        seen = nothing(world.obs.shape[0]) if self.normalise else ()
        zero = jnp.zeros((), jnp.int32)
        return Life(world, self.policy.start(params), zero, jnp.zeros(()), seen, jnp.zeros_like(watched))

    def alive(self, life: Life) -> Array:
        """Whether there is another step to take."""
        return (life.steps < self.episode_length) & (life.world.done < 0.5) & jnp.isfinite(life.reward)

    def step(self, params, state, key: Key[Array, ""] | None, life: Life) -> Life:
        """See, act, and be rewarded; without a key the policy doesn't explore."""
        env = environment(self.env, self.backend)
        seen, x = life.seen, life.world.obs
        watched = life.watched + self.behaviour.watch(getattr(env, "sys", None), _links(life.world))
        if self.normalise:
            seen, x = add(seen, x), normalise(state, x)
        memory, output = self.policy.apply(params, life.memory, x)
        action = self.action(output, None if key is None else jax.random.fold_in(key, life.steps))
        with lenient():
            world = env.step(life.world, action)
        gained = world.reward if self.forward else world.reward - world.metrics[FORWARD[self.env]]
        reward = life.reward + jnp.where(jnp.isfinite(world.obs).all(), gained, jnp.nan)
        return Life(world, memory, life.steps + 1, reward, seen, watched)

    def action(self, output: Float[Array, "..."], key: Key[Array, ""] | None) -> Float[Array, "a"]:
        """What to do, in [-1, 1], given the network's output."""
        if not self.deterministic:
            output, log_std = jnp.split(output, 2)
            if key is not None:
                output += jnp.exp(jnp.clip(log_std, -5, 2)) * jax.random.normal(key, output.shape)
        return SQUASHES[self.squash](output)

    def scene(self, params, state, key):
        """One episode as a moving scene, to be drawn."""
        from evo.envs.brax_scene import film

        return film(self, params, state, key)


@cache
def environment(env: str, backend: str) -> Any:
    """Brax's own env, without its wrappers: nothing resets by itself."""
    with quiet(), jax.ensure_compile_time_eval(), lenient():
        import mujoco
        from brax import envs

        told = mujoco.get_mju_user_warning()
        mujoco.set_mju_user_warning(lambda text: None)  # deprecated tags in the model files
        try:
            if env == "ant_trap":
                return trapped(envs.get_environment("ant", backend=backend))
            return envs.get_environment(env, **({} if env == "fast" else {"backend": backend}))
        finally:
            mujoco.set_mju_user_warning(told)


@cache
def sizes(env: str, backend: str) -> tuple[int, int]:
    """How many numbers an observation and an action have."""
    made = environment(env, backend)
    with lenient():
        world = jax.eval_shape(made.reset, jax.random.key(0))
    return world.obs.shape[0], made.action_size


def seconds(env: Any) -> float:
    """How long a step lasts."""
    with jax.ensure_compile_time_eval(), lenient():
        return float(env.dt) if hasattr(env, "sys") else 1.0


def _links(world) -> Any:
    """The links' transforms in Brax's State."""
    return world.pipeline_state.x


def _check_env(env: str, backend: str):
    if env == "swimmer":
        raise ValueError(
            "swimmer doesn't run on this jax (brax 0.14.2 calls jnp.clip with an argument that jax removed); "
            "halfcheetah is the nearest in kind."
        )
    if env not in ENVS:
        raise ValueError(f"unknown Brax env {env!r}; {nearest(env, ENVS)}")
    if backend not in BACKENDS:
        raise ValueError(f"unknown Brax backend {backend!r}; {nearest(backend, BACKENDS)}")
