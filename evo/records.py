"""What every member of every generation scored, on disk: enough to rebuild the whole search without judging again.

One raw file an array, a record of fixed shape a generation, appended; `index.json` says shape and dtype. A record
that a crash cut short is dropped when the run resumes. Descriptors and the task's state are kept beside fitness.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evo.files import append, read_json, write

STATE = 1 << 16  # bytes of task state that are recorded with every generation


@dataclass(frozen=True)
class Records:
    """Arrays by name and generation, in the folder `path`."""

    path: Path

    def append(self, generation: int, arrays: dict[str, np.ndarray]):
        """Write one generation; every array keeps the shape and dtype of its first record."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "index.json").exists():
            index = {name: {"shape": x.shape, "dtype": str(x.dtype)} for name, x in arrays.items()}
            write(self.path / "index.json", json.dumps(index))
        for name, x in arrays.items():
            file = self.path / f"{name}.bin"
            size = file.stat().st_size if file.exists() else 0
            if size != generation * x.nbytes:
                raise ValueError(f"{file} holds {size} bytes, not {generation} records of {x.nbytes}.")
            append(file, np.ascontiguousarray(x).tobytes())

    def read(self, generation: int) -> dict[str, np.ndarray]:
        """One generation's arrays."""
        if not 0 <= generation < len(self):
            raise ValueError(f"{self.path} has generations 0 to {len(self) - 1}; got {generation}.")
        return {name: self._all(name)[generation] for name in self._index()}

    def column(self, name: str) -> np.ndarray:
        """One array of all whole generations, [g, ...], read only as it is used; [0, 0] where there is none."""
        return self._all(name)[: len(self)] if name in self._index() else np.zeros((0, 0))

    def cut(self, generations: int):
        """Keep the first `generations` records."""
        for name, entry in self._index().items():
            size = int(np.prod(entry["shape"], dtype=np.int64)) * np.dtype(entry["dtype"]).itemsize
            if (self.path / f"{name}.bin").exists():
                with (self.path / f"{name}.bin").open("r+b") as file:
                    file.truncate(generations * size)

    def __len__(self) -> int:
        """Generations that are there whole."""
        index = self._index()
        return min((len(self._all(name)) for name in index), default=0)

    def _index(self) -> dict:
        file = self.path / "index.json"
        return read_json(file) if file.exists() else {}

    def _all(self, name: str) -> np.ndarray:
        entry = self._index()[name]
        shape, dtype, file = entry["shape"], np.dtype(entry["dtype"]), self.path / f"{name}.bin"
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        count = file.stat().st_size // size if size and file.exists() else 0
        return np.memmap(file, dtype, "r", shape=(count, *shape)) if count else np.zeros((0, *shape), dtype)
