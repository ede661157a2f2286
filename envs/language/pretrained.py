"""A checkpoint and its tokenizer, as a config names them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from evo.envs.language.causal import check_vocabulary
from evo.envs.language.checkpoint import Checkpoint, load
from evo.envs.language.quantised import quantised
from evo.envs.language.shards import read_json
from evo.envs.language.tokens import Tokenizer, tokenizer

HERE = Path(__file__).parent
SHIPPED = {"": HERE / "tiny", "format": HERE / "format"}  # what examples/imitate.py made


@dataclass(frozen=True)
class Pretrained:
    """A language model from a Hugging Face folder.

    Two models of 10,320 weights ship: `folder` left out is one that adds, badly, and `folder: format` one that answers
    Countdown with expressions of any kind. `dtype` left out is the file's.
    `tokenizer` is a `tokenizers` JSON file; left out it is the folder's tokenizer.json, or bytes if it has none.
    `bits` 8 or 4 quantises the layers' matrices, `group` inputs to a scale (0: a channel); `relative` adds gains, noise
    on which is relative to the scale; `nudge` what `qes` moves codes by.
    """

    folder: str = ""
    dtype: Literal["", "float32", "bfloat16", "float16"] = ""
    tokenizer: str = ""
    bits: Literal[0, 4, 8] = 0
    group: int = 0
    relative: bool = False
    nudge: bool = False

    def __post_init__(self):
        ignored = [name for name in ("group", "relative", "nudge") if getattr(self, name) and not self.bits]
        if ignored:
            raise ValueError(
                f"`{ignored[0]}` is a setting of quantised models; set `bits: 4` or `bits: 8`, or leave it out."
            )

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model and its weights. Raises as `load` does, and where the tokenizer knows tokens that it doesn't."""
        found = load(self._place, self.dtype or None)
        check_vocabulary(self.tokens.vocabulary, found.model)
        if not self.bits:
            return found
        return found._replace(params=quantised(found.params, self.bits, self.group, self.relative, self.nudge))

    @cached_property
    def tokens(self) -> Tokenizer:
        """What its text is made of."""
        own = self._place / "tokenizer.json"
        return tokenizer(self.tokenizer or (str(own) if own.is_file() else ""))

    @property
    def _place(self) -> Path:
        return SHIPPED.get(self.folder, Path(self.folder))

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The tokens any of which ends a completion: those of config.json and generation_config.json, else the
        tokenizer's."""
        other = self._place / "generation_config.json"
        configs = {"config.json": self.checkpoint.config, other.name: read_json(other) if other.is_file() else {}}
        found: list[int] = []
        for file, config in configs.items():
            said = config.get("eos_token_id")
            ids = said if isinstance(said, list) else [] if said is None else [said]
            if not all(type(token) is int for token in ids):
                raise ValueError(f"{file}: `eos_token_id` is a whole number, or a list of them; got {said!r}.")
            found += ids
        return tuple(dict.fromkeys(found)) or (self.tokens.eos,)
