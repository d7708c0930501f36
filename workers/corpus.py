"""Labelled posts from files: CSV (text, label, source) and JSON lines (text, label, kind)."""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import orjson

from pipeline.errors import SettingsError
from pipeline.features import Features, features
from pipeline.lexicon import Lexicon, tokens
from pipeline.models import IntArray, Label
from pipeline.sentiment import CHANNELS, LABELS, Channel, Provenance
from pipeline.text import clean, fingerprint
from pipeline.training import Lesson, matrix, source_weights

OWN = Path(__file__).parent.parent / "config" / "training" / "posts.jsonl"
"""The project's own labelled posts."""
OURS = "own_"
MAX_TOKENS = 400


class Origin(NamedTuple):
    """What is known of a source: the kind of channel it samples, and its licence as stated."""

    channel: Channel
    licence: str


ORIGINS = {
    "tfns": Origin(Channel.NEWS, "MIT (zeroshot, Twitter Financial News Sentiment)"),
    "sentfin": Origin(Channel.NEWS, "MIT (SEntFiN)"),
    "moritz": Origin(
        Channel.SOCIAL, "MIT as part of financial-tweets-sentiment; the author's own repository states none"
    ),
    "taborda": Origin(Channel.SOCIAL, "CC BY 4.0 (B. Taborda et al., Stock Market Tweets Data)"),
    "surge_crypto": Origin(Channel.SOCIAL, "MIT (surge, Reddit crypto sentiment)"),
    "own_news": Origin(Channel.NEWS, "MIT (this project)"),
    "own_social": Origin(Channel.SOCIAL, "MIT (this project)"),
}
_UNNAMED = Origin(Channel.UNKNOWN, "unknown")


class Row(NamedTuple):
    """One labelled post."""

    text: str
    label: int
    source: str


@dataclass(frozen=True)
class Corpus:
    """Labelled posts in file and row order, read once. `prints` are the texts' fingerprints."""

    rows: tuple[Row, ...]
    provenance: tuple[Provenance, ...]
    posts: tuple[Features, ...]
    prints: tuple[str, ...]

    @property
    def sources(self) -> list[str]:
        """The names of the sources, sorted."""
        return sorted({row.source for row in self.rows})

    @property
    def labels(self) -> IntArray:
        """Index into LABELS of every post."""
        return np.array([row.label for row in self.rows])

    @property
    def numbers(self) -> IntArray:
        """Index into `sources` of every post."""
        names = {name: number for number, name in enumerate(self.sources)}
        return np.array([names[row.source] for row in self.rows])

    def strangers(self) -> list[str]:
        """The sources that are samples of a channel: all but the project's own posts."""
        return [source for source in self.sources if not source.startswith(OURS)]

    def two_way(self) -> list[str]:
        """Sources without a neutral post."""
        neutral = LABELS.index(Label.NEUTRAL)
        return sorted(set(self.sources) - {row.source for row in self.rows if row.label == neutral})

    def lesson(self) -> Lesson:
        """The posts as training takes them."""
        return Lesson(
            x=matrix(self.posts),
            y=self.labels,
            channels=np.array([CHANNELS.index(origin(row.source).channel) for row in self.rows]),
            weights=source_weights(self.numbers),
            two_way=np.isin([row.source for row in self.rows], self.two_way()),
        )

    def folds(self, seed: int, count: int) -> IntArray:
        """A fold from 0 for every post; near-duplicates share theirs."""
        return np.array([crc32(f"{seed}:{mark}".encode()) % count for mark in self.prints])


def origin(source: str) -> Origin:
    """What is known of a source by its name."""
    return ORIGINS.get(source, _UNNAMED)


def read_corpus(files: Sequence[Path]) -> Corpus:
    """Every labelled post of the files. Raises SettingsError naming file and line of what cannot be read."""
    parts = [(path, list(read_rows(path))) for path in files]
    rows = tuple(row for _, part in parts for row in part)
    if not rows:
        raise SettingsError(f"no labelled posts in {[str(path) for path in files]}; valid: *.csv or *.jsonl with posts")
    lexicon = Lexicon()
    cleaned = [clean(row.text) for row in rows]
    return Corpus(
        rows=rows,
        provenance=tuple(found for path, part in parts for found in _provenance(path, part)),
        posts=tuple(features(lexicon.read(tokens(text)[:MAX_TOKENS])) for text in cleaned),
        prints=tuple(map(fingerprint, cleaned)),
    )


def labelled_files(place: Path) -> list[Path]:
    """The file itself, or a folder's *.csv and *.jsonl by name. Raises SettingsError when there are none."""
    if place.is_file():
        return [place]
    found = sorted([*place.glob("*.csv"), *place.glob("*.jsonl")])
    if not found:
        raise SettingsError(f"{place} holds no *.csv or *.jsonl; valid: a folder of labelled posts")
    return found


def read_rows(path: Path) -> Iterator[Row]:
    """The posts of one file. Raises SettingsError at the first line without text or with an unknown label."""
    rows = _json_rows(path) if path.suffix == ".jsonl" else _csv_rows(path)
    for number, row in rows:
        label, source = str(row.get("label", "")), str(row.get("source") or f"{OURS}{row.get('kind', 'social')}")
        if label not in set(Label) or not row.get("text"):
            raise SettingsError(f"{path}:{number}: label is {label[:20]!r}; valid: a text and one of {[*Label]}")
        yield Row(str(row["text"]), LABELS.index(Label(label)), source)


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        for row in reader:
            yield reader.line_num, row


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            yield number, orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise SettingsError(f"{path}:{number}: not JSON ({error})") from None


def _provenance(path: Path, rows: Sequence[Row]) -> Iterator[Provenance]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for source in sorted({row.source for row in rows}):
        channel, licence = origin(source)
        posts = sum(row.source == source for row in rows)
        yield Provenance(source=source, channel=channel, posts=posts, sha256=digest, licence=licence)
