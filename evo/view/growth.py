"""An archive through time, as a film of its map. Axes: `c` cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evo.files import whole
from evo.view.archive import INK, ArchiveData, checked, folded, folding, limits, occupied, panel, sheet, summary, tiled
from evo.view.past import tenants
from evo.view.target import target


def growth(data: ArchiveData, path: str | Path, frames: int = 30, seconds: float = 6.0):
    """Write the map generation by generation as a GIF that loops; its last picture stays for two seconds.

    Colours as in the last picture. Of more than two descriptors the first two are shown: of a grid the best over the
    others, else a dot an elite, the fittest on top. Raises ValueError for an archive without a past.
    """
    data, path = checked(data), target(path, (".gif",))
    if data.past is None or not len(data.past):
        raise ValueError("A film of an archive needs its past, `ArchiveData.past`: see `evo.view.gathered`.")
    last = int(data.past["generation"][-1])
    moments = np.unique(np.linspace(0, last, min(frames, last + 1)).round().astype(int)).tolist()
    images = _indexed(list(_pictures(data, moments)))
    pace = max(round(1000 * seconds / len(images)), 20)
    pause = [pace] * (len(images) - 1) + [2000]
    with whole(path) as part:
        images[0].save(part, save_all=True, append_images=images[1:], duration=pause, loop=0)


def at(data: ArchiveData, generation: int) -> ArchiveData:
    """The archive as it was after a generation."""
    assert data.past is not None
    lives = tenants(data.past, len(data.fitness), generation, data.depth)
    fitness = np.where(lives >= 0, data.past["fitness"][lives], -np.inf)
    return data._replace(fitness=fitness, descriptor=data.past["descriptor"][lives])


def _indexed(pictures: list[Any]) -> list[Any]:
    """All in the colours of the last, which has them all."""
    palette = pictures[-1].quantize(256)
    return [picture.quantize(palette=palette, dither=0) for picture in pictures]


def _pictures(data: ArchiveData, moments: list[int]):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure, axes = sheet(1, 1, (6.4, 5.4), 90)
    canvas, ax = FigureCanvasAgg(figure), axes[0]
    shown = (0, 1) if len(data.bounds) > 1 else (0,)
    drawn = panel(ax, data, shown, bar=len(shown) == 2)
    for generation in moments:
        then = at(data, generation)
        _update(drawn, data, then, shown)
        ax.set_title(f"generation {generation}", fontsize=10, color=INK)
        said = filter(None, [summary(then), folding(data, [shown])])
        figure.suptitle("\n".join(said), fontsize=10, color=INK)
        canvas.draw()
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _update(drawn: Any, data: ArchiveData, then: ArchiveData, shown: tuple[int, ...]):
    """The drawing of `data` with those who lived there then."""
    taken, fitness = occupied(data), then.fitness
    if len(shown) == 1:
        bottom, _ = limits(data)
        for bar, f in zip(drawn, fitness[taken], strict=True):
            bar.set_height(max(f, bottom) - bar.get_y() if np.isfinite(f) else 0)
    elif data.shape is not None:
        drawn.set_data(np.ma.masked_invalid(folded(then, shown).T))
    elif not tiled(data):
        order = np.flatnonzero(np.isfinite(fitness))
        order = order[np.argsort(fitness[order])]
        drawn.set_offsets(then.descriptor[order][:, shown])
        drawn.set_array(fitness[order])
    else:
        drawn.set_array(np.ma.masked_invalid(fitness[taken]))
