"""The hand-written posts: the training file and the contrast set are sound, and nothing is in both."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.models import Label
from pipeline.text import fingerprint

ROOT = Path(__file__).parents[2]
_TAG = re.compile(r"\$[A-Z]{1,5}\b")


def _rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROOT / path).read_text("utf-8").splitlines()]


TRAINING = _rows("config/training/posts.jsonl")
CONTRAST = _rows("tests/data/contrast.jsonl")


def _triples(text: str) -> frozenset[tuple[str, ...]]:
    """Every three words in a row, symbols taken out: changing the ticker makes no new post."""
    words = re.findall(r"[a-z0-9']+", _TAG.sub(" ", text).lower())
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def _shared(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    """Share of the shorter post's triples that the other has, 0 to 1."""
    return len(one & other) / min(len(one), len(other)) if one and other else 0.0


def _said(row: dict[str, Any]) -> str:
    """What a contrast post says: its label, or of each symbol where they differ."""
    return json.dumps(row.get("by_symbol", row["label"]), sort_keys=True)


def test_the_training_posts_have_text_label_and_kind_and_no_more() -> None:
    """400 to 2,400 posts; the label is one of ours; the kind is news or social."""
    assert 400 <= len(TRAINING) <= 2400
    assert all(set(row) == {"text", "label", "kind"} for row in TRAINING)
    assert {row["label"] for row in TRAINING} == set(Label)
    assert {row["kind"] for row in TRAINING} == {"news", "social"}


def test_the_contrast_set_is_made_of_pairs() -> None:
    """300 posts or more, ids unique; a pair is posts of one phenomenon that say different things."""
    pairs: dict[str, list[dict[str, Any]]] = {}
    for row in CONTRAST:
        pairs.setdefault(row["pair"], []).append(row)

    assert len(CONTRAST) >= 300
    assert len({row["id"] for row in CONTRAST}) == len(CONTRAST)
    assert all(len(rows) >= 2 for rows in pairs.values())
    assert all(len({row["phenomenon"] for row in rows}) == 1 for rows in pairs.values())
    assert all(len({_said(row) for row in rows}) >= 2 for rows in pairs.values())


def test_the_contrast_labels_agree_with_their_symbols() -> None:
    """The primary is the first symbol; where symbols differ, the post's label is the primary's."""
    assert all(row["label"] in set(Label) for row in CONTRAST)
    assert all(row["primary"] == row["symbols"][0] for row in CONTRAST)
    each = [row for row in CONTRAST if "by_symbol" in row]

    assert len(each) >= 20
    assert all(set(row["by_symbol"]) == set(row["symbols"]) for row in each)
    assert all(row["by_symbol"][row["primary"]] == row["label"] for row in each)


@pytest.mark.parametrize("rows", [TRAINING, CONTRAST], ids=["training", "contrast"])
def test_no_post_stands_twice_in_a_file(rows: list[dict[str, Any]]) -> None:
    """By fingerprint: case, punctuation and links make no new post."""
    repeated = [text for text, count in Counter(fingerprint(row["text"]) for row in rows).items() if count > 1]

    assert repeated == []


def test_no_training_post_is_a_near_copy_of_a_contrast_post() -> None:
    """Fingerprints differ, and fewer than three in ten word triples of the shorter post are shared."""
    validation = [(row["text"], _triples(row["text"])) for row in CONTRAST]
    prints = {fingerprint(text) for text, _ in validation}
    training = [(row["text"], _triples(row["text"])) for row in TRAINING]
    close = [(own, text) for own, ours in training for text, triples in validation if _shared(ours, triples) >= 0.3]

    assert close == []
    assert prints.isdisjoint(fingerprint(row["text"]) for row in TRAINING)


def test_the_near_copy_check_sees_a_changed_ticker() -> None:
    """The check itself: only the symbol differs, so all triples are shared; a new sentence shares none."""
    assert _shared(_triples("bought $AAPL calls into the close"), _triples("bought $TSLA calls into the close")) == 1.0
    assert _shared(_triples("bought $AAPL calls into the close"), _triples("nothing to see here today")) == 0.0
