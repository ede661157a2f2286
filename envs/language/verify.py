"""Whether a completion is right: plain functions `(prompt, completion, answer) -> float` on the host.

What a model writes is parsed, never evaluated as code. An answer that nothing can be checked against is a ValueError,
whatever the completion.
"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from fractions import Fraction
from typing import Any

LONGEST = 200  # characters of an expression
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
THOUGHT = re.compile(r"\s*<think>.*?</think>\s*<answer>.*?</answer>\s*", re.DOTALL)
NUMBER = re.compile(r"-?[0-9][0-9,]*(?:\.[0-9]+)?|-?\.[0-9]+")
MARKED = re.compile(r"####\s*(-?[$0-9.,]+)")


def exact(prompt: str, completion: str, answer: str) -> float:
    """1 if the completion is the answer, up to white space around it."""
    return float(completion.strip() == answer.strip())


def countdown(prompt: str, completion: str, answer: str) -> float:
    """1 if an expression over the given numbers, each used at most once, equals the target; `answer` is "98: 44 19 35".

    The expression is what stands in the last <answer> tag, else on the last line. It may have + - * / and brackets,
    and may end in "= 98". Division is exact.
    """
    before, _, behind = answer.partition(":")
    target, given = fraction(before), [fraction(number) for number in behind.split()]
    if target is None or not given or None in given:
        raise ValueError(f'wanted a target and its numbers, as in "98: 44 19 35"; got {answer!r}.')
    value, used = evaluated(stated(completion))
    return float(value == target and not Counter[Any](used) - Counter(given))


def gsm8k(prompt: str, completion: str, answer: str) -> float:
    """1 if the completion's number is the gold answer's, the one after ####; see `number`."""
    return float(number(completion) == gold(number(answer), answer))


def arithmetic(prompt: str, completion: str, answer: str) -> float:
    """1 if the last number of the completion is the answer."""
    return float(number(completion) == gold(fraction(answer), answer))


def thinks(prompt: str, completion: str, answer: str) -> float:
    """The format <think>...</think> <answer>...</answer>: 1 if whole, else 0.1 for thoughts and 0.5 for an answer.

    As "Evolution strategies at scale" scores it (arXiv 2509.24372). A prompt that ends in <think> has begun it.
    """
    text = "<think>" * prompt.rstrip().endswith("<think>") + completion
    if THOUGHT.fullmatch(text):
        return 1.0
    return 0.1 * ("<think>" in text and "</think>" in text) + 0.5 * bool(TAGGED.search(text))


VERIFIERS = {"exact": exact, "countdown": countdown, "gsm8k": gsm8k, "arithmetic": arithmetic, "thinks": thinks}


def stated(completion: str) -> str:
    """The expression that a completion gives as its answer, without the "= value" after it."""
    tagged = TAGGED.findall(completion)
    lines = completion.strip().splitlines()
    text = tagged[-1] if tagged else lines[-1] if lines else ""
    return text.split("=")[0].strip()


def evaluated(expression: str) -> tuple[Fraction | None, list[int]]:
    """The value of an expression of whole numbers, + - * / and brackets, and its numbers; None if it isn't one."""
    if len(expression) > LONGEST or not re.fullmatch(r"[0-9+\-*/() ]+", expression):
        return None, []
    used: list[int] = []
    try:
        return _value(ast.parse(expression, mode="eval").body, used), used
    except (SyntaxError, ZeroDivisionError, ValueError, RecursionError, MemoryError):
        return None, []


def _value(node: ast.expr, used: list[int]) -> Fraction:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left, used), _value(node.right, used))
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    raise ValueError(f"a {type(node).__name__} has no place in an expression")


def number(text: str) -> Fraction | None:
    """The number after the first ####, else the last number; commas and $ don't count. None if there is none."""
    marked = MARKED.search(text)
    found = marked[1] if marked else next(reversed(NUMBER.findall(text)), "")
    return fraction(found)


def fraction(text: str) -> Fraction | None:
    """The number that a text is, "1,000", "$2.50" or "1/3"; None if it is none."""
    try:
        return Fraction(text.replace(",", "").replace("$", "").rstrip("."))
    except (ValueError, ZeroDivisionError):
        return None


def gold(found: Fraction | None, answer: str) -> Fraction:
    """The number of an answer. Raises where it has none."""
    if found is None:
        raise ValueError(f"wanted a number; got {answer!r}.")
    return found
