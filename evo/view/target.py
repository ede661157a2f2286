"""Where a picture or a page is written to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evo.files import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".svg", ".pdf")


def target(path: str | Path, suffixes: tuple[str, ...]) -> Path:
    """The path, if it ends in one of the suffixes; ValueError with a better name otherwise."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        wanted = " or ".join(suffixes)
        raise ValueError(f"This writes {wanted} files; got {path.name!r}. Name it {path.stem + suffixes[0]!r}.")
    return path


def save(figure: Figure, path: Path):
    """Write a figure, an SVG without its date: the same picture is the same file."""
    with whole(path) as part:
        figure.savefig(part, metadata={"Date": None} if path.suffix == ".svg" else None)
