"""An episode as a moving scene: shapes on bodies, and where every body was. It knows no simulator; tasks make it.

Axes: `t` steps, `b` bodies, `s` shapes. Lengths are metres, +z is up, rotations are unit quaternions (w, x, y, z).
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

SIZES = {"sphere": 1, "capsule": 2, "cylinder": 2, "box": 3, "plane": 0}  # numbers in `size`


class Shape(NamedTuple):
    """A solid that rides on a body. Sizes are MuJoCo's: sphere (radius,), capsule and cylinder (radius, half length
    along its z), box (three half lengths), plane () or anything: it has no end, and is drawn level through `position`.
    """

    kind: str
    body: int  # index into the bodies; -1: the world, which stands still
    position: tuple[float, ...] = (0.0, 0.0, 0.0)
    rotation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
    size: tuple[float, ...] = ()
    color: str = "#4c72b0"  # of a plane: not used


class Scene(NamedTuple):
    """What happened, step by step. `reward[i]` is what came with step i; `title` is shown as it is, never as markup."""

    shapes: list[Shape]
    position: Float[np.ndarray, "t b 3"]
    rotation: Float[np.ndarray, "t b 4"]
    dt: float  # seconds a step
    reward: Float[np.ndarray, "t"]
    title: str = ""
    camera: tuple[float, float] = (-65.0, 16.0)  # degrees: azimuth from +x to +y, elevation; (-90, 90) is a map


class Film(NamedTuple):
    """An episode as pictures, of tasks that draw themselves; one picture is a drawing. `title` is never markup."""

    frames: UInt8[np.ndarray, "t h w 3"]
    dt: float  # seconds a step
    reward: Float[np.ndarray, "t"] | None = None  # what came with each step, where that is known
    title: str = ""


Episode = Scene | Film


class Poses(NamedTuple):
    """Where every shape was, in the world."""

    position: Float[np.ndarray, "t s 3"]
    rotation: Float[np.ndarray, "t s 3 3"]


def checked(scene: Scene) -> Scene:
    """The scene in float64, cut before the first step that isn't finite (a simulation that blew up).

    Raises ValueError for an unknown kind or colour, a body out of range, arrays that disagree, or no finite step.
    """
    position, rotation = np.asarray(scene.position, float), np.asarray(scene.rotation, float)
    reward = np.asarray(scene.reward, float)
    steps, bodies = position.shape[:2] if position.ndim == 3 else (0, 0)
    if position.shape != (steps, bodies, 3) or rotation.shape != (steps, bodies, 4) or reward.shape != (steps,):
        raise ValueError(
            "A scene has positions [t, b, 3], rotations [t, b, 4] and rewards [t]; got "
            f"{position.shape}, {rotation.shape} and {reward.shape}."
        )
    if not (np.isfinite(scene.dt) and scene.dt > 0):
        raise ValueError(f"A scene's dt is the seconds of a step, above 0; got {scene.dt}.")
    for shape in scene.shapes:
        _check(shape, bodies)
    finite = np.isfinite(position).all((1, 2)) & np.isfinite(rotation).all((1, 2))
    steps = steps if finite.all() else int(finite.argmin())
    if not steps:
        raise ValueError("The scene has no step to draw: it is empty, or its first positions aren't finite.")
    norm = np.linalg.norm(rotation[:steps], axis=-1, keepdims=True)
    return scene._replace(position=position[:steps], rotation=rotation[:steps] / norm, reward=reward[:steps])


def checked_film(film: Film) -> Film:
    """The film with its rewards in float64. Raises ValueError for arrays that disagree, or no frame."""
    frames = np.asarray(film.frames)
    reward = np.zeros(len(frames)) if film.reward is None else np.asarray(film.reward, float)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or reward.shape != frames.shape[:1]:
        raise ValueError(
            f"A film has frames [t, h, w, 3] of uint8 and rewards [t]; got {frames.dtype} {frames.shape} and "
            f"{reward.shape}."
        )
    if not len(frames) or not (np.isfinite(film.dt) and film.dt > 0):
        raise ValueError(f"A film has at least one frame, and dt seconds a step, above 0; got {film.dt}.")
    return film._replace(frames=frames, reward=reward)


def _check(shape: Shape, bodies: int):
    if shape.kind not in SIZES:
        near = difflib.get_close_matches(str(shape.kind), SIZES, 1, 0.0)[0]
        raise ValueError(f"A shape is one of {', '.join(SIZES)}; got {shape.kind!r}. Did you mean {near!r}?")
    if len(shape.size) < SIZES[shape.kind]:
        raise ValueError(f"A {shape.kind} has {SIZES[shape.kind]} sizes; got {tuple(shape.size)}.")
    if not -1 <= shape.body < bodies:
        raise ValueError(f"A shape's body is from -1 (the world) to {bodies - 1}; got {shape.body}.")
    rgb(shape.color)


def rgb(color: str) -> tuple[int, int, int]:
    """The three bytes of '#rrggbb'."""
    try:
        if len(color) != 7 or color[0] != "#":
            raise ValueError
        return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
    except (TypeError, ValueError):
        raise ValueError(f"A shape's colour is like '#4c72b0'; got {color!r}.") from None


def poses(scene: Scene) -> Poses:
    """Every shape in the world: position = body + R(body) local, rotation = R(body) R(local)."""
    steps = len(scene.position)
    position = np.concatenate([scene.position, np.zeros((steps, 1, 3))], 1)  # the last body is the world: index -1
    rotation = np.concatenate([matrix(scene.rotation), np.tile(np.eye(3), (steps, 1, 1, 1))], 1)
    body = np.array([shape.body for shape in scene.shapes], int)
    local = np.array([shape.position for shape in scene.shapes], float).reshape(-1, 3)
    turn = matrix(np.array([shape.rotation for shape in scene.shapes], float).reshape(-1, 4))
    there = rotation[:, body]
    return Poses(position[:, body] + np.einsum("tsij,sj->tsi", there, local), there @ turn)


def steady(poses: Poses) -> Bool[np.ndarray, "s"]:
    """Which shapes stand still all the time."""
    return (np.ptp(poses.position, 0) < 1e-9).all(1) & (np.ptp(poses.rotation, 0) < 1e-9).all((1, 2))


def matrix(rotation: Float[np.ndarray, "*a 4"]) -> Float[np.ndarray, "*a 3 3"]:
    """The rotation matrix of a quaternion (w, x, y, z), of any length but zero."""
    w, x, y, z = np.moveaxis(rotation / np.linalg.norm(rotation, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def halves(shape: Shape) -> Float[np.ndarray, "3"]:
    """Half the sides of the box around a shape, along its own axes; 0 for a plane, which has no end."""
    size = [float(x) for x in shape.size[: SIZES[shape.kind]]]
    if shape.kind == "sphere":
        return np.full(3, size[0])
    if shape.kind in ("capsule", "cylinder"):
        return np.array([size[0], size[0], size[1] + (size[0] if shape.kind == "capsule" else 0)])
    return np.array(size if shape.kind == "box" else [0.0, 0.0, 0.0])


def ground(scene: Scene) -> float | None:
    """The height of the ground: of the lowest plane. None: the scene has none."""
    return min((float(s.position[2]) for s in scene.shapes if s.kind == "plane"), default=None)
