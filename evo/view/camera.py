"""Where the camera stands, and where a point falls in the picture. The page's player (player.js) does the same sums.

The camera looks at a target from a direction given by azimuth and elevation, so its axes never degenerate.
Axes: `t` steps, `s` shapes, `n` points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from evo.view.scene import Poses, Scene, halves, steady

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
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
    box = _corners(scene, poses)
    if not box.shape[1]:
        return Framing(np.zeros((len(box), 3)), 5.0)
    still = steady(poses)[[shape.kind != "plane" for shape in scene.shapes]]
    body = box if still.all() else box[:, ~still]
    centre = body.mean((1, 2))
    middle = (box.min((0, 1, 2)) + box.max((0, 1, 2))) / 2
    walls = float(np.linalg.norm(np.ptp(box[0, still], (0, 1)))) / 2 if still.any() and not still.all() else 0.0
    radius = float(np.linalg.norm(body - centre[:, None, None], axis=-1).max((1, 2)).mean())
    if not follow or np.linalg.norm(centre - middle, axis=-1).max() < max(1.5 * radius, walls):
        return Framing(np.tile(middle, (len(box), 1)), 1.1 * float(_needed(box - middle, scene.camera, aspect).max()))
    target = _smooth(centre, max(int(1 / scene.dt), 1))
    needed = _needed(body - target[:, None, None], scene.camera, aspect)
    return Framing(target, 1.2 * float(np.quantile(needed, 0.9)))


def _corners(scene: Scene, poses: Poses) -> Float[np.ndarray, "t s 8 3"]:
    """The corners of the box around every shape that has an end."""
    solid = [i for i, shape in enumerate(scene.shapes) if shape.kind != "plane"]
    half = np.array([halves(scene.shapes[i]) for i in solid]).reshape(-1, 1, 3)
    turned = np.einsum("tsij,scj->tsci", poses.rotation[:, solid], half * CORNERS)
    return poses.position[:, solid, None] + turned


def _needed(offset: np.ndarray, angles: tuple[float, float], aspect: float) -> Float[np.ndarray, "t"]:
    """How far back all points are in the picture: FOCAL * aside <= distance - towards, for each point."""
    right, up, forward = np.moveaxis(offset @ look(np.zeros(3), *angles, 1.0).axes.T, -1, 0)
    aside = np.maximum(np.abs(right) / max(aspect, 1.0), np.abs(up) * min(aspect, 1.0))
    return np.maximum((FOCAL * aside - forward).max((1, 2)), 1e-3)


def _smooth(path: np.ndarray, steps: int) -> np.ndarray:
    weight = np.hanning(2 * steps + 3)
    padded = np.pad(path, ((steps + 1, steps + 1), (0, 0)), mode="edge")
    return np.stack([np.convolve(x, weight / weight.sum(), "valid") for x in padded.T], -1)
