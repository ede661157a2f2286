"""What counting gets: how well letter frequencies predict held-out text. Every model should be below them."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt

COUNTED = 1 << 24  # tokens that are counted, at most
BACKED = 5.0  # how many occurrences of a token the unigram's say in what follows it is worth


def entropies(
    train: UInt[np.ndarray, "train"], held_out: UInt[np.ndarray, "held"], vocabulary: int
) -> dict[str, float]:
    """Bits per token that counts in `train` need for `held_out`.

    unigram: p(b) = (n_b + 1) / (n + v). bigram: p(b | a) = (n_ab + 5 p(b)) / (n_a + 5).
    """
    train, held_out = np.asarray(train[:COUNTED], np.int64), np.asarray(held_out[:COUNTED], np.int64)
    count = np.bincount(train, minlength=vocabulary)
    single = (count + 1) / (train.size + vocabulary)
    before = np.bincount(train[:-1], minlength=vocabulary)
    pairs, number = np.unique(train[:-1] * vocabulary + train[1:], return_counts=True)
    asked = held_out[:-1] * vocabulary + held_out[1:]
    at = np.minimum(np.searchsorted(pairs, asked), max(pairs.size - 1, 0))
    seen = np.where(pairs[at] == asked, number[at], 0) if pairs.size else np.zeros(asked.size)
    double = (seen + BACKED * single[held_out[1:]]) / (before[held_out[:-1]] + BACKED)
    return {"unigram": float(-np.log2(single[held_out]).mean()), "bigram": float(-np.log2(double).mean())}
