"""The hard maze of novelty search: getting nearer to the goal leads into a dead end (Lehman & Stanley 2011).

Axes: `w` walls, `s` range sensors, `t` steps. Lengths are the paper's units, angles radians from +x to +y.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from evo.envs.networks import MLP, Network
from evo.task import Evaluation
from evo.view.scene import Scene, Shape

WALLS = np.array(  # x, y of both ends: the maze file of the authors' release
    [
        ((41, 5), (3, 8)),
        ((3, 8), (4, 49)),
        ((4, 49), (57, 53)),
        ((4, 49), (7, 202)),
        ((7, 202), (195, 198)),
        ((195, 198), (186, 8)),
        ((186, 8), (39, 5)),
        ((56, 54), (56, 157)),
        ((57, 106), (158, 162)),
        ((77, 201), (108, 164)),
        ((6, 80), (33, 121)),
        ((192, 146), (87, 91)),
        ((56, 55), (133, 30)),
    ],
    np.float32,
)
START, GOAL = np.array([36, 184], np.float32), np.array([31, 20], np.float32)
RADIUS, REACHED, REACH = 8.0, 5.0, 100.0  # of the robot; of the goal; of the range sensors
SENSORS = np.deg2rad([-90.0, -45.0, 0.0, 45.0, 90.0, 180.0]).astype(np.float32)
QUARTER = np.float32(np.pi / 2)
ACCELERATION, FASTEST = 0.5, 3.0  # units a step for the speed, degrees a step for the turn


class Robot(NamedTuple):
    """Where it is and how it moves."""

    place: Float[Array, "2"]
    heading: Float[Array, ""]
    speed: Float[Array, ""]
    turn: Float[Array, ""]  # degrees a step


@dataclass(frozen=True)
class Maze:
    """A wheeled robot in a deceptive maze; fitness is minus its final distance from the goal, at best above -5.

    Sensors: six range finders (distance to the nearest wall / 100, at most 1) and the quarter, front, left, back or
    right, in which the goal lies, walls or not. The network's two outputs accelerate the robot's turn and speed, each
    by 0.5 tanh(output) a step, up to 3 degrees and 3 units a step. A step that would bring a wall nearer than the
    robot's radius of 8 isn't taken; as a step is shorter than that, no wall is passed. Within 5 of the goal the robot
    stays: the maze is solved. descriptor = final position. Nothing is random, and `fitness` alone leads astray: the
    way to the goal starts by leaving it.
    """

    steps: int = 400
    policy: Network = MLP(hidden=(16,), output_scale=1.0)

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"`steps` must be at least 1; got {self.steps}.")

    @property
    def descriptor_names(self) -> tuple[str, ...]:
        return ("x", "y")

    @property
    def descriptor_bounds(self) -> tuple[tuple[float, float], ...]:
        return ((0.0, 200.0), (0.0, 210.0))

    @property
    def walls(self) -> Float[np.ndarray, "w 2 2"]:
        """Both ends of each wall, for whoever draws a map."""
        return WALLS

    @property
    def places(self) -> dict[str, tuple[float, float]]:
        """What else is on the map."""
        return {"start": tuple(START.tolist()), "goal": tuple(GOAL.tolist())}

    def init(self, key):
        return self.policy.init(key, len(SENSORS) + 4, 2), ()

    def evaluate(self, params, state, key):
        last = jax.lax.fori_loop(0, self.steps, lambda _, now: self.step(params, now), self.born(params))[0].place
        aux = {"steps": jnp.int32(self.steps)}
        return Evaluation(-jnp.sqrt(jnp.square(last - GOAL).sum()), last, aux)

    def absorb(self, state, aux):
        return state

    def born(self, params) -> tuple[Robot, Any]:
        """The robot at the start, and the policy's memory."""
        zero = jnp.float32(0)
        return Robot(jnp.asarray(START), zero, zero, zero), self.policy.start(params)

    def step(self, params, now: tuple[Robot, Any]) -> tuple[Robot, Any]:
        """See, accelerate, move, turn."""
        robot, memory = now
        seen = jnp.concatenate([ranges(robot.place, robot.heading) / REACH, radar(robot.place, robot.heading)])
        memory, output = self.policy.apply(params, memory, seen)
        turn, speed = jnp.clip(
            jnp.stack([robot.turn, robot.speed]) + ACCELERATION * jnp.tanh(output), -FASTEST, FASTEST
        )
        there = robot.place + speed * jnp.stack([jnp.cos(robot.heading), jnp.sin(robot.heading)])
        stays = hits(there) | (jnp.square(robot.place - GOAL).sum() < REACHED**2)
        place = jnp.where(stays, robot.place, there)
        return Robot(place, robot.heading + jnp.deg2rad(turn), speed, turn), memory

    def scene(self, params, state, key):
        """The episode from above: the walls, the goal, the robot, and dots where it passed."""
        place, heading = _program(self)(params)
        return film(np.asarray(place), np.asarray(heading))


@lru_cache(maxsize=8)
def _program(task: Maze) -> Any:
    """parameters -> where the robot is after each step and which way it looks, as one compiled program a task."""

    def track(params):
        def frame(now, _):
            after = task.step(params, now)
            return after, (after[0].place, after[0].heading)

        return jax.lax.scan(frame, task.born(params), length=task.steps)[1]

    return jax.jit(track)


def hits(place: Float[Array, "2"]) -> Bool[Array, ""]:
    """Whether a robot there would touch a wall: the exact distance of a point from a segment."""
    start, along = WALLS[:, 0], np.diff(WALLS, axis=1)[:, 0]
    off = place[None] - start
    share = jnp.clip((off * along).sum(-1) / (along**2).sum(-1), 0, 1)
    return (jnp.square(off - share[:, None] * along).sum(-1) < RADIUS**2).any()


def ranges(place: Float[Array, "2"], heading: Float[Array, ""]) -> Float[Array, "s"]:
    """How far each sensor sees: place + t * ray = start + u * along, with 0 <= u <= 1 and t from 0 to the reach."""
    start, along = WALLS[:, 0].T, np.diff(WALLS, axis=1)[:, 0].T
    angle = (heading + SENSORS)[:, None]
    x, y = jnp.cos(angle), jnp.sin(angle)
    dx, dy = start[0] - place[0], start[1] - place[1]
    cross = x * along[1][None] - y * along[0][None]
    slope = 1 / jnp.where(cross == 0, 1e-9, cross)
    t = (dx * along[1] - dy * along[0])[None] * slope
    u = (dx[None] * y - dy[None] * x) * slope
    return jnp.where((u >= 0) & (u <= 1) & (t >= 0), t, REACH).min(1, initial=REACH)


def radar(place: Float[Array, "2"], heading: Float[Array, ""]) -> Float[Array, "4"]:
    """1 for the quarter around the robot in which the goal lies, counted from the front to the left."""
    dx, dy = GOAL[0] - place[0], GOAL[1] - place[1]
    quarter = jnp.floor((jnp.arctan2(dy, dx) - heading) / QUARTER + 0.5).astype(jnp.int32) % 4
    return (jnp.arange(4) == quarter).astype(jnp.float32)


def film(place: Float[np.ndarray, "t 2"], heading: Float[np.ndarray, "t"]) -> Scene:
    """A drive as a moving scene, seen from above."""
    steps, zero = len(place), np.zeros(len(place))
    rotation = np.column_stack([np.cos(heading / 2), zero, zero, np.sin(heading / 2)])
    far = np.linalg.norm(place - GOAL, axis=1)
    reward = np.where(np.arange(steps) == steps - 1, -far, 0.0)  # only where it ends counts
    dots = [
        Shape("sphere", -1, position=(float(x), float(y), 2.0), size=(1.2,), color="#55a868")
        for x, y in place[:: max(steps // 60, 1)]
    ]
    shapes = [
        Shape("cylinder", 0, size=(RADIUS, 3.0)),
        Shape("box", 0, position=(0.7 * RADIUS, 0.0, 3.0), size=(2.5, 1.5, 1.5), color="#dd8452"),
        Shape("cylinder", -1, position=(*GOAL.tolist(), 0.0), size=(REACHED, 1.0), color="#c44e52"),
        *(_wall(a, b) for a, b in WALLS),
        *dots,
    ]
    title = f"hard maze: ends {far[-1]:.1f} from the goal" + (", solved" if far[-1] < REACHED else "")
    position = np.column_stack([place, np.full(steps, 3.0)])
    return Scene(shapes, position[:, None], rotation[:, None], 0.05, reward, title, camera=(-90.0, 90.0))


def _wall(a: np.ndarray, b: np.ndarray) -> Shape:
    """A thin upright box from a to b."""
    (x, y), half = (a + b) / 2, np.arctan2(*(b - a)[::-1]) / 2
    return Shape(
        "box",
        -1,
        position=(float(x), float(y), 4.0),
        rotation=(float(np.cos(half)), 0.0, 0.0, float(np.sin(half))),
        size=(float(np.hypot(*(b - a))) / 2, 0.8, 4.0),
        color="#5b6775",
    )
