"""Precision and recall of the ticker rules on 374 posts in 29 shapes, hand-written with the stocks a reader sees."""

import json
from collections import Counter
from pathlib import Path

from pipeline.tickers import TickerReader

POSTS = [json.loads(line) for line in Path("tests/data/tickers.jsonl").read_text("utf-8").splitlines()]
FOREIGN = frozenset({"SHOP.TO", "VOD.L", "BMW.DE", "AIR.PA"})
EVERYDAY = frozenset({"ALL", "FB", "HOME", "IT", "NOW", "PATH", "SPY"})
UNIVERSE = frozenset(symbol for post in POSTS for symbol in post["symbols"]) - FOREIGN | EVERYDAY
READER = TickerReader(UNIVERSE)


def found(text: str) -> set[str]:
    """Every stock read from a post, tradable or not."""
    reading = READER.read(text)
    return {*reading.symbols, *reading.outside, *reading.named}


def test_the_table_has_posts_of_every_shape() -> None:
    """More than 250 posts with stocks and 100 traps; no text stands twice."""
    traps = sum(not post["symbols"] for post in POSTS)

    assert (len(POSTS) - traps, traps) == (263, 111)
    assert len({post["text"] for post in POSTS}) == len(POSTS)


def test_precision_and_recall_are_at_least_99_percent() -> None:
    """Of the symbols read, and of those there are; a miss is named."""
    counts: Counter[str] = Counter()
    wrong = []
    for post in POSTS:
        read, there = found(post["text"]), set(post["symbols"])
        counts.update(hit=len(read & there), read=len(read), there=len(there))
        if read != there:
            wrong.append((post["id"], sorted(read), sorted(there)))

    assert counts["there"] > 300
    assert counts["hit"] >= 0.99 * counts["read"], wrong
    assert counts["hit"] >= 0.99 * counts["there"], wrong


def test_no_trap_yields_a_symbol() -> None:
    """Mail, links, handles, code, currencies, crypto, look-alikes, slang, capitals, words, foreign exchanges."""
    assert [post["text"] for post in POSTS if not post["symbols"] and found(post["text"])] == []


def test_a_listing_abroad_is_never_tradable() -> None:
    """`$SHOP.TO` is read as what it is, not as New York's SHOP."""
    for post in POSTS:
        if post["shape"] == "foreign":
            assert READER.read(post["text"]).symbols == (), post["id"]
