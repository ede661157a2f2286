"""Data inside a page: arrays as base64, a scene as JSON, and templates filled so that no string becomes markup.

A page holds everything and asks the network for nothing; its content-security policy forbids it. Axes: `t` steps kept,
`m` moving bodies.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from evo.view.camera import frame
from evo.view.scene import Episode, Film, Scene, checked, checked_film, ground, matrix, poses, steady

PACE = 30  # steps a second that a page keeps; the player interpolates
FRAMES, TALL, WIDE, SHEET = 120, 240, 320, 6  # of a film: most pictures, their size at most, a sheet's side
SCRIPTS = {  # what each page runs, in this order
    "archive.html": (
        "uplot.min",
        "base",
        "solid",
        "player",
        "near",
        "map",
        "slices",
        "story",
        "cell",
        "pointer",
        "archive",
    ),
    "curves.html": ("uplot.min", "base", "curves"),
    "episode.html": ("base", "solid", "player", "episode"),
}
CODES = {"float32": "f4", "uint16": "u2", "int32": "i4", "uint8": "u1"}


def array(x: np.ndarray) -> dict[str, Any]:
    """An array for the page (player.js: `evo.array`), little-endian, in C order; float64 as float32, int64 as int32."""
    x = np.asarray(x)
    x = x.astype({"f": np.float32, "i": np.int32, "b": np.uint8}.get(x.dtype.kind, x.dtype))
    code = CODES[str(x.dtype)]
    return {"code": code, "data": base64.b64encode(x.astype("<" + code).tobytes()).decode()}


def quantised(x: np.ndarray, levels: int = 65535) -> dict[str, Any]:
    """Numbers as 16 bits over their range: low + step * code; what isn't finite is code 65535."""
    finite = np.isfinite(x)
    low = float(x[finite].min()) if finite.any() else 0.0
    step = (float(x[finite].max()) - low) / (levels - 1) if finite.any() else 0.0
    code = np.full(x.shape, 65535, np.uint16)
    code[finite] = np.round((x[finite] - low) / (step or 1.0))
    return array(code) | {"low": low, "step": step}


def episode(shown: Episode) -> dict[str, Any]:
    """An episode for the player."""
    return film(shown) if isinstance(shown, Film) else scene(shown)


def film(shown: Film) -> dict[str, Any]:
    """A film for the player: at most `FRAMES` pictures, made smaller where they are large, as WebP sheets."""
    told, shown = shown.reward is not None, checked_film(shown)
    count = len(shown.frames)
    kept = np.unique(np.linspace(0, count - 1, min(count, FRAMES)).round().astype(int))
    small = _within(shown.frames[kept], (WIDE, TALL) if count > 1 else (900, 900))
    size = small[0].size
    return {
        "title": shown.title,
        "times": array(kept * shown.dt),
        "total": array(np.cumsum(np.nan_to_num(np.asarray(shown.reward)))[kept]),
        "told": told,
        "frame": list(size),
        "sheets": [_sheet(small[i : i + SHEET**2], size) for i in range(0, len(small), SHEET**2)],
        "across": SHEET,
    }


def thinned(shown: Film, most: int = FRAMES, box: tuple[int, int] = (WIDE, TALL)) -> Film:
    """The film with at most so many pictures, evenly spread from the first to the last, that fit into `box` (width,
    height); rewards add up as before. A single picture stays as it is."""
    count = len(checked_film(shown).frames)
    if count == 1:
        return shown
    kept = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    reward = None if shown.reward is None else np.diff(np.cumsum(np.nan_to_num(shown.reward))[kept], prepend=0.0)
    frames = np.stack([np.asarray(image) for image in _within(np.asarray(shown.frames)[kept], box)])
    return Film(frames, shown.dt * (count - 1) / (len(kept) - 1), reward, shown.title)


def _within(frames: np.ndarray, box: tuple[int, int]) -> list[Any]:
    """The pictures, made smaller where they are larger than `box` (width, height)."""
    from PIL import Image

    height, width = frames.shape[1:3]
    scale = min(1.0, box[0] / width, box[1] / height)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return [Image.fromarray(frame).resize(size, Image.Resampling.BOX) for frame in frames]


def _sheet(pictures: list[Any], size: tuple[int, int]) -> str:
    """Pictures row by row as one image, as a data URL."""
    from PIL import Image

    sheet = Image.new("RGB", (min(len(pictures), SHEET) * size[0], -(-len(pictures) // SHEET) * size[1]))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % SHEET * size[0], i // SHEET * size[1]))
    out = io.BytesIO()
    sheet.save(out, "WEBP", quality=80 if len(pictures) > 1 else 92)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def scene(episode: Scene) -> dict[str, Any]:
    """A scene for the player: at most `PACE` steps a second, bodies relative to the target, 16 bits a number."""
    episode = checked(episode)
    times, total, stride = *_clock(episode), max(int(1 / PACE / episode.dt), 1)
    kept = np.unique(np.append(np.arange(0, len(times), stride), len(times) - 1))
    episode = episode._replace(position=episode.position[kept], rotation=episode.rotation[kept], dt=episode.dt * stride)
    where = poses(episode)
    framing, still = frame(episode, where, aspect=4 / 3), steady(where)
    moving = sorted({shape.body for shape, rests in zip(episode.shapes, still, strict=True) if not rests})
    local = matrix(np.array([shape.rotation for shape in episode.shapes], float).reshape(-1, 4))
    own = np.array([shape.position for shape in episode.shapes], float).reshape(-1, 3)
    place = _short(np.where(still[:, None], where.position[0], own))
    turn = _short(np.where(still[:, None, None], where.rotation[0], local).reshape(-1, 9))
    shapes = [
        {
            "kind": shape.kind,
            "body": -1 if rests else moving.index(shape.body),
            "place": at,
            "turn": way,
            "size": _short(shape.size),
            "color": shape.color,
        }
        for shape, rests, at, way in zip(episode.shapes, still.tolist(), place, turn, strict=True)
    ]
    return {
        "title": episode.title,
        "times": array(times[kept]),
        "total": array(total[kept]),
        "target": array(framing.target),
        "bodies": len(moving),
        "position": quantised(episode.position[:, moving] - framing.target[:, None]),
        "rotation": quantised(_continuous(episode.rotation[:, moving])),
        "shapes": shapes,
        "floor": ground(episode),
        "camera": list(episode.camera),
        "distance": framing.distance,
        "follows": bool((np.ptp(framing.target, 0) > 0).any()),
    }


def _clock(episode: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The seconds and the return at each step."""
    return episode.dt * np.arange(len(episode.position)), np.cumsum(np.nan_to_num(episode.reward))


def shared(episodes: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The shapes of these episodes, each once; in the episodes, their places in this list instead."""
    table: dict[Any, int] = {}
    found: list[dict[str, Any]] = []
    for one in episodes.values():
        places = []
        for shape in one.get("shapes", ()):
            key = tuple(tuple(x) if isinstance(x, list) else x for x in shape.values())
            places.append(table.setdefault(key, len(table)))
            if len(table) > len(found):
                found.append(shape)
        if "shapes" in one:
            one["shapes"] = places
    return found


def template(name: str, title: str, data: Any, live: bool = False) -> str:
    """The page of a template file: its marks filled in, in one pass, so that nothing in the data is one.

    `<!--title-->`, `<!--scripts-->` (the data, then what `SCRIPTS` names), `<!--FILE-->` (a stylesheet or template).
    The page of a server (`live`) may ask that server, and nobody else.
    """
    folder = Path(__file__).parent
    text = lambda file: (folder / file).read_text(encoding="utf-8")  # noqa: E731
    source = text(name).replace("<!--style.html-->", text("style.html"))
    held = f'<script id="data" type="application/json">{script(data)}</script>'
    run = [f"<script>\n{text(f'{one}.js')}</script>" for one in SCRIPTS[name]]
    filled = {
        "title": html.escape(title),
        "connect": "connect-src 'self'" if live else "",
        "scripts": "\n".join([held, *run]),
    }
    marks = r"<!--(title|connect|scripts|[a-z]+(?:\.min)?\.css)-->"
    return re.sub(marks, lambda match: filled[match[1]] if match[1] in filled else text(match[1]), source)


def script(data: Any) -> str:
    """JSON that can stand inside <script>: plain ASCII without `<`, `>`, `&`, so no string in it ends the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _short(x: Any) -> list[Any]:
    return (np.round(np.asarray(x, float), 5) + 0.0).tolist()  # no -0


def _continuous(rotation: np.ndarray) -> np.ndarray:
    """The same rotations, each quaternion on the side of the one before it, so that they can be interpolated."""
    flips = np.sign((rotation[1:] * rotation[:-1]).sum(-1))
    sign = np.cumprod(np.concatenate([np.ones((1, rotation.shape[1])), np.where(flips < 0, -1.0, 1.0)]), 0)
    return rotation * sign[..., None]
