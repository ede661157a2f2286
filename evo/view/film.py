"""A film of a world that draws itself: pictures one after another, as GIF or MP4."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from evo.view.episode import encoded, palette_of
from evo.view.target import target


class Film(NamedTuple):
    """Pictures, and how many seconds each stands."""

    frames: UInt8[np.ndarray, "t h w 3"]
    dt: float


def gif(film: Film, path: str | Path):
    """Write the film as a GIF that loops, in real time, with at most 25 pictures a second."""
    from PIL import Image

    path, every, step = target(path, (".gif",)), *_thinned(film, 25)
    shown = [Image.fromarray(frame) for frame in film.frames[::every]]
    palette = palette_of(shown)
    flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in shown]
    flat[0].save(path, save_all=True, append_images=flat[1:], duration=round(1000 * step), loop=0, optimize=False)


def mp4(film: Film, path: str | Path):
    """Write the film as H.264; an odd row or column of pixels is left out. Raises ValueError without an encoder."""
    path, every, step = target(path, (".mp4",)), *_thinned(film, 60)
    height, width = (n // 2 * 2 for n in film.frames.shape[1:3])
    pictures = (np.ascontiguousarray(frame[:height, :width]).tobytes() for frame in film.frames[::every])
    encoded(pictures, path, (width, height), step)


def _thinned(film: Film, fps: float) -> tuple[int, float]:
    """Every how manieth picture is shown, and for how many seconds."""
    every = max(1, int(np.ceil(1 / fps / film.dt - 1e-6)))
    return every, every * film.dt
