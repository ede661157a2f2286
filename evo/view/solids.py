"""Where a ray meets a solid, in the solid's own frame, in closed form. Axes: `n` rays.

A ray is o + t d, and t is what is returned: inf where it misses or the solid is behind. Sizes as in `scene.Shape`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

TINY = 1e-12


def hit(kind: str, size: tuple[float, ...], o: Float[np.ndarray, "3"], d: Float[np.ndarray, "3 n"]):
    """The first t >= 0 at which each ray from o meets the solid."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t = {"sphere": _sphere, "capsule": _capsule, "box": _box, "cylinder": _cylinder}[kind](size, o, d)
        return np.where(t >= 0, t, np.inf)  # NaN is a miss, too


def normal(kind: str, size: tuple[float, ...], p: Float[np.ndarray, "3 n"]) -> Float[np.ndarray, "3 n"]:
    """The outward normal at points of the surface."""
    if kind == "box":
        return _dominant(p / np.array(size[:3], p.dtype)[:, None])
    if kind == "cylinder":
        cap = np.abs(p[2]) / size[1] > np.hypot(p[0], p[1]) / size[0]
        return np.stack([*np.where(cap, 0, p[:2] / size[0]), np.where(cap, np.sign(p[2]), 0)])
    middle = np.clip(p[2], -size[1], size[1]) if kind == "capsule" else 0
    return np.stack([p[0], p[1], p[2] - middle]) / size[0]


def _dominant(p):
    out = np.zeros_like(p)
    axis = np.abs(p).argmax(0)
    np.put_along_axis(out, axis[None], np.sign(np.take_along_axis(p, axis[None], 0)), 0)
    return out


def _sphere(size, o, d, z=0.0):
    """|o + t d - (0, 0, z)| = r, the nearer root."""
    a, b = (d * d).sum(0), o[0] * d[0] + o[1] * d[1] + (o[2] - z) * d[2]
    c = o[0] ** 2 + o[1] ** 2 + (o[2] - z) ** 2 - size[0] ** 2
    return (-b - np.sqrt(b * b - a * c)) / a


def _side(radius, o, d):
    """Where the ray enters and leaves the endless cylinder around z."""
    a, b = d[0] ** 2 + d[1] ** 2 + TINY, o[0] * d[0] + o[1] * d[1]
    root = np.sqrt(b * b - a * (o[0] ** 2 + o[1] ** 2 - radius**2))
    return (-b - root) / a, (-b + root) / a


def _capsule(size, o, d):
    t = _side(size[0], o, d)[0]
    z = o[2] + t * d[2]
    end = np.clip(z, -size[1], size[1])
    return np.where(z == end, t, _sphere(size, o, d, end))


def _slab(half, o, d):
    d = np.where(np.abs(d) < TINY, TINY, d)
    near, far = (-half - o) / d, (half - o) / d
    return np.minimum(near, far), np.maximum(near, far)


def _box(size, o, d):
    slabs = [_slab(size[i], o[i], d[i]) for i in range(3)]
    enter, leave = np.maximum.reduce([s[0] for s in slabs]), np.minimum.reduce([s[1] for s in slabs])
    return np.where(enter <= leave, enter, np.inf)


def _cylinder(size, o, d):
    side, slab = _side(size[0], o, d), _slab(size[1], o[2], d[2])
    enter, leave = np.maximum(side[0], slab[0]), np.minimum(side[1], slab[1])
    return np.where(enter <= leave, enter, np.inf)
