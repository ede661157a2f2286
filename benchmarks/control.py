"""CartPole and Pendulum in a few lines of JAX, for benchmarks: physics that costs nothing beside the policy."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp


def cartpole(state, action):
    """Gymnasium's CartPole-v1 (Barto et al. 1983): 10 N by the action's sign; it ends beyond 2.4 m or 12 degrees."""
    x, v, angle, spin = state
    push = (10 * jnp.sign(action[0]) + 0.05 * spin**2 * jnp.sin(angle)) / 1.1
    turn = (9.8 * jnp.sin(angle) - jnp.cos(angle) * push) / (0.5 * (4 / 3 - 0.1 * jnp.cos(angle) ** 2 / 1.1))
    speed = push - 0.05 * turn * jnp.cos(angle) / 1.1
    state = jnp.stack([x + 0.02 * v, v + 0.02 * speed, angle + 0.02 * spin, spin + 0.02 * turn])
    return state, state, jnp.float32(1), (jnp.abs(state[0]) < 2.4) & (jnp.abs(state[2]) < 0.2095)


def pendulum(state, action):
    """Gymnasium's Pendulum-v1: torque 2 N m at most; the cost is that of angle, spin and torque. It never ends."""
    angle, spin = state
    torque = 2 * jnp.tanh(action[0])
    cost = (jnp.mod(angle + jnp.pi, 2 * jnp.pi) - jnp.pi) ** 2 + 0.1 * spin**2 + 0.001 * torque**2
    spin = jnp.clip(spin + 0.05 * (15 * jnp.sin(angle) + 3 * torque), -8, 8)
    angle = angle + 0.05 * spin
    return jnp.stack([angle, spin]), jnp.stack([jnp.cos(angle), jnp.sin(angle), spin]), -cost, jnp.bool_(True)


WORLDS = {"CartPole": (cartpole, 4, jnp.full(4, 0.05)), "Pendulum": (pendulum, 3, jnp.array([jnp.pi, 1.0]))}


def policy(params, x):
    """A tanh MLP."""
    for w, b in params[:-1]:
        x = jnp.tanh(x @ w + b)
    return x @ params[-1][0] + params[-1][1]


def network(world: str, width: int, layers: int, key):
    """Initial parameters of a policy with `layers` hidden layers of `width`."""
    sizes = [WORLDS[world][1], *[width] * layers, 1]
    keys = jax.random.split(key, len(sizes))
    shapes = zip(keys, sizes[:-1], sizes[1:], strict=False)
    return [(jax.random.normal(k, (m, n)) / m**0.5, jnp.zeros(n)) for k, m, n in shapes]


def episode(world: str, steps: int, act, key):
    """The return of one episode of `act(x) -> action`."""
    step, size, spread = WORLDS[world]
    state = spread * jax.random.uniform(key, spread.shape, minval=-1)

    def tick(carry, _):
        state, seen, alive = carry
        state, seen, reward, on = step(state, act(seen))
        return (state, seen, alive & on), jnp.where(alive, reward, 0.0)

    start = state, jnp.zeros(size), jnp.bool_(True)
    return jax.lax.scan(tick, start, None, steps)[1].sum()


def task(world: str, steps: int):
    """The return of one episode of the MLP, as a task of the engine."""
    return lambda params, key: episode(world, steps, partial(policy, params), key)
