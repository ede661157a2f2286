"""A Brax episode as a moving scene: the model's shapes, and where every body was. Axes: `t` steps."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from evo.view.scene import Scene, Shape

if TYPE_CHECKING:
    from evo.envs.brax import Brax

SHAPES = {0: "plane", 2: "sphere", 3: "capsule", 5: "cylinder", 6: "box"}  # mujoco's mjtGeom
BROWN = (0.4, 0.33, 0.26)  # the one colour of nearly all of Brax's models
PALETTE = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd")


def film(task: Brax, params, state, key):
    """One episode without exploration noise, with the luck of the key's first episode. Bodies are Brax's links."""
    from evo.envs.brax import environment

    env = environment(task.env, task.backend)
    if not hasattr(env, "sys"):
        raise ValueError(f"{task.env} has no bodies to draw.")
    pos, rot, reward, alive = _program(task)(params, state, key)
    steps = max(int(np.asarray(alive).sum()), 1)
    pos, rot, reward = (np.asarray(frames)[:steps] for frames in (pos, rot, reward))
    title = f"{task.env} ({task.backend}): return {reward.sum():.1f} in {steps} steps"
    return Scene(shapes(env.sys.mj_model), pos, rot, float(env.dt), reward, title)


@lru_cache(maxsize=8)
def _program(task: Brax):
    """`_frames` compiled once a task, for all the elites that are filmed."""
    return jax.jit(partial(_frames, task))


def _frames(task: Brax, params, state, key):
    """The links and the reward after every step, and whether the episode was still on."""
    key_reset, _ = jax.random.split(jax.random.split(key, task.episodes)[0])

    def frame(life, _):
        alive = task.alive(life)
        after = task.step(params, state, None, life)
        gained = after.reward - life.reward
        life = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, life)
        x = life.world.pipeline_state.x
        return life, (x.pos, x.rot, gained, alive)

    return jax.lax.scan(frame, task.born(params, key_reset), length=task.episode_length)[1]


def shapes(model) -> list[Shape]:
    """The model's visible geoms as a scene has them; sizes as in mujoco (radius, half length; half extents)."""
    seen = [g for g in range(model.ngeom) if model.geom_rgba[g][3] > 0 and int(model.geom_type[g]) in SHAPES]
    return [
        Shape(
            kind=SHAPES[int(model.geom_type[g])],
            body=int(model.geom_bodyid[g]) - 1,
            position=tuple(model.geom_pos[g].tolist()),
            rotation=tuple(model.geom_quat[g].tolist()),
            size=tuple(model.geom_size[g].tolist()),
            color=_color(model.geom_rgba[g], int(model.geom_bodyid[g])),
        )
        for g in seen
    ]


def _color(rgba, body: int) -> str:
    """The model's own colour, but a colour for each body where the model is Brax's plain brown."""
    if body and np.allclose(rgba[:3], BROWN, atol=0.01):
        return PALETTE[(body - 1) % len(PALETTE)]
    return "#" + "".join(f"{round(255 * float(c)):02x}" for c in rgba[:3])
