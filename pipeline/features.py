"""What a post offers the model: words, pairs and groups of letters by hashed bucket, and the lexicon's lean."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pipeline.lexicon import NEGATED, Reading
from pipeline.models import IntArray

BUCKETS = 1 << 18
"""Rows of the weight table; a feature's row is the CRC-32 of its name, cut to 18 bits."""
LETTERS_SCALE = 0.6
"""How much a post's groups of letters count beside its words (chosen with the held-out figures in sight)."""
_SHORTEST, _LONGEST = 3, 5
_LEVELS = 4
_LAST = BUCKETS - 1
_KIND = crc32(b"# "), crc32(b"! ")


def _crc_of_bytes() -> NDArray[np.uint32]:
    """What a byte does to a CRC-32 (polynomial 0xEDB88320, as in zlib)."""
    table: NDArray[np.uint32] = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ (table & np.uint32(1)) * np.uint32(0xEDB88320)
    return table


_CRC = _crc_of_bytes()


class Features(NamedTuple):
    """Buckets of a post: distinct words and pairs, letter groups of the distinct words, levels of the lexicon.

    `words` counts 1 / sqrt(its size) each, `letters` LETTERS_SCALE / sqrt(its size), `leans` 1.
    """

    words: tuple[int, ...]
    letters: tuple[int, ...]
    leans: tuple[int, ...]


def features(reading: Reading) -> Features:
    """The features of a post as training sees them; the model sums the same ones from its caches."""
    words = sorted(set(reading.marked))
    pairs = sorted(set(zip(reading.marked, reading.marked[1:], strict=False)))
    return Features(
        words=(*map(word_bucket, words), *map(pair_bucket, pairs)),
        letters=tuple(bucket for word in words for bucket in letter_buckets(word)),
        leans=lean_buckets((reading.bullish, reading.bearish)),
    )


def word_bucket(word: str) -> int:
    """The row of a token."""
    return crc32(spelled(word)) % BUCKETS


def pair_bucket(pair: tuple[str, str]) -> int:
    """The row of two neighbours."""
    return crc32(spelled(pair[1]), pair_start(pair[0])) % BUCKETS


def spelled(word: str) -> bytes:
    """A token as it is hashed."""
    return word.encode("utf-8", "surrogatepass")


def pair_start(word: str) -> int:
    """CRC-32 of a token and the space behind it, which goes on with the next token: a pair is `first second`."""
    return crc32(b" ", crc32(spelled(word)))


def letter_buckets(word: str) -> tuple[int, ...]:
    """The rows of 3 to 5 letters in a row, the word's edges included; none for marks, numbers and short words."""
    bare = word.removeprefix(NEGATED)
    spans = _spans(len(bare)) if bare.isalpha() else ()
    edged = f"<{bare}>"
    groups = map(edged.encode().__getitem__, spans) if edged.isascii() else map(spelled, map(edged.__getitem__, spans))
    return tuple(map(_LAST.__and__, map(crc32, groups, repeat(_KIND[bare != word]))))


def has_plain_groups(word: str) -> bool:
    """Whether a token has groups of letters, and all of them ASCII: those `letter_table` can read."""
    bare = word.removeprefix(NEGATED)
    return len(bare) >= _SHORTEST and bare.isascii() and bare.isalpha()


def letter_table(words: Sequence[str]) -> tuple[IntArray, IntArray]:
    """(buckets, starts) of the groups of many words that have plain ones, as `letter_buckets` gives them for one.

    `buckets`: shape (3, all letters with two edges a word), -1 where no group of 3, 4 or 5 letters begins; a word's
    are the columns from its entry in `starts` on, in another order.
    """
    bare = [word.removeprefix(NEGATED) for word in words]
    sizes = np.array([len(word) + 2 for word in bare])
    starts = np.cumsum(sizes) - sizes
    text = np.frombuffer("".join(f"<{word}>" for word in bare).encode() + bytes(_LONGEST), dtype=np.uint8)
    count = len(text) - _LONGEST
    left = np.repeat(starts + sizes, sizes) - np.arange(count)
    most = np.minimum(left, np.repeat(sizes - 1, sizes))
    kinds = np.array([_KIND[len(short) < len(word)] for short, word in zip(bare, words, strict=True)], dtype=np.uint32)
    state = ~np.repeat(kinds, sizes)
    buckets = np.empty((_LONGEST - _SHORTEST + 1, count), dtype=np.int64)
    for size in range(1, _LONGEST + 1):
        state = _CRC[(state ^ text[size - 1 : size - 1 + count]) & 0xFF] ^ (state >> 8)
        if size >= _SHORTEST:
            buckets[size - _SHORTEST] = np.where(size <= most, (~state & _LAST).astype(np.int64), -1)
    return buckets, starts


@lru_cache(maxsize=64)
def _spans(letters: int) -> tuple[slice, ...]:
    """Where the groups of a word of so many letters stand, its two edges included."""
    if letters < _SHORTEST:
        return ()
    sizes = range(_SHORTEST, min(_LONGEST, letters + 1) + 1)
    return tuple(slice(first, first + size) for size in sizes for first in range(letters + 3 - size))


def lean_buckets(sums: tuple[float, float]) -> tuple[int, int, int]:
    """The rows of the lexicon's sums (bullish, bearish) and of their difference, each rounded and cut to -4..4."""
    bullish, bearish = sums
    levels = ("bull", bullish), ("bear", bearish), ("lean", bullish - bearish)
    first, second, third = (word_bucket(f"<{name} {_level(value)}>") for name, value in levels)
    return first, second, third


def _level(value: float) -> int:
    return max(-_LEVELS, min(_LEVELS, round(value)))
