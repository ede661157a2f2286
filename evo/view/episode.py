"""An episode to look at: GIF, MP4, or a page that plays it in 3-D. Nothing but PIL and numpy draws the frames."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evo.files import whole, write
from evo.view import embed
from evo.view.camera import frame, look
from evo.view.paint import Solid, picture, scenery
from evo.view.scene import Episode, Film, Scene, checked, checked_film, ground, poses, steady
from evo.view.target import target

if TYPE_CHECKING:
    from PIL import Image

HELD = 30_000_000  # pixels of a GIF's first pictures, of 4 bytes each, from which its colours are chosen
INK, FAINT, PAPER = (38, 48, 62), (104, 116, 132), (246, 248, 250)


def gif(scene: Episode, path: str | Path, width: int = 480, height: int = 360, fps: float = 25, follow: bool = True):
    """Write the episode as a GIF that loops, in real time, with at most `fps` frames a second (GIF knows 1/100 s)."""
    grid([scene], target(path, (".gif",)), 1, width, height, fps, follow)


def mp4(scene: Episode, path: str | Path, width: int = 640, height: int = 480, fps: float = 25, follow: bool = True):
    """Write the episode as an H.264 film. Raises ValueError when imageio-ffmpeg isn't installed."""
    grid([scene], target(path, (".mp4",)), 1, width, height, fps, follow)


def grid(
    scenes: Sequence[Episode | None],
    path: str | Path,
    columns: int | None = None,
    width: int = 240,
    height: int = 180,
    fps: float = 25,
    follow: bool = True,
):
    """Write several episodes side by side, each `width` x `height`, as one GIF or MP4; None is an empty place.

    Those that end first stand still; films alone are less wide or high where their pictures are. An MP4 needs
    imageio-ffmpeg: ValueError where it isn't installed.
    """
    path, some = target(path, (".gif", ".mp4")), [scene for scene in scenes if scene is not None]
    step, (width, height) = _tick(some, fps), _fitting(some, width, height)
    shown = _tiled([s and frames(s, width, height, 1 / step, follow) for s in scenes], columns, width, height)
    if path.suffix == ".gif":
        _gif(shown, path, step)
    else:
        _mp4(shown, path, step)


def page(scenes: Episode | Sequence[Episode], path: str | Path):
    """Write one HTML file that plays the episodes in 3-D (WebGL 2), with no network: orbit, zoom, scrub, speed."""
    path = target(path, (".html",))
    some = [scenes] if isinstance(scenes, Scene | Film) else list(scenes)
    title = some[0].title or "Episode"
    text = embed.template("episode.html", title, {"title": title, "episodes": [embed.episode(one) for one in some]})
    write(path, text)


def frames(
    scene: Episode, width: int = 480, height: int = 360, fps: float = 25, follow: bool = True
) -> Iterator[Image.Image]:
    """The pictures of an episode, one every 1/fps seconds of it (the nearest step; the last step is always shown)."""
    if isinstance(scene, Film):
        yield from _pictures(scene, width, height, fps)
        return
    scene = checked(scene)
    where, floor = poses(scene), ground(scene)
    framing = frame(scene, where, follow, width / height)
    fixed = bool((np.ptp(framing.target, 0) == 0).all())
    drawn = steady(where) & fixed  # once, as part of the scenery
    behind, tile, total = None, _tile(framing.distance), np.cumsum(np.nan_to_num(scene.reward))
    last = len(scene.position) - 1
    for i in range(int(np.ceil(last * scene.dt * fps - 1e-6)) + 1):
        step = min(round(i / fps / scene.dt), last)
        camera = look(framing.target[step], *scene.camera, framing.distance)
        solids = [Solid(*x) for x in zip(scene.shapes, where.position[step], where.rotation[step], strict=True)]
        if behind is None or not fixed:
            behind = scenery(
                [s for s, old in zip(solids, drawn, strict=True) if old], camera, floor, tile, width, height
            )
        image = picture([s for s, old in zip(solids, drawn, strict=True) if not old], camera, floor, behind)
        _caption(image, scene.title, f"{step * scene.dt:.1f} s    return {total[step]:.1f}" if last else "")
        yield image


def _gif(shown: Iterator[Image.Image], path: Path, step: float):
    from PIL import Image

    opening = next(shown)
    first = [opening, *islice(shown, HELD // (opening.width * opening.height))]
    palette = _palette(first)
    flat = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in chain(first, shown))
    with whole(path) as part:
        next(flat).save(part, save_all=True, append_images=flat, duration=round(1000 * step), loop=0, optimize=False)


def _mp4(shown: Iterator[Image.Image], path: Path, step: float):
    try:
        import imageio_ffmpeg
    except ImportError:
        raise ValueError("An MP4 needs ffmpeg: `pip install imageio-ffmpeg`. A .gif or .html needs nothing.") from None
    opening = next(shown)
    with whole(path) as part:
        writer = imageio_ffmpeg.write_frames(str(part), opening.size, fps=1 / step, macro_block_size=2)
        with warnings.catch_warnings():  # ffmpeg is started as it should be: nothing of JAX runs in the child
            warnings.filterwarnings("ignore", r"os\.fork", RuntimeWarning)
            writer.send(None)
        for image in chain([opening], shown):
            writer.send(image.tobytes())
        writer.close()


def _pictures(film: Film, width: int, height: int, fps: float) -> Iterator[Image.Image]:
    """A film's own pictures, whole in the middle of the frame."""
    from PIL import Image, ImageOps

    told, film = film.reward is not None, checked_film(film)
    total, last = np.cumsum(np.nan_to_num(np.asarray(film.reward))), len(film.frames) - 1
    for i in range(int(np.ceil(last * film.dt * fps - 1e-6)) + 1):
        step = min(round(i / fps / film.dt), last)
        image = ImageOps.pad(Image.fromarray(film.frames[step]), (width, height), color=(250, 251, 252))
        said = f"    return {total[step]:.1f}" if told else ""
        _caption(image, film.title, f"{step * film.dt:.1f} s{said}" if last else "")
        yield image


def _fitting(scenes: list[Episode], width: int, height: int) -> tuple[int, int]:
    """The size of one episode: as asked for, or as much of it as pictures of these shapes fill; even, for MP4."""
    shapes = [checked_film(scene).frames.shape[1:3] for scene in scenes if isinstance(scene, Film)]
    if len(shapes) < len(scenes):
        return width, height
    sizes = np.array(shapes) * np.min([height, width] / np.array(shapes), axis=1, keepdims=True)
    high, wide = (np.maximum(sizes.max(0) // 2, 1) * 2).astype(int).tolist()
    return wide, high


def _tick(scenes: list[Episode], fps: float) -> float:
    """Seconds a frame: a step of the fastest scene, but at least 1/fps; whole hundredths."""
    if not scenes or not fps > 0:
        raise ValueError(f"A film needs at least one scene and fps above 0; got {len(scenes)} scenes and fps {fps}.")
    return max(round(100 * max(min(s.dt for s in scenes), 1 / fps)), 2) / 100


def _tile(distance: float) -> float:
    """The side of a floor square: 1, 2 or 5 times a power of ten, at most a fifth of the camera's distance."""
    power = 10.0 ** np.floor(np.log10(distance / 5))
    return float(power * max(x for x in (1, 2, 5) if x * power <= distance / 5 * 1.0001))


def _tiled(
    films: list[Iterator[Image.Image] | None], columns: int | None, width: int, height: int
) -> Iterator[Image.Image]:
    from PIL import Image

    columns = columns or int(np.ceil(np.sqrt(len(films))))
    rows, latest = -(-len(films) // columns), [film and next(film) for film in films]
    while True:
        sheet = Image.new("RGB", (columns * width, rows * height), (250, 251, 252))
        for i, image in enumerate(latest):
            if image:
                sheet.paste(image, (i % columns * width, i // columns * height))
        yield sheet
        following = [film and next(film, None) for film in films]
        if not any(following):
            return
        latest = [new or old for new, old in zip(following, latest, strict=True)]


def _palette(shown: list[Image.Image]) -> Image.Image:
    """256 colours for all frames, from eight of them; what is colourful counts as much as the wide pale background."""
    from PIL import Image

    some = [shown[i] for i in np.linspace(0, len(shown) - 1, 8).astype(int)]
    pixels = np.concatenate([np.asarray(image)[::2, ::2].reshape(-1, 3) for image in some])
    vivid = np.ptp(pixels, -1) > 24
    few = max(int(vivid.sum()), 4096)
    pixels = np.concatenate([pixels[vivid], pixels[:: max(len(pixels) // few, 1)]])
    return Image.fromarray(pixels[None]).quantize(256, method=Image.Quantize.MEDIANCUT)


def _caption(image: Image.Image, title: str, readout: str):
    from PIL import ImageDraw, ImageFont

    size = max(image.height // 26, 9)
    font, draw = ImageFont.load_default(size), ImageDraw.Draw(image)
    room = image.width - 2 * size
    while title and draw.textlength(title, font) > room:
        title = title[:-2].rstrip() + "…" if len(title) > 2 else ""
    halo: Any = {"stroke_width": 2, "stroke_fill": PAPER}  # readable over walls, too
    draw.text((size, 0.8 * size), title, INK, font, **halo)
    draw.text((size, image.height - 1.9 * size), readout, FAINT, font, **halo)
