"""Where a picture or a page is written to."""

from __future__ import annotations

from pathlib import Path

PICTURES = (".png", ".svg", ".pdf")


def target(path: str | Path, suffixes: tuple[str, ...]) -> Path:
    """The path, if it ends in one of the suffixes; ValueError with a better name otherwise."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        wanted = " or ".join(suffixes)
        raise ValueError(f"This writes {wanted} files; got {path.name!r}. Name it {path.stem + suffixes[0]!r}.")
    return path
