"""The hard maze: what the robot sees, what stops it, and that the map fits what it does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from evo.envs import maze
from evo.envs.maze import Maze, Robot, hits, radar, ranges
from evo.view.scene import checked

TASK = Maze(steps=60)


def drives(bias):
    """A policy that sees nothing: two constant outputs."""
    params = jax.tree.map(jnp.zeros_like, TASK.init(jax.random.key(0))[0])
    params["layers"]["1"]["bias"] = jnp.asarray(bias, jnp.float32)
    return params


def test_the_start_is_free_and_the_maze_is_closed():
    free = jax.jit(lambda x: ~hits(x))
    assert free(jnp.array(maze.START))
    assert free(jnp.array(maze.GOAL))
    ends = [tuple(end) for wall in maze.WALLS[:7] for end in wall]
    assert len(ends) == 14
    for place in [(56.0, 100.0), (100.0, 130.0), (49.0, 70.0), (3.0, 100.0)]:  # on walls, or nearer than the radius
        assert not free(jnp.array(place))


def test_range_finders_golden():
    """From (100, 50) by hand: +x meets the right wall, which is at x = 188.21 there; -x only the one at 70.85."""
    seen = ranges(jnp.array([100.0, 50.0]), jnp.float32(0))
    right, up = 186 + (50 - 8) / 190 * 9, 97.81
    left = 100 - (56 + (50 - 55) / (30 - 55) * 77)
    down = 50 - (55 - (100 - 56) / 77 * 25)
    assert_allclose(seen[2], right - 100, rtol=1e-3)
    assert_allclose(seen[5], left, rtol=1e-3)
    assert_allclose(seen[0], down, rtol=1e-3)  # clockwise: to the robot's right
    assert 0 < float(seen[4]) < up
    turned = ranges(jnp.array([100.0, 50.0]), jnp.float32(np.pi / 2))
    assert_allclose([turned[4], turned[0], turned[2]], [seen[5], seen[2], seen[4]], rtol=1e-3)


@pytest.mark.parametrize(("heading", "quarter"), [(0, 2), (90, 1), (180, 0), (270, 3), (-180, 0), (450, 1)])
def test_radar_golden(heading, quarter):
    """The goal lies to the west of (150, 20)."""
    seen = radar(jnp.array([150.0, 20.0]), jnp.float32(np.deg2rad(heading)))
    assert_array_equal(seen, np.eye(4)[quarter])


def test_the_robot_drives_turns_and_stops_at_walls():
    ends = jax.jit(jax.vmap(lambda p: TASK.evaluate(p, (), None)))
    straight, still, round = (drives(b) for b in [(0, 9), (0, 0), (9, 9)])
    found = ends(jax.tree.map(lambda *x: jnp.stack(x), straight, still, round))
    assert_array_equal(found.descriptor[1], maze.START)
    # 1 + 1.5 + ... to 3 a step until the wall (77, 201)-(108, 164), which begins at x = 77 + 17/37 * 31 at y = 184
    x, y = np.asarray(found.descriptor[0])
    assert y == 184
    assert hits(jnp.array([x + 3, y]))
    assert not hits(jnp.array([x, y]))
    assert_allclose(found.fitness, -np.linalg.norm(np.asarray(found.descriptor) - maze.GOAL, axis=1), rtol=1e-5)
    assert found.descriptor[2, 1] != 184


@pytest.mark.parametrize(
    ("bias", "steps", "heading", "speed", "turn"),
    [
        ((9, 0), 1, 0.5, 0, 0.5),
        ((0, 9), 1, 0, 0.5, 0),
        ((9, 9), 3, 0.5 + 1 + 1.5, 1.5, 1.5),
        ((-9, -9), 7, -0.5 - 1 - 1.5 - 2 - 2.5 - 3 - 3, -3, -3),  # to the right, and backwards
    ],
)
def test_turn_and_speed_golden(bias, steps, heading, speed, turn):
    """Degrees. An output of 9 is full power."""
    params = drives(bias)
    robot = jax.lax.fori_loop(0, steps, lambda _, now: TASK.step(params, now), TASK.born(params))[0]
    assert_allclose([np.rad2deg(robot.heading), robot.speed, robot.turn], [heading, speed, turn], rtol=1e-5)


@pytest.mark.parametrize(("off", "moved"), [(4.9, 0), (5.3, -3)])
def test_at_the_goal_it_stays(off, moved):
    """It looks at the goal and drives: who isn't there yet gets there."""
    near = jnp.array([maze.GOAL[0] + off, maze.GOAL[1]])
    after, _ = TASK.step(drives((0, 9)), (Robot(near, jnp.float32(np.pi), jnp.float32(2.5), jnp.float32(0)), ()))
    assert_allclose(after.place - near, [moved, 0], atol=1e-5)


def test_the_film_ends_where_the_evaluation_does():
    params, _ = TASK.init(jax.random.key(3))
    scene = checked(TASK.scene(params, (), jax.random.key(0)))
    found = TASK.evaluate(params, (), None)
    assert_allclose(scene.position[-1, 0, :2], found.descriptor, rtol=1e-5)
    assert_allclose(scene.reward.sum(), found.fitness, rtol=1e-4)
    low, high = np.transpose(TASK.descriptor_bounds)
    assert (TASK.walls >= low).all()
    assert (TASK.walls <= high).all()
    with pytest.raises(ValueError, match="`steps` must be at least 1; got 0"):
        Maze(steps=0)
