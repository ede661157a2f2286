"""Cells of a centroidal Voronoi tessellation as polygons. Axes: `c` cells, `v` corners of all cells in turn."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def voronoi(
    centroids: Float[np.ndarray, "c 2"], bounds: tuple[tuple[float, float], ...]
) -> tuple[Float[np.ndarray, "v 2"], Int[np.ndarray, "c"]]:
    """The polygon of every cell, clipped to the box of `bounds`, and how many corners each has.

    Nearest is by Euclidean distance in the descriptors' own units.
    The centroids mirrored at the four sides make every cell of the box finite, and end exactly at the sides. A
    centroid outside the box counts as on its edge; two in one place share a cell, and the second has no corner.
    """
    from scipy.spatial import Voronoi

    low, high = np.asarray(bounds, float).T
    inside = np.clip(np.asarray(centroids, float), low + 1e-6 * (high - low), high - 1e-6 * (high - low))
    mirrored = [inside]
    for axis in (0, 1):
        for side in (low, high):
            image = inside.copy()
            image[:, axis] = 2 * side[axis] - image[:, axis]
            mirrored.append(image)
    diagram = Voronoi(np.concatenate(mirrored))
    regions = [diagram.regions[i] for i in diagram.point_region[: len(inside)]]
    regions = [region if -1 not in region else [] for region in regions]
    counts = np.array([len(region) for region in regions])
    corners = diagram.vertices[np.concatenate([np.asarray(region, int) for region in regions])]
    return np.clip(corners, low, high), counts
