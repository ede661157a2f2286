"""One picture of a moment, by casting rays: numpy for the solids and the ground, PIL for shadows and antialiasing.

Solids are drawn at twice the size, each only in the rectangle that it can reach, with exact depth. Axes: `h w` pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from evo.view.camera import FOCAL, Camera, project
from evo.view.scene import Shape, halves, rgb
from evo.view.solids import hit, normal

if TYPE_CHECKING:
    from PIL import Image

LIGHT = np.array([0.30, -0.45, 0.84])  # where the light comes from
SKY, HORIZON = np.array([225, 234, 244], np.float32), np.array([250, 251, 252], np.float32)
TILES = np.array([[238, 241, 244], [221, 227, 234]], np.float32)
SHADOW = 0.36  # how much of the ground's light a shadow takes
SOFT = 1.6  # pixels that a shadow's edge is blurred
CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 24)), np.sin(np.linspace(0, 2 * np.pi, 24))], -1)
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
FACES = np.array([[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]])


class Solid(NamedTuple):
    """A shape where it is now: its centre and its rotation in the world."""

    shape: Shape
    position: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]


class Scenery(NamedTuple):
    """What stands behind: sky and floor with shadows, and at twice the size the solids drawn so far, with depth."""

    back: Float[np.ndarray, "h w 3"]
    color: np.ndarray  # bytes [2h, 2w, 4], premultiplied alpha
    depth: Float[np.ndarray, "2h 2w"]
    box: tuple[int, int, int, int]  # left, top, right, bottom of what is drawn, in pixels of the picture


def scenery(solids: list[Solid], camera: Camera, floor: float | None, tile: float, width: int, height: int) -> Scenery:
    """The world without what moves; `floor` is the height of the checkered ground (None: there is none)."""
    color = np.zeros((2 * height, 2 * width, 4), np.uint8)
    depth = np.full((2 * height, 2 * width), np.inf, np.float32)
    empty = Scenery(backdrop(camera, floor, tile, width, height), color, depth, (width, height, 0, 0))
    return _add(solids, camera, floor, empty)


def picture(solids: list[Solid], camera: Camera, floor: float | None, behind: Scenery) -> Image.Image:
    """The solids in front of (and behind, and inside) a scenery of the same camera, which is left as it is."""
    from PIL import Image

    fresh = Scenery(behind.back.copy(), behind.color.copy(), behind.depth.copy(), behind.box)
    back, color, _, (left, top, right, bottom) = _add(solids, camera, floor, fresh)
    if right > left and bottom > top:
        small = _halve(color[2 * top : 2 * bottom, 2 * left : 2 * right])
        window = back[top:bottom, left:right]
        window *= 1 - small[..., 3:] / 255
        window += small[..., :3]
    return Image.fromarray(back.astype(np.uint8))


def _add(solids: list[Solid], camera: Camera, floor: float | None, canvas: Scenery) -> Scenery:
    """Draw solids and their shadows into the arrays of a canvas."""
    height, width = canvas.back.shape[:2]
    if floor is not None:
        canvas.back[:] *= 1 - SHADOW * _shadows(solids, camera, floor, width, height)[..., None]
    boxes = [canvas.box]
    for solid in solids:
        left, top, right, bottom = box = _reach(solid, camera, 2 * width, 2 * height)
        if solid.shape.kind != "plane" and left < right and top < bottom:
            _cast(solid, camera, canvas.color, canvas.depth, box)
            boxes.append((left // 2, top // 2, -(-right // 2), -(-bottom // 2)))
    left, top, right, bottom = np.array(boxes).T
    return canvas._replace(box=(left.min(), top.min(), right.max(), bottom.max()))


def _halve(x: np.ndarray) -> np.ndarray:
    return (x[::2, ::2].astype(np.uint16) + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]).astype(np.float32) / 4


def rays(camera: Camera, width: int, height: int, box: tuple[int, int, int, int]) -> Float[np.ndarray, "3 h w"]:
    """The direction through the middle of every pixel of a box (left, top, right, bottom); its depth is 1."""
    left, top, right, bottom = box
    scale = 2 / FOCAL / min(width, height)
    x = ((np.arange(left, right) + 0.5 - width / 2) * scale).astype(np.float32)
    y = ((height / 2 - np.arange(top, bottom) - 0.5) * scale).astype(np.float32)
    r, u, f = camera.axes.astype(np.float32)
    return r[:, None, None] * x + u[:, None, None] * y[:, None] + f[:, None, None]


def backdrop(camera: Camera, floor: float | None, tile: float, width: int, height: int) -> Float[np.ndarray, "h w 3"]:
    """The sky, and the floor in squares of `tile` metres, filtered over each pixel and lost in haze far away.

    The camera never rolls, so depth, haze and filter are the same along a row; only the squares are per pixel.
    """
    rise = np.linspace(1, 0, height, dtype=np.float32)[:, None, None]
    back = np.broadcast_to(HORIZON + (SKY - HORIZON) * rise, (height, width, 3)).copy()
    if floor is None:
        return back
    down = rays(camera, width, height, (0, 0, 1, height))[2]
    above = float(camera.eye[2] - floor)
    rows = (down * above < -1e-4 * abs(above))[:, 0]
    if not rows.any():
        return back
    d = rays(camera, width, height, (0, 0, width, height))[:2, rows]
    t = np.float32(-above) / down[rows]
    pixel = 2 / FOCAL / min(width, height) / tile * t / np.sqrt(np.abs(down[rows]))  # squares across a pixel, about
    squares = _square(d[0] * (t / tile) + float(camera.eye[0] / tile), pixel)
    squares *= _square(d[1] * (t / tile) + float(camera.eye[1] / tile), pixel)
    haze = np.exp(-((t / (22 * tile)) ** 2))
    squares *= 0.5 * haze
    haze = haze[..., None]
    back[rows] = back[rows] * (1 - haze) + haze * TILES.mean(0)
    back[rows] += squares[..., None] * (TILES[0] - TILES[1])
    return back


def _square(x: np.ndarray, width: np.ndarray) -> np.ndarray:
    """The square wave of period 2 (+1 on [0, 1)), averaged over `width`; to 0 where that nears the whole period."""
    x = x * np.float32(0.5) + np.float32(0.25)
    x -= np.floor(x)
    edge = np.float32(0.25) - np.abs(x - np.float32(0.5))  # half the way to the nearest edge, signed
    top = np.clip(1.5 - width, 0, 1)
    return np.minimum(np.maximum(edge * (4 / np.maximum(width, 1e-6)), -top), top)


def _cast(solid: Solid, camera: Camera, color: np.ndarray, depth: np.ndarray, box: tuple[int, int, int, int]):
    """Draw one solid into its box, where it is nearer than what is there."""
    kind, size = solid.shape.kind, tuple(map(float, solid.shape.size))
    window = np.s_[box[1] : box[3], box[0] : box[2]]
    turn = solid.rotation.T.astype(np.float32)
    d = rays(camera, color.shape[1], color.shape[0], box)
    d = (turn @ d.reshape(3, -1)).reshape(d.shape)
    o = (turn @ (camera.eye - solid.position)).astype(np.float32)
    t = hit(kind, size, o, d)
    seen = t < depth[window]
    t, d = t[seen], d[:, seen]
    depth[window][seen] = t
    n = normal(kind, size, o[:, None] + t * d)
    shade = _shade(np.array(rgb(solid.shape.color), np.float32), n, -d / np.linalg.norm(d, axis=0), turn)
    color[window][seen] = np.concatenate([shade, np.full((1, t.size), 255)]).T.astype(np.uint8)


def _shade(base: np.ndarray, n: np.ndarray, back: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Light from the sky and the lamp, a soft gloss, and a dark rim where the surface turns away."""
    lamp, up = (turn @ (LIGHT / np.linalg.norm(LIGHT)).astype(np.float32)), turn[:, 2]
    facing = (n * back).sum(0)
    half = lamp[:, None] + back
    gloss = np.maximum((n * half).sum(0) / np.linalg.norm(half, axis=0), 0) ** 32
    light = 0.62 + 0.16 * (up @ n) + 0.46 * np.maximum(lamp @ n, 0)
    light *= 0.6 + 0.4 * np.minimum(np.maximum(facing / 0.3, 0), 1)
    return np.minimum(np.maximum(base[:, None] * light + 38 * gloss, 0), 255)


def _reach(solid: Solid, camera: Camera, width: int, height: int) -> tuple[int, int, int, int]:
    """The pixels that a solid can touch: the box around its corners; everything when it reaches behind the eye."""
    xy, depth = project(camera, solid.position + (CORNERS * halves(solid.shape)) @ solid.rotation.T, width, height)
    if depth.max() <= 0:
        return 0, 0, 0, 0
    if depth.min() <= 1e-3:
        return 0, 0, width, height
    low, high = np.floor(xy.min(0)).astype(int), np.ceil(xy.max(0)).astype(int)
    (left, right), (top, bottom) = np.clip([low[0], high[0]], 0, width), np.clip([low[1], high[1]], 0, height)
    return left - left % 2, top - top % 2, right, bottom


def _shadows(solids: list[Solid], camera: Camera, floor: float, width: int, height: int) -> Float[np.ndarray, "h w"]:
    """How much of each pixel of the floor lies in shadow, 0..1: solids flattened along the light, edges blurred."""
    from PIL import Image, ImageDraw, ImageFilter

    outlines = [project(camera, outline, width, height)[0] for s in solids for outline in _flattened(s, floor)]
    outlines = [xy for xy in outlines if np.isfinite(xy).all()]
    shadow = np.zeros((height, width), np.float32)
    if not outlines:
        return shadow
    corners = np.concatenate(outlines)
    low = np.clip(corners.min(0) - 6, 0, (width, height)).astype(int)
    high = np.clip(corners.max(0) + 6, 0, (width, height)).astype(int)
    if (low >= high).any():
        return shadow
    mask = Image.new("L", (int(high[0] - low[0]), int(high[1] - low[1])))
    draw = ImageDraw.Draw(mask)
    for xy in outlines:
        draw.polygon(list(map(tuple, (xy - low).tolist())), fill=255)
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(SOFT)), np.float32) / 255
    shadow[low[1] : high[1], low[0] : high[0]] = soft
    return shadow


def _flattened(solid: Solid, floor: float) -> list[np.ndarray]:
    """The polygons on the floor whose union is a solid's shadow."""
    kind, turn, size = solid.shape.kind, solid.rotation.T, solid.shape.size
    if kind == "plane":
        return []
    if kind == "box":
        return list(_fall(solid.position + (CORNERS * halves(solid.shape)) @ turn, floor)[FACES])
    ring = np.append(CIRCLE, np.zeros((len(CIRCLE), 1)), 1) * size[0]
    axis = np.array([0, 0, size[1] if len(size) > 1 and kind != "sphere" else 0.0])
    if kind == "cylinder":
        low, high = (_fall(solid.position + (ring + end) @ turn, floor) for end in (-axis, axis))
        return [low, high, *np.stack([low[:-1], low[1:], high[1:], high[:-1]], 1)]
    low, high = (_fall(solid.position + end @ turn, floor) for end in (-axis, axis))
    along = high - low
    across = size[0] * np.array([-along[1], along[0], 0]) / max(np.hypot(*along[:2]), 1e-9)
    return [low + ring, high + ring, np.array([low + across, high + across, high - across, low - across])]


def _fall(points: np.ndarray, floor: float) -> np.ndarray:
    """Points moved along the light down to the floor; those below it, straight up."""
    drop = np.maximum(points[..., 2:] - floor, 0) / LIGHT[2]
    return np.concatenate([points[..., :2] - drop * LIGHT[:2], np.full_like(drop, floor)], -1)
