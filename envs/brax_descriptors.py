"""What a Brax body did in an episode, as numbers for quality diversity to file it under.

A descriptor watches the states in which the policy acted, and measures at the end. Axes: `l` links, `d` descriptor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

ANT_FEET = ("left_foot_geom", "right_foot_geom", "third_foot_geom", "fourth_foot_geom")
FEET = {
    "ant": ANT_FEET,
    "ant_trap": ANT_FEET,
    "halfcheetah": ("bfoot", "ffoot"),
    "hopper": ("foot_geom",),
    "humanoid": ("right_foot", "left_foot"),
    "humanoidstandup": ("right_foot", "left_foot"),
    "walker2d": ("foot_geom", "foot_left_geom"),
}
WAYS = {  # the horizontal axes along which the torso can move
    "ant": ("x", "y"),
    "ant_trap": ("x", "y"),
    "halfcheetah": ("x",),
    "hopper": ("x",),
    "humanoid": ("x", "y"),
    "humanoidstandup": ("x", "y"),
    "walker2d": ("x",),
}
KINDS = ("feet", "position", "velocity")
TOUCH = 0.001  # metres above the floor that still count as touching it: bodies rest within some 0.1 mm of it


class Descriptor(Protocol):
    """The contract. `x` is Brax's link transforms: pos [l, 3], rot [l, 4]."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]: ...

    def watch(self, sys: Any, x: Any) -> Float[Array, "w"]:
        """What to add up over the states in which the policy acted."""
        ...

    def measure(self, first: Any, last: Any, watched: Float[Array, "w"], steps: Array, dt: float) -> Float[Array, "d"]:
        """The descriptor of an episode from its first and last transforms and what was added up."""
        ...


@dataclass(frozen=True)
class Nothing:
    """No descriptor: watches nothing."""

    names: tuple[str, ...] = ()
    bounds: tuple[tuple[float, float], ...] = ()

    def watch(self, sys, x):
        return jnp.zeros(0)

    def measure(self, first, last, watched, steps, dt):
        return watched


@dataclass(frozen=True)
class Feet:
    """The share of live time that each foot touched the floor (z = 0), each in [0, 1].

    A foot is a sphere or capsule of the model and touches when its lowest point is below `TOUCH`: geometry alone, for
    the backends don't agree on what a contact is and most keep none in the state.
    """

    geoms: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name.removesuffix("_geom").replace("_", " ") + " contact (share of time)" for name in self.geoms)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return ((0.0, 1.0),) * len(self.geoms)

    def watch(self, sys, x):
        return jnp.stack([lowest(sys.mj_model, name, x) < TOUCH for name in self.geoms]).astype(jnp.float32)

    def measure(self, first, last, watched, steps, dt):
        return watched / jnp.maximum(steps, 1).astype(jnp.float32)


@dataclass(frozen=True)
class Position:
    """Where the torso is when the episode ends, in metres from the origin."""

    ways: tuple[str, ...]
    limit: float = 30.0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"final {way} (m)" for way in self.ways)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return ((-self.limit, self.limit),) * len(self.ways)

    def watch(self, sys, x):
        return jnp.zeros(0)

    def measure(self, first, last, watched, steps, dt):
        return last.pos[0, : len(self.ways)]


@dataclass(frozen=True)
class Velocity:
    """The torso's mean velocity over the live steps, in metres a second."""

    ways: tuple[str, ...]
    limit: float = 5.0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"mean velocity {way} (m/s)" for way in self.ways)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return ((-self.limit, self.limit),) * len(self.ways)

    def watch(self, sys, x):
        return jnp.zeros(0)

    def measure(self, first, last, watched, steps, dt):
        moved = (last.pos - first.pos)[0, : len(self.ways)]
        return moved / (jnp.maximum(steps, 1).astype(jnp.float32) * dt)


def descriptor(kind: str | None, env: str, limit: float | None) -> Descriptor:
    """The descriptor of that name for that env; never one without numbers: raises where the env has no such thing."""
    if limit is not None and (kind not in ("position", "velocity") or not limit > 0):
        raise ValueError(f"`descriptor_limit`, above 0, bounds `position` and `velocity`; got {limit} for {kind}.")
    if kind is None:
        return Nothing()
    if kind not in KINDS:
        raise ValueError(f"unknown descriptor {kind!r}; known: {', '.join(KINDS)}, or none.")
    table = FEET if kind == "feet" else WAYS
    if env not in table:
        raise ValueError(f"{env} has no descriptor {kind!r}; the envs that have one: {', '.join(table)}.")
    if kind == "feet":
        return Feet(FEET[env])
    cls = Position if kind == "position" else Velocity
    return cls(WAYS[env]) if limit is None else cls(WAYS[env], limit)


def lowest(model, name: str, x) -> Float[Array, ""]:
    """Height of the lowest point of a sphere or capsule of the model (mujoco's), given the links' transforms."""
    geom = model.geom(name)
    if geom.type[0] not in (2, 3):
        raise ValueError(f"the foot {name!r} is neither a sphere nor a capsule.")
    half = geom.size[1] if geom.type[0] == 3 else 0.0
    w, i, j, k = geom.quat
    axis = half * np.array([2 * (i * k + w * j), 2 * (j * k - w * i), 1 - 2 * (i * i + j * j)])
    link = int(geom.bodyid[0]) - 1
    w, i, j, k = (x.rot[link, n] for n in range(4))
    up = jnp.stack([2 * (i * k - w * j), 2 * (j * k + w * i), 1 - 2 * (i * i + j * j)])
    ends = jnp.asarray(np.stack([geom.pos + axis, geom.pos - axis]), jnp.float32)
    return x.pos[link, 2] + (ends @ up).min() - float(geom.size[0])
