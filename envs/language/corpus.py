"""A corpus: documents out of files, as one long row of tokens on disk, and a part of them held out.

Every document begins after the token that ends one, so nobody predicts a document from the one before. Text is read
and encoded a piece at a time and the tokens lie in temporary files, so a corpus may be larger than memory.
"""

from __future__ import annotations

import codecs
import glob
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import Int, UInt

from evo.envs.language.tokens import Tokenizer, encodable
from evo.registry import nearest

PIECE = 4096  # characters; a document is encoded, and held out or not, in pieces of so many
SUFFIXES = (".txt", ".text", ".md", ".rst", ".jsonl")  # what is taken from a folder
SHOWN = 3  # paths in an error


class Corpus(NamedTuple):
    """Two rows of tokens, and how many tokens the whole has for each byte of its text (1 where bytes are tokens)."""

    train: UInt[np.ndarray, "train"]
    held_out: UInt[np.ndarray, "held"]
    tokens_per_byte: float


def corpus(documents: Iterable[Iterable[str]], tokenizer: Tokenizer, held_out: float, name: str) -> Corpus:
    """Encode documents, each an iterable of pieces of text; about `held_out` of the tokens go to the held-out row.

    Which pieces, depends on nothing but the sizes of those before. `name` is for errors. Raises where a row is empty.
    """
    dtype = np.dtype(np.min_scalar_type(tokenizer.vocabulary - 1))
    with tempfile.TemporaryFile() as first, tempfile.TemporaryFile() as second:  # gone once nobody reads them
        counts, length = pour(documents, tokenizer, held_out, (first, second), dtype)
        total = sum(counts)
        if not total:
            raise ValueError(f"the corpus {name} is empty: there is no text in it.")
        if held_out and not counts[1]:
            raise ValueError(
                f"the corpus {name} of {total} tokens is too small to hold out {held_out:g} of it in pieces of {PIECE} "
                "characters; give more text, or `held_out: 0`."
            )
        train, held = (mapped(file, dtype, count) for file, count in zip((first, second), counts, strict=True))
    by_bytes = tokenizer.vocabulary == 256 and tokenizer.eos == 0
    return Corpus(train, held if counts[1] else train, 1.0 if by_bytes else total / length)


def pour(documents, tokenizer: Tokenizer, held_out: float, files: tuple[IO[bytes], IO[bytes]], dtype: np.dtype):
    """Write the tokens of all pieces to one file or the other; how many tokens are in each, and the text's bytes."""
    counts, length = [0, 0], 0
    for document in documents:
        last = None
        for piece in document:
            if not (tokens := tokenizer.encode(piece)):
                continue
            length += len(piece.encode()) + (last is None)
            which = int(counts[1] + len(tokens) / 2 < held_out * (sum(counts) + len(tokens)))
            written = tokens if last == which else [tokenizer.eos, *tokens]
            files[which].write(np.asarray(written, dtype).tobytes())
            counts[which] += len(written)
            last = which
    return counts, length


def mapped(file: IO[bytes], dtype: np.dtype, count: int) -> UInt[np.ndarray, "t"]:
    """A file of tokens as an array that is read as it is used, also after the file is closed."""
    file.flush()
    return np.memmap(file, dtype, "r", shape=(count,)) if count else np.zeros(0, dtype)


def window(row: UInt[np.ndarray, "n"], start: int, length: int) -> Int[np.ndarray, "t"]:
    """`length` tokens from `start` on; the row's end is followed by its beginning."""
    start %= len(row)
    if start + length <= len(row):
        return row[start : start + length].astype(np.int32)
    return row[np.arange(start, start + length) % len(row)].astype(np.int32)


# files ------------------------------------------------------------------------------------------------------------


def found(paths: Iterable[str]) -> list[Path]:
    """The files of paths, folders and globs, in the order given, each folder's and glob's by name."""
    files: list[Path] = []
    for path in paths:
        if Path(path).is_file():
            files.append(Path(path))
        elif Path(path).is_dir():
            inside = sorted(p for p in Path(path).rglob("*") if p.suffix in SUFFIXES and p.is_file())
            if not inside:
                kinds = ", ".join(SUFFIXES)
                raise ValueError(f"the folder {path} has no text ({kinds}); name other files by a glob, {path}/**/*.")
            files += inside
        elif matched := sorted(p for p in glob.glob(path, recursive=True) if Path(p).is_file()):
            files += map(Path, matched)
        else:
            raise ValueError(f"no file matches {path!r} in {Path.cwd()}; give files, folders or globs.")
    return list(dict.fromkeys(files))


def documents(files: Iterable[Path], field: str) -> Iterator[Iterator[str]]:
    """A file is a document, in pieces; of a .jsonl file every line is one: its `field`."""
    for path in files:
        if path.suffix == ".jsonl":
            yield from lines(path, field)
        else:
            yield pieces(path)


def pieces(path: Path) -> Iterator[str]:
    """The text of a file. Raises where it isn't UTF-8."""
    decode, read = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(PIECE)
            before = len(decode.getstate()[0])
            try:
                text = decode.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                where = read - before + error.start
                raise ValueError(
                    f"{path} is not UTF-8 text: byte {where} is 0x{error.object[error.start]:02x}."
                ) from None
            if not chunk:
                return
            read += len(chunk)
            yield text


def lines(path: Path, field: str) -> Iterator[Iterator[str]]:
    """The documents of a JSONL file. Raises where a line isn't an object that has `field`, a string."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                raise ValueError(f"{path}, line {number}: not JSON in UTF-8: {error}.") from None
            if not isinstance(record, dict) or not isinstance(record.get(field), str):
                close = nearest(field, record) if isinstance(record, dict) else f"got a {type(record).__name__}."
                raise ValueError(f"{path}, line {number}: wanted an object with a string {field!r}; {close}")
            text = encodable(record[field], f"{path}, line {number}: {field!r}")
            yield (text[i : i + PIECE] for i in range(0, len(text), PIECE))
