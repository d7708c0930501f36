"""The weights one kind of channel is read by, summed over a post's features without naming each of them.

Sums are whole numbers, several packed into one: every order of adding gives the same, and one pass adds them all.
"""

from math import sqrt
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pipeline.features import BUCKETS, LETTERS_SCALE, lean_buckets, letter_buckets, pair_start, spelled, word_bucket
from pipeline.lexicon import Reading
from pipeline.memo import Memo, TextMemo

_SIDE = 32
_COUNT = 2 * _SIDE
"""Bits of a sum: 1 MiB of text, the most a post may have, adds up to less than 2 ** 31 on either side."""
_LAST = BUCKETS - 1
_SPELLED = TextMemo(spelled)
_STARTS = TextMemo(pair_start)


class Weights:
    """Logits by weights of shape (2, BUCKETS) for bearish and bullish; `unit` is the logit that 1 of them is.

    Two pairs of one CRC-32 in one post count as one. Safe to share between threads.
    """

    def __init__(self, rows: NDArray[np.int16], unit: float) -> None:
        self._unit = unit
        bearish, bullish = rows.astype(np.int64)
        self._weight = memoryview((bearish + (bullish << _SIDE)).tobytes()).cast("q").__getitem__
        self._words = TextMemo(lambda word: self._weight(word_bucket(word)))
        self._letters = TextMemo(self._spelling)
        self._leans = Memo[tuple[float, float], int](lambda sums: sum(map(self._weight, lean_buckets(sums))))

    def _spelling(self, word: str) -> int:
        """Sum over a word's groups of letters, and above it how many they are."""
        buckets = letter_buckets(word)
        return sum(map(self._weight, buckets)) + (len(buckets) << _COUNT)

    def logits(self, reading: Reading) -> tuple[float, float]:
        """Raw logits of bearish and bullish against neutral."""
        marked = reading.marked
        words = set(marked)
        pairs = set(map(crc32, map(_SPELLED.__getitem__, marked[1:]), map(_STARTS.__getitem__, marked)))
        said = sum(map(self._words.__getitem__, words)) + sum(map(self._weight, map(_LAST.__and__, pairs)))
        groups, letters = _parted(sum(map(self._letters.__getitem__, words)), _COUNT)
        per_said, per_letter = sqrt(max(1, len(words) + len(pairs))), LETTERS_SCALE / sqrt(max(1, groups))
        bullish, bearish = _parted(said, _SIDE)
        more_bullish, more_bearish = _parted(letters, _SIDE)
        lean_bullish, lean_bearish = _parted(self._leans[reading.bullish, reading.bearish], _SIDE)
        return (
            (bearish / per_said + more_bearish * per_letter + lean_bearish) * self._unit,
            (bullish / per_said + more_bullish * per_letter + lean_bullish) * self._unit,
        )


def _parted(packed: int, bits: int) -> tuple[int, int]:
    """(upper, lower) of upper * 2 ** bits + lower, where lower has a sign and one bit less."""
    upper = (packed + (1 << (bits - 1))) >> bits
    return upper, packed - (upper << bits)
