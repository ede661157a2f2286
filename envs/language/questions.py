"""Questions with answers that can be checked: made up, or read from a file."""

from __future__ import annotations

import json
import operator
import random
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from evo.envs.language.tokens import encodable
from evo.envs.language.verify import MARKED, OPERATORS, number

QUESTIONS = {
    "sums": "evo.envs.language.questions:Sums",
    "countdown": "evo.envs.language.questions:Countdown",
    "gsm8k": "evo.envs.language.questions:GSM8K",
    "jsonl": "evo.envs.language.questions:JSONL",
}
COUNTDOWN = (
    "Using the numbers {numbers}, create an equation that equals {target}. You can use + - * / and each number at "
    "most once. Show your work in <think> </think> tags, and the final expression in <answer> </answer> tags.\n<think>"
)


class Question(NamedTuple):
    """A prompt, and what its completion is checked against."""

    prompt: str
    answer: str


class Questions(Protocol):
    """The contract; a frozen dataclass of settings."""

    @property
    def verifier(self) -> str:
        """How completions are checked unless the task says otherwise: a name in `verify.VERIFIERS`."""
        ...

    def all(self) -> list[Question]:
        """Every question, always in the same order."""
        ...


@dataclass(frozen=True)
class Sums:
    """Arithmetic: all sums and differences of whole numbers from 0 to `largest`, "7+12=", in an order of their own."""

    largest: int = 19
    operators: tuple[str, ...] = ("+",)
    verifier = "exact"

    def __post_init__(self):
        if self.largest < 1 or not self.operators or set(self.operators) - set("+-*"):
            raise ValueError(f"Sums: wanted `largest` above 0 and `operators` of + - *; got {self}.")

    def all(self):
        numbers = range(self.largest + 1)
        acts = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
        found = [Question(f"{a}{o}{b}=", str(acts[o](a, b))) for o in self.operators for a in numbers for b in numbers]
        random.Random(0).shuffle(found)
        return found


@dataclass(frozen=True)
class Countdown:
    """Countdown: reach a target with `least` to `most` numbers from 1 to `largest`, each used at most once.

    Every question has a solution in whole numbers that uses all of them, with a target from `low` to `high`. `template`
    is the prompt, with {numbers} and {target} in it.
    """

    count: int = 1000
    least: int = 3
    most: int = 4
    largest: int = 100
    low: int = 1
    high: int = 999
    seed: int = 0
    template: str = COUNTDOWN
    verifier = "countdown"

    def __post_init__(self):
        if not 2 <= self.least <= self.most <= 8 or self.count < 1 or self.largest < 1 or self.high < self.low:
            raise ValueError(f"Countdown: wanted 2 <= `least` <= `most` <= 8 and ranges that aren't empty; got {self}.")
        if "{numbers}" not in self.template or "{target}" not in self.template:
            raise ValueError(f"Countdown: `template` needs {{numbers}} and {{target}} in it; got {self.template!r}.")

    def all(self):
        dice, found = random.Random(self.seed), {}
        for _ in range(1000 * self.count):
            numbers = [dice.randint(1, self.largest) for _ in range(dice.randint(self.least, self.most))]
            target = reached(numbers, dice)
            if target is not None and self.low <= target <= self.high:
                prompt = self.template.replace("{numbers}", str(numbers)).replace("{target}", str(target))
                found[prompt] = f"{target}: {' '.join(map(str, numbers))}"
            if len(found) == self.count:
                return [Question(*pair) for pair in found.items()]
        raise ValueError(f"Countdown: there are fewer than {self.count} such questions; lower `count`. Got {self}.")


def reached(numbers: list[int], dice: random.Random) -> int | None:
    """A whole number that a random expression over all the numbers has, if all its steps are whole."""
    values = [Fraction(n) for n in numbers]
    while len(values) > 1:
        a, b = (values.pop(dice.randrange(len(values))) for _ in range(2))
        act = dice.choice(list(OPERATORS.values()))
        if act is operator.truediv and b == 0:
            return None
        values.append(act(a, b))
        if values[-1].denominator != 1:
            return None
    return int(values[0])


@dataclass(frozen=True)
class JSONL:
    """Questions of a JSONL file: the fields `prompt` and `answer` of each line; `template` has {prompt} in it."""

    path: str
    prompt: str = "prompt"
    answer: str = "answer"
    template: str = "{prompt}"
    verifier = "exact"

    def all(self):
        found = lines(self.path, self.prompt, self.answer).values()
        return [Question(self.template.replace("{prompt}", q), a) for q, a in found]


@dataclass(frozen=True)
class GSM8K:
    """Questions of a file in GSM8K's format: JSONL with `question` and `answer`, whose number stands after ####."""

    path: str
    template: str = "Question: {prompt}\nAnswer:"
    verifier = "gsm8k"

    def all(self):
        found = lines(self.path, "question", "answer")
        for i, (_, answer) in found.items():
            if not MARKED.search(answer) or number(answer) is None:
                raise ValueError(f"{self.path}, line {i}: the answer has no number after ####; got {answer[-40:]!r}.")
        return [Question(self.template.replace("{prompt}", q), a) for q, a in found.values()]


def lines(path: str, *names: str) -> dict[int, tuple[str, ...]]:
    """These fields of every line of a JSONL file, as text, by the line's number. Raises with it where it isn't one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} can't be read as UTF-8 text: {error}.") from None
    found = {}
    for i, line in enumerate(text.split("\n"), 1):  # JSON's strings may hold the other ends of lines
        if line.strip():
            row = _row(line, f"{path}, line {i}")
            found[i] = tuple(_field(row, name, f"{path}, line {i}") for name in names)
    if not found:
        raise ValueError(f"{path} has no questions in it.")
    return found


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON: {error}.") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where}: wanted a mapping, got {type(row).__name__}.")
    return row


def _field(row: dict[str, Any], name: str, where: str) -> str:
    if name not in row:
        raise ValueError(f"{where}: has no {name!r}, only {', '.join(row)}.")
    if type(row[name]) not in (str, int, float):
        raise ValueError(f"{where}: {name!r} is text or a number; got {row[name]!r}.")
    return encodable(str(row[name]), f"{where}: {name!r}")
