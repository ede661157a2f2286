"""A folder of safetensors shards, read and written: one file, or several and an index."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from evo.files import whole

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = 4 << 30  # bytes of a shard that we write, at most


@dataclass(frozen=True)
class Shards:
    """The tensors of a folder, by name; each is read when it is asked for."""

    folder: Path

    @cached_property
    def places(self) -> dict[str, Path]:
        """Which file has which tensor. Raises where there is none, or a shard of the index is missing or torn.

        As in Transformers, model.safetensors goes before an index.
        """
        index, one = self.folder / INDEX, self.folder / FILE
        if index.is_file() and not one.is_file():
            named = read_json(index).get("weight_map", {})
            places = {tensor: self.folder / file for tensor, file in named.items()}
        else:
            files = [one] if one.is_file() else sorted(self.folder.glob("*.safetensors"))
            if not files:
                raise ValueError(f"{self.folder} has no safetensors files; wanted {FILE}, or {INDEX} and its shards.")
            places = {tensor: file for file in files for tensor in names_of(opened(file))}
        for file in dict.fromkeys(places.values()):
            if not file.is_file():
                lost = sum(place == file for place in places.values())
                raise ValueError(f"{self.folder} lacks the shard {file.name}, which has {lost} of its tensors.")
        return places

    @cached_property
    def _files(self) -> dict[Path, Any]:
        return {file: opened(file) for file in dict.fromkeys(self.places.values())}

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def read(self, name: str, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
        """One tensor. Raises where it is missing, or isn't of one of these dtypes and of this shape."""
        if name not in self.places:
            raise ValueError(f"{self.folder} has no tensor {name!r}, which its config.json asks for.")
        file = self._files[self.places[name]]
        if name not in names_of(file):
            raise ValueError(f"{self.places[name].name} has no tensor {name!r}, although {INDEX} says so.")
        view = file.get_slice(name)
        dtype, found = view.get_dtype(), tuple(view.get_shape())
        if dtype not in dtypes:
            raise ValueError(f"{name!r} in {self.places[name].name} is {dtype}; wanted {' or '.join(dtypes)}.")
        if found != shape:
            raise ValueError(f"{name!r} in {self.places[name].name} has shape {found}; config.json says {shape}.")
        return file.get_tensor(name)


def opened(file: Path) -> Any:
    """A safetensors file. Raises where it isn't a whole one."""
    try:
        return safe_open(file, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} can't be read as safetensors: {error}.") from None


def names_of(file: Any) -> set[str]:
    """The tensors of an opened file."""
    return set(file.keys())


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping. Raises where it doesn't."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} can't be read as JSON: {error}.") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file}: wanted a mapping, got {type(found).__name__}.")
    return found


def write(folder: Path, tensors: Iterable[tuple[str, np.ndarray]], limit: int = SHARD):
    """Write tensors as one file, or as shards of at most `limit` bytes with an index; what was there before goes.

    Nothing is replaced until all is written.
    """
    shards = list(parts(tensors, limit))
    count = len(shards)
    names = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)] if count > 1 else [FILE]
    with ExitStack() as stack:  # replaces the index, which is entered first, last
        if count > 1:
            size = sum(x.nbytes for shard in shards for x in shard.values())
            where = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
            index = {"metadata": {"total_size": size}, "weight_map": where}
            stack.enter_context(whole(folder / INDEX)).write_text(json.dumps(index, indent=2), encoding="utf-8")
        for name, shard in zip(names, shards, strict=True):
            save_file(shard, stack.enter_context(whole(folder / name)), metadata={"format": "pt"})
    for file in [*folder.glob("model*.safetensors"), *([folder / INDEX] if count == 1 else [])]:
        if file.name not in names:
            file.unlink(missing_ok=True)


def parts(tensors: Iterable[tuple[str, np.ndarray]], limit: int) -> Iterator[dict[str, np.ndarray]]:
    """The tensors in order, in groups of at most `limit` bytes; a larger one is alone."""
    group: dict[str, np.ndarray] = {}
    size = 0
    for name, x in tensors:
        if group and size + x.nbytes > limit:
            yield group
            group, size = {}, 0
        group[name] = np.ascontiguousarray(x)
        size += x.nbytes
    yield group
