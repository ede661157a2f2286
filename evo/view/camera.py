"""Where the camera stands, and where a point falls in the picture. The page's player (player.js) does the same sums.

The camera looks at a target from a direction given by azimuth and elevation, so its axes never degenerate.
Axes: `t` steps, `s` shapes, `n` points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from evo.view.scene import Poses, Scene, halves, steady

FOCAL = 1 / np.tan(np.radians(16))  # half the field of view across the shorter side is 16 degrees


class Camera(NamedTuple):
    """A pinhole at `eye`; the rows of `axes` are right, up and forward."""

    eye: Float[np.ndarray, "3"]
    axes: Float[np.ndarray, "3 3"]


class Framing(NamedTuple):
    """What to look at: a target for every step, and how far back from it the camera stands to see what matters."""

    target: Float[np.ndarray, "t 3"]
    distance: float


def look(target: Float[np.ndarray, "3"], azimuth: float, elevation: float, distance: float) -> Camera:
    """The camera at `distance` from its target; angles in degrees, the elevation above the horizon."""
    a, e = np.radians(azimuth), np.radians(elevation)
    back = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    return Camera(np.asarray(target, float) + distance * back, np.array([right, np.cross(back, right), -back]))


def project(
    camera: Camera, points: Float[np.ndarray, "*n 3"], width: int, height: int
) -> tuple[Float[np.ndarray, "*n 2"], Float[np.ndarray, "*n"]]:
    """Pixels (x to the right, y down, the target in the middle) and depth: metres ahead of the eye.

    x = width/2 + f right/depth and y = height/2 - f up/depth, with f = FOCAL * the shorter side / 2. What is not ahead
    (depth <= 0) gets NaN pixels.
    """
    seen = (np.asarray(points, float) - camera.eye) @ camera.axes.T
    depth = seen[..., 2]
    scale = FOCAL * min(width, height) / 2 / np.where(depth > 0, depth, np.nan)
    return np.stack([width / 2 + scale * seen[..., 0], height / 2 - scale * seen[..., 1]], -1), depth


def frame(scene: Scene, poses: Poses, follow: bool = True, aspect: float = 1.0) -> Framing:
    """What to look at: the travelling body, smoothed over a second; or all of it, when it stays about where it is.

    It stays where it is when it wanders less than its own size, or than the size of the walls around it.
    """
    solid = [i for i, shape in enumerate(scene.shapes) if shape.kind != "plane"]
    if not solid:
        return Framing(np.zeros((len(poses.position), 3)), 5.0)
    box = Boxes(poses.position[:, solid], poses.rotation[:, solid], np.array([halves(scene.shapes[i]) for i in solid]))
    still = steady(poses)[solid]
    body = box if still.all() else _some(box, ~still)
    centre = body.middle.mean(1)
    low, high = _ends(box)
    middle = (low.min(0) + high.max(0)) / 2
    walls = 0.0
    if still.any() and not still.all():
        low, high = _ends(Boxes(box.middle[:1, still], box.axes[:1, still], box.half[still]))
        walls = float(np.linalg.norm(high.max(0) - low.min(0))) / 2
    radius = float(_farthest(_from(body, centre)).mean())
    if not follow or np.linalg.norm(centre - middle, axis=-1).max() < max(1.5 * radius, walls):
        still_at = np.tile(middle, (len(centre), 1))
        return Framing(still_at, 1.1 * float(_needed(_from(box, still_at), scene.camera, aspect).max()))
    target = _smooth(centre, max(int(1 / scene.dt), 1))
    needed = _needed(_from(body, target), scene.camera, aspect)
    usual = float(np.quantile(needed, 0.9))  # it may stretch for a moment: then all of it is in the picture, just so
    return Framing(target, max(1.2 * usual, 1.1 * min(float(needed.max()), 1.5 * usual)))


class Boxes(NamedTuple):
    """The box around every shape that has an end. What its corners reach in a direction v, from the origin, is
    v middle + sum_j |v axis_j| half_j."""

    middle: Float[np.ndarray, "t s 3"]
    axes: Float[np.ndarray, "t s 3 3"]  # in columns
    half: Float[np.ndarray, "s 3"]


def _some(box: Boxes, which: np.ndarray) -> Boxes:
    return Boxes(box.middle[:, which], box.axes[:, which], box.half[which])


def _from(box: Boxes, origin: Float[np.ndarray, "t 3"]) -> Boxes:
    return box._replace(middle=box.middle - origin[:, None])


def _ends(box: Boxes) -> tuple[Float[np.ndarray, "s 3"], Float[np.ndarray, "s 3"]]:
    """The least and the most that each box reaches along x, y and z, at any time."""
    reach = (np.abs(box.axes) @ box.half[..., None])[..., 0]
    return (box.middle - reach).min(0), (box.middle + reach).max(0)


def _farthest(box: Boxes) -> Float[np.ndarray, "t"]:
    """The distance from the origin to the farthest corner."""
    along = np.abs(box.middle[..., None, :] @ box.axes)[..., 0, :]
    square = (box.middle**2).sum(-1) + (box.half**2).sum(-1) + 2 * (along * box.half).sum(-1)
    return np.sqrt(square.max(1))


def _needed(box: Boxes, angles: tuple[float, float], aspect: float) -> Float[np.ndarray, "t"]:
    """How far back all corners are in the picture: FOCAL * aside <= distance - towards, for each."""
    right, up, forward = look(np.zeros(3), *angles, 1.0).axes
    aside = FOCAL * right / max(aspect, 1.0), FOCAL * up * min(aspect, 1.0)
    ways = np.array([sign * way - forward for way in aside for sign in (1, -1)])
    reach = (np.abs(ways @ box.axes) @ box.half[..., None])[..., 0]  # t s 4
    return np.maximum((box.middle @ ways.T + reach).max((1, 2)), 1e-3)


def _smooth(path: np.ndarray, steps: int) -> np.ndarray:
    weight = np.hanning(2 * steps + 3)
    padded = np.pad(path, ((steps + 1, steps + 1), (0, 0)), mode="edge")
    return np.stack([np.convolve(x, weight / weight.sum(), "valid") for x in padded.T], -1)
