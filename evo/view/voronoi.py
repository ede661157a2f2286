"""Cells of a centroidal Voronoi tessellation as polygons. Axes: `c` cells, `v` corners of all cells in turn."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def voronoi(
    centroids: Float[np.ndarray, "c 2"], bounds: tuple[tuple[float, float], ...]
) -> tuple[Float[np.ndarray, "v 2"], Int[np.ndarray, "c"]]:
    """The polygon of every cell, clipped to the box of `bounds`, and how many corners each has.

    Nearest is by Euclidean distance in the descriptors' own units. A centroid outside the box counts as on its edge;
    two in one place share a cell, and the second has no corner.
    """
    low, high = np.asarray(bounds, float).T
    inside = np.clip(np.asarray(centroids, float), low + 1e-6 * (high - low), high - 1e-6 * (high - low))
    slack = 1e-9 * (high - low)
    corners, counts = cells(inside, low, high, band=4 * len(inside) ** -0.5)
    if counts.min() == 0 or (corners < low - slack).any() or (corners > high + slack).any():
        corners, counts = cells(inside, low, high, band=1.0)
    return np.clip(corners, low, high), counts


def cells(
    inside: Float[np.ndarray, "c 2"], low: Float[np.ndarray, "2"], high: Float[np.ndarray, "2"], band: float
) -> tuple[Float[np.ndarray, "v 2"], Int[np.ndarray, "c"]]:
    """The cells where all centroids within `band` (a share of the box) of a side, and the nearest, are mirrored.

    A cell whose centroid is mirrored at a side ends exactly there, and an image takes nothing of the box: so a cell
    whose corners are all in the box is right. With a band of 1 that is all of them, of five times as many points.
    """
    from scipy.spatial import Voronoi

    points = [inside]
    for axis in (0, 1):
        for side in (low, high):
            distance = abs(inside[:, axis] - side[axis])
            image = inside[distance <= max(band * (high - low)[axis], distance.min())]
            image[:, axis] = 2 * side[axis] - image[:, axis]
            points.append(image)
    diagram = Voronoi(np.concatenate(points))
    regions = [diagram.regions[i] for i in diagram.point_region[: len(inside)]]
    regions = [region if -1 not in region else [] for region in regions]
    counts = np.array([len(region) for region in regions])
    return diagram.vertices[np.concatenate([np.asarray(region, int) for region in regions])], counts
