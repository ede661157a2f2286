"""Files that are there whole or not at all, and errors that name them: that of a full disk doesn't by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what is at `path` once it is whole, in a folder that is made if it isn't there. If that fails,
    what was at `path` is still there."""
    part = path.with_name(f"part.{path.name}")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an error of writing `path` name it."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(path.with_name(f"part.{path.name}"))):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def write(path: Path, content: bytes | str):
    """Write a file whole or not at all; text as UTF-8."""
    with whole(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def append(path: Path, content: bytes | str):
    """Add to the end of a file."""
    with naming(path), path.open("ab") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises ValueError with its name where it is damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from None


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]):
    """Arrays by name."""
    from safetensors.numpy import save  # `save_file` makes files that only their owner can read

    write(path, save({name: np.asarray(x, order="C") for name, x in arrays.items()}))
