"""The weights one kind of channel is read by, summed over a post's features without naming each of them.

Sums are whole numbers, several packed into one: every order of adding gives the same, and one pass adds them all.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from math import sqrt
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pipeline.features import (
    BUCKETS,
    LETTERS_SCALE,
    has_plain_groups,
    lean_buckets,
    letter_buckets,
    letter_table,
    pair_start,
    spelled,
    word_bucket,
)
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
_FEW = 16  # new words that are looked at sooner one by one
_MANY = 4  # posts from which arrays are sooner than numbers
_HALF = 1 << (_SIDE - 1)


class _Sums(NamedTuple):
    """Of a post: what its distinct tokens bring, how many tokens and pairs there are, and the CRC-32 of its pairs."""

    once: int
    size: int
    pairs: AbstractSet[int]


class Weights:
    """Logits by weights of shape (2, BUCKETS) for bearish and bullish; `unit` is the logit that 1 of them is.

    Two pairs of one CRC-32 in one post count as one. Safe to share between threads.
    """

    def __init__(self, rows: NDArray[np.int16], unit: float) -> None:
        self._unit = unit
        bearish, bullish = rows.astype(np.int64)
        self._table = bearish + (bullish << _SIDE)
        self._weight = memoryview(self._table.data).cast("B").cast("q").__getitem__
        self._words = TextMemo(self._word)
        self._leans = Memo[tuple[float, float], int](lambda sums: sum(map(self._weight, lean_buckets(sums))))

    def _word(self, word: str) -> _Word:
        buckets = letter_buckets(word)
        return self._named(word, sum(map(self._weight, buckets)) + (len(buckets) << _BOTH))

    def _named(self, word: str, letters: int) -> _Word:
        return spelled(word), pair_start(word), self._weight(word_bucket(word)) + (letters << _BOTH)

    def _meet(self, readings: Sequence[Reading]) -> None:
        """Look at the new words of many posts at once: their letters are most of the work."""
        words = set[str]().union(*[reading.marked for reading in readings])
        fresh = [word for word in words if word not in self._words and has_plain_groups(word)]
        if len(fresh) >= _FEW:
            buckets, starts = letter_table(fresh)
            weights = np.where(buckets < 0, 0, self._table[buckets])
            sums = np.add.reduceat(weights.sum(axis=0), starts).tolist()
            counts = np.add.reduceat((buckets >= 0).sum(axis=0), starts).tolist()
            each = zip(fresh, sums, counts, strict=True)
            self._words.keep({word: self._named(word, letters + (count << _BOTH)) for word, letters, count in each})

    def logits(self, reading: Reading) -> tuple[float, float]:
        """Raw logits of bearish and bullish against neutral."""
        return self.logits_all((reading,))[0]

    def logits_all(self, readings: Sequence[Reading]) -> list[tuple[float, float]]:
        """The same for many posts, in order."""
        if len(readings) >= _MANY:
            self._meet(readings)
        found = [self._sums(reading.marked) for reading in readings]
        pairs = self._pairs([each.pairs for each in found])
        return [self._logits(*each) for each in zip(readings, found, *pairs, strict=True)]

    def _logits(self, reading: Reading, found: _Sums, bearish: int, bullish: int) -> tuple[float, float]:
        rest, said = _parted(found.once, _BOTH)
        groups, letters = _parted(rest, _BOTH)
        per_said, per_letter = sqrt(max(1, found.size)), LETTERS_SCALE / sqrt(max(1, groups))
        said_bullish, said_bearish = _parted(said, _SIDE)
        more_bullish, more_bearish = _parted(letters, _SIDE)
        lean_bullish, lean_bearish = _parted(self._leans[reading.bullish, reading.bearish], _SIDE)
        return (
            ((said_bearish + bearish) / per_said + more_bearish * per_letter + lean_bearish) * self._unit,
            ((said_bullish + bullish) / per_said + more_bullish * per_letter + lean_bullish) * self._unit,
        )

    def _sums(self, marked: Sequence[str]) -> _Sums:
        """What distinct tokens bring, and the pairs of neighbours."""
        if not marked:
            return _Sums(0, 0, frozenset())
        words = set(marked)
        seconds, firsts, sums = zip(*map(self._words.__getitem__, marked), strict=True)
        pairs = set(map(crc32, seconds[1:], firsts))
        once = sums if len(words) == len(marked) else [self._words[word][2] for word in words]
        return _Sums(sum(once), len(words) + len(pairs), pairs)

    def _pairs(self, posts: Sequence[AbstractSet[int]]) -> tuple[list[int], list[int]]:
        """The weights of the pairs of each post, summed: for bearish, and for bullish."""
        if len(posts) < _MANY:
            weight = self._weight
            sums = [_parted(sum([weight(pair & _LAST) for pair in post]), _SIDE) for post in posts]
            return [bearish for _, bearish in sums], [bullish for bullish, _ in sums]
        ends = np.cumsum([0, *map(len, posts)])
        packed = self._table[np.fromiter(chain.from_iterable(posts), np.int64, count=int(ends[-1])) & _LAST]
        bullish = (packed + _HALF) >> _SIDE
        both = np.zeros((2, len(packed) + 1), dtype=np.int64)
        np.cumsum((packed - (bullish << _SIDE), bullish), axis=1, out=both[:, 1:])
        bears, bulls = np.diff(both[:, ends]).tolist()
        return bears, bulls


def _parted(packed: int, bits: int) -> tuple[int, int]:
    """(upper, lower) of upper * 2 ** bits + lower, where lower has a sign and one bit less."""
    upper = (packed + (1 << (bits - 1))) >> bits
    return upper, packed - (upper << bits)
