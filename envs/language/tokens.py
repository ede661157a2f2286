"""Text to tokens and back: bytes by default, or what a `tokenizers` JSON file says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from evo.registry import missing, nearest

ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<eos>", "<|eos|>", "[SEP]")


class Tokenizer(Protocol):
    """The contract."""

    @property
    def vocabulary(self) -> int:
        """The largest id and 1; ids below it may lack a token."""
        ...

    @property
    def eos(self) -> int:
        """The token that ends a document."""
        ...

    def encode(self, text: str) -> list[int]:
        """A text's tokens, with nothing added before or after them."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; bytes that aren't UTF-8 become U+FFFD, and ends of documents are left out."""
        ...


@dataclass(frozen=True)
class Bytes:
    """UTF-8, a token a byte. Byte 0 ends a document, so a text's own zero bytes are lost in `decode`."""

    @property
    def vocabulary(self) -> int:
        return 256

    @property
    def eos(self) -> int:
        return 0

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        _check(tokens, self.vocabulary)
        return bytes(token for token in tokens if token != self.eos).decode(errors="replace")


@dataclass(frozen=True)
class Subwords:
    """The tokens of a `tokenizers` JSON file, `path`: what `tokenizer.json` in a Hugging Face folder is.

    `end` names the token that ends a document; left out, the first of `ENDS` that the file knows. Raises where the file
    isn't there, isn't a tokenizer, or knows no such token.
    """

    path: str
    end: str = ""

    def __post_init__(self):
        _ = self.eos  # a wrong file is told now

    @cached_property
    def vocabulary(self) -> int:
        return max(self._loaded.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def eos(self) -> int:
        ids = (self._loaded.token_to_id(name) for name in ([self.end] if self.end else ENDS))
        found = next((token for token in ids if token is not None), None)
        if found is None:
            known = nearest(self.end, self._loaded.get_vocab()) if self.end else f"it has none of {', '.join(ENDS)}."
            raise ValueError(f"{self.path}: which token ends a document? {known} Name one in `end`.")
        return found

    def encode(self, text: str) -> list[int]:
        return self._loaded.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Sequence[int]) -> str:
        _check(tokens, self.vocabulary)
        return self._loaded.decode([int(token) for token in tokens if token != self.eos], skip_special_tokens=False)

    @cached_property
    def _loaded(self) -> Any:
        try:
            import tokenizers
        except ModuleNotFoundError as error:
            raise missing(error, f"the tokenizer {self.path}") from error
        if not Path(self.path).is_file():
            raise ValueError(f"there is no tokenizer {self.path}; wanted a `tokenizers` JSON file, or none for bytes.")
        try:
            return tokenizers.Tokenizer.from_file(self.path)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{self.path} is not a `tokenizers` JSON file: {error}.") from None


def tokenizer(path: str = "", end: str = "") -> Tokenizer:
    """Bytes where no file is named, else the tokens of that file."""
    return Subwords(path, end) if path else Bytes()


def encodable(text: str, what: str) -> str:
    """The text. Raises where UTF-8 can't hold it: JSON may escape half a character, as in "\\ud800"."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} isn't UTF-8 text: {error}.") from None
    return text


def _check(tokens: Sequence[int], vocabulary: int):
    wrong = next((token for token in tokens if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise ValueError(f"tokens are 0 to {vocabulary - 1} here; got {wrong}.")
