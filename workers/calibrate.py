"""Fits the sentiment model on labelled posts: `python -m workers.calibrate DATA_DIR [OUTPUT]`.

DATA_DIR holds CSV files with the columns text, label (bullish, bearish, neutral) and source. Everything that is
said about the result is measured on sources the fit has not seen (leave one source out); RIDGE and NEUTRAL_SHARE
were chosen with those figures in sight, so they flatter a little. The output has weights and figures, never a text.
Same input, same output.
"""

import csv
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.calibration import (
    Sparse,
    calibration_error,
    fit_logistic,
    fit_softmax,
    isotonic,
    source_weights,
)
from pipeline.lexicon import Lexicon, tokens
from pipeline.models import FloatArray, IntArray, Label
from pipeline.sentiment import LABELS, Curve, Evidence, Weights, doubts, evidence
from pipeline.text import clean

RIDGE = 10.0
"""Shrinkage of word weights. Compared on the held-out figures below: 30 is a little surer and says less often."""
MIN_POSTS = 5
"""Posts a feature must occur in."""
MAX_FEATURES = 8000
BINS = 20
"""Bins of a calibration curve before merging: 500 held-out posts or more each."""
NEUTRAL_SHARE = 0.65
"""Share of neutral posts a feed is taken to have (that of the largest set); confidence is honest at that share."""
SURE = 0.85
"""The confidence from which a post is urgent; the report speaks of it."""
LICENCES = {
    "tfns": "MIT (zeroshot, Twitter Financial News Sentiment)",
    "sentfin": "MIT (SEntFiN)",
    "moritz": "MIT as part of financial-tweets-sentiment; the author's own repository states none",
    "taborda": "CC BY 4.0 (B. Taborda et al., Stock Market Tweets Data)",
    "surge_crypto": "MIT (surge, Reddit crypto sentiment)",
}


@dataclass(frozen=True)
class Corpus:
    """Labelled posts: evidence, label index into LABELS, source."""

    posts: list[Evidence]
    labels: IntArray
    sources: list[str]

    def part(self, chosen: Iterable[int]) -> "Corpus":
        """Some of the posts, in the given order."""
        index = list(chosen)
        return Corpus([self.posts[i] for i in index], self.labels[index], [self.sources[i] for i in index])


@dataclass(frozen=True)
class Scored:
    """Held-out posts: logits against neutral of shape (n, 2) as (bearish, bullish)."""

    corpus: Corpus
    logits: FloatArray

    def said(self) -> IntArray:
        """The label index the model gives each post."""
        logits = np.column_stack([self.logits[:, 0], np.zeros(len(self.logits)), self.logits[:, 1]])
        said: IntArray = np.argmax(logits, axis=1)
        return said

    def terms(self) -> FloatArray:
        """`doubts` of every post, shape (n, 6)."""
        rows = zip(self.logits.tolist(), self.corpus.posts, strict=True)
        return np.array([doubts((low, high), post.lean, post.length) for (low, high), post in rows])


def read_corpus(files: Sequence[Path]) -> Corpus:
    """Every labelled post of the files, in file and row order."""
    lexicon = Lexicon()
    posts, labels, sources = [], [], []
    for path in files:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                posts.append(evidence(lexicon.read(tokens(clean(row["text"])))))
                labels.append(LABELS.index(Label(row["label"])))
                sources.append(row["source"])
    return Corpus(posts, np.array(labels), sources)


def vocabulary(corpus: Corpus) -> dict[str, int]:
    """Feature -> column, the commonest first, ties by name."""
    counts = Counter(name for post in corpus.posts for name in post.features)
    common = sorted((name for name, count in counts.items() if count >= MIN_POSTS), key=lambda n: (-counts[n], n))
    return {name: column for column, name in enumerate(common[:MAX_FEATURES])}


def matrix(corpus: Corpus, columns: dict[str, int]) -> Sparse:
    """The posts' known features."""
    found = [sorted(columns[name] for name in post.features if name in columns) for post in corpus.posts]
    rows = np.repeat(np.arange(len(found)), [len(part) for part in found])
    flat = np.array([column for part in found for column in part], dtype=np.int64)
    return Sparse(rows, flat, len(found), len(columns))


def row_weights(corpus: Corpus) -> FloatArray:
    """Weights of mean 1: sources balanced, and within each the neutral posts are NEUTRAL_SHARE, as in a real feed."""
    weights = source_weights(corpus.sources)
    sources, calm = np.array(corpus.sources), corpus.labels == LABELS.index(Label.NEUTRAL)
    for source in np.unique(sources):
        own = sources == source
        share = float(calm[own].mean())
        if share > 0:
            weights[own & calm] *= NEUTRAL_SHARE / share
            weights[own & ~calm] *= (1 - NEUTRAL_SHARE) / (1 - share)
    return weights / float(weights.mean())


def train(corpus: Corpus) -> tuple[dict[str, int], FloatArray, FloatArray]:
    """(columns, weights of shape (n, 2), bias of shape (2,)): bearish and bullish against neutral."""
    columns = vocabulary(corpus)
    w, bias = fit_softmax(matrix(corpus, columns), corpus.labels, row_weights(corpus), RIDGE)
    return columns, w[:, [0, 2]] - w[:, [1]], bias[[0, 2]] - bias[1]


def held_out(corpus: Corpus) -> Scored:
    """Every post scored by a model that has not seen its source."""
    logits = np.zeros((len(corpus.posts), 2))
    sources = np.array(corpus.sources)
    for source in sorted(set(corpus.sources)):
        columns, w, bias = train(corpus.part(np.flatnonzero(sources != source).tolist()))
        test = np.flatnonzero(sources == source)
        x = matrix(corpus.part(test.tolist()), columns)
        logits[test] = np.stack([x.times(w[:, k]) for k in range(2)], axis=1) + bias
    return Scored(corpus, logits)


def hits(scored: Scored) -> FloatArray:
    """1 where the label said is the label given."""
    right: FloatArray = (scored.said() == scored.corpus.labels).astype(np.float64)
    return right


def calibrate(scored: Scored, chosen: IntArray) -> tuple[FloatArray, Curve, Curve]:
    """(weights of doubts, curve of directions, curve of neutral), fitted on the chosen posts."""
    right, said, terms = hits(scored), scored.said(), scored.terms()
    weights = np.zeros(len(right))
    weights[chosen] = row_weights(scored.corpus.part(chosen.tolist()))
    ways, calm = chosen[said[chosen] != 1], chosen[said[chosen] == 1]
    beta = np.round(fit_logistic(terms[ways], right[ways], weights[ways]), 4)
    direction = isotonic(terms[ways] @ beta, right[ways], weights[ways], BINS)
    neutral = isotonic(-scored.logits[calm].max(axis=1), right[calm], weights[calm], BINS)
    return beta, _curve(direction), _curve(neutral)


def _curve(points: tuple[FloatArray, FloatArray]) -> Curve:
    return Curve(
        scores=tuple(round(float(v), 4) for v in points[0]),
        probabilities=tuple(round(float(v), 4) for v in points[1]),
    )


def confidences(scored: Scored, chosen: IntArray, fitted: tuple[FloatArray, Curve, Curve]) -> FloatArray:
    """The calibrated confidence of the chosen posts."""
    beta, direction, neutral = fitted
    said, trust, calm = scored.said(), scored.terms() @ beta, -scored.logits.max(axis=1)
    return np.array([neutral(calm[i]) if said[i] == 1 else direction(trust[i]) for i in chosen])


def report(scored: Scored) -> list[str]:
    """One line a source: accuracy, calibration error, and precision and coverage of directions at 0.85.

    Model and calibration are both fitted without the source the line speaks of.
    """
    sources = np.array(scored.corpus.sources)
    confidence = np.zeros(len(sources))
    for source in np.unique(sources):
        own = np.flatnonzero(sources == source)
        confidence[own] = confidences(scored, own, calibrate(scored, np.flatnonzero(sources != source)))
    names = [*np.unique(sources).tolist(), "all"]
    return [_line(name, scored, confidence, (sources == name) | (name == "all")) for name in names]


def _line(name: str, scored: Scored, confidence: FloatArray, rows: IntArray) -> str:
    right = hits(scored)
    sure = rows & (confidence >= SURE) & (scored.said() != 1)
    precision = float(right[sure].mean()) if sure.any() else float("nan")
    return (
        f"{name:13s} posts {int(rows.sum()):6d}  accuracy {right[rows].mean():.3f}  "
        f"ece {calibration_error(confidence[rows], right[rows]):.3f}  "
        f"directions >= {SURE}: {int(sure.sum())} ({sure.sum() / rows.sum():.3f}), precision {precision:.3f}"
    )


def fit(corpus: Corpus, scored: Scored, provenance: list[dict[str, str | int]]) -> Weights:
    """The model to ship: words learned on every source, confidence calibrated on held-out sources."""
    columns, w, bias = train(corpus)
    beta, direction, neutral = calibrate(scored, np.arange(len(corpus.posts)))
    whole = np.rint(w * 1000).astype(int).tolist()
    words = {name: (whole[k][0], whole[k][1]) for name, k in sorted(columns.items()) if any(whole[k])}
    low, high = np.rint(bias * 1000).astype(int).tolist()
    unnamed = Weights(
        version="lexicon-1",
        about="Word weights in thousandths of a logit (bearish, bullish) against neutral; made by workers.calibrate.",
        provenance=tuple(provenance),
        bias=(low, high),
        directional=tuple(beta.tolist()),
        direction=direction,
        neutral=neutral,
        words=words,
    )
    return unnamed.model_copy(update={"version": f"lexicon-1-{unnamed.digest()}"})


def _provenance(files: Sequence[Path], corpus: Corpus) -> list[dict[str, str | int]]:
    return [
        {
            "source": path.stem,
            "posts": corpus.sources.count(path.stem),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "licence": LICENCES.get(path.stem, "unknown"),
        }
        for path in files
    ]


def main(arguments: Sequence[str]) -> int:
    """Fit, report, write; 2 when the arguments make no sense."""
    if not 1 <= len(arguments) <= 2:  # noqa: PLR2004
        sys.stderr.write("usage: python -m workers.calibrate DATA_DIR [OUTPUT.json]\n")
        return 2
    files = sorted(Path(arguments[0]).glob("*.csv"))
    default = Path(__file__).parent.parent / "pipeline" / "data" / "sentiment.json"
    output = Path(arguments[1]) if len(arguments) > 1 else default
    corpus = read_corpus(files)
    if len(set(corpus.sources)) < 2:  # noqa: PLR2004
        sys.stderr.write(f"{arguments[0]}: needs *.csv with posts of at least two sources, to hold one out\n")
        return 2
    scored = held_out(corpus)
    sys.stdout.write("\n".join(report(scored)) + "\n")
    weights = fit(corpus, scored, _provenance(files, corpus))
    output.write_text(json.dumps(weights.model_dump(), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    sys.stdout.write(f"{weights.version}: {len(weights.words)} features, {output.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
