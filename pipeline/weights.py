"""The weights one kind of channel is read by, summed over a post's features without naming each of them.

Sums are whole numbers, several packed into one: every order of adding gives the same, and one pass adds them all.
"""

from collections.abc import Iterable, Sequence
from math import sqrt
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pipeline.features import BUCKETS, LETTERS_SCALE, lean_buckets, letter_buckets, pair_start, spelled, word_bucket
from pipeline.lexicon import Reading
from pipeline.memo import Memo, TextMemo

_SIDE = 40
_BOTH = 2 * _SIDE
"""Bits of a sum: 1 MiB of text, the most a post may have, adds up to less than 2 ** 39 on either side."""


# What a word brings: itself as the second and as the first half of a pair, and its own sums. These are, from the lowest
# bits: its weights, those of its groups of letters, and how many these are. A bare tuple: the collector of garbage
# need not look into those that are kept.
_Word = tuple[bytes, int, int]
_LAST = BUCKETS - 1


class Weights:
    """Logits by weights of shape (2, BUCKETS) for bearish and bullish; `unit` is the logit that 1 of them is.

    Two pairs of one CRC-32 in one post count as one. Safe to share between threads.
    """

    def __init__(self, rows: NDArray[np.int16], unit: float) -> None:
        self._unit = unit
        bearish, bullish = rows.astype(np.int64)
        self._weight = memoryview((bearish + (bullish << _SIDE)).tobytes()).cast("q").__getitem__
        self._words = TextMemo(self._word)
        self._leans = Memo[tuple[float, float], int](lambda sums: sum(map(self._weight, lean_buckets(sums))))

    def _word(self, word: str) -> _Word:
        buckets = letter_buckets(word)
        letters = sum(map(self._weight, buckets)) + (len(buckets) << _BOTH)
        return spelled(word), pair_start(word), self._weight(word_bucket(word)) + (letters << _BOTH)

    def logits(self, reading: Reading) -> tuple[float, float]:
        """Raw logits of bearish and bullish against neutral."""
        marked = reading.marked
        words = set(marked)
        seconds, firsts, sums = _columns(map(self._words.__getitem__, marked))
        pairs = set(map(crc32, seconds[1:], firsts))
        once = sums if len(words) == len(marked) else [self._words[word][2] for word in words]
        rest, said = _parted(sum(once), _BOTH)
        groups, letters = _parted(rest, _BOTH)
        said += sum(map(self._weight, map(_LAST.__and__, pairs)))
        per_said, per_letter = sqrt(max(1, len(words) + len(pairs))), LETTERS_SCALE / sqrt(max(1, groups))
        bullish, bearish = _parted(said, _SIDE)
        more_bullish, more_bearish = _parted(letters, _SIDE)
        lean_bullish, lean_bearish = _parted(self._leans[reading.bullish, reading.bearish], _SIDE)
        return (
            (bearish / per_said + more_bearish * per_letter + lean_bearish) * self._unit,
            (bullish / per_said + more_bullish * per_letter + lean_bullish) * self._unit,
        )


def _columns(words: Iterable[_Word]) -> tuple[Sequence[bytes], Sequence[int], Sequence[int]]:
    """What `Weights` keeps of words, by kind: as seconds, as firsts, and their sums."""
    seconds, firsts, sums = tuple(zip(*words, strict=True)) or ((), (), ())
    return seconds, firsts, sums


def _parted(packed: int, bits: int) -> tuple[int, int]:
    """(upper, lower) of upper * 2 ** bits + lower, where lower has a sign and one bit less."""
    upper = (packed + (1 << (bits - 1))) >> bits
    return upper, packed - (upper << bits)
