"""How fast posts are read, and a digest of what was read: `python -m tests.tools.analyzer_speed FILE...`.

FILE: JSON lines with `text` (also .gz), or CSV with a column `text`. Every post is read once, 200 at a time, as by a
collector that has just started; the figure is the median over parts of 1,000 posts, in posts per second of processor
time of one core.
The digest is of every answer, so two versions read a file alike exactly if they print the same one.
"""

import csv
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from pipeline.analyzer import LexiconAnalyzer
from pipeline.models import AnalyzedMessage, SocialMessage
from workers.analyze import as_message

PART = 1_000
CHUNK = 200
"""Posts a collector reads at once."""
SYMBOLS = "AAPL AMZN BAC BRK.B C CAT DIS F FB GE GM GOOG GS HD INTC JPM KO MA MSFT NFLX NVDA T TSLA V WMT XOM"


def main(names: Sequence[str]) -> None:
    """One line for each file."""
    for name in names:
        print(measured(Path(name)))  # noqa: T201 # a bench prints


def measured(path: Path) -> str:
    """The line for one file."""
    analyzer = LexiconAnalyzer(frozenset(SYMBOLS.split()))
    posts = [as_message({"text": text}, number) for number, text in enumerate(texts_of(path))]
    digest, rates = sha256(), []
    for start in range(0, len(posts), PART):
        part = posts[start : start + PART]
        found, seconds = timed(analyzer, part)
        rates.append(len(part) / seconds)
        digest.update("".join(map(answer, found)).encode("utf-8", "surrogatepass"))
    rate = f"{median(rates):,.0f} posts/s [{min(rates):,.0f}, {max(rates):,.0f}]" if rates else "no posts"
    return f"{path.name}: {len(posts):,} posts, {rate}, digest {digest.hexdigest()[:16]}"


def timed(analyzer: LexiconAnalyzer, posts: Sequence[SocialMessage]) -> tuple[list[AnalyzedMessage], float]:
    """The answers, and the processor time they took, in seconds."""
    start = process_time()
    found = [
        read for chunk in range(0, len(posts), CHUNK) for read in analyzer.analyze_all(posts[chunk : chunk + CHUNK])
    ]
    return found, process_time() - start


def answer(post: AnalyzedMessage) -> str:
    """All that was read from a post, as text."""
    return repr((post.sentiment, post.tickers, post.fingerprint, post.spam, sorted(post.by_symbol.items())))


def texts_of(path: Path) -> Iterator[str]:
    """The texts of a file; lines that are no post are left out."""
    rows: Iterator[Any]
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
        rows = csv.DictReader(stream) if path.suffix == ".csv" else map(_object, stream)
        yield from (row["text"] for row in rows if isinstance(row.get("text"), str))


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    main(sys.argv[1:])
